"""The witness: its parts against the engine's, its process over HTTP, and what an attacker tries on it."""
