"""Tests of the room `rules`: refusals, compilation, law 6 (stock Casbin agrees) and law 10 (cost)."""
