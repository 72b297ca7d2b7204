"""The run of the suite: what it rests on, when it says that it knows nothing, and what never leaves it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qsl

import pytest

from policy_engine.errors import InputRefused, PolicyEngineError
from policy_engine.probe import Credentials, Models, Outcome, Report, Switching, Target, run
from policy_engine.probe.asks import Ask
from policy_engine.probe.catalogue import CHECKS, NAMES
from policy_engine.probe.checking import DECOY, decoyed
from policy_engine.probe.suite import _marks as marks_of
from policy_engine.probe.wire import Answer, Lack
from tests.probe.conftest import Served, everything, listening
from tests.probe.gateway import ALLOWED, FORBIDDEN, refused
from tests.probe.test_holes import told
from tests.probe.upstream import completion, whole

PLAIN_ONLY = frozenset({"plain"})


def outcome_of(report: Report, check: str) -> Outcome:
    """Return what became of a check."""
    (found,) = (result.outcome for result in report.results if result.check == check)
    return found


def scripted(answer: Callable[[dict[str, Any], Any], Any]) -> Any:
    """Return a gateway that answers each request by a function of its body; it also counts them in `count`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        app.count += 1  # type: ignore[attr-defined]  # a function that counts
        query = dict(parse_qsl(scope["query_string"].decode()))
        try:
            document = json.loads(body)
        except ValueError:
            document = {}
        await answer(
            {
                **(document if isinstance(document, dict) else {}),
                "path": scope["path"],
                "method": scope["method"],
                "query": query,
                "headers": {name.decode() for name, _ in scope["headers"]},
            },
            send,
        )

    app.count = 0  # type: ignore[attr-defined]  # as above
    return app


def probed(app: Any, **changes: Any) -> Report:
    """Return the report on a gateway of one's own."""
    given = {"models": Models((ALLOWED,), (FORBIDDEN,)), "pause_seconds": 0.0, "timeout_seconds": 3.0, **changes}
    with listening(app) as port:
        return run(Target(f"http://127.0.0.1:{port}", **given))


async def _served(send: Any, model: str) -> None:
    await whole(send, 200, completion("/v1/chat/completions", model))


async def _denied(send: Any, status: int = 403) -> None:
    await refused(send, status)


def test_each_check_is_in_the_report_once(served: Served, aimed: Callable[..., Target]) -> None:
    """Whatever was left out by name is said to be skipped; nothing is missing, nothing twice."""
    report = run(aimed(only=frozenset({"name-case"})))
    assert sorted(result.check for result in report.results) == sorted(NAMES)
    assert set(told(report, Outcome.PASSED)) == {"plain", "name-case"}
    assert set(told(report, Outcome.SKIPPED)) == set(NAMES) - {"plain", "name-case"} and report.complete


def test_what_an_option_is_needed_for_is_skipped_without_it(served: Served, aimed: Callable[..., Target]) -> None:
    """A check that was not asked for by its option is no failure, and names the option."""
    own = everything(served)["credentials"].own
    bare = aimed(
        models=Models((ALLOWED,), (FORBIDDEN,)), credentials=Credentials(own), down=None, up=None, switching=None
    )
    found = told(run(bare), Outcome.SKIPPED)
    assert set(found) == {
        "alias", "derivative", "expired-credential", "fallback-forced", "authorizer-down", "stale-answer", "stream-cut",
    }  # fmt: skip
    assert all("give --" in finding for finding in found.values())


def test_a_gateway_that_is_not_there_is_not_probed(served: Served, aimed: Callable[..., Target]) -> None:
    """No check is passed; the report says why, and is not complete."""
    report = run(aimed(url="http://127.0.0.1:9"))
    assert report.problem == "the gateway could not be reached" and not report.complete
    assert {result.outcome for result in report.results} == {Outcome.UNPROBED} and report.requests == 1


def test_without_an_answer_of_the_allowed_model_nothing_is_known(served: Served, aimed: Callable[..., Target]) -> None:
    """A wrong credential would make every check pass: that is no result."""
    report = run(aimed(credentials=Credentials("wrong")))
    assert "the allowed model is not served" in report.problem and "401" in report.problem
    assert {result.outcome for result in report.results} == {Outcome.UNPROBED}


def test_answers_that_name_no_model_make_no_result() -> None:
    """Where nobody can tell the models apart, no hole and no pass is claimed."""

    async def nameless(document: dict[str, Any], send: Any) -> None:
        await whole(send, 200, {"choices": [{"message": {"content": "yes"}}]})

    report = probed(scripted(nameless))
    assert "name" in report.problem and set(told(report, Outcome.UNPROBED)) == set(NAMES)


def test_an_allowed_model_that_the_forbidden_one_answers_is_a_hole() -> None:
    """A gateway that maps one to the other serves the forbidden one to whoever asks."""

    async def swapped(document: dict[str, Any], send: Any) -> None:
        await _served(send, FORBIDDEN)

    report = probed(scripted(swapped))
    assert set(told(report, Outcome.HOLE)) == {"plain"} and not report.complete


def test_nothing_rests_on_a_plain_hole(served: Served, aimed: Callable[..., Target]) -> None:
    """One hole is one line: checks that would only repeat it are not asked, and not called passed."""
    served.gateway.holes = frozenset({"plain"})
    report = run(aimed(skip=frozenset({"stale-answer", "stream-cut"})))
    resting = {check.name for check in CHECKS if "plain" in check.rests}
    assert set(told(report, Outcome.HOLE)) == {"plain"}
    assert resting <= set(told(report, Outcome.UNPROBED)) and report.requests < 60


def test_a_limit_on_requests_is_not_taken_for_a_refusal() -> None:
    """429 says nothing about the policy: what was asked then is unclear, and so is what passed before."""
    app = scripted(lambda document, send: limited(document, send))

    async def limited(document: dict[str, Any], send: Any) -> None:
        if app.count > 20:
            await _denied(send, 429)
        elif document.get("model") == ALLOWED:
            await _served(send, ALLOWED)
        else:
            await _denied(send)

    report = probed(app)
    assert told(report, Outcome.HOLE, Outcome.PASSED) == {} and "429" in report.problem and not report.complete


def test_a_gateway_that_goes_away_has_refused_nothing() -> None:
    """Connections that are closed look like refusals; in the end the allowed model tells that they were none."""
    app = scripted(lambda document, send: gone(document, send))

    async def gone(document: dict[str, Any], send: Any) -> None:
        if app.count > 30:
            raise ConnectionError
        await (_served(send, ALLOWED) if document.get("model") == ALLOWED else _denied(send, 404))

    report = probed(app)
    assert "at the end" in report.problem and told(report, Outcome.PASSED, Outcome.HOLE) == {}


def test_the_bound_on_requests_ends_the_run(served: Served, aimed: Callable[..., Target]) -> None:
    """What could not be asked any more is unprobed, and the bound is kept to the last one."""
    report = run(aimed(requests_count=40))
    assert report.requests == 40 and "--requests" in report.problem
    assert len(told(report, Outcome.UNPROBED)) > 20 and not report.complete


def test_a_third_model_makes_a_check_unclear() -> None:
    """An answer by a model that nobody named is neither evidence of the forbidden one nor a refusal."""

    async def other(document: dict[str, Any], send: Any) -> None:
        model = document.get("model")
        if document.get("stream"):
            await _served(send, "opus-4-8")
        else:
            await (_served(send, ALLOWED) if model == ALLOWED else _denied(send))

    report = probed(scripted(other), only=frozenset({"streaming"}))
    assert outcome_of(report, "streaming") is Outcome.UNCLEAR and not report.complete


def test_a_gateway_for_anthropic_alone_is_asked_in_its_form() -> None:
    """Without `--dialect` the first form that is answered is used for every check."""

    async def anthropic(document: dict[str, Any], send: Any) -> None:
        if document["path"] != "/v1/messages":
            await _denied(send, 404)
        else:
            model = document.get("model")
            await (whole(send, 200, completion("/v1/messages", ALLOWED)) if model == ALLOWED else _denied(send))

    report = probed(scripted(anthropic), only=frozenset({"name-case", "duplicate-key"}))
    assert report.dialect == "anthropic" and report.holes == ()


def test_models_that_want_another_member_for_tokens_are_asked_with_it() -> None:
    """Newer models of OpenAI refuse `max_tokens`."""

    async def newer(document: dict[str, Any], send: Any) -> None:
        if "max_tokens" in document:
            await _denied(send, 400)
        else:
            await (_served(send, ALLOWED) if document.get("model") == ALLOWED else _denied(send))

    report = probed(scripted(newer), only=frozenset({"name-case"}))
    assert report.complete and report.dialect == "openai"


@pytest.mark.parametrize(
    ("header", "outcome"),
    [(b"", Outcome.UNCLEAR), (b"openai/open-1", Outcome.PASSED), (b"openai/fable-5", Outcome.HOLE)],
)
def test_a_gateway_that_repeats_names_is_believed_by_its_headers_alone(header: bytes, outcome: Outcome) -> None:
    """Some gateways route by the query and write the body's name over the answer: that name is no evidence."""

    async def echoing(document: dict[str, Any], send: Any) -> None:
        routed = document["query"].get("model") or document.get("model")
        if routed != ALLOWED:
            await refused(send, 403)
            return
        told = header if document["query"] else b"openai/open-1"
        headers = [(b"content-type", b"application/json"), (b"x-litellm-model-name", told)]
        await whole(send, 200, completion("/v1/chat/completions", str(document.get("model"))), headers)

    report = probed(scripted(echoing), only=frozenset({"body-model"}))
    assert outcome_of(report, "body-model") is outcome


def test_a_fallback_under_the_name_that_was_asked_for_is_found_by_its_header() -> None:
    """A router that answers with the forbidden model under the allowed one's name still says so in its header."""

    async def hiding(document: dict[str, Any], send: Any) -> None:
        if document.get("model") != ALLOWED:
            await refused(send, 403)
            return
        routed = b"openai/fable-5" if document.get("fallbacks") else b"openai/open-1"
        headers = [(b"content-type", b"application/json"), (b"x-litellm-model-name", routed)]
        await whole(send, 200, completion("/v1/chat/completions", ALLOWED), headers)

    report = probed(scripted(hiding), only=frozenset({"fallback-asked"}))
    assert set(told(report, Outcome.HOLE)) == {"fallback-asked"}
    assert "in the header x-litellm-model-name" in report.holes[0].finding


def test_a_made_up_name_takes_the_place_of_the_forbidden_one_alone() -> None:
    """The control differs from the request in that name, also where one name is the beginning of the other."""
    ask = Ask("", "/openai/deployments/a%20b/x", b'{"model":"a b-mini","m":["a b"]}\xff', headers=(("X-Model", "a b"),))
    found = decoyed(ask, "a b-mini", "a b")
    assert found == Ask("", f"/openai/deployments/{DECOY}/x", b'{"model":"a b-mini","m":["%b"]}\xff' % DECOY.encode(),
                        headers=(("X-Model", DECOY),))  # fmt: skip
    assert decoyed(Ask("", "/x", b'{"model":"a b"}'), "open-1", "a b") is None
    assert decoyed(Ask("", "/x", b'{"model":"open-1"}'), "open-1", "a b") is None


@pytest.mark.parametrize(
    ("mark", "outcome"),
    [
        (b"", Outcome.PASSED),
        (b"access-control-allow-origin", Outcome.PASSED),
        (b"strict-transport-security", Outcome.PASSED),
        (b"via", Outcome.PASSED),
        (b"x-upstream", Outcome.UNCLEAR),
    ],
)
def test_a_preflight_that_is_answered_at_the_edge_is_no_hole(mark: bytes, outcome: Outcome) -> None:
    """An empty 200 has no model behind it, nor has one with headers that an edge writes over whatever is no refusal;
    one with a header that only the upstream's answers have is unclear."""
    marks = [(mark, b"1")] if mark else []

    async def edge(document: dict[str, Any], send: Any) -> None:
        if document["method"] == "OPTIONS":
            await whole(send, 200, {}, marks)
        elif document.get("model") == ALLOWED:
            await whole(send, 200, completion("/v1/chat/completions", ALLOWED), marks)
        else:
            await _denied(send)

    report = probed(scripted(edge), only=frozenset({"options"}))
    assert outcome_of(report, "options") is outcome
    assert outcome is Outcome.PASSED or "it went through" in told(report, Outcome.UNCLEAR)["options"]


def test_what_servers_write_over_answers_is_no_mark_of_the_upstream() -> None:
    """Whether a header is on answers alone is seen; those of an edge are left out, whatever their case was."""
    served = Answer(
        200, (("server", "a"), ("access-control-max-age", "1"), ("openai-model", "m"), ("date", "d")), b"", True
    )
    assert marks_of(served, Answer(403, (("date", "d"),), b"", True)) == {"openai-model"}
    assert marks_of(served, Answer(200, (), b"", True)) == marks_of(served, Lack.DROPPED) == frozenset()


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (lambda away, count: {"status": "ok"}, Outcome.PASSED),
        (lambda away, count: {"status": "ok", "asked": count}, Outcome.PASSED),
        (lambda away, count: {"status": "rewritten" if away else "ok"}, Outcome.UNCLEAR),
        (lambda away, count: completion("/v1/chat/completions", FORBIDDEN if away else ALLOWED), Outcome.HOLE),
    ],
)
def test_a_health_check_that_takes_any_method_is_no_way_past(
    said: Callable[[bool, int], dict[str, Any]], outcome: Outcome
) -> None:
    """What is said without the header too is no work of the header; another answer is, and is not passed."""

    async def healthy(document: dict[str, Any], send: Any) -> None:
        if document["path"] == "/healthz":
            await whole(send, 200, said("x-original-url" in document["headers"], app.count))
        else:
            await (_served(send, ALLOWED) if document.get("model") == ALLOWED else _denied(send))

    app = scripted(healthy)
    report = probed(app, only=frozenset({"rewrite-headers"}))
    assert outcome_of(report, "rewrite-headers") is outcome


@pytest.mark.parametrize(
    ("document", "outcome"),
    [
        ({"data": [{"id": ALLOWED}]}, Outcome.PASSED),
        ({"data": [{"id": ALLOWED}, {"id": "openai/Fable-5"}]}, Outcome.HOLE),
        ({"models": [{"name": f"{FORBIDDEN}:latest"}]}, Outcome.HOLE),
        ({"data": [{"id": ALLOWED}], "has_more": True}, Outcome.UNCLEAR),
        ({"data": []}, Outcome.UNCLEAR),
        ({"hello": "there"}, Outcome.UNCLEAR),
    ],
)
def test_a_list_of_models_is_read_to_its_end(document: dict[str, Any], outcome: Outcome) -> None:
    """A forbidden model under any spelling is a leak; a list that goes on elsewhere, or is none, says nothing."""

    async def lists(asked: dict[str, Any], send: Any) -> None:
        if asked["path"] == "/v1/models":
            await whole(send, 200, document)
        else:
            await (_served(send, ALLOWED) if asked.get("model") == ALLOWED else refused(send, 404))

    report = probed(scripted(lists), only=frozenset({"listing"}))
    assert outcome_of(report, "listing") is outcome


@pytest.mark.parametrize(
    ("page", "outcome"),
    [
        ({"hello": "there"}, Outcome.PASSED),
        ({"data": [{"id": ALLOWED}]}, Outcome.PASSED),
        ({"models": [FORBIDDEN]}, Outcome.HOLE),
        ({"catalogue": {f"acme/{FORBIDDEN}": {}}}, Outcome.UNCLEAR),
        ({"data": [{"id": ALLOWED}], "has_more": True}, Outcome.UNCLEAR),
    ],
)
@pytest.mark.parametrize("path", ["/models", "/v1/models/"])
def test_elsewhere_than_usual_a_page_may_be_no_list(path: str, page: dict[str, Any], outcome: Outcome) -> None:
    """A site may have any page there, as long as it does not name a forbidden model."""

    async def site(asked: dict[str, Any], send: Any) -> None:
        if asked["path"] == path:
            await whole(send, 200, page)
        elif asked["path"] == "/v1/models":
            await whole(send, 200, {"data": [{"id": ALLOWED}]})
        else:
            await (_served(send, ALLOWED) if asked.get("model") == ALLOWED else refused(send, 404))

    report = probed(scripted(site), only=frozenset({"listing"}))
    assert outcome_of(report, "listing") is outcome


def test_a_route_that_answers_the_allowed_model_with_the_forbidden_one_is_a_hole() -> None:
    """An interface that takes no notice of the name has one model behind it, whichever was decided on."""

    async def fixed(asked: dict[str, Any], send: Any) -> None:
        if asked.get("model") != ALLOWED:
            await refused(send, 403)
        else:
            await _served(send, FORBIDDEN if asked["path"] == "/invocations" else ALLOWED)

    report = probed(scripted(fixed), only=frozenset({"route-invocations", "route-chat"}))
    assert set(told(report, Outcome.HOLE)) == {"route-invocations"}


def test_no_credential_is_in_a_report_or_an_address(served: Served, aimed: Callable[..., Target]) -> None:
    """Neither the caller's, nor the stranger's, nor the operator's; nor any in what a person prints of the target."""
    served.gateway.holes = frozenset({"identity-headers"})
    target = aimed(skip=frozenset({"stale-answer", "stream-cut"}))
    secrets = (target.credentials.own, target.credentials.foreign, target.credentials.expired, "pe_operator")
    text = json.dumps(asdict(run(target))) + repr(target)
    assert [secret for secret in secrets if secret in text or secret.split(".")[-1] in text] == []


def test_the_authorizer_comes_back_whatever_happens(served: Served, aimed: Callable[..., Target]) -> None:
    """When it cannot be taken away the check is unprobed, and it is brought back all the same."""
    calls: list[str] = []

    def down() -> None:
        raise InputRefused("ended with 1", where="--authorizer-down")

    report = run(aimed(down=down, up=lambda: calls.append("up"), only=frozenset({"authorizer-down"})))
    assert outcome_of(report, "authorizer-down") is Outcome.UNPROBED and calls == ["up"]


def test_an_authorizer_that_is_not_away_makes_the_check_unclear(served: Served, aimed: Callable[..., Target]) -> None:
    """A command that does nothing would make any gateway look closed."""
    report = run(aimed(down=lambda: None, stale_seconds=0.05, only=frozenset({"authorizer-down"})))
    assert outcome_of(report, "authorizer-down") is Outcome.UNCLEAR


def test_a_switch_that_is_not_engaged_proves_nothing(served: Served, aimed: Callable[..., Target]) -> None:
    """Both checks say so; neither is passed."""
    wrong = Switching(f"{served.url}/engine", "pe_wrong", ALLOWED)
    report = run(aimed(switching=wrong, only=frozenset({"stale-answer", "stream-cut"})))
    assert set(told(report, Outcome.UNPROBED)) == {"stale-answer", "stream-cut"} and not report.complete


def test_a_model_that_was_not_served_before_the_switch_proves_nothing(
    served: Served, aimed: Callable[..., Target]
) -> None:
    """A misspelt model is refused after the switch, as it was before; no switch is engaged for it."""
    wrong = Switching(f"{served.url}/engine", "pe_operator", "opne-1")
    report = run(aimed(switching=wrong, only=frozenset({"stale-answer", "stream-cut"})))
    assert set(told(report, Outcome.UNPROBED)) == {"stale-answer", "stream-cut"}
    assert served.gateway.switched == {}


def test_another_model_in_the_place_of_the_switched_one_is_no_stale_answer(
    served: Served, aimed: Callable[..., Target]
) -> None:
    """A gateway that falls back to a model that may be used has withdrawn the other."""

    async def falling(document: dict[str, Any], send: Any) -> None:
        model = document.get("model")
        if model == FORBIDDEN:
            await refused(send, 403)
        else:
            await _served(send, "opus-4-8" if model in served.gateway.switched else str(model))

    switching = Switching(f"{served.url}/engine", "pe_operator", ALLOWED)
    bounds = {"switching": switching, "stale_seconds": 0.1, "cut_seconds": 0.1}
    report = probed(scripted(falling), only=frozenset({"stale-answer"}), **bounds)
    assert outcome_of(report, "stale-answer") is Outcome.PASSED


def test_a_stream_that_ends_by_itself_was_not_cut(served: Served, aimed: Callable[..., Target]) -> None:
    """A model that has said everything proves nothing about the gateway."""
    served.gateway.holes = frozenset({"stream-cut"})
    report = run(aimed(stream_tokens=2, stale_seconds=0.05, cut_seconds=0.05, only=frozenset({"stream-cut"})))
    assert outcome_of(report, "stream-cut") in (Outcome.UNPROBED, Outcome.UNCLEAR)


def test_a_check_that_does_not_exist_is_refused(served: Served, aimed: Callable[..., Target]) -> None:
    """A misspelt name must not leave a check out in silence."""
    for option in ("only", "skip"):
        with pytest.raises(PolicyEngineError, match="there is no check `nmae-case`"):
            run(aimed(**{option: frozenset({"nmae-case"})}))


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://u:p@h/", "http://h/?q=1", "http://h:x/", "http://h/a b"])
def test_an_address_is_plain(url: str) -> None:
    """A password, a query or another scheme in the address is refused, without repeating it."""
    with pytest.raises(InputRefused) as raised:
        Target(url, Models(("a",), ("b",)))
    assert url not in str(raised.value)
