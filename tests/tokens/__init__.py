"""Callers with tokens: whom a service trusts, whom it lets in, and what waits for keys."""
