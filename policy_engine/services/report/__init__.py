"""The audit report of a period: one HTML file that stands by itself, with tables and pictures.

Rooms: `service` (who may, and what is read), `period` (which time), `gathered` (what one pass over the entries counts),
`keyed` (counts by what is sealed, through keyed tags), `markup` and `charts` (HTML and SVG from plain text), `page` and
`sections` (what is shown), `style` (how). Left to others: verifying (`services.verify`), whole files
(`services.exports.files`), the command (`cli.auditreport`).
"""
