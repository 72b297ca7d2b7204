"""Previews: what a change of a switch or an order would do to whom, before it is made.

Rooms: `changes` (what is supposed), `recorded` (past decisions decided again), `standing` (who could use a model, by
the registers), `tallies` (counts), `answer` (what is handed over), `page` (the HTML page), `service` (who may ask, and
the entry).
"""
