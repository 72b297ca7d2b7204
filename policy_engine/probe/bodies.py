"""Checks of the body: two models in one, a model that stands late, and encodings that a gateway may not read.

A gateway and the upstream read the same bytes; whatever the two read differently is a way past the gateway.
Rules of the room: what pads a body is white space, which no model is paid for.
Left to others: spellings of the name (`names`), headers (`headers`).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from policy_engine.limits import LIMITS
from policy_engine.probe import places
from policy_engine.probe.asks import Ask, encoded
from policy_engine.probe.checking import PLAIN, Check, Scene, withheld

GROUP: Final = "bodies"
BOUNDARY: Final = "policy-engine-probe-boundary"
PADS_BYTES: Final = (9_000, 70_000, 300_000, 990_000, LIMITS.probe_body_bytes - 10_000)
"""One beyond each usual buffer: 8, 64 and 256 KiB; the last but one below the usual bounds of 1 MB and 1 MiB, behind
which a gateway refuses what it has not read; the last beyond those."""
_CHUNK_BYTES: Final = 3


def _two(scene: Scene, model: str, first: str, second: str) -> Iterator[Ask]:
    """Ask with two members, the model under one of them and the other model under the other, in both orders."""
    other = _other(scene, model)
    rest = encoded(scene.form.rest())[1:]
    for before, behind, sent in ((other, model, "behind"), (model, other, "before")):
        head = b"{%b:%b,%b:%b," % (first.encode(), encoded(before), second.encode(), encoded(behind))
        names = f"{first} and {second}" if first != second else f"{first} twice"
        yield scene.form.raw(head + rest, f"{names}, the model {sent} the other")


def _other(scene: Scene, model: str) -> str:
    return scene.allowed if model == scene.forbidden else scene.forbidden


def duplicate(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask with two `model` members."""
    yield from _two(scene, model, '"model"', '"model"')


def escaped(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask with two `model` members, one of them spelled with an escape."""
    yield from _two(scene, model, '"model"', r'"\u006dodel"')
    yield from _two(scene, model, r'"mod\u0065l"', '"model"')


def cased(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask with a second member that only a reader without case takes for `model`."""
    yield from _two(scene, model, '"model"', '"Model"')
    yield from _two(scene, model, '"MODEL"', '"model"')


def nested(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask for the other model, with this one in members that some gateways merge into the request, or hand on."""
    other = _other(scene, model)
    for name in ("extra_body", "request", "params", "litellm_params"):
        yield scene.form.ask(other, f"the model within {name}", **{name: {"model": model}})
    yield scene.form.ask(other, "a second name in engine and deployment", engine=model, deployment=model)
    for name in places.SECOND_NAMES:
        yield scene.form.ask(other, f"a second name in {name}", **{name: model})


def second(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask with a second document behind the first."""
    one, two = (encoded(scene.form.document(name)) for name in (_other(scene, model), model))
    yield scene.form.raw(one + two, "a second document behind the first")
    yield scene.form.raw(one + b"\n" + two, "a second document on a second line")


def late(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask with the model at the end of a body that grows beyond usual buffers."""
    rest = encoded(scene.form.rest())[:-1]
    for size in PADS_BYTES:
        body = rest + b"," + b" " * size + b'"model":' + encoded(model) + b"}"
        yield scene.form.raw(body, f"the model behind {size:,} bytes")


def late_duplicate(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask with the other model at the start and this one at the end of a large body."""
    start = encoded(scene.form.document(_other(scene, model)))[:-1]
    for size in PADS_BYTES:
        body = start + b"," + b" " * size + b'"model":' + encoded(model) + b"}"
        yield scene.form.raw(body, f"a second model behind {size:,} bytes")


def compressed(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask with a compressed body."""
    body = encoded(scene.form.document(model))
    for name, packed in (("gzip", gzip.compress(body, mtime=0)), ("deflate", zlib.compress(body))):
        yield scene.form.raw(packed, f"a body in {name}").with_headers(("Content-Encoding", name))
    yield scene.form.raw(gzip.compress(body, mtime=0), "a body in gzip that says it is in X-GZIP").with_headers(
        ("Content-Encoding", "X-GZIP")
    )


def chunked(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask with a body in chunks, at the model's name and elsewhere."""
    body = encoded(scene.form.document(model))
    whole = scene.form.raw(b"", "a body in one chunk")
    yield replace(whole, pieces=(body,))
    small = tuple(body[at : at + _CHUNK_BYTES] for at in range(0, len(body), _CHUNK_BYTES))
    yield replace(whole, pieces=small, sent="a body in small chunks")


def multipart(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask with a form instead of JSON, where the question is asked and where files go."""
    document = encoded(scene.form.document(model))
    fields = ((b'"model"', model.encode()), (b'"messages"', encoded(scene.form.rest()["messages"])))
    parts = b"".join(_part(name, value) for name, value in fields) + _part(b'"body"', document)
    body = parts + b"--" + BOUNDARY.encode() + b"--\r\n"
    kind = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    yield Ask("a form with the model as a field", scene.form.path, body, headers=(kind,))
    yield Ask("a form where speech is transcribed", "/v1/audio/transcriptions", body, headers=(kind,))
    yield Ask("a form where pictures are changed", "/v1/images/edits", body, headers=(kind,))


def _part(name: bytes, value: bytes) -> bytes:
    head = b"--" + BOUNDARY.encode() + b'\r\nContent-Disposition: form-data; name="' + name.strip(b'"')
    return head + b'"\r\n\r\n' + value + b"\r\n"


def encodings(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask with a body that is not UTF-8, or not quite."""
    text = encoded(scene.form.document(model)).decode()
    for name in ("utf-16", "utf-16-le", "utf-32"):
        kind = ("Content-Type", f"application/json; charset={name}")
        yield Ask(f"a body in {name}", scene.form.path, text.encode(name), headers=(kind, *scene.form.headers[1:]))
    yield scene.form.raw(text.encode("utf-8-sig"), "a body with a byte order mark")
    broken = b'{"note":"\xff\xfe","model":' + encoded(model) + b"," + encoded(scene.form.rest())[1:]
    yield scene.form.raw(broken, "a body with bytes that are no UTF-8")


def kinds(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask with a body that says it is something else than JSON, or says nothing."""
    body = encoded(scene.form.document(model))
    form = f"model={model}&prompt=probe&max_tokens=1".encode()
    more = scene.form.headers[1:]
    for name in ("text/plain", "application/octet-stream", "application/x-www-form-urlencoded"):
        yield Ask(f"JSON that says it is {name}", scene.form.path, body, headers=(("Content-Type", name), *more))
    yield Ask("JSON that does not say what it is", scene.form.path, body, headers=more)
    encoded_form = (("Content-Type", "application/x-www-form-urlencoded"), *more)
    yield Ask("a form in the address's encoding", scene.form.path, form, headers=encoded_form)


_STRICT: Final = "refuse a body whose top level names the model twice, by parsed names and whatever their case"
_LENGTH: Final = "read the whole body or refuse it by its length; never decide on a part and send on the rest"

CHECKS: Final = (
    Check("duplicate-key", GROUP, _STRICT, withheld(duplicate)),
    Check("escaped-key", GROUP, _STRICT, withheld(escaped)),
    Check("key-case", GROUP, _STRICT, withheld(cased)),
    Check("nested-model", GROUP, places.MERGED, withheld(nested)),
    Check("second-document", GROUP, "refuse a body that is more than one JSON document", withheld(second)),
    Check("late-model", GROUP, _LENGTH, withheld(late, twin=True)),
    Check("late-duplicate", GROUP, _LENGTH, withheld(late_duplicate), rests=(PLAIN, "duplicate-key")),
    Check("compressed", GROUP, "refuse a Content-Encoding on requests, or decode within a bound before deciding",
          withheld(compressed, twin=True)),
    Check("chunked", GROUP, "decide on the body after its chunks are joined", withheld(chunked, twin=True)),
    Check("multipart", GROUP, "refuse forms where they are not needed; elsewhere decide on their field `model`",
          withheld(multipart, twin=True)),
    Check("encoding", GROUP, "refuse a body that is not UTF-8 without a byte order mark", withheld(encodings)),
    Check("content-type", GROUP, "refuse what does not say it is JSON; never skip the decision for it",
          withheld(kinds)),
)  # fmt: skip
