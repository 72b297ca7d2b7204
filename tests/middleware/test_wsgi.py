"""The doors that wait: WSGI, Flask, Django. The same answers as in ASGI, and streams that end at their next piece."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from policy_engine.limits import LIMITS
from policy_engine.middleware.exchange import CutOff
from policy_engine.middleware.models import from_body
from policy_engine.middleware.subjects import TrustedProxy, from_header
from policy_engine.middleware.wsgi import PolicyEngineWSGI
from tests.middleware.djangosite import configured
from tests.middleware.doors import CHAT, SECRET, Answered, Local, by_proxy, engage

NAMED = {"x-proxy-secret": SECRET, "x-user": "alice", "x-tenant": "acme", "x-country": "US"}


def environ_of(body: bytes, path: str, method: str, sent: dict[str, str], **more: Any) -> dict[str, Any]:
    """Return the environ of a request."""
    named = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in sent.items()}
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **named,
    }
    if body:
        environ |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body))}
    return {name: value for name, value in {**environ, **more}.items() if value is not None}


def call(
    app: Any,
    body: bytes = b'{"model":"fable-5"}',
    *,
    path: str = CHAT,
    method: str = "POST",
    sent: dict[str, str] = NAMED,
    on_piece: Any = None,
    **more: Any,
) -> Answered:
    """Put one request to a WSGI application and return what came back."""
    answered = Answered()

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        assert answered.status is None or exc_info is not None
        if exc_info is not None and answered.pieces:
            raise exc_info[1]
        answered.status = int(status.split()[0])
        answered.headers = {name.lower(): value for name, value in headers}
        return answered.pieces.append

    result = app(environ_of(body, path, method, sent, **more), start_response)
    try:
        for piece in result:
            answered.pieces.append(piece)
            if on_piece is not None:
                on_piece(answered)
        answered.complete = True
    finally:
        if hasattr(result, "close"):
            result.close()
    return answered


def echo(environ: Any, start_response: Any) -> Iterator[bytes]:
    """Answer with the body that came, read in the three ways there are."""
    first = environ["wsgi.input"].read(3)
    rest = environ["wsgi.input"].readline() + b"".join(environ["wsgi.input"])
    start_response("200 OK", [("Content-Type", "application/json")])
    yield first + rest


def door(engine: Any, app: Any, **more: Any) -> PolicyEngineWSGI:
    """Return an application guarded as these tests do it."""
    settings = {"subject": by_proxy(), "serving_region": "US", **more}
    return PolicyEngineWSGI(app, engine=engine if isinstance(engine, Local) else Local(engine), **settings)


def test_what_is_allowed_passes_and_the_rest_is_refused(engine: Any) -> None:
    """The application gets the body it would have got; denies, nobody, and unreadable bodies are answered here."""
    guarded = door(engine, echo, exempt=["/healthz"])
    body = b'{"model":"fable-5",\n"n":1}\n'
    assert call(guarded, body).body == body
    assert call(guarded, sent={**NAMED, "x-user": "eve"}).status == 403
    assert call(guarded, sent={}).status == 401
    assert call(guarded, sent={**NAMED, "x-proxy-secret": "x" * 34}).status == 401
    assert call(guarded, b"").status == 400
    assert call(guarded, b"", path="/healthz", method="GET", sent={}).status == 200
    assert call(guarded, b'{"model":"open-1","model":"fable-5"}').status == 400
    assert call(guarded, CONTENT_TYPE="text/plain").status == 400
    assert call(guarded, b"", method="HEAD").body == b""
    assert engine.uses.count == 0


@pytest.mark.parametrize(
    "more",
    [
        {"CONTENT_LENGTH": "7"},
        {"CONTENT_LENGTH": "99"},
        {"CONTENT_LENGTH": "-1"},
        {"CONTENT_LENGTH": "1e3"},
        {"CONTENT_LENGTH": "9" * 5_000},
        {"CONTENT_LENGTH": str(LIMITS.guarded_prefix_bytes + 1)},
        {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": None},
        {"HTTP_CONTENT_ENCODING": "gzip"},
    ],
)
def test_a_body_whose_end_is_not_known_is_refused(engine: Any, more: dict[str, Any]) -> None:
    """A wrong length, a chunked body that the server does not end, and a compressed one are 400."""
    assert call(door(engine, echo), **more).status == 400


def test_a_chunked_body_that_the_server_ends_passes(engine: Any) -> None:
    """Where the server says that it ends the input, a body without a length is read to its end."""
    more = {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": None, "wsgi.input_terminated": True}
    assert call(door(engine, echo), **more).body == b'{"model":"fable-5"}'


def test_a_form_is_read_where_forms_are_wanted(engine: Any) -> None:
    """The field `model` of a plain form is the model; a second one is refused."""
    field = b'--xyz\r\nContent-Disposition: form-data; name="model"\r\n\r\nfable-5\r\n'
    guarded = door(engine, echo, model=from_body(forms=True))
    media = {"CONTENT_TYPE": "multipart/form-data; boundary=xyz"}
    assert call(guarded, field + b"--xyz--\r\n", **media).body == field + b"--xyz--\r\n"
    assert call(guarded, field + field + b"--xyz--\r\n", **media).status == 400


def test_wsgi_does_not_tell_a_unix_socket(engine: Any) -> None:
    """A request without an address may have come from anywhere, so it is nobody's."""
    subject = from_header("x-user", proxy=TrustedProxy(unix_socket=True), tenant="x-tenant", location="x-country")
    assert call(door(engine, echo, subject=subject), REMOTE_ADDR=None).status == 401


def test_the_door_keeps_to_the_interface(engine: Any) -> None:
    """The reference checker of WSGI finds nothing, on either side, in an allow and in a deny."""

    def strict(environ: Any, start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read(5)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    guarded = validator(door(engine, strict))
    assert call(guarded).body == b"ok"
    assert call(guarded, sent={**NAMED, "x-user": "eve"}).status == 403


def streaming(media: str, stop: threading.Event) -> Any:
    """Return an application that streams until it is stopped, and says so when it is closed."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", media)])
        try:
            while not stop.wait(0.02):
                yield b"data: more\n\n"
        finally:
            stop.set()

    return app


def test_an_answer_that_nobody_reads_is_closed_with_its_hold(running: Any) -> None:
    """A server that closes an answer without a look at it (HEAD) closes the application's, and no allow stays held."""

    class Unread:
        closed = 0

        def __iter__(self) -> Iterator[bytes]:
            return iter((b"piece",))

        def close(self) -> None:
            self.closed += 1

    unread, engine = Unread(), running[0]
    app = door(engine, lambda environ, start: start("200 OK", []) and unread)
    result = app(environ_of(b'{"model":"fable-5"}', CHAT, "POST", NAMED), lambda *_: print)
    assert engine.uses.count == 1
    result.close()  # type: ignore[attr-defined]  # as servers do where there is one
    assert unread.closed == 1 and engine.uses.count == 0


def test_a_stream_of_events_ends_with_the_clients_error(running: Any) -> None:
    """The piece after the withdrawal is not let out; the error is, the application is closed, the hold let go."""
    engine, keys = running
    stop = threading.Event()
    threading.Timer(0.1, lambda: engage(engine, keys["operator"])).start()
    answered = call(door(engine, streaming("text/event-stream", stop)))
    assert answered.complete and b"model_suspended" in answered.pieces[-1]
    assert stop.is_set() and engine.uses.count == 0


def test_another_kind_of_stream_is_not_ended_as_if_it_were_whole(running: Any) -> None:
    """The server is told that the answer failed, so that it closes the connection."""
    engine, keys = running
    threading.Timer(0.1, lambda: engage(engine, keys["operator"])).start()
    with pytest.raises(CutOff):
        call(door(engine, streaming("application/x-ndjson", threading.Event())))
    assert engine.uses.count == 0


def test_an_answer_that_was_not_begun_is_the_refusal(running: Any) -> None:
    """An application that is still working when its allow ends has its answer replaced, or its `write` refused."""
    engine, keys = running

    def slow(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        engage(engine, keys["operator"])
        time.sleep(0.5)
        return [b"{}"]

    def writing(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [("Content-Type", "application/json")])
        engage(engine, keys["operator"], "opus-4-8", "second")
        time.sleep(0.5)
        write(b"late")
        return []

    assert call(door(engine, slow)).status == 403
    with pytest.raises(CutOff):
        call(door(engine, writing), b'{"model":"opus-4-8"}')


def test_the_connection_is_shut_down_while_nothing_flows(running: Any) -> None:
    """Where the server shows its socket, a client of a silent stream sees the connection close within a second."""
    engine, keys = running
    own, other = socket.socketpair()
    stop = threading.Event()

    def silent(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        yield b"data: one\n\n"
        stop.wait(10)
        yield b"data: late\n\n"

    more = {"werkzeug.socket": own}
    found: list[Answered] = []
    thread = threading.Thread(target=lambda: found.append(call(door(engine, silent), **more)))
    thread.start()
    while engine.uses.count == 0:
        time.sleep(0.01)
    time.sleep(0.1)
    committed = engage(engine, keys["operator"])
    other.settimeout(2)
    assert other.recv(1) == b""
    assert time.monotonic() - committed < 1.0
    stop.set()
    thread.join()
    assert b"late" not in found[0].body
    own.close()
    other.close()


def test_a_stream_that_flows_ends_with_the_clients_error_where_the_socket_is_shown(running: Any) -> None:
    """Its next piece tells the client, so the connection is left as it is."""
    engine, keys = running
    own, other = socket.socketpair()

    def flowing(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        for _ in range(100):
            yield b"data: more\n\n"
            time.sleep(0.02)

    timer = threading.Timer(0.1, lambda: engage(engine, keys["operator"]))
    timer.start()
    found = call(door(engine, flowing), **{"werkzeug.socket": own})
    timer.join()
    time.sleep(LIMITS.guarded_next_seconds + 0.1)
    assert b"model_suspended" in found.body and found.complete
    own.send(b"!")
    assert other.recv(1) == b"!"
    own.close()
    other.close()


def test_flask_is_guarded_by_one_line(engine: Any) -> None:
    """A Flask application gets what is allowed, through its own client."""
    import flask

    app = flask.Flask("guarded")
    app.add_url_rule(CHAT, view_func=lambda: flask.request.get_json(), methods=["POST"], endpoint="chat")
    app.wsgi_app = door(engine, app.wsgi_app)  # type: ignore[method-assign]  # the way that Flask names
    client = app.test_client()
    assert client.post(CHAT, json={"model": "fable-5"}, headers=NAMED).get_json() == {"model": "fable-5"}
    assert client.post(CHAT, json={"model": "fable-5"}, headers={**NAMED, "x-user": "eve"}).status_code == 403
    assert client.post("/nothing", json={"model": "fable-5"}).status_code == 401


def test_django_is_guarded_by_a_line_of_its_settings(running: Any) -> None:
    """A Django project answers what is allowed, refuses the rest, filters its listing and cuts its streams."""
    settings = configured()
    from django.test import Client

    engine, keys = running
    settings.POLICY_ENGINE = {"engine": Local(engine), "subject": by_proxy(), "serving_region": "US"}
    client = Client(headers=NAMED)
    body = {"model": "fable-5"}
    found = client.post(CHAT, body, content_type="application/json")
    assert found.json() == {"allowed": True, "body": body}
    assert client.post(CHAT, body, content_type="application/json", headers={"x-user": "eve"}).status_code == 403
    assert client.post(CHAT, b"x" * 10_001, content_type="application/json").status_code == 400
    assert Client().post(CHAT, body, content_type="application/json").status_code == 401
    assert client.get("/v1/models").json() == {"data": [{"id": "fable-5"}]}
    unread = client.generic("HEAD", "/v1/responses", b'{"model":"fable-5"}', content_type="application/json")
    assert unread.status_code == 200
    unread.close()
    assert engine.uses.count == 0
    threading.Timer(0.2, lambda: engage(engine, keys["operator"])).start()
    stream = client.post("/v1/responses", body, content_type="application/json")
    pieces = list(stream.streaming_content)
    assert b"model_suspended" in pieces[-1] and len(pieces) < 100
    stream.close()
    assert engine.uses.count == 0
