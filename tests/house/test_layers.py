"""What the import contracts cannot say: the ground floor is pure, and importing the package is light."""

from __future__ import annotations

import subprocess
import sys

from tests.house import repository as house


def room(name: str) -> list:
    """Return the tracked modules of one room of the package."""
    return [path for path in house.modules("policy_engine") if path.parts[1] == name]


def test_core_imports_the_standard_library_alone() -> None:
    """`core` knows the standard library and the foundation; nothing has to be installed to decide."""
    found = {str(path): foreign(house.text_of(path), frozenset()) for path in room("core")}
    assert {path: names for path, names in found.items() if names} == {}


def test_ledger_imports_the_standard_library_and_cryptography_alone() -> None:
    """`ledger` proves with the standard library and `cryptography`."""
    found = {str(path): foreign(house.text_of(path), frozenset({"cryptography"})) for path in room("ledger")}
    assert {path: names for path, names in found.items() if names} == {}


def foreign(source: str, allowed: frozenset[str]) -> list[str]:
    """Return the imports that are neither standard library, nor ours, nor allowed."""
    known = sys.stdlib_module_names | {"policy_engine"} | allowed
    return [name for name in house.imports(source) if name.split(".")[0] not in known]


def test_the_pure_rooms_touch_nothing_outside() -> None:
    """`core` and `ledger` hold no clock, file, environment, randomness or logging: these come in as parameters."""
    found = {str(path): house.impurities(house.text_of(path)) for path in (*room("core"), *room("ledger"))}
    assert {path: names for path, names in found.items() if names} == {}


def test_the_standard_sqlite_module_is_imported_nowhere() -> None:
    """The standard library's SQLite never opens a database of ours: its version may hold the WAL-reset bug."""
    sources = {str(path): house.text_of(path) for path in house.modules("policy_engine", "migrations")}
    found = [path for path, source in sources.items() if "sqlite3" in house.imports(source)]
    assert found == []


def test_importing_the_package_is_light() -> None:
    """`import policy_engine` loads no web framework, no SQLAlchemy and no casbin."""
    heavy = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "casbin", "pydantic", "typer")
    code = f"import sys, policy_engine; sys.exit(' '.join(m for m in {heavy!r} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
