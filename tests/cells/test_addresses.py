"""The file of cells: what it may say, where a refusal points, and who may read the keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from policy_engine.cli.app import app
from policy_engine.cli.exits import Code
from policy_engine.errors import StartRefused
from policy_engine.limits import LIMITS
from policy_engine.services.cells.addresses import Cell, CellEntry, parse_cells, read_cells

KEY = "pe_" + "k" * 43
CELL = '[[cell]]\nname = "{0}"\nurl = "https://{0}.example/pdp/"\nkey_file = "{0}.key"\n'


def test_a_file_names_cells_in_order() -> None:
    """Each table is one cell; a closing slash of its address says nothing."""
    found = parse_cells(CELL.format("east") + CELL.format("west"), "cells.toml")
    assert found == (
        CellEntry("east", "https://east.example/pdp", Path("east.key")),
        CellEntry("west", "https://west.example/pdp", Path("west.key")),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "at least one"),
        ("cell = []", "at least one"),
        ("[[cell]\n", "is not TOML (line 1)"),
        ("[[cell]]\nname = 'a'\nurl =\n", "is not TOML (line 3)"),
        ("other = 1\n" + CELL.format("a"), "nothing else"),
        ("cell = [1]", "c: cell 1: a cell has"),
        (CELL.format("a") + "key = 'pe_x'\n", "c: cell 1: a cell has"),
        (CELL.format("a") + "[[cell]]\nname = 'b'\n", "c: cell 2: a cell has"),
        (CELL.format("a") + CELL.format("a"), "one name"),
        (CELL.format("a") + CELL.format("b").replace("//b.", "//a."), "one url"),
        (CELL.format("EU"), "lower-case"),
        (CELL.format("a").replace("https", "ftp"), "http or https"),
        (CELL.format("a").replace("//", "//user:secret@"), "without a user"),
        (CELL.format("a").replace("a.example", "a.example:99999"), "http or https"),
        (CELL.format("a").replace("pdp/", "pdp?secret=1"), "plain prefix"),
        (CELL.format("a").replace('"a.key"', '""'), "names a file"),
        ("".join(CELL.format(f"c{n}") for n in range(LIMITS.cells_count + 1)), f"more than {LIMITS.cells_count}"),
    ],
)
def test_what_is_wrong_is_said_by_its_place_and_never_repeated(text: str, sentence: str) -> None:
    """A refusal names the table or the line; addresses and secrets in it are not echoed."""
    with pytest.raises(StartRefused) as refused:
        parse_cells(text, "c")
    assert sentence in str(refused.value)
    assert "secret" not in str(refused.value)


def test_as_many_cells_as_the_limit_are_taken() -> None:
    """The limit itself is allowed."""
    text = "".join(CELL.format(f"c{number}") for number in range(LIMITS.cells_count))
    assert len(parse_cells(text, "c")) == LIMITS.cells_count


def test_keys_lie_in_files_beside_it(tmp_path: Path) -> None:
    """A relative key file lies beside the file of cells; the key is not in what a cell shows of itself."""
    (tmp_path / "cells.toml").write_text(CELL.format("east"))
    (tmp_path / "east.key").write_text(f"{KEY}\n")
    (tmp_path / "east.key").chmod(0o600)
    (found,) = read_cells(tmp_path / "cells.toml")
    assert found == Cell("east", "https://east.example/pdp", KEY)
    assert KEY not in repr(found)


@pytest.mark.parametrize(
    ("key", "mode", "sentence"),
    [
        (None, 0, "cannot be read"),
        (KEY, 0o640, "set its mode to 0600"),
        (KEY, 0o604, "set its mode to 0600"),
        ("secret of another kind", 0o600, "holds no API key"),
        (f"{KEY}\r\nX-Other: 1", 0o600, "holds no API key"),
    ],
)
def test_a_key_that_is_not_only_ours_is_refused(tmp_path: Path, key: str | None, mode: int, sentence: str) -> None:
    """A missing key file, one that others may read, and one that holds no key are refused, without its content."""
    (tmp_path / "cells.toml").write_text(CELL.format("east"))
    if key is not None:
        (tmp_path / "east.key").write_text(key)
        (tmp_path / "east.key").chmod(mode)
    with pytest.raises(StartRefused, match=sentence) as refused:
        read_cells(tmp_path / "cells.toml")
    assert "cell 1: key_file" in str(refused.value)
    assert "secret" not in str(refused.value) and KEY not in str(refused.value)


def test_a_command_that_is_wrong_reaches_no_cell(tmp_path: Path) -> None:
    """A file of cells that is refused exits 4; what no cell would take exits 2 and is not sent."""
    file = tmp_path / "cells.toml"
    file.write_text("[[cell]]\n")
    bad = CliRunner().invoke(app, ["cells", "status", "--cells", str(file)])
    assert (bad.exit_code, "cell 1" in bad.stderr) == (Code.REFUSED, True)
    file.write_text(CELL.format("east").replace("https://east.example/pdp/", "http://127.0.0.1:1"))
    (tmp_path / "east.key").write_text(KEY)
    (tmp_path / "east.key").chmod(0o600)
    (tmp_path / "order.toml").write_text('kind = "directive"\nid = "d"\nmodels = ["m"]\nblocks = ["nobody"]\n')
    for words in (
        ("engage", "s", "--scope", "tier=9", "--reason", "w"),
        ("engage", "s", "--scope", "model=m", "--reason", " "),
        ("receive", str(tmp_path / "order.toml")),
        ("amend", "other", str(tmp_path / "order.toml")),
        ("end", "d", "--reason", ""),
    ):
        ran = CliRunner().invoke(app, ["cells", *words, "--cells", str(file)])
        assert (ran.exit_code, ran.stdout) == (Code.USAGE, ""), (words, ran.stderr)
    sent = CliRunner().invoke(app, ["cells", "end", "d", "--reason", "over", "--cells", str(file)])
    assert (sent.exit_code, "east is not committed: cut off" in sent.stderr) == (Code.UNREACHABLE, True)
