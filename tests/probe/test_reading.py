"""Reading answers: which model answered, what is a refusal, and what nobody can tell."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.errors import InputRefused
from policy_engine.probe.reading import Kind, read
from policy_engine.probe.standing import Names, Standing, folded
from policy_engine.probe.target import Models
from policy_engine.probe.wire import Answer, Lack
from tests.probe.upstream import completion

NAMES = Names(Models(("open-1", "fable-5-mini"), ("fable-5",), ("fable-latest",), ("fable-5-tuned",)))


def answer(status: int, document: Any = b"", *headers: tuple[str, str]) -> Answer:
    """Return an answer with a JSON body, or these bytes."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Answer(status, headers, body, True)


@pytest.mark.parametrize(
    ("said", "standing"),
    [
        ("fable-5", Standing.FORBIDDEN),
        ("Fable-5 ", Standing.FORBIDDEN),
        ("openai/fable-5", Standing.FORBIDDEN),
        ("fable-5-2026-06-12", Standing.FORBIDDEN),
        ("fable-5:latest", Standing.FORBIDDEN),
        ("f\u0430ble\u20105", Standing.FORBIDDEN),
        ("fable-latest", Standing.FORBIDDEN),
        ("fable-5-tuned-20260612", Standing.FORBIDDEN),
        ("fable-5-mini", Standing.ALLOWED),
        ("fable-5-mini-2026-06-12", Standing.ALLOWED),
        ("open-1", Standing.ALLOWED),
        ("fable-5-huge", Standing.OTHER),
        ("fable-51", Standing.OTHER),
        ("open", Standing.OTHER),
        ("", Standing.UNSAID),
    ],
)
def test_a_name_is_told_as_a_person_would(said: str, standing: Standing) -> None:
    """Case, spaces, providers, look-alikes and dates change nothing; another word behind a name is another model."""
    assert NAMES.standing(said) is standing


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings", "/api/chat"]
)
def test_an_answer_of_the_forbidden_model_is_one_in_every_form(path: str) -> None:
    """A chat, a message, a response, an embedding and Ollama's own form are told with the model that they name."""
    reading = read(answer(200, completion(path, "fable-5")), NAMES)
    assert reading.forbidden and reading.said == "fable-5"
    assert read(answer(200, completion(path, "open-1")), NAMES).standing is Standing.ALLOWED


def test_a_stream_is_read_event_by_event() -> None:
    """Whether by OpenAI's chunks or Anthropic's events, the model is found behind the first lines."""
    chunk = json.dumps({"object": "chat.completion.chunk", "model": "fable-5", "choices": []})
    assert read(answer(200, f": ping\n\ndata: {chunk}\n\ndata: [DONE]\n\n".encode()), NAMES).forbidden
    start = json.dumps({"type": "message_start", "message": {"type": "message", "model": "fable-5"}})
    assert read(answer(200, f"event: message_start\ndata: {start}\n\n".encode()), NAMES).forbidden


@pytest.mark.parametrize(
    ("status", "document", "kind", "found"),
    [
        (403, {"error": {"type": "request_forbidden", "code": "model_access_denied"}}, Kind.REFUSED,
         "403, openai error model_access_denied"),
        (404, {"type": "error", "error": {"type": "not_found_error", "message": "m"}}, Kind.REFUSED,
         "404, anthropic error not_found_error"),
        (451, {"type": "https://p.example/denied", "title": "Denied", "status": 451}, Kind.REFUSED,
         "451, problem error https://p.example/denied"),
        (403, b"Forbidden", Kind.REFUSED, "403"),
        (501, b"", Kind.REFUSED, "501"),
        (200, {"error": {"message": "no", "code": "model_suspended"}}, Kind.REFUSED,
         "200 with an error: openai error model_suspended"),
        (429, {"error": {"code": "rate_limit"}}, Kind.UNCLEAR, None),
        (408, b"", Kind.UNCLEAR, None),
        (502, b"", Kind.UNCLEAR, None),
        (503, {"error": {"type": "server_error"}}, Kind.UNCLEAR, None),
        (302, b"", Kind.UNCLEAR, None),
        (200, b"<html>welcome</html>", Kind.UNCLEAR, None),
        (200, b"", Kind.UNCLEAR, None),
        (204, b"", Kind.UNCLEAR, None),
        (200, {"status": "fable-5"}, Kind.UNCLEAR, None),
    ],
)  # fmt: skip
def test_a_refusal_is_told_from_what_says_nothing(status: int, document: Any, kind: Kind, found: str | None) -> None:
    """A 4xx refuses; a limit, a failure, a redirect and a page that nobody knows do not say who was reached."""
    reading = read(answer(status, document), NAMES)
    assert reading.kind is kind
    assert found is None or reading.found == found


def test_a_completion_that_names_no_model_is_served_by_nobody_in_particular() -> None:
    """Evidence needs a name: without one, neither a hole nor a refusal is claimed."""
    reading = read(answer(200, {"choices": [{}]}), NAMES)
    assert reading.kind is Kind.SERVED and reading.standing is Standing.UNSAID and not reading.forbidden


def test_a_header_names_the_model_only_where_there_is_no_body() -> None:
    """An answer to HEAD has nothing else; a page that mentions the model in a header is no answer of it."""
    assert read(answer(200, b"", ("openai-model", "fable-5")), NAMES).forbidden
    assert not read(answer(200, b"<html>", ("openai-model", "fable-5")), NAMES).forbidden
    assert not read(answer(403, b"", ("openai-model", "fable-5")), NAMES).forbidden


def test_no_answer_is_a_refusal_only_if_the_gateway_hung_up() -> None:
    """Silence may be a model that thinks; a closed connection is none."""
    assert read(Lack.DROPPED, NAMES).kind is Kind.REFUSED
    assert read(Lack.SILENT, NAMES).kind is read(Lack.UNREACHABLE, NAMES).kind is Kind.UNCLEAR


def test_the_words_of_an_error_are_not_repeated() -> None:
    """What a gateway writes to a caller may name persons; a code that is no code is left out."""
    document = {"error": {"message": "Alice Doe is no citizen", "code": "Alice Doe is no citizen"}}
    assert "Alice" not in read(answer(403, document), NAMES).found


LEAVES = st.none() | st.booleans() | st.integers(0, 9) | st.text("fable-5 x", max_size=8)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("error", "model", "choices", "data", "type", "object", "message", "response", "session", "id")
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)


@given(st.integers(100, 599), DOCUMENTS | st.binary(max_size=64))
def test_whatever_comes_back_is_read(status: int, document: Any) -> None:
    """No answer makes the reading fail, and nothing but a 2xx is ever an answer of a model."""
    reading = read(answer(status, document), NAMES)
    assert reading.kind is not Kind.SERVED or 200 <= status < 300
    assert not reading.forbidden or "fable" in folded(reading.said)


@pytest.mark.parametrize("name", ["response", "message", "session"])
def test_an_answer_that_is_nested_without_end_is_read(name: str) -> None:
    """A gateway that nests as deep as a reader of JSON lets it ends no probe."""
    document = f'{{"{name}":' * 900 + '{"model":"fable-5"}' + "}" * 900
    assert not read(answer(200, document.encode()), NAMES).forbidden


def test_models_are_named_once_and_printable() -> None:
    """A model that is allowed and forbidden, an empty list and a name with a line break are refused."""
    for allowed, forbidden in ((("a",), ("a",)), ((), ("b",)), (("a",), ()), (("a\n",), ("b",))):
        with pytest.raises(InputRefused):
            Models(allowed, forbidden)
