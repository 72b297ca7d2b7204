"""The repository as data for the house tests: tracked files, parsed modules, and the rules as plain functions.

Each rule is a function from source text to findings, so that a test can also show it bad text and see it object.
Only tracked files count: work in progress beside them is nobody's promise yet. Without git (an unpacked archive)
every file outside the environment counts.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400

LEFTOVER = re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X]|HA[C]K)\b")
UNREASONED = re.compile(r"#\s*(?:no[q]a(?::\s*[A-Z0-9, ]+)?|type:\s*ignor[e](?:\[[\w, -]+\])?)\s*$")
BANNED_WORDS = frozenset({"util", "utils", "helper", "helpers", "common", "misc", "manager"})
BANNED_PLACES = re.compile(r"(?<!\w)(?:/wor[k]/|share[d]/)|pyp[i]\.org|pythonhoste[d]\.org|npmj[s]\.(?:com|org)")
IMPURE_MODULES = frozenset(
    {"asyncio", "io", "logging", "os", "pathlib", "random", "secrets", "shutil", "socket", "subprocess", "sys"}
    | {"tempfile", "threading", "time", "uuid"}
)
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
IMPURE_CALLS = frozenset({"now", "utcnow", "today", "open", "print", "input"})


@cache
def tracked() -> tuple[Path, ...]:
    """Return the repository's own files, relative to its root, that exist."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
        names = [Path(name) for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        hidden = (".venv", ".git", "out", "dist", "__pycache__")
        every = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        names = [path for path in every if not any(part in hidden or part.startswith(".") for part in path.parts[:-1])]
    return tuple(path for path in names if (ROOT / path).is_file())


def modules(*folders: str) -> list[Path]:
    """Return the tracked Python files under the named top folders (all of them when none is named)."""
    return [path for path in tracked() if path.suffix == ".py" and (not folders or path.parts[0] in folders)]


@cache
def text_of(path: Path) -> str:
    """Return a tracked file's text; bytes that are no UTF-8 are replaced (such a file holds no words to check)."""
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


def long_functions(source: str, limit: int = FUNCTION_LINES_MAX) -> list[tuple[str, int, int]]:
    """Return `(name, line, length)` of each function longer than `limit` lines, the longest first."""
    found = [(node.name, node.lineno, length(node)) for node in functions(ast.parse(source)) if length(node) > limit]
    return sorted(found, key=lambda item: -item[2])


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method of a module, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function from its `def` to its end, docstring included, decorators not."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def undocumented(source: str, promised: frozenset[str] = frozenset()) -> list[str]:
    """Return the public classes, functions and methods without a docstring (`module` when it has none itself).

    Left out: names with a leading underscore, what is nested in a function, property setters, the properties of a
    protocol, whose own docstring says them, and methods in `promised`, which a documented protocol promises.
    """
    tree = ast.parse(source)
    return ([] if ast.get_docstring(tree) else ["module"]) + list(_undocumented_in(tree, "", promised))


def _undocumented_in(scope: ast.Module | ast.ClassDef, prefix: str, promised: frozenset[str]) -> Iterator[str]:
    for node in scope.body:
        if not isinstance(node, DEFINITIONS) or node.name.startswith("_"):
            continue
        marks = {ast.unparse(mark).rsplit(".", 1)[-1] for mark in node.decorator_list}
        spared = {"override", "setter", "overload"} | ({"property"} if _is_protocol(scope) else set())
        implements = isinstance(scope, ast.ClassDef) and not _is_protocol(scope) and node.name in promised
        if not ast.get_docstring(node) and not implements and not marks & spared:
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from _undocumented_in(node, f"{prefix}{node.name}.", promised)


def promised_methods(source: str) -> frozenset[str]:
    """Return the names of the methods that the protocols of a source document."""
    protocols = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef) and _is_protocol(node)]
    methods = [node for protocol in protocols for node in protocol.body if isinstance(node, DEFINITIONS)]
    return frozenset(node.name for node in methods if ast.get_docstring(node))


def _is_protocol(scope: ast.Module | ast.ClassDef) -> bool:
    return isinstance(scope, ast.ClassDef) and any(ast.unparse(base).startswith("Protocol") for base in scope.bases)


def banned_definitions(source: str) -> list[str]:
    """Return names of classes and functions that hold a word that says nothing (`utils`, `manager`, ...)."""
    names = [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, DEFINITIONS)]
    return [name for name in names if words(name) & BANNED_WORDS]


def banned_parts(path: Path) -> set[str]:
    """Return the words in a path's folders and file name that say nothing."""
    return {word for part in path.parts for word in words(Path(part).stem)} & BANNED_WORDS


def words(name: str) -> set[str]:
    """Split `snake_case` and `CamelCase` into lower-case words."""
    return {word.lower() for part in name.split("_") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", part)}


def impurities(source: str) -> list[str]:
    """Return what a pure module may not hold: clocks, files, environment, randomness, logging, printing."""
    found = []
    for node in ast.walk(ast.parse(source)):
        found += [name for name in imported(node) if name.split(".")[0] in IMPURE_MODULES]
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            found += [f"{called}()"] if called in IMPURE_CALLS else []
    return found


def imports(source: str) -> list[str]:
    """Return the dotted name of every module that a source imports, wherever in it."""
    return [name for node in ast.walk(ast.parse(source)) for name in imported(node)]


def imported(node: ast.AST) -> list[str]:
    """Return the modules that one statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module or ""]
    return []


def calls(source: str, names: frozenset[str]) -> list[tuple[str, int]]:
    """Return `(name, line)` of each call of one of the plain names."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [(node.func.id, node.lineno) for node in nodes if isinstance(node.func, ast.Name) and node.func.id in names]
