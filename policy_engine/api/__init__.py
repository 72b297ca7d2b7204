"""The HTTP door: AuthZEN decisions on a raw ASGI path, management routes through FastAPI, discovery, metrics.

The only room that imports a web framework. Whatever it answers, the services have decided.
"""
