"""Arguments that several verbs read: instants, lists, scopes and TOML files."""

from __future__ import annotations

from codecs import BOM_UTF8
from pathlib import Path

import pytest

from policy_engine.cli.options import instant_of, names_of, once_each, text_of, toml_of
from policy_engine.cli.orders import read_order
from policy_engine.cli.switches import parse_scope
from policy_engine.core.instants import parse_instant
from policy_engine.errors import InputRefused, TooLarge
from policy_engine.limits import LIMITS


def test_an_instant_is_a_date_or_a_time_with_a_zone() -> None:
    """Absent stays absent; anything else is refused by the option's name, without the value."""
    assert instant_of(None, "--at") is None
    assert instant_of("2026-06-12", "--at") == parse_instant("2026-06-12T00:00:00Z")
    with pytest.raises(InputRefused, match="--at") as refused:
        instant_of("soon-ish", "--at")
    assert "soon-ish" not in str(refused.value)


def test_names_may_be_repeated_and_separated_by_commas() -> None:
    """`--scopes a,b --scopes b` means a and b once."""
    assert names_of(["a, b", "b,", ""]) == ("a", "b") and names_of(None) == ()


def test_a_name_has_one_value() -> None:
    """The second value of a name is refused by the option's name, also where both are the same."""
    assert once_each([("a", 1), ("b", 1)], "--x", "say one") == {"a": 1, "b": 1} and once_each((), "--x", "") == {}
    for second in (1, 2, None):
        with pytest.raises(InputRefused, match="--x: names the same thing twice; say one"):
            once_each([("a", 1), ("b", 1), ("a", second)], "--x", "say one")


def test_a_scope_names_dimensions_and_values() -> None:
    """Singular and plural names are the same; tiers are numbers; `all` stands for every one."""
    assert parse_scope(["model=fable-5,mythos-5", "tier=4"]) == {"models": ["fable-5", "mythos-5"], "tiers": [4]}
    assert parse_scope(["models=all"]) == {"models": "all"}
    for odd in ("four", "\u00b2", "\u0664", "9" * 5_000):
        assert parse_scope([f"tier={odd}"]) == {"tiers": [odd]}  # refused where the vocabulary is known


@pytest.mark.parametrize("given", [["planet=mars"], ["model"], ["=x"], ["model=a", "models=b"]])
def test_a_scope_that_cannot_be_read_is_refused(given: list[str]) -> None:
    """A switch that stops nothing, or something else, must not look engaged."""
    with pytest.raises(InputRefused, match="--scope"):
        parse_scope(given)


def test_an_order_file_is_toml_with_dates_as_texts(tmp_path: Path) -> None:
    """TOML date-times become RFC 3339 text in UTC, dates stay dates, also inside lists."""
    file = tmp_path / "order.toml"
    file.write_text(
        'kind = "directive"\nid = "d"\nfrom = 2026-06-12T17:21:00-04:00\nuntil = 2026-07-01\n'
        "[[exempts]]\nfrom = 2026-06-26T22:00:00Z\n"
    )
    kind, members = read_order(file)
    assert kind == "directive" and members["from"] == "2026-06-12T21:21:00Z" and members["until"] == "2026-07-01"
    assert members["exempts"] == [{"from": "2026-06-26T22:00:00Z"}]


@pytest.mark.parametrize(
    "text", ["kind = ", "id = 'x'", "kind = 3", "kind = 'x'\nfrom = 2026-06-12T21:21:00", "kind = 'x'\nfrom = 21:00:00"]
)
def test_a_bad_order_file_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    """A time without a zone is nobody's instant."""
    file = tmp_path / "order.toml"
    file.write_text(text)
    with pytest.raises(InputRefused) as refused:
        read_order(file)
    assert refused.value.where is not None and refused.value.where.startswith(str(file))


def test_what_is_wrong_with_an_order_file_is_said(tmp_path: Path) -> None:
    """A mistake of form has its line; a file that is not there is not called badly encoded; a mark is named."""
    file = tmp_path / "order.toml"
    file.write_text('kind = "directive"\nid = "letter\n')
    with pytest.raises(InputRefused, match=r"order\.toml:2: is not TOML \(illegal character"):
        toml_of(file)
    file.write_bytes(BOM_UTF8 + b'kind = "directive"\n')
    with pytest.raises(InputRefused, match="byte order mark"):
        toml_of(file)
    with pytest.raises(InputRefused, match="No such file or directory"):
        toml_of(tmp_path / "missing")
    with pytest.raises(InputRefused, match="Is a directory"):
        toml_of(tmp_path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """Missing, binary and too large files are refused by the argument's name."""
    with pytest.raises(InputRefused):
        text_of(tmp_path / "missing", "FILE")
    (tmp_path / "binary").write_bytes(b"\xff\xff")
    with pytest.raises(InputRefused):
        toml_of(tmp_path / "binary")
    (tmp_path / "large").write_bytes(b"#" * (LIMITS.pack_bytes + 1))
    with pytest.raises(TooLarge):
        text_of(tmp_path / "large", "FILE")
