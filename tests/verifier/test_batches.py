"""A batch that is read at once is taken exactly when each of its lines would be, whoever recomputed its root."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from policy_engine.ledger.merkle import leaf_hash
from policy_engine_verify.logs import Header, check_batch, parse_leaf
from policy_engine_verify.source import is_plain
from policy_engine_verify.tree import root_of
from tests.verifier import honest

MADE = honest.make(seed=21, entries=120, batch_max=6)
PIECES = (b'"', b",", b"[]", b"null", b"0", b"1", b" ", b"}", b"{", b"\\", b"\xc3\xa9", b"allow", b'"v":1}', b'"seq":')


def header_over(lines: list[bytes], first: int = 0) -> Header:
    """Return a header that commits lines as they are, with the place of the log's decisions."""
    root = root_of([leaf_hash(line) for line in lines]).hex()
    return Header("log", 0, first, len(lines), root, "0" * 64, 1, "r", 5)


def decision(seq: int, action: str = "infer") -> bytes:
    """Return a decision of the usual form in that place."""
    return (
        b'{"action":"%b","at":5,"by":"key-1","commit":"c","epoch":1,"id":"i","instant":4,"kind":"decision","licences":[],'
        b'"lifted":[],"log":"log","missing":[],"model":"m","outcome":"allow","reached":true,"reasons":[],"release":"r",'
        b'"rules":["a","b"],"sealed":"s","seq":%d,"tenant":null,"tier":3,"until":null,"v":1}' % (action.encode(), seq)
    )


def refusals(header: Header, lines: list[bytes], *, every: bool) -> list[tuple[int | None, str]]:
    """Return what is wrong with a batch whose root is its own."""
    own, _, wrong = check_batch(header, lines, all(map(is_plain, lines)), header.epoch, every)
    assert own
    return wrong


def test_decisions_at_their_places() -> None:
    """Decisions of the usual form are taken at once, and in no other order or number."""
    lines = [decision(seq) for seq in range(7, 12)]
    assert check_batch(header_over(lines, 7), lines, True, 1, False) == (True, [], [])
    assert [seq for seq, _ in refusals(header_over(lines, 8), lines, every=False)] == [8, 9, 10, 11, 12]
    swapped = [lines[1], lines[0], *lines[2:]]
    assert [seq for seq, _ in refusals(header_over(swapped, 7), swapped, every=False)] == [7, 8]


def test_a_text_does_not_reach_over_the_end_of_its_line() -> None:
    """Two lines that are one decision only together are refused as two lines that are none."""
    whole = decision(0, "infer, or not")
    cut = whole.index(b", or")
    lines = [whole[:cut], whole[cut:]]
    assert [seq for seq, _ in refusals(header_over(lines), lines, every=False)] == [0, 1]
    lines = [*lines, decision(1)]
    assert refusals(header_over(lines), lines, every=False)


def test_a_line_is_one_decision() -> None:
    """Decisions in one line, with what stands between lines put between them, are refused as one line that is none."""
    joints = (b'"1"', b"1", b'"', b"", b'"1', b'1"', b'""1""', b'"01"', b'"-1"', b'n"1n"', b',"1",', b' "1" ')
    for joint in joints:
        for inner in (1, 7):
            whole = decision(0) + joint.replace(b"1", b"%d" % inner) + decision(inner)
            for lines in ([whole], [whole, decision(1)], [whole, decision(inner), decision(2)]):
                assert 0 in [seq for seq, _ in refusals(header_over(lines), lines, every=False)]


@given(st.randoms(use_true_random=False), st.integers(1, 3))
def test_a_batch_is_taken_when_each_line_is(random: Random, changes: int) -> None:
    """Whatever is put into, taken out of or written over some lines: both ways of reading take it, or neither does."""
    lines = [decision(seq, random.choice(("infer", "list", "é"))) for seq in range(random.randint(1, 5))]
    for _ in range(changes):
        number = random.randrange(len(lines))
        line = lines[number]
        at, end = sorted(random.choices(range(len(line) + 1), k=2))
        lines[number] = line[:at] + random.choice(PIECES) + line[random.choice((at, min(end, at + 8))) :]
    header = header_over(lines)
    assert bool(refusals(header, lines, every=False)) == bool(refusals(header, lines, every=True))


def test_honest_batches_are_taken() -> None:
    """Every batch of a log as the engine writes it is taken both ways."""
    for log in MADE.logs.values():
        for header in log.headers:
            read = parse_leaf(header.encode())
            assert isinstance(read, Header)
            lines = log.entries[read.first : read.first + read.n]
            assert not refusals(read, lines, every=False)
            assert not refusals(read, lines, every=True)


def test_a_batch_without_a_line_is_none_of_decisions() -> None:
    """Where lines are missing to the last, nothing was read, and nothing agrees."""
    assert check_batch(header_over([decision(0)]), [], True, 1, False)[0] is False
