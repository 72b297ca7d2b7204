"""The language of questions: what each form means, and refusals that say where and how to mend it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.instants import DAY, SECOND, parse_instant
from policy_engine.errors import InputRefused, TooLarge
from policy_engine.limits import LIMITS
from policy_engine.services.questions import COLUMNS, LISTS, NUMBERS, SEALED, PublicTerm, Question, SealedTerm
from policy_engine.services.questiontext import parse_question
from tests.docs import pages

NOW = parse_instant("2026-06-20T12:00:00Z")
JUNE = parse_instant("2026-06-12")

MEANINGS: list[tuple[str, Question]] = [
    ("", Question()),
    ("  deny  ", Question((PublicTerm("outcome", ("deny",)),))),
    ("-allow", Question((PublicTerm("outcome", ("allow",), negated=True),))),
    ("model:fable-5,mythos-5", Question((PublicTerm("model", ("fable-5", "mythos-5")),))),
    ("model:a,a", Question((PublicTerm("model", ("a",)),))),
    ("kind:switch.*,gap", Question((PublicTerm("kind", ("gap",), ("switch.",)),))),
    ("model:*", Question((PublicTerm("model"),))),
    ("-lifted:*", Question((PublicTerm("lifted", negated=True),))),
    ('model:"a b","c,d"', Question((PublicTerm("model", ("a b", "c,d")),))),
    ('model:"a*"', Question((PublicTerm("model", ("a*",)),))),
    ("tier>=4", Question((PublicTerm("tier", low=4),))),
    ("tier>4 tier<=5", Question((PublicTerm("tier", low=5), PublicTerm("tier", high=5)))),
    ("epoch<12", Question((PublicTerm("epoch", high=11),))),
    ("tier:4,5", Question((PublicTerm("tier", ("4", "5")),))),
    ("-tier>=4", Question((PublicTerm("tier", low=4, negated=True),))),
    ("release:sha256:ab*", Question((PublicTerm("release", (), ("sha256:ab",)),))),
    ("rule:P7 rule:P12", Question((PublicTerm("rule", ("P7",)), PublicTerm("rule", ("P12",))))),
    ("subject:alice", Question((), (SealedTerm("subject", ("alice",)),))),
    ("country:IR,CU", Question((), (SealedTerm("counted", ("IR", "CU")),))),
    ("individual:home", Question((), (SealedTerm("tenant", ("home",)),))),
    ("group:D:5", Question((), (SealedTerm("counted", (), "D:5"),))),
    ('group:"D:5 + MO"', Question((), (SealedTerm("counted", (), "D:5 + MO"),))),
    ("since 7d", Question(since=NOW - 7 * DAY)),
    ("since -90m", Question(since=NOW - 90 * 60 * SECOND)),
    ("until now", Question(until=NOW)),
    ("until 2026-06-12", Question(until=JUNE)),
    ("between 2026-06-12 and 2026-06-12T00:00:01Z", Question(since=JUNE, until=JUNE + SECOND)),
    ("between 2026-06-12 now", Question(since=JUNE, until=NOW)),
]

REFUSED: list[tuple[str, int, str]] = [
    ("shoe:43", 1, "no such name"),
    ("deny shoe:43", 6, "no such name"),
    ("hello", 1, "no term"),
    ("deny Model:x", 6, "no term"),
    (":x", 1, "no term"),
    ("model:", 7, "value is missing"),
    ("model:a,,b", 7, "value is missing"),
    ("model:,", 7, "value is missing"),
    ('model:""', 7, "value is missing"),
    ('model:"a', 7, "not closed"),
    ("tier>=x", 7, "whole number"),
    ("tier:x", 6, "whole number"),
    ("tier:4*", 6, "compare it"),
    ("tier>=", 7, "whole number"),
    ("tier>=99999999999999999", 7, "whole number"),
    ("model>3", 7, "only epoch and tier are compared"),
    ("subject>3", 9, "not compared"),
    ("-subject:x", 1, "cannot be excluded"),
    ("-group:D:5", 1, "cannot be excluded"),
    ("subject:a*", 9, "whole values"),
    ("subject:a,b", 9, "one person at a time"),
    ("group:D:5,D:1", 7, "one group at a time"),
    ("-model:*", 8, "leave this out"),
    ("outcome:maybe", 9, "allow or deny"),
    ("evidence:valid,expird", 10, "evidence is one of valid, declared, expired"),
    ("us_person:maybe", 11, "us_person is one of yes, no"),
    ("country:CN,ir", 9, "codes in capital letters"),
    ("location:ua-43", 10, "codes in capital letters"),
    ("model:a model:b", 9, "alternatives"),
    ("deny allow", 6, "alternatives"),
    ("model:a model:b deny -model:c", 9, "alternatives"),
    ("outcome:allow deny model:a", 15, "alternatives"),
    ("since", 1, "missing behind"),
    ("since yesterday", 7, "no instant"),
    ("since 2026-06-12T10:00", 7, "no instant"),
    ("between 2026-06-12 and", 1, "missing behind"),
    ("since 7d since 8d", 10, "given twice"),
    ("since 7d between 9d and 8d", 10, "given twice"),
    ("between now and 7d", 1, "ends before"),
    ("since 7d until 7d", 10, "ends before"),
]


@pytest.mark.parametrize(("text", "question"), MEANINGS, ids=[text for text, _ in MEANINGS])
def test_what_each_form_means(text: str, question: Question) -> None:
    """Each form of the language becomes the terms that it stands for."""
    assert parse_question(text, NOW) == question


@pytest.mark.parametrize(("text", "place", "words"), REFUSED, ids=[text for text, _, _ in REFUSED])
def test_a_refusal_says_where_and_what(text: str, place: int, words: str) -> None:
    """The character where it went wrong, in words that say how to mend it, and never the value."""
    with pytest.raises(InputRefused) as refused:
        parse_question(text, NOW)
    assert (refused.value.where, words in refused.value.message) == (f"question, character {place}", True)
    assert "shoe" not in refused.value.message and "yesterday" not in refused.value.message


def test_every_length_is_bounded() -> None:
    """A question, its words and the alternatives of a term are refused one past their limit, and not at it."""
    most = LIMITS.question_characters
    assert parse_question("model:" + "a" * (most - 6), NOW).public
    with pytest.raises(TooLarge, match="characters"):
        parse_question("model:" + "a" * (most - 5), NOW)
    words = ["rule:a"] * LIMITS.question_terms_count
    assert len(parse_question(" ".join(words), NOW).public) == len(words)
    with pytest.raises(TooLarge, match="words"):
        parse_question(" ".join([*words, "deny"]), NOW)
    values = [f"v{n}" for n in range(LIMITS.question_values_count)]
    assert parse_question("model:" + ",".join(values), NOW)
    with pytest.raises(TooLarge, match="alternatives"):
        parse_question("model:" + ",".join([*values, "one"]), NOW)


@given(st.text(max_size=60) | st.from_regex(r"(-?[a-z]{1,9}[:<>=]{1,2}[^ ]{0,5} ?){1,4}", fullmatch=True))
def test_no_text_is_an_internal_error(text: str) -> None:
    """Whatever is written is a question or a refusal with its place; a value in it is never repeated."""
    try:
        parse_question(text, NOW)
    except InputRefused as refused:
        assert refused.where is not None and refused.where.startswith("question")


def test_the_page_names_every_word() -> None:
    """`docs/questions.md` has every column and every sealed facet, and none that does not exist."""
    text = pages.section(pages.ROOT / "docs" / "questions.md", "The language")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in row.replace("`", "").replace(",", " ").split()}
    assert set(COLUMNS) | {"country", "group", "individual", "subject"} <= named
    assert set(COLUMNS) >= LISTS | NUMBERS and {"location", "us_person", "evidence"} <= set(SEALED) & named
