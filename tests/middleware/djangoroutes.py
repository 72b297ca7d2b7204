"""The routes of a small Django project: an answer, a stream of events, a listing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from django.http import JsonResponse, StreamingHttpResponse
from django.urls import path

from tests.middleware.paging import page


def chat(request: Any) -> Any:
    """Say which decision let this run."""
    return JsonResponse({"allowed": request.policy_engine.allowed, "body": json.loads(request.body)})


def stream(request: Any) -> Any:
    """Stream events for a while."""

    def events() -> Iterator[bytes]:
        for _ in range(100):
            time.sleep(0.02)
            yield b"data: more\n\n"

    return StreamingHttpResponse(events(), content_type="text/event-stream")


async def stream_async(request: Any) -> Any:
    """Stream events as asynchronous views do."""

    async def events() -> AsyncIterator[bytes]:
        for _ in range(100):
            await asyncio.sleep(0.02)
            yield b"data: more\n\n"

    return StreamingHttpResponse(events(), content_type="text/event-stream")


def models(request: Any) -> Any:
    """List two models."""
    return JsonResponse({"data": [{"id": "fable-5"}, {"id": "mythos-5"}]})


def paged(request: Any) -> Any:
    """List models as Anthropic does, page by page."""
    return JsonResponse(page(request.META["QUERY_STRING"]))


urlpatterns = [
    path("v1/chat/completions", chat),
    path("v1/responses", stream),
    path("v1/completions", stream_async),
    path("v1/models", models),
    path("paged/v1/models", paged),
]
