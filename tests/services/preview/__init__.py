"""Previews: what they say, and what really happens."""
