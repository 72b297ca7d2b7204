"""The model of a form: what every reader finds in the plain form that clients send; everything else is refused."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.formparser import FormDataParser

from policy_engine.core.bodyproblems import BodyProblem, BodyRefused
from policy_engine.core.formmodel import boundary_of, find_form_model
from policy_engine.limits import LIMITS

B = b"xyz"


def part(value: bytes, name: str = "model", more: str = "", head: str = "") -> bytes:
    """Return one part with its boundary before it."""
    disposition = head or f'Content-Disposition: form-data; name="{name}"{more}'
    return b"--" + B + b"\r\n" + disposition.encode() + b"\r\n\r\n" + value + b"\r\n"


def form(*parts: bytes, end: bytes = b"--" + B + b"--\r\n") -> bytes:
    """Return a form of parts."""
    return b"".join(parts) + end


def outcome(body: bytes, **options: Any) -> str | BodyProblem:
    """Return the model, or why there is none."""
    try:
        return find_form_model(body, B, **options)
    except BodyRefused as refused:
        return refused.reason


FILE = part(b"\x00\xff audio \r\n--xy", "file", '; filename="a.wav"\r\nContent-Type: audio/wav')
MODEL = part(b"fable-5")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (form(MODEL), "fable-5"),
        (form(FILE, MODEL, part(b"json", "response_format")), "fable-5"),
        (form(part(b"fable-5", more="\r\nContent-Type: text/plain; charset=utf-8")), "fable-5"),
        (form(MODEL, end=b"--xyz--"), "fable-5"),
        (form(FILE), BodyProblem.MODEL_MISSING),
        (form(MODEL, MODEL), BodyProblem.MODEL_TWICE),
        (form(MODEL, part(b"x", "Model")), BodyProblem.NAME_UNCLEAR),
        (form(part(b"x", "model[]")), BodyProblem.NAME_UNCLEAR),
        (form(part(b"x", " model")), BodyProblem.NAME_UNCLEAR),
        (form(part(b"x", more='; filename="a"')), BodyProblem.NAME_UNCLEAR),
        (form(part(b"x", more="\r\nContent-Type: application/json")), BodyProblem.NAME_UNCLEAR),
        (form(part(b"")), BodyProblem.MODEL_EMPTY),
        (form(part(b"a" * 257)), BodyProblem.MODEL_TOO_LONG),
        (form(part(b"a\nb")), BodyProblem.MODEL_NOT_TEXT),
        (form(part(b" a")), BodyProblem.MODEL_NOT_TEXT),
        (form(part(b"\xff")), BodyProblem.NOT_UTF8),
        (form(part(b"x", more='; filename="\u00ff"')), BodyProblem.NAME_UNCLEAR),
        (form(part(b"x", "model[id]")), BodyProblem.NAME_UNCLEAR),
        (b"preamble\r\n" + form(MODEL), BodyProblem.NOT_A_FORM),
        (form(MODEL) + b"epilogue", BodyProblem.NOT_A_FORM),
        (form(MODEL, end=b""), BodyProblem.NOT_A_FORM),
        (form(part(b"a\n--xyz\nb", "prompt"), MODEL), BodyProblem.NOT_A_FORM),
        (form(part(b"a\r\n--xyz \r\nb", "prompt"), MODEL), BodyProblem.NOT_A_FORM),
        (form(MODEL).replace(b"\r\n", b"\n"), BodyProblem.NOT_A_FORM),
        (form(part(b"x", head='Content-Disposition: form-data; name="a\\"; name=\\"model"')), BodyProblem.NOT_A_FORM),
        (form(part(b"x", head='Content-Disposition: form-data; name="a"; name="model"')), BodyProblem.NOT_A_FORM),
        (form(part(b"x", head="Content-Disposition: form-data; name=model")), BodyProblem.NOT_A_FORM),
        (form(part(b"x", head="Content-Disposition: form-data; name*=utf-8''model")), BodyProblem.NOT_A_FORM),
        (form(part(b"x", head='Content-Disposition: form-data; name="%6dodel"')), BodyProblem.NOT_A_FORM),
        (form(part(b"x", head='Content-Disposition: form-data;\r\n name="model"')), BodyProblem.NOT_A_FORM),
        (form(part(b"x", head='X: y\r\nContent-Disposition: form-data; name="a"')), BodyProblem.NOT_A_FORM),
        (form(part(b"eA==", more="\r\nContent-Transfer-Encoding: base64")), BodyProblem.NOT_A_FORM),
        (form(part(b"x", head="Content-Type: text/plain")), BodyProblem.NOT_A_FORM),
        (form(b"--xyz\r\nno head\r\n"), BodyProblem.NOT_A_FORM),
        (b"", BodyProblem.NOT_A_FORM),
    ],
)
def test_each_kind_of_form_has_its_own_outcome(body: bytes, expected: str | BodyProblem) -> None:
    """A plain form gives its model; everything that readers could take in two ways is refused."""
    assert outcome(body) == expected


def test_limits_hold_at_the_edge_and_one_past_it() -> None:
    """Parts and their headers are bounded, and members that choose another model can be refused."""
    small = replace(LIMITS, form_parts_count=2, form_head_bytes=60)
    assert outcome(form(MODEL, part(b"x", "a")), limits=small) == "fable-5"
    assert outcome(form(MODEL, part(b"x", "a"), part(b"x", "b")), limits=small) is BodyProblem.NOT_A_FORM
    assert outcome(form(MODEL, part(b"x", "a" * 60)), limits=small) is BodyProblem.NOT_A_FORM
    assert outcome(form(MODEL, part(b"x", "Fallbacks")), refused=frozenset(("fallbacks",))) is BodyProblem.NAME_REFUSED
    assert outcome(form(part(b"x\xff", "a\u00ff"), MODEL)) == "fable-5"


def test_bytes_that_are_no_text_in_a_head_are_refused() -> None:
    """The headers of a part are UTF-8."""
    assert outcome(form(MODEL).replace(b'name="', b'name="\xff')) is BodyProblem.NOT_UTF8


@pytest.mark.parametrize(
    ("media", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data;boundary="a-b"', b"a-b"),
        ("multipart/form-data; boundary=abc; charset=utf-8", None),
        ("multipart/form-data; charset=x; boundary=abc", None),
        ("multipart/form-data; boundary=a b", None),
        ('multipart/form-data; boundary="abc', None),
        ("multipart/form-data", None),
        ("multipart/mixed; boundary=abc", None),
    ],
)
def test_only_a_plain_media_type_has_a_boundary(media: str, boundary: bytes | None) -> None:
    """A boundary that readers could take in two ways is none."""
    assert boundary_of(media) == boundary


PIECES = st.lists(
    st.sampled_from([MODEL, part(b"open-1"), FILE, part(b"x", "Model"), part(b"hi", "prompt"), b"--xyz\r\n", b"\r\n"]),
    max_size=4,
)


@given(PIECES, st.integers(0, 400), st.sampled_from([b"", b"\n", b"\r\n", b'"', b"--xyz", b"model", b";", b"%"]))
def test_it_finds_what_another_reader_finds(pieces: list[bytes], place: int, put_in: bytes) -> None:
    """Of a form, whole or damaged, whatever gives a model gives Werkzeug's reader the same one, once."""
    body = form(*pieces)
    body = body[:place] + put_in + body[place:]
    found = outcome(body)
    if isinstance(found, BodyProblem):
        return
    parser = FormDataParser(silent=False, stream_factory=lambda *size, **more: io.BytesIO())
    _, fields, files = parser.parse(io.BytesIO(body), "multipart/form-data", len(body), {"boundary": "xyz"})
    assert fields.getlist("model") == [found]
    assert not any(name.casefold() == "model" for name in files)
