"""JSON Web Tokens of issuers that an operator named: who vouches for whom, and with which keys.

Rules of the room: joserfc is imported here alone, and only when keys are read or a signature is checked; nothing that a
token says is believed before its signature held, but which issuer to ask. Left to others: whom a token's subject is
here (`services.keys` for callers of the engine, `middleware` for users of a guarded application), what they may do.
"""
