"""A small verifier for bundles and proofs of policy-engine. It imports nothing of the engine, and executes nothing."""

__version__ = "0.1.0"
