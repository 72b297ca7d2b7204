"""What gateway plugins share, by itself: settings, callers, hops with a real engine, and holds that change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine import PolicyEngine
from policy_engine.core.decision import Decision
from policy_engine.core.dialects import Dialect
from policy_engine.core.wording import Wording
from policy_engine.errors import InputRefused, StartRefused
from policy_engine.plugins.callers import GatewayCaller, caller_of
from policy_engine.plugins.engines import gateway_engine
from policy_engine.plugins.gatewaysettings import GatewaySettings, gateway_settings
from policy_engine.plugins.holding import ChangingHold
from policy_engine.plugins.hops import Hop, Hops, Journey, Refused, told
from policy_engine.plugins.onemodel import names_another

POLICIES = Path(__file__).resolve().parents[2] / "policies"
ALICE = GatewayCaller("alice", "acme", "US")
EVE = GatewayCaller("eve", "acme", "US")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyEngine]:
    """Offer one embedded engine on the sample world to this module."""
    database = f"sqlite:///{tmp_path_factory.mktemp('plugins') / 'engine.db'}"
    with PolicyEngine.open(POLICIES, database=database) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "KEY", "DATABASE", "POLICIES"):
        monkeypatch.delenv(f"POLICY_ENGINE_{name}", raising=False)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, "POLICY_ENGINE_URL"),
        ({"URL": "https://pdp.example"}, "POLICY_ENGINE_KEY"),
        ({"URL": "http://pdp.example", "KEY": "pe_x"}, "POLICY_ENGINE_URL"),
        ({"URL": "ftp://pdp.example", "KEY": "pe_x"}, "POLICY_ENGINE_URL"),
        ({"URL": "https://pdp.example", "KEY": "two words"}, "POLICY_ENGINE_KEY"),
        ({"URL": "https://pdp.example", "KEY": "pe_x", "GATEWAY_SUBJECT": "end_user_id"}, "_GATEWAY_SUBJECT"),
        ({"URL": "https://pdp.example", "KEY": "pe_x", "GATEWAY_SUBJECT": ""}, "_GATEWAY_SUBJECT"),
        ({"URL": "https://pdp.example", "KEY": "pe_x", "GATEWAY_TENANT": "metadata"}, "_GATEWAY_TENANT"),
        ({"URL": "https://pdp.example", "KEY": "pe_x", "GATEWAY_LOCATION": "__class__.x"}, "_GATEWAY_LOCATION"),
        ({"URL": "https://pdp.example", "KEY": "pe_x", "GATEWAY_STATUSES": "switch=429"}, "_GATEWAY_STATUSES"),
        ({"URL": "https://pdp.example", "KEY": "pe_x", "GATEWAY_DETAIL": "everything"}, "_GATEWAY_DETAIL"),
        ({"URL": "https://pdp.example", "KEY": "pe_x", "GATEWAY_TENNANT": "team_id"}, "_GATEWAY_TENNANT"),
        (
            {"URL": "https://pdp.example", "KEY": "pe_x", "GATEWAY_BLOCKED_BY": "a b"},
            "POLICY_ENGINE_GATEWAY_BLOCKED_BY",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    """Each is named by its variable, and no value is repeated, the key least of all."""
    for name, value in variables.items():
        monkeypatch.setenv(f"POLICY_ENGINE_{name}", value)
    with pytest.raises(StartRefused) as refused:
        gateway_engine(gateway_settings())
    assert named in str(refused.value)
    assert "pe_x" not in str(refused.value) and "pdp.example" not in str(refused.value)


def test_the_settings_word_the_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statuses, address and detail become a `Wording`."""
    for name, value in (
        ("DATABASE", "sqlite:///x.db"),
        ("GATEWAY_STATUSES", "directive=451, switch.model=404"),
        ("GATEWAY_BLOCKED_BY", "https://authority.example/7"),
    ):
        monkeypatch.setenv(f"POLICY_ENGINE_{name}", value)
    made = gateway_settings().wording
    assert made == Wording((("directive", 451), ("switch.model", 404)), "https://authority.example/7")


def test_a_caller_is_read_by_the_fields_that_are_named() -> None:
    """User, team and place of the record; another field where the settings name another."""
    record = SimpleNamespace(
        user_id="alice",
        team_id="acme",
        team_metadata={"location": "US"},
        metadata={"person": "mina"},
        end_user_id="eve",
    )
    plain = GatewaySettings(database="sqlite:///x.db")
    assert caller_of(record, plain) == GatewayCaller("alice", "acme", None)
    placed = GatewaySettings(gateway_subject="metadata.person", gateway_location="team_metadata.location")
    assert caller_of(record, placed) == GatewayCaller("mina", "acme", "US")


@given(st.one_of(st.none(), st.integers(), st.lists(st.text()), st.dictionaries(st.text(), st.text()), st.just("")))
def test_whatever_is_no_name_is_nobody(value: Any) -> None:
    """A record without a text where a person or an organisation should be names nobody.

    Control: policy_engine/plugins/callers.py, `return found if isinstance(found, str) and found else None`.
    """
    settings = GatewaySettings(gateway_tenant="team_metadata.tenant")
    assert caller_of(value, settings) is None
    record = SimpleNamespace(user_id="alice", team_metadata={"tenant": value})
    assert caller_of(record, settings) is None
    assert caller_of(SimpleNamespace(user_id="alice", team_metadata=value), settings) is None
    assert caller_of(SimpleNamespace(user_id=value, team_metadata={"tenant": "acme"}), settings) is None


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_an_allow_is_used_again_within_its_budget_and_for_its_hop_alone(engine: PolicyEngine) -> None:
    """The same hop is not asked twice, another one is, and so is the same one when its budget is spent.

    Control: policy_engine/plugins/hops.py, `if kept is None or self._clock() >= kept.until:`.
    """
    clock = Clock()
    hops, journey = Hops(engine, Wording(), clock=clock), Journey(ALICE)

    async def run() -> list[str]:
        first = await hops.allow(journey, Hop("fable-5"))
        again = await hops.allow(journey, Hop("fable-5"))
        other = await hops.allow(journey, Hop("open-1"))
        clock.now += first.valid_for_ms / 1000
        later = await hops.allow(journey, Hop("fable-5"))
        return [first.id, again.id, other.id, later.id]

    first, again, other, later = asyncio.run(run())
    assert first == again and len({first, other, later}) == 3


def test_an_answer_that_came_too_late_is_none(engine: PolicyEngine) -> None:
    """An allow whose budget was spent while it was waited for is an outage to the client."""
    clock = Clock()

    class Slow:
        """The engine, behind a minute of network."""

        async def decide_async(self, **asked: Any) -> Decision:
            """Answer, late."""
            decision = await engine.decide_async(**asked)
            clock.now += 60
            return decision

    with pytest.raises(Refused) as refused:
        asyncio.run(Hops(Slow(), Wording(), clock=clock).allow(Journey(ALICE), Hop("fable-5")))  # type: ignore[arg-type]  # the one method that is asked
    assert refused.value.answer.status == 503


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("planted-cause"), 503), (KeyError("planted-cause"), 503), (InputRefused("planted-cause"), 400)],
)
def test_an_engine_that_fails_is_never_an_allow(
    error: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises, nothing passes, and what it said reaches neither the client nor the log."""

    class Broken:
        """An engine that fails."""

        async def decide_async(self, **asked: Any) -> Decision:
            """Fail."""
            raise error

    with caplog.at_level(logging.DEBUG), pytest.raises(Refused) as refused:
        asyncio.run(Hops(Broken(), Wording()).allow(Journey(ALICE), Hop("fable-5")))  # type: ignore[arg-type]  # as above
    assert refused.value.answer.status == status
    assert "planted" not in caplog.text + refused.value.answer.body.decode() + str(refused.value)


def test_a_deny_is_told_in_the_words_of_the_route(engine: PolicyEngine) -> None:
    """Sentences, status and fields come from the decision; the fields are the same in both dialects.

    Control: policy_engine/plugins/hops.py, `if decision.allowed is not True:`.
    """
    for dialect in (Dialect.OPENAI, Dialect.ANTHROPIC):
        hops = Hops(engine, Wording((("evidence", 451),), "https://authority.example/7"))
        with pytest.raises(Refused) as refused:
            asyncio.run(hops.allow(Journey(EVE, dialect), Hop("fable-5")))
        assert refused.value.answer.status == 451
        assert told(refused.value.answer).startswith("Policy, not login: ")
        assert refused.value.fields["alternatives"] == ["open-1"]
        assert refused.value.fields["code"] == "facts_missing"


def test_a_listing_shows_what_may_be_used_and_says_an_outage(engine: PolicyEngine) -> None:
    """Hops that may not be made are left out; without an engine there is an error and no empty listing."""
    hops = Hops(engine, Wording())
    named = [Hop(name) for name in ("fable-5", "mythos-5", "open-1", "unknown", "openai/*")]
    placed = [Hop("fable-5", serving_region="US"), Hop("mythos-5", serving_region="US")]
    found = asyncio.run(hops.usable(ALICE, [*named, *placed], Dialect.OPENAI))
    assert found == {Hop("fable-5"), Hop("open-1"), Hop("fable-5", serving_region="US")}
    assert asyncio.run(hops.usable(EVE, named[:1], Dialect.OPENAI)) == set()
    assert asyncio.run(hops.usable(EVE, [], Dialect.OPENAI)) == set()
    with PolicyEngine.connect("http://127.0.0.1:9", key="pe_x") as away, pytest.raises(Refused) as refused:
        asyncio.run(Hops(away, Wording()).usable(ALICE, named, Dialect.OPENAI))
    assert refused.value.answer.status == 503


class ToldHold:
    """A hold that ends when a test says so."""

    def __init__(self) -> None:
        self.ended: Decision | None = None
        self.closed = False
        self._calls: list[Callable[[], None]] = []

    def on_end(self, call: Callable[[], None]) -> None:
        """Keep whom to call."""
        self._calls.append(call)

    def end(self, deny: Decision) -> None:
        """End it."""
        self.ended = deny
        for call in self._calls:
            call()

    def close(self) -> None:
        """Note that it is no longer in use."""
        self.closed = True


def decision(id: str, allowed: bool) -> Decision:
    """Return a decision by its id."""
    return Decision(allowed, id, (), (), (), "sha256:0", 1, 2_000)


def test_a_hold_follows_the_allow_that_it_is_under() -> None:
    """After a change the old allow's end means nothing; the new one's ends it once, for good, whatever comes later."""
    holds: list[ToldHold] = []

    def hold(_: Decision) -> ToldHold:
        holds.append(ToldHold())
        return holds[-1]

    called: list[str] = []
    changing = ChangingHold(SimpleNamespace(hold=hold), first := decision("a", True))  # type: ignore[arg-type]  # the one method that is used
    changing.on_end(lambda: called.append("ended"))
    changing.change(first)
    changing.change(decision("b", True))
    assert len(holds) == 2 and holds[0].closed
    holds[0].end(decision("c", False))
    assert changing.ended is None and called == []
    holds[1].end(deny := decision("d", False))
    assert changing.ended is deny and called == ["ended"]
    changing.change(decision("e", True))
    assert len(holds) == 2 and changing.ended is deny
    changing.on_end(lambda: called.append("at once"))
    assert called == ["ended", "at once"]
    with changing:
        pass
    assert holds[1].closed


def test_an_end_that_nobody_told_is_seen_when_it_is_asked_for() -> None:
    """A hold whose budget ran out says so when it is looked at, and whoever waits is called then."""
    silent = ToldHold()
    called: list[str] = []
    changing = ChangingHold(SimpleNamespace(hold=lambda _: silent), decision("a", True))  # type: ignore[arg-type]  # as above
    changing.on_end(lambda: called.append("ended"))
    silent.ended = decision("b", False)
    assert changing.ended is silent.ended and called == ["ended"]


@given(
    name=st.sampled_from(
        [
            *("model_id", "deployment_id", "Models", "aws-region-name", "vertex_location", "prompt_id"),
            *(
                "user_config",
                "api_base",
                "baseURL",
                "litellm_credential_name",
                "inference_geo",
                "provider",
                "lora_path",
            ),
        ]
    ),
    around=st.lists(
        st.sampled_from(
            [
                *("extra_body", "extra_headers", "litellm_params", "providerOptions", "provider_specific_header"),
                *("tools", "fallbacks"),
            ]
        ),
        max_size=4,
    ),
)
def test_a_second_name_is_seen_wherever_it_is_laid_over_a_request(name: str, around: list[str]) -> None:
    """However deep it lies in members that are merged into a request, in whatever case, it is refused."""
    body: dict[str, Any] = {name: "x"}
    for outer in around:
        body = {outer: [body] if outer in ("tools", "fallbacks") else body}
    assert names_another({"model": "fable-5", **body})


def test_a_tool_that_chooses_a_model_is_a_second_name() -> None:
    """OpenRouter's plugins choose among models or name one, as tools elsewhere; what they search by is none."""
    for chooses in ({"id": "auto-router", "allowed_models": ["a"]}, {"id": "fusion", "model": "a"}):
        assert names_another({"model": "fable-5", "plugins": [chooses]})
        assert names_another({"model": "fable-5", "tools": chooses})
    assert not names_another({"model": "fable-5", "plugins": [{"id": "web", "engine": "exa"}], "tools": None})


def test_what_is_no_second_name_passes() -> None:
    """What a model reads may speak of models, null says nothing, and fallbacks are decided hop by hop."""
    schema = {"parameters": {"properties": {"model": {}, "region": {}}}}
    for more in (
        {"messages": [{"role": "user", "content": [{"model": "x"}]}], "input": {"model": "x"}},
        {"tools": [{"type": "function", "function": schema}, "odd"], "tool_choice": {"model": "x"}},
        {"metadata": {"model": "x"}, "modalities": ["text"], "additionalModelRequestFields": {"top_k": 1}},
        {"deployment_id": None, "extra_body": None, "extra_headers": {"anthropic-beta": "x"}},
        {"provider_specific_header": {"custom_llm_provider": "anthropic", "extra_headers": {"anthropic-beta": "x"}}},
        {"provider_specific_header": [{"custom_llm_provider": "anthropic"}], "providerOptions": {"openai": {"n": 1}}},
        {"fallbacks": ["a-model", {"a-model": ["b"]}, {"model": "b", "temperature": 0}], "disable_fallbacks": True},
    ):
        assert not names_another({"model": "fable-5", **more}), more


@pytest.mark.parametrize("nest", [lambda inner: {"params": inner}, lambda inner: {"fallbacks": [inner]}])
def test_what_is_nested_too_deeply_to_look_through_names_another(nest: Callable[[Any], Any]) -> None:
    """It is refused as any other second name; it had left the hook as a `RecursionError`, a 500 with its traceback."""
    body: Any = {}
    for _ in range(2_000):
        body = nest(body)
    assert names_another({"model": "fable-5", **body})
