"""Tests of withdrawal: what was forbidden is allowed no more from the commit on, everywhere."""
