"""Cells: two real engines on two PostgreSQL servers, and peers that are hostile."""
