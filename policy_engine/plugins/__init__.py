"""Plugins for gateways that others run: each decides by an engine and is loaded by the gateway itself.

Rules of the room: a plugin asks `core.enforcing.Enforcing` and fails closed, visibly. Who asks is what the gateway
authenticated, never the request's body. Prompts and replies stay where they are. `open_webui` is copied as one file and
so imports nothing of the engine; `litellm` alone imports its gateway.
Left to others: deciding, and the gateways' own routes that no plugin is asked about (docs/gateways.md names them).
"""
