"""The first floor that remembers: entries, registers and keys in a database; alone in importing SQLAlchemy."""
