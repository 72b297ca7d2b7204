"""Tests that read and execute the documentation: what it shows must happen, what it names must exist."""
