"""The verifier is small, stands by itself, and can neither write nor execute: its own source is read for that."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from tests.house import repository as house
from tests.verifier import honest
from tests.verifier.tampering import Bench, flipped

PACKAGE = house.ROOT / "verifier" / "policy_engine_verify"
MODULES = sorted(PACKAGE.glob("*.py"))
CORE = ("formats.py", "tree.py", "logs.py", "check.py")
CORE_LINES_MAX = 420
"""Lines of code: what is left without empty lines, comments and docstrings."""

OWN = {"policy_engine_verify"}
EXTRA = {"replay.py": {"casbin"}}


def source_of(path: Path) -> str:
    """Return a module's text."""
    return path.read_text(encoding="utf-8")


def code_lines(source: str) -> int:
    """Return how many lines of a module hold code."""
    texts: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            texts.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    empty = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type not in empty]
    return len({line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - texts)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_it_imports_the_standard_library_and_cryptography(path: Path) -> None:
    """No module imports anything of the engine, nor anything else that is not named here."""
    allowed = sys.stdlib_module_names | {"cryptography"} | OWN | EXTRA.get(path.name, set())
    assert [name for name in house.imports(source_of(path)) if name.split(".")[0] not in allowed] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_it_can_neither_write_nor_execute(path: Path) -> None:
    """No module opens a file for writing, makes or removes one, starts a program, or runs text as code."""
    source = source_of(path)
    dangerous = {"subprocess", "pickle", "marshal", "shutil", "tempfile", "socket", "ctypes", "importlib", "urllib"}
    assert dangerous & {name.split(".")[0] for name in house.imports(source)} == set()
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
    }
    writing = {"write", "write_text", "write_bytes", "mkdir", "unlink", "rename", "replace_file", "touch", "extract"}
    executing = {"eval", "exec", "compile_command", "system", "popen", "__import__", "extractall"}
    assert called & (writing | executing) == set()
    opened = re.findall(r"\bopen\(([^)]*)\)", source)
    assert all(re.search(r"""["'](?:w|a|x|r\+)""", arguments) is None for arguments in opened)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_it_is_documented(path: Path) -> None:
    """Every module, public class, function and method says what it does; no module is longer than 400 lines."""
    source = source_of(path)
    found = [name for name in house.undocumented(source) if "__" not in name]
    assert (found, source.count("\n") <= house.MODULE_LINES_MAX) == ([], True)


def test_the_core_is_small() -> None:
    """What decides whether the evidence holds can be read in one sitting."""
    assert sum(code_lines(source_of(PACKAGE / name)) for name in CORE) <= CORE_LINES_MAX


def test_lines_are_counted_as_they_should_be() -> None:
    """Empty lines, comments and docstrings do not count; every line of a statement does."""
    assert code_lines('"""M."""\n\n# no\nx = (\n    1,\n)\n\n\ndef f():\n    """D."""\n    return """a\nb"""\n') == 6


def test_it_runs_without_the_engine() -> None:
    """Importing every module but the extra loads nothing of the engine, and none of its libraries."""
    names = [f"policy_engine_verify.{path.stem}" for path in MODULES if path.name not in ("replay.py", "__main__.py")]
    code = (
        f"import sys, {', '.join(names)}\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(loaded & {'policy_engine', 'casbin', 'sqlalchemy', 'orjson'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_usual_forms_are_for_speed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them the same is found, in an honest log and in spoiled ones."""
    bench = Bench(tmp_path / "b", honest.make(41, 150, batch_max=16))
    name = next(name for name in bench.files if name.startswith("entries/"))
    spoiled = [bench.files[name], *(flipped(bench.files[name], bit) for bit in range(7, 80_000, 4_001))]

    def found() -> list[object]:
        answers: list[object] = []
        for data in spoiled:
            with bench.written({name: data}):
                answers.append(bench.found())
        return answers

    fast = found()
    for module in ("policy_engine_verify.logs", "policy_engine_verify.forms"):
        monkeypatch.setattr(f"{module}.matched", lambda form, data, plain: None)
    assert found() == fast
    assert fast[0] == [] and all(fast[1:])


def test_the_readme_names_every_module() -> None:
    """The list in the distribution's README is complete."""
    text = source_of(PACKAGE.parent / "README.md")
    assert {path.name for path in MODULES if not path.name.startswith("__")} == set(re.findall(r"`(\w+\.py)`", text))
