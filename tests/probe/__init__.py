"""Tests of the bypass suite: against a gateway with one hole at a time, against a good one, and part by part."""
