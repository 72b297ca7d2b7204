"""The chain of each log: honest histories pass, and a history with any one thing changed does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policy_engine.ledger.chain import Logs, LogTip, next_of, tip_at, unopened
from policy_engine.ledger.encoding import FIRST_PREVIOUS, Header, header_hash
from policy_engine.ledger.leaves import Abandoned, Closed, Opened, parse_leaf
from policy_engine.ledger.refusals import EvidenceRefused, Reason


def history(log_id: str, sizes: list[int], end: type[Closed] | type[Abandoned] | None) -> list[bytes]:
    """Return the leaves of one honest log with batches of these sizes."""
    leaves = [Opened(log_id, "boot", None, 1, "sha256:ab", 10).encode()]
    head, first, at = FIRST_PREVIOUS, 0, 10
    for batch, n in enumerate(sizes):
        at += n % 3  # two batches may share an instant
        header = Header(log_id, batch, first, n, f"{batch:064x}", head, 1 + batch // 2, "sha256:ab", at).encode()
        leaves.append(header)
        head, first = header_hash(header), first + n
    if end is not None:
        leaves.append(end(log_id, len(sizes), first, head, 1 + len(sizes), at).encode())
    return leaves


SIZES = st.lists(st.integers(1, 256), max_size=6)
ENDS = st.sampled_from([None, Closed, Abandoned])


@given(st.lists(st.tuples(SIZES, ENDS), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_honest_logs_pass_however_they_are_interleaved(parts, random) -> None:
    """Leaves of several logs, each in order, are accepted in every interleaving, and the tips add up."""
    queues = [history(f"log{number}", sizes, end) for number, (sizes, end) in enumerate(parts)]
    waiting = [list(queue) for queue in queues]
    logs = Logs()
    while any(waiting):
        queue = random.choice([queue for queue in waiting if queue])
        leaf = queue.pop(0)
        tip = logs.add(leaf)
        assert tip == tip_at(leaf)
    for number, (sizes, end) in enumerate(parts):
        tip = logs.tips[f"log{number}"]
        assert (tip.batches, tip.entries, tip.ended) == (len(sizes), sum(sizes), end is not None)
    again = Logs(logs.tips)
    assert dict(again.tips) == dict(logs.tips)


@given(st.lists(st.integers(1, 256), min_size=1, max_size=6), ENDS, st.data())
def test_a_history_with_a_leaf_left_out_moved_or_doubled_is_refused(sizes, end, data) -> None:
    """Leaving out any leaf but the last, swapping two, or writing one twice breaks the chain of its log."""
    leaves = history("log", sizes, end)
    place = data.draw(st.integers(0, len(leaves) - 2))
    other = data.draw(st.integers(0, len(leaves) - 1))
    for spoiled in (
        leaves[:place] + leaves[place + 1 :],
        [*leaves[: other + 1], leaves[other], *leaves[other + 1 :]],
        _swapped(leaves, place, other),
    ):
        if spoiled == leaves:
            continue
        with pytest.raises(EvidenceRefused):
            logs = Logs()
            for leaf in spoiled:
                logs.add(leaf)


def _swapped(leaves: list[bytes], one: int, two: int) -> list[bytes]:
    swapped = list(leaves)
    swapped[one], swapped[two] = leaves[two], leaves[one]
    return swapped


@given(st.lists(st.integers(1, 256), min_size=2, max_size=6), st.data())
def test_a_changed_header_is_refused_at_the_next_leaf(sizes, data) -> None:
    """Whatever member of a header is changed, it or the leaf behind it is refused: the chain hashes all of it."""
    leaves = history("log", sizes, Closed)
    place = data.draw(st.integers(1, len(leaves) - 2))
    header = parse_leaf(leaves[place])
    assert isinstance(header, Header)
    name, value = data.draw(
        st.sampled_from(
            [
                ("root", "f" * 64),
                ("release", None),
                ("at", header.at + 1),
                ("epoch", header.epoch + 1),
                ("n", header.n + 1),
                ("first", header.first + 1),
                ("batch", header.batch + 1),
                ("prev", "e" * 64),
                ("log_id", "log2"),
            ]
        )
    )
    assume(getattr(header, name) != value)
    changed = replace(header, **{name: value}).encode()
    tip: LogTip | None = None
    for leaf in leaves[:place]:
        tip = next_of(tip, leaf)
    with pytest.raises(EvidenceRefused):
        next_of(next_of(tip, changed), leaves[place + 1])


def test_a_log_from_before_the_tree_starts_at_its_first_header() -> None:
    """Headers that were written before logs were opened follow one another as they are."""
    tip = unopened("log")
    assert tip == LogTip("log", 0, 0, FIRST_PREVIOUS, 0, 0, False)
    for header in history("log", [3, 1, 2], None)[1:]:
        tip = next_of(tip, header)
    assert (tip.batches, tip.entries) == (3, 6)
    with pytest.raises(EvidenceRefused) as caught:
        next_of(unopened("other"), history("log", [3], None)[1])
    assert caught.value.reason == Reason.OTHER_LOG


def test_an_end_may_not_run_backwards() -> None:
    """An end that is dated before its log's last batch, or has an older epoch, is refused by name."""
    leaves = history("log", [1, 1, 1], Closed)
    tip: LogTip | None = None
    for leaf in leaves[:-1]:
        tip = next_of(tip, leaf)
    end = parse_leaf(leaves[-1])
    assert isinstance(end, Closed)
    for change, reason in (({"at": end.at - 1}, Reason.TIME_BACKWARDS), ({"epoch": 1}, Reason.EPOCH_BACKWARDS)):
        with pytest.raises(EvidenceRefused) as caught:
            next_of(tip, replace(end, **change).encode())
        assert caught.value.reason == reason


def test_forks_are_told_from_repeats_and_gaps() -> None:
    """The same header again is a repeat, another one in its place a fork, also further back or behind an end."""
    leaves = history("log", [1, 1, 1], Closed)
    tips: list[LogTip | None] = [None]
    for leaf in leaves:
        tips.append(next_of(tips[-1], leaf))
    first, last = parse_leaf(leaves[1]), parse_leaf(leaves[3])
    assert isinstance(first, Header) and isinstance(last, Header)
    later = replace(last, batch=3, first=3, prev=header_hash(leaves[3])).encode()
    for tip, leaf, reason in (
        (tips[4], leaves[3], Reason.REPEATED),
        (tips[4], replace(last, root="a" * 64).encode(), Reason.FORK),
        (tips[4], leaves[1], Reason.FORK),
        (tips[2], leaves[3], Reason.GAP),
        (tips[5], leaves[3], Reason.REPEATED),
        (tips[5], replace(last, root="a" * 64).encode(), Reason.FORK),
        (tips[5], later, Reason.ENDED),
    ):
        with pytest.raises(EvidenceRefused) as caught:
            next_of(tip, leaf)
        assert caught.value.reason == reason
