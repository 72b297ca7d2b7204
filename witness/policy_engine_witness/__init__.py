"""A witness for transparency logs (C2SP tlog-witness v1.0.0): remembers one checkpoint a log, and cosigns its growth.

Rules of the house:
- It is another team's program on another team's machine: it imports nothing of the engine, only the standard library
  and `cryptography`, and proves consistency by code of its own.
- A checkpoint is cosigned only after it has become the record, durably and in one transaction with the comparison.
- Whatever is not understood to the letter is refused; no answer repeats what a caller sent.
Left to others: TLS and who may reach it (a reverse proxy), and what the logs say (nobody sends it their entries).
"""
