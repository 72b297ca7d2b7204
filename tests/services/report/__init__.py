"""The audit report of a period."""
