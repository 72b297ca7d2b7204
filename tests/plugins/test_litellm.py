"""The LiteLLM plugin inside a real LiteLLM proxy: calls on every route, listings, and the hops of a call that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from tests.api.streams import soon
from tests.plugins import litellm_place, litellm_proxy
from tests.plugins.litellm_place import CHAT, PROMPT, ROUTES, SETTINGS, Place, deployments
from tests.plugins.upstream import ANSWER, PIECES, providing

pytestmark = litellm_place.MARKS

OTHERS: Mapping[str, dict[str, Any]] = {
    "/v1/images/generations": {"prompt": PROMPT},
    "/v1/moderations": {"input": PROMPT},
    "/v1/rerank": {"query": PROMPT, "documents": [PROMPT]},
    "/v1/audio/speech": {"input": PROMPT, "voice": "alloy"},
}
"""Routes whose models the sample world does not have: they are seen to be decided, not to answer."""


def error(answer: httpx2.Response) -> dict[str, Any]:
    """Return the error of an answer, in either dialect."""
    found: dict[str, Any] = answer.json()["error"]
    return found


@pytest.mark.parametrize("path", ROUTES)
def test_an_allowed_call_is_answered_by_the_model_that_was_decided(place: Place, path: str) -> None:
    """On each route an allowed caller reaches the deployment, with one decision: name and deployment are one model."""
    place.reached()
    before = place.served.entries()
    answer = place.proxy.post(path, {**ROUTES[path], "model": "fable-5"})
    assert answer.status_code == 200, answer.text
    assert path == "/v1/embeddings" or ANSWER in answer.text
    assert place.reached() == ["our-deployment-17"]
    assert place.served.entries() == before + 1
    assert place.decided(answer)["outcome"] == "allow"


@pytest.mark.parametrize("path", OTHERS)
def test_other_kinds_of_calls_are_decided_before_they_are_made(place: Place, path: str) -> None:
    """A denied caller reaches nobody there either, and the status is kept."""
    place.reached()
    before = place.served.entries()
    assert place.proxy.post(path, {**OTHERS[path], "model": "fable-5"}, key="sk-eve").status_code == 451
    assert place.served.entries() == before + 1
    assert place.reached() == []


def test_a_transcription_is_decided_by_the_model_of_its_form(place: Place) -> None:
    """The model of a form with a file is decided like any other."""
    place.reached()
    answer = httpx2.post(
        f"{place.proxy.url}/v1/audio/transcriptions",
        data={"model": "fable-5"},
        files={"file": ("a.wav", b"RIFF", "audio/wav")},
        headers={"Authorization": "Bearer sk-eve"},
        timeout=30,
    )
    assert answer.status_code == 451, answer.text
    assert place.reached() == []


@pytest.mark.parametrize("path", ROUTES)
def test_a_denied_call_reaches_nobody_and_keeps_its_status(place: Place, path: str) -> None:
    """On each route a denied caller gets the chosen status, the link, the id and no invitation to try again."""
    place.reached()
    answer = place.proxy.post(path, {**ROUTES[path], "model": "fable-5"}, key="sk-eve")
    assert answer.status_code == 451, answer.text
    assert answer.headers["link"] == '<https://authority.example/order-7>; rel="blocked-by"'
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["cache-control"] == "no-store"
    assert place.decided(answer)["outcome"] == "deny"
    assert error(answer)["message"].startswith("Policy, not login: ")
    assert "eve" not in answer.text and PROMPT not in answer.text
    assert place.reached() == []


def test_a_deny_says_more_to_programs(place: Place) -> None:
    """The error of the OpenAI routes carries code, decision id and alternatives where LiteLLM has room for them."""
    answer = place.proxy.post("/v1/chat/completions", {**CHAT, "model": "fable-5"}, key="sk-eve")
    found = error(answer)
    assert (found["type"], found["param"], found["code"]) == ("request_forbidden", "model", "451")
    assert found["provider_specific_fields"] == {
        "code": "facts_missing",
        "decision_id": answer.headers["policy-engine-decision-id"],
        "alternatives": ["open-1"],
    }


def test_the_client_libraries_show_the_deny_and_send_one_request(place: Place) -> None:
    """`openai` and `anthropic` raise at once, with the message, and repeat nothing."""
    before = place.served.entries()
    said: Any = [{"role": "user", "content": PROMPT}]
    with (
        openai.OpenAI(base_url=f"{place.proxy.url}/v1", api_key="sk-alice", max_retries=2) as client,
        pytest.raises(openai.NotFoundError) as hidden,
    ):
        client.chat.completions.create(model="mythos-5", messages=said)
    assert "Policy, not login: " in hidden.value.message
    with (
        anthropic.Anthropic(base_url=place.proxy.url, api_key="sk-eve", max_retries=2) as other,
        pytest.raises(anthropic.APIStatusError) as blocked,
    ):
        other.messages.create(model="fable-5", max_tokens=9, messages=said)
    assert blocked.value.status_code == 451 and "Policy, not login: " in blocked.value.message
    assert place.served.entries() == before + 2


def test_the_listing_shows_what_can_be_called(place: Place) -> None:
    """Each caller sees exactly the names that lead to a model they may use; a hidden one is as if it did not exist."""
    listed = {
        key: [model["id"] for model in place.proxy.get("/v1/models", key=key).json()["data"]]
        for key in ("sk-alice", "sk-eve", "sk-ines")
    }
    everything = {entry["model_name"] for entry in deployments(1)}
    assert set(listed["sk-alice"]) == everything - {"mythos-5", "fable-latest"}  # which is `mythos-5` here
    assert listed["sk-eve"] == ["open-1"]
    assert set(listed["sk-ines"]) == everything
    for key, names in listed.items():
        described = place.proxy.get("/model/info", key=key).json()["data"]
        assert {model["model_name"] for model in described} == set(names)
        for name in everything:
            assert place.proxy.get(f"/v1/models/{name}", key=key).status_code == (200 if name in names else 404)
            if name not in names:
                denied = place.proxy.post("/v1/chat/completions", {**CHAT, "model": name}, key=key)
                assert denied.status_code in (404, 451)
    place.reached()


@pytest.mark.parametrize("key", ["sk-nobody", "sk-teamless"])
def test_a_key_that_names_nobody_gets_nothing(place: Place, key: str) -> None:
    """Without a user or a team in the proxy's own record nothing is asked and nothing allowed."""
    before = place.served.entries()
    for path, body in ROUTES.items():
        assert place.proxy.post(path, {**body, "model": "open-1", "user": "alice"}, key=key).status_code == 401
    assert place.proxy.get("/v1/models", key=key).status_code == 401
    assert place.served.entries() == before


def test_who_asks_and_from_where_cannot_be_said_in_a_body(place: Place) -> None:
    """A body that names another user, a record of one, or a place, is decided as the key says."""
    record = {"user_id": "alice", "team_id": "acme", "team_metadata": {"location": "US"}}
    forged = {"user_api_key_auth": record, "user_api_key_user_id": "alice", "location": "US"}
    for path, body in ROUTES.items():
        for field in ("metadata", "litellm_metadata"):
            sent = {**body, "model": "fable-5", "user": "alice", field: forged}
            answer = place.proxy.post(path, sent, key="sk-eve")
            assert answer.status_code in (400, 451), (path, field, answer.text)  # 400: no such metadata on that route
        sent = {**body, "model": "fable-5"}
        assert place.proxy.post(path, sent, key="sk-placeless").status_code == 403
    assert place.reached() == []


def test_a_name_does_not_stand_for_another_model(place: Place) -> None:
    """What is called `fable-latest` here reaches `mythos-5`: who may use the one and not the other gets neither."""
    place.reached()
    for path, body in ROUTES.items():
        assert place.proxy.post(path, {**body, "model": "fable-latest"}).status_code == 404
    assert place.reached() == []
    assert place.proxy.post("/v1/chat/completions", {**CHAT, "model": "fable-latest"}, key="sk-ines").is_success
    assert place.reached() == ["mythos-5"]


def test_a_denied_deployment_is_passed_over_and_stays_for_others(place: Place) -> None:
    """Of two deployments the allowed one answers each time; the other one is not taken out of service by the denies."""
    place.reached()
    for _ in range(10):
        assert place.proxy.post("/v1/chat/completions", {**CHAT, "model": "fable-5-1"}).is_success
    assert place.reached() == ["fable-5-1"] * 10
    for _ in range(5):
        assert place.proxy.post("/v1/chat/completions", {**CHAT, "model": "fable-latest"}).status_code == 404
    assert place.proxy.post("/v1/chat/completions", {**CHAT, "model": "fable-latest"}, key="sk-greg").is_success
    assert place.reached() == ["mythos-5"]


def test_a_fallback_is_decided_when_the_first_model_fails(place: Place) -> None:
    """The primary fails on purpose: a caller who may not use the fallback does not get it, one who may does."""
    place.reached()
    answer = place.proxy.post("/v1/chat/completions", {**CHAT, "model": "opus-4-8"})
    assert answer.status_code == 500 and "Policy, not login: " in answer.text  # the failure, and why nothing stood in
    assert set(place.reached()) == {"broken-opus"}
    answer = place.proxy.post("/v1/chat/completions", {**CHAT, "model": "opus-4-8"}, key="sk-ines")
    assert answer.is_success, answer.text
    assert place.reached()[-1] == "mythos-5"


def test_a_denied_fallback_is_passed_over_for_the_next(place: Place) -> None:
    """`summit-4` falls back to `mythos-5`, then to `fable-5`: the denied hop is left out, and the answer says so."""
    place.reached()
    answer = place.proxy.post("/v1/chat/completions", {**CHAT, "model": "summit-4"})
    assert answer.is_success, answer.text
    reached = place.reached()
    assert reached[-1] == "our-deployment-17" and "mythos-5" not in reached
    assert answer.headers["x-litellm-attempted-fallbacks"] != "0"
    assert place.decided(answer)["model"] == "fable-5"


def test_fallbacks_of_the_caller_are_decided_too(place: Place) -> None:
    """A body that brings its own list of fallbacks reaches none that its caller may not use."""
    place.reached()
    for named in (["mythos-5"], [{"model": "mythos-5"}]):
        body = {**CHAT, "model": "opus-4-8", "fallbacks": named, "num_retries": 2}
        assert not place.proxy.post("/v1/chat/completions", body).is_success
        forced = {**CHAT, "model": "fable-5", "fallbacks": named, "mock_testing_fallbacks": True}
        assert not place.proxy.post("/v1/chat/completions", forced).is_success
    assert "mythos-5" not in place.reached()


MYTHOS = {"model": "mythos-5"}
OWN = {
    "model_name": "fable-5",
    "litellm_params": {"model": "openai/mythos-5", "mock_response": "from mythos-5"},
    "model_info": {"policy_engine_model": "fable-5"},
}
"""A deployment that a caller writes down, with the claim that it is the model that they may use."""
BESIDE: tuple[dict[str, Any], ...] = (
    {"extra_body": MYTHOS},
    {"extra_body": {"extra_body": MYTHOS}},
    {"extra_headers": {"x-model": "mythos-5"}},
    {"provider_specific_header": {"custom_llm_provider": "openai,anthropic", "extra_headers": {"x-model": "mythos-5"}}},
    {"deployment_id": "mythos-5"},
    {"model_id": "mythos-5"},
    {"models": ["mythos-5"]},
    {"Model": "mythos-5"},
    {"azure": True},
    {"custom_llm_provider": "groq"},
    {"inference_geo": "us"},
    {"litellm_credential_name": "elsewhere"},
    {"api_base": "http://127.0.0.1:9"},
    {"user_config": {"model_list": [OWN]}},
    {"preset": "mythos-5"},
    {"provider": {"only": ["elsewhere"]}},
    {"providerOptions": {"gateway": {"models": ["mythos-5"]}}},
    {"aws_region_name": "eu-west-1"},
    {"tools": [{"type": "image_generation", **MYTHOS}]},
    {"fallbacks": [{"model": "fable-5", "extra_body": MYTHOS}]},
    {"fallbacks": [{"opus-4-8": [{"model": "fable-5", "deployment_id": "mythos-5"}]}]},
)


@pytest.mark.parametrize("beside", BESIDE, ids=str)
def test_a_request_names_its_model_once(place: Place, beside: dict[str, Any]) -> None:
    """What LiteLLM or a provider would take for the model behind the last hook is refused on every route: before, some
    reached `mythos-5` under an allow for `fable-5`."""
    place.reached()
    for path, body in ROUTES.items():
        answer = place.proxy.post(path, {**body, "model": "fable-5", **beside})
        assert answer.status_code == 400 and "beside `model`" in answer.text, (path, answer.text)
    assert place.reached() == []


def test_what_the_operator_wrote_down_for_a_key_is_no_second_name(place: Place) -> None:
    """LiteLLM lays settings of a key or team beside the body; a caller who brings the like is still refused."""
    place.reached()
    body = {**CHAT, "model": "fable-5"}
    answer = place.proxy.post("/v1/chat/completions", body, key="sk-routed")
    assert answer.is_success, answer.text
    assert place.reached() == ["our-deployment-17"]
    for more in ({"router_settings_override": {"fallbacks": []}}, {"headers": {"x-model": "mythos-5"}}):
        assert place.proxy.post("/v1/chat/completions", {**body, **more}, key="sk-routed").status_code == 400
    assert place.reached() == []


def test_what_a_model_reads_may_speak_of_models(place: Place) -> None:
    """Messages, schemas and headers that only mention models or regions are nobody's business."""
    place.reached()
    schema = {"type": "object", "properties": {"model": {"type": "string"}, "region": {"type": "string"}}}
    body = {
        "model": "fable-5",
        "messages": [{"role": "user", "content": json.dumps(MYTHOS)}],
        "tools": [{"type": "function", "function": {"name": "order_model", "parameters": schema}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "model", "schema": schema}},
        "extra_body": {"top_k": 3},
        "extra_headers": {"anthropic-beta": "a"},
        "fallbacks": ["fable-5-1", {"opus-4-8": ["fable-5"]}, {"model": "fable-5", "temperature": 0}],
        "metadata": {"model": "a note"},
        "user": "x",
    }
    answer = place.proxy.post("/v1/chat/completions", body)
    assert answer.is_success, answer.text
    assert place.reached() == ["our-deployment-17"]


@pytest.mark.parametrize("name", ["openai/mythos-5", "Mythos-5", "mythos-5,fable-5", "*", "", "mythos-5 "])
def test_other_spellings_of_a_model_open_nothing(place: Place, name: str) -> None:
    """Providers in front, other cases, lists and blanks reach nobody."""
    place.reached()
    assert not place.proxy.post("/v1/chat/completions", {**CHAT, "model": name}).is_success
    assert place.reached() == []


def test_a_health_check_is_a_call_of_nobody(place: Place) -> None:
    """The proxy's own calls have no caller: they reach no provider and report every deployment as unhealthy."""
    place.reached()
    told = place.proxy.get("/health").json()
    assert told["healthy_endpoints"] == [] and len(told["unhealthy_endpoints"]) == len(deployments(1))
    assert "names no user" in json.dumps(told)
    assert place.reached() == []
    assert place.proxy.post("/v1/embeddings", {"input": "x", "model": "fable-5"}).is_success  # and nobody suffers
    place.reached()


def test_a_request_without_a_model_is_refused(place: Place) -> None:
    """There is nothing to decide, so nothing passes."""
    for path, body in ROUTES.items():
        assert place.proxy.post(path, body).status_code in (400, 422)
    assert place.reached() == []


def test_kinds_of_requests_that_are_not_guarded_are_refused(place: Place) -> None:
    """Routes whose model may stand elsewhere are closed, with a sentence for the administrator."""
    place.reached()
    elsewhere = {"contents": [{"parts": [{"text": PROMPT}]}], "model": "open-1"}
    for answer in (
        place.proxy.get("/v1/responses/resp_1"),
        place.proxy.get("/v1/files"),
        place.proxy.post("/v1beta/models/mythos-5:generateContent", elsewhere),
        place.proxy.post("/anthropic/v1/messages", {**ROUTES["/v1/messages"], "model": "open-1"}),
        place.proxy.get("/v1/assistants"),  # for these LiteLLM itself runs no hook
        place.proxy.post("/v1/assistants", {"model": "mythos-5", "custom_llm_provider": "openai"}),
        place.proxy.post(
            "/v1/threads/x/runs", {"model": "mythos-5", "assistant_id": "x", "custom_llm_provider": "openai"}
        ),
    ):
        assert answer.status_code == 400
        assert "POLICY_ENGINE_GATEWAY_UNGUARDED" in answer.text
    for path in ("/engines/mythos-5/chat/completions", "/openai/deployments/mythos-5/chat/completions"):
        assert place.proxy.post(path, {**CHAT, "model": "fable-5"}).status_code == 404  # the path names the model
    assert place.reached() == []


@pytest.mark.nightly  # some hundred requests
def test_the_probe_finds_no_way_past_the_proxy(place: Place) -> None:
    """`policy-engine probe` tries its whole list as alice: no hole, and nothing of hers ever reached `mythos-5`."""
    place.reached()
    words = ["--allowed", "fable-5", "--forbidden", "mythos-5", "--alias", "fable-latest", "--failing", "opus-4-8"]
    done = subprocess.run(
        [sys.executable, "-m", "policy_engine.cli.app", "probe", place.proxy.url, *words, "--pause", "0", "-o", "json"],
        env={**os.environ, "POLICY_ENGINE_PROBE_CREDENTIAL": "sk-alice"},
        capture_output=True,
        text=True,
    )
    report = json.loads(done.stdout)
    assert report["holes"] == [] and report["counts"]["passed"] > 40, done.stderr
    assert "mythos-5" not in place.reached()


def test_without_the_engine_nothing_is_allowed(place: Place) -> None:
    """Calls and listings answer 503 and say when to try again; once the engine is back, so are they."""
    place.reached()
    place.network.cut()
    try:
        for path, body in ROUTES.items():
            answer = place.proxy.post(path, {**body, "model": "fable-5"})
            assert answer.status_code == 503 and answer.headers["retry-after"], answer.text
        assert place.proxy.get("/v1/models").status_code == 503
        assert place.reached() == []
    finally:
        place.network.heal()
    soon(lambda: place.proxy.post("/v1/chat/completions", {**CHAT, "model": "fable-5"}).is_success or None)


def test_no_prompt_went_to_the_engine(place: Place) -> None:
    """Whatever the proxy says to the engine, on any route, streamed or not: no prompt and no reply is in it."""
    assert place.network.sent is not None
    place.network.sent.clear()
    for path, body in ROUTES.items():
        for stream in ({}, {"stream": True})[: 1 if path == "/v1/embeddings" else 2]:
            assert place.proxy.post(path, {**body, **stream, "model": "fable-5"}).is_success
    sent = bytes(place.network.sent)
    assert sent.count(b'"resource"') >= 2 * len(ROUTES) - 1
    assert PROMPT.encode() not in sent and ANSWER.encode() not in sent
    place.reached()


def test_a_proxy_without_settings_does_not_start(tmp_path: Path) -> None:
    """It ends by itself, and its log names the variable; it never serves without the guard."""
    text = litellm_proxy.configuration(deployments(9), {})
    with litellm_proxy.started(tmp_path, text, {}) as proxy:
        assert not litellm_proxy.ready(proxy)
        assert "POLICY_ENGINE_URL: name the engine to ask" in proxy.log.read_text()


def test_an_embedded_engine_guards_alike_in_a_class_of_ones_own(tmp_path: Path) -> None:
    """With a database instead of an address the proxy decides by itself; a subclass keeps every hook."""
    variables = {
        "POLICY_ENGINE_DATABASE": f"sqlite:///{tmp_path / 'engine.db'}",
        "POLICY_ENGINE_POLICIES": str(litellm_proxy.ROOT / "policies"),
        "POLICY_ENGINE_GATEWAY_LOCATION": "team_metadata.location",
    }
    with providing() as provider:
        text = litellm_proxy.configuration(deployments(provider.port), SETTINGS)
        own = {**json.loads(text), "litellm_settings": {"callbacks": ["litellm_own.guard"]}}
        del own["include"]
        (tmp_path / "litellm_own.py").write_text(OWN)
        with litellm_proxy.started(tmp_path, json.dumps(own), variables) as proxy:
            assert litellm_proxy.ready(proxy), proxy.log.read_text()[-4_000:]
            assert proxy.post("/v1/chat/completions", {**CHAT, "model": "fable-5"}).is_success
            assert proxy.post("/v1/chat/completions", {**CHAT, "model": "fable-5"}, key="sk-eve").status_code == 403
            assert proxy.post("/v1/chat/completions", {**CHAT, "model": "fable-latest"}).status_code == 403
            assert not proxy.post("/v1/chat/completions", {**CHAT, "model": "opus-4-8"}).is_success
            listed = [model["id"] for model in proxy.get("/v1/models", key="sk-eve").json()["data"]]
            whole = proxy.post("/v1/chat/completions", {**CHAT, "model": "fable-5", "stream": True}).text
        assert listed == ["open-1"] and f"piece {PIECES - 1}" in whole
        assert "mythos-5" not in [model for _, model in provider.reached]


OWN = '''
from policy_engine.plugins.engines import gateway_engine
from policy_engine.plugins.gatewaysettings import gateway_settings
from policy_engine.plugins.litellm import Guard


class Own(Guard):
    """A class of the operator's own that changes nothing."""


settings = gateway_settings()
guard = Own(gateway_engine(settings), settings)
'''
