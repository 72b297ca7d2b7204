"""The door for people and scripts at a terminal: one module per verb group, exit codes, tables and JSON."""
