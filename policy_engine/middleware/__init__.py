"""The doors in front of other applications: ASGI, WSGI, FastAPI, Django, vLLM. One shared core, one thin file each.

`PolicyEngineMiddleware` guards an ASGI application and `PolicyEngineWSGI` a WSGI one; `fastapi`, `django` and `vllm`
are imported by their own names, for each needs what it is for. Settings are those of `guard.Guard`.
"""

from policy_engine.middleware.asgi import Allowed, PolicyEngineMiddleware
from policy_engine.middleware.models import constant, from_body, from_model_header, from_path, from_query
from policy_engine.middleware.subjects import ProxyHeader, Subject, TrustedProxy, from_header
from policy_engine.middleware.tokens import from_jwt
from policy_engine.middleware.wsgi import PolicyEngineWSGI

__all__ = [
    "Allowed",
    "PolicyEngineMiddleware",
    "PolicyEngineWSGI",
    "ProxyHeader",
    "Subject",
    "TrustedProxy",
    "constant",
    "from_body",
    "from_header",
    "from_jwt",
    "from_model_header",
    "from_path",
    "from_query",
]
