"""Django, set up once in a process, whoever needs it first."""

from __future__ import annotations

from typing import Any


def configured() -> Any:
    """Return Django's settings, set up as a small project's would be."""
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF="tests.middleware.djangoroutes",
            MIDDLEWARE=["policy_engine.middleware.django.PolicyEngineMiddleware"],
            POLICY_ENGINE={},
            USE_TZ=True,
            DATA_UPLOAD_MAX_MEMORY_SIZE=10_000,
        )
        django.setup()
    return settings
