"""Bounded regular expressions: the answers of `re.match` on every accepted pattern, and its explosions on none."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_engine.core import automaton
from policy_engine.core.characters import parse
from policy_engine.core.regexes import Regex, compile_regex, literal_prefix
from policy_engine.core.regexrisk import EXPLOSIVE, assess
from policy_engine.errors import LoadRefused
from policy_engine.limits import LIMITS

LETTERS = "abcABk/.1 _-\n\r\x1céÉ²\u017f\u212a\u0130\U0001f600"
"""Letters that patterns name, and those on which case, word, digit and line rules turn."""
SECONDS_MAX = 0.5 if sys.gettrace() is None else 5.0
"""Of the processor's time; more where coverage is traced."""

SINGLE = ["a", "b", "c", "A", "k", "/", "é", "1", " ", r"\.", ".", r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", r"\n"]
CLASSES = ["[ab]", "[^a]", "[a-c/]", r"[^\w]", "[^/]", "[^\n]", r"[\d.k]", "[A-C]"]
CHARACTERS = st.sampled_from([*SINGLE, *CLASSES])
PLACES = st.sampled_from(["^", "$", r"\b", r"\B", r"\A", r"\Z"])
COUNTS = st.sampled_from(
    ["*", "+", "?", "*?", "+?", "??", "{2}", "{0}", "{0,2}", "{1,3}?", "{2,}", "{1,}?", "{,2}", "{3,4}"]
)
SCOPES = st.sampled_from(["(?:", "(", "(?i:", "(?s:", "(?m:", "(?a:", "(?-i:", "(?x:", "(?im-s:"])


def grown(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return larger patterns made of smaller ones."""
    return st.one_of(
        st.lists(parts, min_size=2, max_size=3).map("".join),
        st.lists(parts | st.just(""), min_size=2, max_size=3).map(lambda ways: f"(?:{'|'.join(ways)})"),
        st.builds(lambda scope, part: f"{scope}{part})", SCOPES, parts),
        st.builds(lambda part, count: f"(?:{part}){count}", parts, COUNTS),
        st.builds(lambda part, count: f"{part}{count}", CHARACTERS, COUNTS),
        st.builds(lambda look, part: f"({look}{part})", st.sampled_from(["?=", "?!"]), parts),
        st.builds(lambda look, a, b: f"({look}{a}{b})", st.sampled_from(["?<=", "?<!"]), CHARACTERS, CHARACTERS),
    )


PARTS = st.recursive(CHARACTERS | PLACES, grown, max_leaves=9)
FLAGS = st.sampled_from(["", "", "", "(?i)", "(?s)", "(?m)", "(?a)", "(?ims)", "(?ia)"])
ATOMIC = st.builds(lambda a, b, c: f"{a}(?>{b}){c}", PARTS, PARTS, PARTS)
PATTERNS = st.builds(lambda flags, part: flags + part, FLAGS, st.one_of(PARTS, PARTS, ATOMIC))
TEXTS = st.text(st.sampled_from(LETTERS), max_size=12)


def compiled(pattern: str) -> tuple[re.Pattern[str], list[Regex]] | None:
    """Return `re`'s pattern and ours, both as it is used and always by the automaton; `None` for a bad pattern."""
    try:
        return re.compile(pattern), [compile_regex(pattern), compile_regex(pattern, always_bounded=True)]
    except (re.error, LoadRefused):
        return None


def near(pattern: str, text: str) -> list[str]:
    """Return texts around the language of a pattern: the text, and what the pattern itself looks like without signs."""
    bare = re.sub(r"\(\?[a-z-]*[:=!<>]*|\{\d*,?\d*\}|[\\()*+?|^$\[\]]", "", pattern)[:24]
    return [text, bare, bare + text, text[:3] + bare, bare * 2, text * 3, text + "\n"]


def compare(pattern: str, text: str) -> None:
    """Compare every answer about a pattern with that of `re`, from the beginning and from later places."""
    both = compiled(pattern)
    if both is None:
        return
    plain, ours = both
    for each in near(pattern, text):
        if not ours[0].within(len(each)):
            each = each[:9]  # `re`, which says what is expected, must come to an end too
        for start in {0, len(each) // 2, len(each)}:
            expected = plain.match(each, start) is not None
            assert [regex(each, start) for regex in ours] == [expected] * 2, (pattern, each, start)


@given(pattern=PATTERNS, text=TEXTS)
@settings(max_examples=1_500)
def test_every_answer_is_that_of_re(pattern: str, text: str) -> None:
    """Whatever way a pattern is taken, the answer for every text is that of `re.match`."""
    compare(pattern, text)


@pytest.mark.nightly
@given(pattern=PATTERNS, text=TEXTS)
@settings(max_examples=200_000)
def test_every_answer_is_that_of_re_at_length(pattern: str, text: str) -> None:
    """The same on some millions of answers."""
    compare(pattern, text)


def test_the_comparison_reaches_both_answers() -> None:
    """The patterns above match some texts near them and not others, and both ways are taken."""
    answers = {regex(text) for regex in compiled("(a|ab)*c(?!b)")[1] for text in near("(a|ab)*c", "ab")}
    assert answers == {True, False}
    assert [regex.harmless for regex in compiled("(a|[ab]a)*c")[1]] == [False, False]
    assert [regex.harmless for regex in compiled("a[bc]+d")[1]] == [True, False]


@given(pattern=PATTERNS, text=TEXTS)
@settings(max_examples=500)
def test_a_literal_prefix_begins_every_match(pattern: str, text: str) -> None:
    """Every text that matches begins with the literal prefix."""
    both = compiled(pattern)
    if both is not None:
        prefix = literal_prefix(pattern)
        for each in near(pattern, text):
            assert each.startswith(prefix) or not both[1][0](each), (pattern, prefix, each)


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [
        (r"^/api/v1/users/[^\/]+/x$", "/api/v1/users/"),
        (r"\A/api\.v1", "/api.v1"),
        ("abc*", "ab"),
        ("(?:ab){2}c?d", "abab"),
        ("a+b", "a"),
        ("(ab)c", "abc"),
        ("abc|abd", "ab"),
        ("abc|xbd", ""),
        ("(?i)abc", ""),
        ("(?i:a)bc", ""),
        ("x(?i:a)bc", "x"),
        ("a(?=b).", "a"),
        ("a{0}b", "b"),
        ("a*", ""),
    ],
)
def test_literal_prefixes_are_useful(pattern: str, prefix: str) -> None:
    """A path-like pattern gives its beginning; whatever may vary ends it."""
    assert literal_prefix(pattern) == prefix


HOSTILE = [
    "a" * 5_000,
    "a" * 4_999 + "!",
    "a" * 4_998 + "\n!",
    "ab" * 2_500,
    "a a," * 1_250 + "!",
    "Aa" * 2_500 + "1",
    "/a" * 2_500 + "!",
    "x" * 5_000,
]
CLASSICS = [
    r"(a+)+$",
    r"(a|aa)+$",
    r"(a|a)*b",
    r"(.*)*x!",
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
    r"(\w+\s?)*$",
    r".*a.*a.*a.*a.*a.*b",
    r"(a*)*b",
    r"(x+x+)+y",
    r"([a-zA-Z]+)*!$",
    r"^(\w+\.?)+@x$",
    r"(a?){50}a{50}b",
    r"(.*?,){11}P",
    r"(?=(a+)+b)a",
    r"(?<!b)(?i:k|\u212a|a)*(a|b)*z",
    r"(?:(?>a+?b?)|a)*c",
    r"a*a*a*a*a*a*c",
]


@pytest.mark.parametrize("pattern", CLASSICS)
def test_no_classic_explosion_takes_long(pattern: str) -> None:
    """A pattern that would keep `re` for years answers about 5,000 hostile characters within half a second."""
    regex = compile_regex(pattern)
    assert not regex.harmless
    for text in HOSTILE:
        began = time.process_time()
        regex(text)
        assert time.process_time() - began < SECONDS_MAX, text[:8]


@pytest.mark.parametrize(
    "pattern",
    [
        r"^/api/v1/users/[^\/]+/x$",
        r"^/api/.*$",
        r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        r"^(?:[a-z0-9-]+\.)+example$",
        r"^(GET|POST|PUT|PATCH)$",
        r"^\d{1,3}(?:\.\d{1,3}){3}$",
        r"(?i)^bearer [A-Z0-9._-]+$",
        r"^(?:/[^/]+)*/$",
        r"a.*",
        r"(\w+) \1",
        "|".join(f"name-{number}" for number in range(900)),
    ],
)
def test_ordinary_patterns_go_to_re(pattern: str) -> None:
    """What cannot take long is left to `re`, which is faster; that holds for a long text too."""
    regex = compile_regex(pattern)
    assert regex.harmless
    for text in HOSTILE:
        began = time.process_time()
        regex(text)
        assert time.process_time() - began < SECONDS_MAX


RISKY_PARTS = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", "[^/]", "/", "ab"]),
    lambda parts: st.one_of(
        st.tuples(parts, parts).map("".join),
        st.tuples(parts, parts).map("(?:{0[0]}|{0[1]})".format),
        st.tuples(parts, st.sampled_from(["*", "+", "*?", "?", "{2}", "{1,3}", "{2,}", "{0,20}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
        parts.map("(?={})".format),
        parts.map("(?!{})".format),
    ),
    max_leaves=7,
)


def check_bound(pattern: str) -> None:
    """Ask `re` about pumped texts that the bound lets through to it, and measure."""
    try:
        regex = compile_regex(pattern)
    except LoadRefused:
        return
    for base in ("a", "ab", "aab", "a/", "ba", "/", "c"):
        for size in (32, 600, 3_000):
            text = (base * size)[:size] + "!"
            began = time.process_time()
            if regex.within(len(text)):
                regex(text)
            assert time.process_time() - began < SECONDS_MAX, (pattern, text[:6], size)


@given(pattern=RISKY_PARTS, end=st.sampled_from(["$", "z", ""]))
@settings(max_examples=300)
def test_what_goes_to_re_does_not_take_long(pattern: str, end: str) -> None:
    """Patterns and sizes of text that are judged fit for `re` are so on pumped texts that almost match."""
    check_bound(pattern + end)


@pytest.mark.nightly
@given(pattern=RISKY_PARTS, end=st.sampled_from(["$", "z", ""]))
@settings(max_examples=50_000)
def test_what_goes_to_re_does_not_take_long_at_length(pattern: str, end: str) -> None:
    """The same for many more patterns."""
    check_bound(pattern + end)


@pytest.mark.parametrize(
    ("pattern", "degree"),
    [
        ("abc", 0),
        ("a*b", 1),
        ("a*a*b", 2),
        ("a*b*a*c", 2),
        (".*x.*y.*z$", 3),
        (".*x.*y.*", 2),
        ("(?:a+)+", EXPLOSIVE),
        ("(?:a|ab)*", EXPLOSIVE),
        ("(?:[a-z]+-)*[A-Z]", 1),
        ("(?:.*.*.*b|)", 3),
        ("(?>a*)(?>a*)a*b", 1),
        ("a*+b*+a*+c", 1),
        ("(?:a|ab)*+c", EXPLOSIVE),
        (r"(?:a(b)\1)*c", EXPLOSIVE),
        (r"(?:a(?:b{0}c)?)*d", 1),
        (r"(?:a(?=b*c))*d", EXPLOSIVE),
        (r"(a)?b(?(1)c*|d)$", 1),
        (".*(?=.*x)y", 2),
    ],
)
def test_the_degree_is_that_of_the_choices_left_open(pattern: str, degree: int) -> None:
    """Each repeat that the next character does not end raises the degree by one; nested ones are not judged."""
    assert assess(parse(pattern)).degree == degree


def test_a_short_text_goes_to_re_and_a_long_one_does_not() -> None:
    """A pattern whose time grows with the square is left to `re` up to a length, and never beyond it."""
    regex = compile_regex("a*a*b")
    assert [regex.within(10), regex.within(5_000)] == [True, False]
    assert not compile_regex("(a+)+b").within(1)


@pytest.mark.parametrize(
    "pattern", ["(", "a**", "[z-a]", "(?P<n>a)(?P<n>b)", "*a", r"\8", "(?<=a*)b", "a{3,2}", "(?z)"]
)
def test_a_bad_pattern_raises_what_re_raises(pattern: str) -> None:
    """The error of a pattern that cannot be read is that of `re.compile`, word for word."""

    def error_of(compile_it: Callable[[str], object]) -> str:
        with pytest.raises(re.error) as caught:
            compile_it(pattern)
        return str(caught.value)

    assert error_of(compile_regex) == error_of(re.compile)


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        (r"(a+)+\1b", "refers back to a group; write out what may stand there"),
        (r"(a)?(a+)+(?(1)b|c)", "asks whether a group took part, as in `(?(1)...)`; write one pattern for each case"),
        (r"(a+)+b*+", "has a possessive repeat such as `*+`; use the plain repeat"),
        (r"(a+)+(?>(?>b)c)", "has an atomic group inside an atomic group; use a plain group inside"),
        (r"(a+)+(?>(b?)*)", "repeats what may be empty inside an atomic group; make the repeated part non-empty"),
        (r"(a+)+b{1001}", "repeats more than 1000 times (regex_repeat_count); lower the count or use `*`"),
        (r"(a{30}){40}(b+)+", "needs more than 1000 states (regex_states_count); lower its counts or split it"),
        (r"((((){999}){999}){999})*", "needs more than 1000 states (regex_states_count); lower its counts or split it"),
        ("(a+)+" + "b" * 16_384, "is longer than 16384 characters (regex_characters); split it"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(pattern: str, sentence: str) -> None:
    """A risky pattern that the automaton cannot follow is refused; the sentence names the construct and the mending."""
    with pytest.raises(LoadRefused) as caught:
        compile_regex(pattern)
    assert caught.value.message == f"this regular expression may take unbounded time and {sentence}"
    assert caught.value.where is None


def test_a_pattern_too_deep_to_judge_is_refused() -> None:
    """A pattern that `re` may still be able to read, but nested too deeply to be judged, is refused by name."""
    deep = "(?:[ab]|a" * 150 + "b" + ")*" * 150
    assert re.compile(deep)
    with pytest.raises(LoadRefused, match="and nests its groups too deeply; take groups away"):
        compile_regex(deep)
    assert literal_prefix(deep) == ""
    assert literal_prefix("(" * 100 + "a" + ")" * 100) == "a"


def test_limits_are_those_given() -> None:
    """Whoever passes other limits gets other limits."""
    assert compile_regex("(a+)+b{1001}", limits=replace(LIMITS, regex_repeat_count=2_000, regex_states_count=5_000))
    with pytest.raises(LoadRefused, match="more than 5 states"):
        compile_regex("(a+)+bbbb", limits=replace(LIMITS, regex_states_count=5))


def test_answers_are_the_same_when_nothing_can_be_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """An automaton whose memory is full goes on without it."""
    for room in range(12):
        monkeypatch.setattr(automaton, "MEMORIES", automaton._Memories(room))
        regex = compile_regex("(?:a|ab)*c", always_bounded=True)
        assert [regex("ababac"), regex("ababa"), regex("abc!"), regex("abbc")] == [True, False, True, False]


def test_what_automata_remember_is_bounded() -> None:
    """A stream of texts that are all new makes what all automata remember no larger than the limit allows."""
    regex = compile_regex("(a|[ab]{3}|.[^c]){2,30}c")
    for number in range(3_000):
        regex("".join(chr(97 + (number * 31 + place * place) % 700) for place in range(60)))
        assert automaton.MEMORIES.spent <= LIMITS.regex_moves_count + 200
    assert regex("aa" * 2 + "c")
    assert not regex("ac")


def test_a_long_text_without_the_words_of_a_pattern_takes_no_steps_of_its_automaton(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What `re` would see at a glance is not walked through: the words of a match must stand there in their order."""
    regex = compile_regex(".*foo(a|b)+.*ba(?:r){2}[0-9]")
    asked: list[str] = []
    real = automaton.Automaton.matches

    def matches(self: automaton.Automaton, text: str, start: int = 0) -> bool:
        asked.append(text[:3])
        return real(self, text, start)

    monkeypatch.setattr(automaton.Automaton, "matches", matches)
    long = "x" * 100_000
    for text in (long, f"{long}foo", f"barr1{long}fooa", f"foo{long}bar1"):
        assert not regex(text) and not asked
    assert regex(f"{long}foobbarr1") and asked == ["xxx"]
    assert not regex(f"fooa{long}barr1", 1) and asked == ["xxx"]
