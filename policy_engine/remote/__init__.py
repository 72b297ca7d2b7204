"""The engine as it is asked from afar: over HTTP, with one `Decision` and the same calls as the embedded one.

Rules of the room:
- httpx2 is the only library under it, and nothing of the server is imported: no FastAPI, SQLAlchemy or casbin.
- Only a readable answer in time that says so is an allow. Whatever else happens is a deny whose code names it.
- What a server sends is bounded in bytes and in time, and believed no further than its budget.
Left to others: what a hold hears (`policy_engine.client`), the words of a deny (`core.dialects`).
"""

from policy_engine.remote.engine import RemoteEngine

__all__ = ["RemoteEngine"]
