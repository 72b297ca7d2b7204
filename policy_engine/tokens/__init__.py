"""JSON Web Tokens of issuers that an operator named: who vouches for whom, and with which keys.

Rules of the room: joserfc is imported here alone, and only where keys are read or tokens are taken; nothing that a
token says is believed before its signature held, but which issuer to ask.
Left to others: whom a token's subject is (`services.keys` for callers of the engine, `middleware` for users of a
guarded application), and what they may do.
"""
