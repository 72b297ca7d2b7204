"""Django served by ASGI, where a middleware that waits runs in a thread that has no event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.middleware.djangosite import configured
from tests.middleware.doors import Answered, Local, by_proxy, engage, exchange
from tests.middleware.test_paths import of_django
from tests.middleware.test_wsgi import call


def served(running: Any, path: str) -> Answered:
    """Return what a client got of a stream of a Django project on ASGI, while its model was withdrawn."""
    settings = configured()
    from django.core.asgi import get_asgi_application

    engine, keys = running
    settings.POLICY_ENGINE = {"engine": Local(engine), "subject": by_proxy(), "serving_region": "US"}
    app = get_asgi_application()
    threading.Timer(0.3, lambda: engage(engine, keys["operator"])).start()
    return asyncio.run(exchange(app, path=path))


def test_a_stream_of_an_asynchronous_view_is_served_and_cut(running: Any) -> None:
    """Its events come while the allow lasts, the error ends them, and nothing stays held."""
    found = served(running, "/v1/completions")
    assert found.status == 200 and found.pieces[0] == b"data: more\n\n"
    assert b"model_suspended" in found.body and len(found.pieces) < 100
    assert running[0].uses.count == 0


def test_a_path_is_the_one_that_the_view_sees(engine: Any) -> None:
    """Django on ASGI hands over paths as text, and nothing but that text is exempt or names a model."""
    settings = configured()
    from django.core.asgi import get_asgi_application

    settings.POLICY_ENGINE = {"engine": Local(engine), "subject": by_proxy(), "exempt": ["/\u00e8"]}
    app = get_asgi_application()
    statuses = [
        asyncio.run(exchange(app, path=path, sent=[])).status for path in ("/\u00e8", "/\u00c3\u00a8", "/\u65e5")
    ]
    assert statuses == [404, 401, 401]


@pytest.mark.parametrize("length", ["x", "-1", "1_9", "1e3", "9" * 5_000])
def test_a_length_that_is_none_is_refused_as_such(engine: Any, length: str) -> None:
    """Under WSGI Django hands on what the client wrote: the answer was 503, as if nobody could decide, and a fault in
    the log; and `1_9` was taken for 19."""
    site = of_django(engine, {})
    refused = call(site, CONTENT_LENGTH=length)
    assert (refused.status, refused.json()["error"]["type"]) == (400, "invalid_request_error"), refused.body
    assert call(site, path="/v1/chat/completions").status == 200
