"""The pure ground floor that decides: data in, data out; no clock, no files, no environment, no logging."""
