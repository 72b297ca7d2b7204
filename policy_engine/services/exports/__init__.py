"""Exports: what the log holds, as a file for somebody else, with a proof sheet beside it.

Rooms: `service` (who may, and what is written), `source` (which entries, in which order), `columns`, `neutral`,
`textfiles`, `sheets`, `parquet`, `ocsf` (one file form each), `files` (whole files or none), `proof` (the sheet),
`unsealed` (bodies, by two persons). Left to others: finding entries (`services.evidence`), bundles for the verifier
(`services.bundle`), the command (`cli.auditexport`).
"""
