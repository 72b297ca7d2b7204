"""Streams through the LiteLLM plugin in a real proxy: passed on whole, cut, and gone on with elsewhere."""

from __future__ import annotations

import threading
import time

import httpx2
import openai
import pytest

from tests.api.streams import soon
from tests.plugins import litellm_place
from tests.plugins.litellm_place import CHAT, ROUTES, Place
from tests.plugins.upstream import PIECES

pytestmark = litellm_place.MARKS

STREAMED = [path for path in ROUTES if path != "/v1/embeddings"]


@pytest.mark.parametrize("path", STREAMED)
def test_an_allowed_stream_passes_whole(place: Place, path: str) -> None:
    """On each route every piece arrives, and the stream ends as its dialect has it."""
    place.reached()
    answer = place.proxy.post(path, {**ROUTES[path], "model": "fable-5", "stream": True})
    assert answer.status_code == 200, answer.text
    assert all(f"piece {number}" in answer.text for number in range(PIECES)), answer.text
    assert "error" not in answer.text.replace('"error":null', "")
    assert place.decided(answer)["outcome"] == "allow"
    assert place.reached() == ["our-deployment-17"]


@pytest.mark.parametrize("path", [path for path in STREAMED if path != "/v1/completions"])
def test_a_stream_that_breaks_off_before_its_first_piece_goes_on_where_its_caller_may(place: Place, path: str) -> None:
    """The next model is decided: a caller gets no denied one, a denied one is passed over, and one who may gets it.

    Nothing of the answer was sent, so LiteLLM takes the fallback in any case: also where it loses what had arrived of
    the beginning together with the connection.
    """
    body = {**ROUTES[path], "stream": True}
    place.reached()
    place.proxy.post(path, {**body, "model": "opus-4-8"})
    assert set(place.reached()) == {"broken-opus"}
    for key, model, answering in (("sk-ines", "opus-4-8", "mythos-5"), ("sk-alice", "summit-4", "our-deployment-17")):
        said = place.proxy.post(path, {**body, "model": model}, key=key).text
        reached = place.reached()
        assert reached[0].startswith("broken") and reached[-1] == answering, said
        assert answering == "mythos-5" or "mythos-5" not in reached
        assert f"piece {PIECES - 1}" in said


def test_a_stream_of_plain_completions_never_goes_on(place: Place) -> None:
    """On that one route LiteLLM takes no fallback once the provider has begun to answer, for whomever it would be."""
    place.reached()
    body = {**ROUTES["/v1/completions"], "model": "opus-4-8", "stream": True}
    for key in ("sk-alice", "sk-ines"):
        assert place.proxy.post("/v1/completions", body, key=key).status_code == 500
        assert set(place.reached()) == {"broken-opus"}


@pytest.mark.parametrize("path", STREAMED)
def test_a_stream_that_breaks_off_behind_its_first_piece_ends_there(place: Place, path: str) -> None:
    """Whoever has a piece in hand gets an error behind it: LiteLLM begins no other answer, whatever the policy allows.

    The provider breaks off when the client has the piece, not earlier: LiteLLM forgets a piece that it has not read
    when the connection ends (so does aiohttp), and then takes a fallback.
    """
    place.reached()
    place.provider.heard = threading.Event()
    body = {**ROUTES[path], "model": "opus-4-8", "stream": True}
    said = ""
    try:
        headers = {"Authorization": "Bearer sk-ines"}
        with httpx2.stream("POST", place.proxy.url + path, json=body, headers=headers, timeout=30) as answer:
            for line in answer.iter_lines():
                said += line + "\n"
                if "piece 0" in line:
                    place.provider.heard.set()
    finally:
        place.provider.heard.set()
        place.provider.heard = None
    assert place.reached() == ["broken-opus"]
    assert "piece 1" not in said and "error" in said.partition("piece 0")[2], said


def test_a_stream_ends_when_the_engine_is_gone(place: Place) -> None:
    """Nobody can say any more that the allow stands, so the stream ends within its budget."""
    body = {**CHAT, "model": "open-1", "stream": True}
    headers = {"Authorization": "Bearer sk-alice"}
    began = time.monotonic()
    said = ""
    try:
        url = place.proxy.url + "/v1/chat/completions"
        with httpx2.stream("POST", url, json=body, headers=headers, timeout=30) as answer:
            for line in answer.iter_lines():
                said += line
                if "piece 0" in line:
                    place.network.cut()
                    began = time.monotonic()
        assert time.monotonic() - began < 5
    finally:
        place.network.heal()
    soon(lambda: place.proxy.post("/v1/embeddings", {"input": "x", "model": "fable-5"}).is_success or None)
    assert "piece 0" in said and 'data: {"error"' in said, said


@pytest.mark.parametrize("path", STREAMED)
def test_a_stream_is_cut_when_its_model_is_withdrawn(place: Place, path: str) -> None:
    """While no piece flows the stream ends with an error of its dialect, and the provider is let go."""
    body = {**ROUTES[path], "model": "open-1", "stream": True}
    headers = {"Authorization": "Bearer sk-bruno"}
    place.provider.left.clear()
    said, committed, switch = "", 0.0, f"cut{path.replace('/', '-')}"
    with httpx2.stream("POST", place.proxy.url + path, json=body, headers=headers, timeout=30) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            said += line + "\n"
            if not committed and "piece 0" in line:
                committed = place.withdraw(switch, "open-1", "acme-de")
    assert committed and time.monotonic() - committed < 3, said
    assert "Policy, not login: " in said, said
    assert f"piece {PIECES - 1}" not in said
    soon(lambda: place.provider.left)
    assert place.proxy.post(path, {**body, "stream": False}, key="sk-bruno").status_code in (403, 404)
    place.restore(switch)


def test_a_stream_that_was_cut_raises_in_the_client_library(place: Place) -> None:
    """`openai` raises in the middle of its loop, with the message."""
    with openai.OpenAI(base_url=f"{place.proxy.url}/v1", api_key="sk-alice", max_retries=2) as client:
        stream = client.chat.completions.create(
            model="open-1", stream=True, messages=[{"role": "user", "content": "x"}]
        )
        with pytest.raises(openai.APIError, match="Policy, not login: "):
            for number, _ in enumerate(stream):
                if number == 0:
                    place.withdraw("cut-library", "open-1", "acme")
    place.restore("cut-library")
