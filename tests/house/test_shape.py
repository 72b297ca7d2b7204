"""The shape of the code: lengths, docstrings, names, leftovers. Each rule is also shown text that it must refuse."""

from __future__ import annotations

import pytest

from tests.house import repository as house

PRODUCT = ("policy_engine", "migrations", "benchmarks", "witness")


def test_no_function_is_longer_than_a_screen() -> None:
    """Every function of the repository has at most 70 lines; the longest offenders are named first."""
    found = [
        (count, f"{path}:{line} {name}: {count} lines")
        for path in house.modules()
        for name, line, count in house.long_functions(house.text_of(path))
    ]
    assert [text for _, text in sorted(found, reverse=True)] == []


def test_no_module_is_longer_than_400_lines() -> None:
    """Every module of the product has at most 400 lines, so that a stranger finds the room they need."""
    counts = {str(path): house.text_of(path).count("\n") for path in house.modules(*PRODUCT)}
    assert {path: count for path, count in counts.items() if count > house.MODULE_LINES_MAX} == {}


def test_every_module_and_public_name_of_the_product_is_documented() -> None:
    """Each module, public class, function and method of the product says in a docstring what it promises."""
    sources = {str(path): house.text_of(path) for path in house.modules(*PRODUCT)}
    promised = frozenset[str]().union(*(house.promised_methods(source) for source in sources.values()))
    found = {path: house.undocumented(source, promised) for path, source in sources.items()}
    assert {path: names for path, names in found.items() if names} == {}


def test_every_test_says_what_it_expects() -> None:
    """Each test module and each test function has a docstring."""
    found = {}
    for path in house.modules("tests"):
        names = [name for name in house.undocumented(house.text_of(path)) if name == "module" or "test" in name]
        if names:
            found[str(path)] = names
    assert found == {}


def test_no_leftovers() -> None:
    """No marker of unfinished work and no debugging call stays in a committed module."""
    found = []
    for path in house.modules():
        source = house.text_of(path)
        found += [
            f"{path}:{number}"
            for number, line in enumerate(source.splitlines(), start=1)
            if house.LEFTOVER.search(line) or house.UNREASONED.search(line)
        ]
        loud = frozenset({"breakpoint", "print"} if path.parts[0] == "policy_engine" else {"breakpoint"})
        found += [f"{path}:{line} {name}()" for name, line in house.calls(source, loud)]
    assert found == []


def test_no_name_says_nothing() -> None:
    """No file, folder, class or function is called utils, helpers, common or manager."""
    files = [str(path) for path in house.tracked() if house.banned_parts(path)]
    names = {str(path): house.banned_definitions(house.text_of(path)) for path in house.modules(*PRODUCT)}
    assert files == []
    assert {path: found for path, found in names.items() if found} == {}


def test_no_file_names_the_place_it_was_written_in() -> None:
    """No committed file names a folder of somebody's workplace or the host of a package registry (the lock does)."""
    found = [
        f"{path}:{number}"
        for path in house.tracked()
        if path.name != "uv.lock"
        for number, line in enumerate(house.text_of(path).splitlines(), start=1)
        if house.BANNED_PLACES.search(line)
    ]
    assert found == []


def apart(text: str) -> str:
    """Return bad text written with `~` inside, so that this very file does not hold it."""
    return text.replace("~", "")


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        (house.long_functions, "def f():\n" + "    x = 1\n" * 70),
        (house.undocumented, '"""M."""\nclass A:\n    """A."""\n    def b(self): pass\n'),
        (house.undocumented, "x = 1\n"),
        (house.banned_definitions, "class KeyManager: pass\n"),
        (house.banned_definitions, "def date_utils(): pass\n"),
        (house.impurities, "import os.path\n"),
        (house.impurities, "from time import time\n"),
        (house.impurities, "at = datetime.now(UTC)\n"),
        (lambda text: house.calls(text, frozenset({"print"})), "if x:\n    print(x)\n"),
        (house.LEFTOVER.findall, apart("# TO~DO later\n")),
        (house.UNREASONED.findall, apart("x = y  # type: ig~nore[arg-type]\n")),
        (house.BANNED_PLACES.findall, apart("see /wo~rk/notes.md\n")),
        (house.BANNED_PLACES.findall, apart("see ../sha~red/design.md\n")),
    ],
)
def test_each_rule_objects_to_bad_text(rule, bad: str) -> None:
    """A rule of this room that finds nothing in text made to break it would be no rule."""
    assert rule(bad)


@pytest.mark.parametrize(
    ("rule", "good"),
    [
        (house.long_functions, "def f():\n" + "    x = 1\n" * 69),
        (house.undocumented, '"""M."""\nclass A:\n    """A."""\n    def _b(self): pass\n'),
        (house.banned_definitions, "class Commonwealth: pass\n"),
        (house.UNREASONED.findall, "x = y  # type: ignore[arg-type]  # the library's stub is wrong\n"),
        (house.BANNED_PLACES.findall, "unshared/ and network/ and rework/\n"),
    ],
)
def test_no_rule_objects_to_good_text(rule, good: str) -> None:
    """A rule that objects to everything would say nothing about the repository."""
    assert not rule(good)
