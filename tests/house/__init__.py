"""Tests that read the repository itself: its shape, its words and what it must never hold."""
