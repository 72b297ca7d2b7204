"""Tests of the separate verifier: honest logs, tampering, bad input, and agreement with the engine's own ledger."""
