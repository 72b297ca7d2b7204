"""Exports of the log: forms, proof sheets, whole files, and sealed bodies by two persons."""
