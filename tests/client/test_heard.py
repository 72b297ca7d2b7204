"""What was heard, and what it ends: in order, with gaps, too old, and read against a plain model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.client import heard as room
from policy_engine.client.heard import Heard, Mark

FABLE = {"models": ["fable-5"]}


def standing(epoch: int = 5) -> Heard:
    """Return what was heard by one who has just begun to listen."""
    heard = Heard()
    heard.take("standing", {"epoch": epoch})
    return heard


def ends(heard: Heard, epoch: int, mark: Mark | None = None, model: str = "fable-5") -> bool:
    """Return whether an allow of an epoch, asked for before anything was heard, is over."""
    return heard.ends(epoch, Mark() if mark is None else mark, model, "infer")


def test_who_hears_nothing_ends_nothing() -> None:
    """Without a stream the budget alone bounds; silence is no doubt."""
    assert not ends(Heard(), 1)


def test_a_change_ends_what_it_voids_and_nothing_else() -> None:
    """Older allows on its models end; newer ones, and those on others, go on."""
    heard = standing()
    heard.take("changed", {"epoch": 6, "voids": FABLE})
    assert ends(heard, 5)
    assert not ends(heard, 6)
    assert not ends(heard, 5, model="opus-4-8")


@pytest.mark.parametrize(
    "voids", ["everything", None, {}, [], 5, {"models": []}, {"models": [5]}, {"models": "fable-5"}]
)
def test_a_reach_that_cannot_be_read_is_everything(voids: Any) -> None:
    """Only `nothing`, and lists of names, spare an allow."""
    heard = standing()
    heard.take("changed", {"epoch": 6, "voids": voids})
    assert ends(heard, 5, model="opus-4-8")


def test_an_answer_of_before_the_stream_began_is_in_doubt() -> None:
    """What changed between it and the first epoch that is known was never heard."""
    assert ends(standing(5), 4)
    assert not ends(standing(5), 5)


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("changed", {"epoch": 7, "voids": "nothing"}),  # one epoch left out
        ("changed", {"epoch": 5, "voids": "nothing"}),  # the same again
        ("standing", {"epoch": 9}),
        ("void", {"epoch": 5, "reason": "missed"}),
        ("void", {}),
        ("changed", {"epoch": "6"}),
        ("changed", {"epoch": -1}),
        ("changed", {"epoch": True}),
        ("message", {"epoch": 6}),
    ],
)
def test_whatever_is_out_of_order_ends_everything(event: str, data: dict[str, Any]) -> None:
    """Every answer asked for before it is over, of whatever epoch; what is asked for afterwards is not."""
    heard = standing()
    before = heard.mark()
    heard.take(event, data)
    assert ends(heard, 100, before)
    assert not ends(heard, 100, heard.mark())


def test_an_answer_of_an_older_epoch_than_was_heard_is_in_doubt() -> None:
    """Asked after epoch 9 was heard and answered under 8: the database is an older copy, or the answer another's."""
    heard = standing(9)
    assert heard.ends(8, heard.mark(), "fable-5", "infer")
    assert not heard.ends(9, heard.mark(), "fable-5", "infer")


def test_a_resumed_stream_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standing again where one stood ends nothing, and what follows is known."""
    heard = standing()
    mark = heard.mark()
    heard.take("standing", {"epoch": 5})
    heard.take("changed", {"epoch": 6, "voids": "nothing"})
    assert (heard.epoch, ends(heard, 5, mark)) == (6, False)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more changes than are kept, the oldest are forgotten, and allows of before them are in doubt."""
    monkeypatch.setattr(room, "KEPT_COUNT", 3)
    heard = standing(0)
    for epoch in range(1, 6):
        heard.take("changed", {"epoch": epoch, "voids": "nothing"})
    assert [ends(heard, epoch) for epoch in range(6)] == [True, True, False, False, False, False]


VOIDS = st.sampled_from(["nothing", "everything", {"models": ["a"]}, {"models": ["b"]}, {"actions": ["infer"]}])


@given(st.integers(0, 3), st.lists(VOIDS, max_size=6), st.integers(0, 10), st.sampled_from("ab"))
def test_what_is_heard_in_order_is_what_happened(first: int, changes: list[Any], epoch: int, model: str) -> None:
    """An allow is over exactly when it is older than the stream, or a later change voids its model and action."""
    heard = standing(first)
    for place, voids in enumerate(changes, start=first + 1):
        heard.take("changed", {"epoch": place, "voids": voids})
    later = changes[max(0, epoch - first) :]
    named = {"nothing": False, "everything": True}
    hit = any(named[v] if isinstance(v, str) else model in v.get("models", model) for v in later)
    assert ends(heard, epoch, model=model) == (epoch < first + len(changes) and (epoch < first or hit))
