"""The pure ground floor that proves: entries as bytes, hashes, sealing; no clock, no files, no randomness."""
