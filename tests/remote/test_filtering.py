"""A listing of models that cannot be made says so, near and far: an empty one would say that nothing may be used."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policy_engine import Decision, PolicyEngine
from policy_engine.bootstrap import copy_template
from policy_engine.core.decision import Reason
from policy_engine.core.questions import ANY, Filtering, request_of
from policy_engine.core.reasonclasses import CLASSES, Why
from policy_engine.errors import EngineUnavailable, InputRefused, StoreUnavailable
from policy_engine.inprocess import InProcess
from tests.api.served import POLICIES
from tests.conftest import SampleDatabase
from tests.remote.hostile import Answering, answer, hostile, sending
from tests.remote.test_hostile import KEY, yes
from tests.remote.test_many import EACH, Busy, engine_at

WHO: dict[str, Any] = {"subject": "alice", "tenant": "acme", "location": "US"}
OUTAGES = sorted(code for code, why in CLASSES.items() if why is Why.OUTAGE)


def raised(engine: PolicyEngine, models: list[str]) -> StoreUnavailable:
    """Return what filtering raises, which must be the same on an event loop."""
    with pytest.raises(StoreUnavailable) as sync:
        engine.filter_models(models, **WHO)
    with pytest.raises(StoreUnavailable) as on_a_loop:
        asyncio.run(engine.filter_models_async(models, **WHO))
    assert type(sync.value) is type(on_a_loop.value)
    return sync.value


def denying(code: str) -> Answering:
    """Return the answering of an engine that denies for one reason, and allows the other questions of a batch."""
    no = {"decision": False, "context": {"reasons": [{"code": code}], "missing": [], "alternatives": []}}
    return sending(answer(b'{"evaluations":[' + yes() + b"," + json.dumps(no).encode() + b"]}"))


def test_an_engine_afar_that_is_away_is_said() -> None:
    """As by any listing from afar, one model or many, and also while the circuit is open."""
    with PolicyEngine.connect("http://127.0.0.1:9", key=KEY) as engine:
        for models in (["open-1"], ["open-1", "fable-5"] * 100):
            assert type(raised(engine, models)) is EngineUnavailable
        with pytest.raises(EngineUnavailable):
            engine.what_can(**WHO)


def test_one_batch_without_an_answer_is_said() -> None:
    """Nobody can tell from what is left that some models were not decided."""
    service = Busy(0, lambda number: None if number % 3 == 1 else yes())
    with hostile(service) as server, engine_at(server.url, 0.3) as engine:
        assert type(raised(engine, [f"m{number}" for number in range(3 * EACH)])) is EngineUnavailable


@pytest.mark.parametrize("code", ["log.unavailable", "replica.cut-off"])
def test_an_engine_afar_that_cannot_record_is_said(code: str) -> None:
    """It answered, and nobody decided."""
    with hostile(denying(code)) as server, PolicyEngine.connect(server.url, key=KEY) as engine:
        assert f"({code})" in str(raised(engine, ["open-1", "fable-5"]))


def test_a_deny_is_left_out() -> None:
    """Also one that was decided in doubt: it is on the record, and asking again may find the same."""
    for code in ("no-rule-allows", "model.unknown", "orders.unreadable", "extra.rule"):
        with hostile(denying(code)) as server, PolicyEngine.connect(server.url, key=KEY) as engine:
            assert engine.filter_models(["open-1", "fable-5"], **WHO) == ["open-1"]


@pytest.mark.parametrize("models", ["fable-5", b"fable-5", {"id": "fable-5"}])
def test_one_model_in_the_place_of_several_is_refused(models: Any) -> None:
    """Its letters were asked for one by one, and an empty listing said that it may not be used."""
    with hostile(denying("model.unknown")) as server, PolicyEngine.connect(server.url, key=KEY) as engine:
        with pytest.raises(InputRefused, match="models"):
            engine.filter_models(models, **WHO)
        assert server.asked == []


@pytest.fixture
def near(sample_database: SampleDatabase, tmp_path: Path) -> Iterator[PolicyEngine]:
    """Offer an engine of this process on a database of its own."""
    copy_template(sample_database.place, tmp_path / "engine.db")
    with PolicyEngine.open(POLICIES, database=f"sqlite:///{tmp_path / 'engine.db'}") as engine:
        yield engine


def test_an_engine_of_this_process_says_it_too(near: PolicyEngine) -> None:
    """Closed, so that nothing can be recorded, and in a process that was forked; neither is an engine afar."""
    assert near.filter_models(["open-1", "unheard-of"], **WHO) == ["open-1"]
    own = near._asked
    assert isinstance(own, InProcess)
    process, own._process = own._process, -1  # as a forked process finds it
    assert type(raised(near, ["open-1"])) is StoreUnavailable
    own._process = process
    near.close()
    assert type(raised(near, ["open-1"])) is StoreUnavailable
    with pytest.raises(StoreUnavailable):
        near.what_can(**WHO)


@pytest.mark.parametrize("code", OUTAGES)
def test_every_outage_is_said(code: str) -> None:
    """Whatever the doors answer 503 to; alone, for beside another reason it is a decision."""
    listing = Filtering(["open-1"], request_of(model=ANY, action="infer", **WHO))

    def denied(*codes: str) -> Decision:
        return Decision(False, "", tuple(map(Reason, codes)), (), (), "", 0, 0)

    with pytest.raises(StoreUnavailable, match=code):
        listing.allowed([denied(code)])
    assert listing.allowed([denied(code, "tenant.denied")]) == []
    assert listing.allowed([denied()]) == []
