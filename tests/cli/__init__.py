"""The command line: each command run for real, exit codes, and what is written where."""
