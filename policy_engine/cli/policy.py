"""`policy-engine policy`: lint and test a folder, show and export a release, publish and activate one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.options import unreadable
from policy_engine.cli.output import Form, FormOption
from policy_engine.cli.session import Session, opened, read_settings
from policy_engine.errors import InputRefused, NotFound

if TYPE_CHECKING:
    from policy_engine.cases import Case, Result
    from policy_engine.core.plain import AnyRelease

app = typer.Typer(name="policy", help="Lint, test, show, export, publish and activate releases.", no_args_is_help=True)

_PREFIX_CHARACTERS_MIN = 12
_CASES_FOLDER = "cases"
_COLUMNS: output.Columns = (
    ("release", "hash"),
    ("status", lambda row: "active" if row["active"] else row["status"]),
    ("stored", "stored_at"),
    ("published by", "published_by"),
    ("approved by", "approved_by"),
    ("note", "note"),
)
_RULES: output.Columns = (
    ("rule", "id"),
    ("label", "label"),
    ("effect", "effect"),
    ("code", "code"),
    ("lift key", "lift"),
    ("authority", "authority"),
)

FolderArgument = Annotated[Path | None, typer.Argument(metavar="DIR", help="The folder; else the configured one.")]
HashOption = Annotated[str | None, typer.Argument(metavar="HASH", help="The release, or its first 12 characters.")]


@app.command("lint")
def lint(folder: FolderArgument = None, form: FormOption = None) -> None:
    """Read a policies folder as strictly as the service does; every refusal has its file, line and a fix (exit 4)."""
    from policy_engine.rules.lint import lint as findings_of

    found = findings_of(_files(folder))
    release = found.release
    record: dict[str, Any] = (
        {"release": None, "rules": 0} if release is None else {"release": release.hash, "rules": len(release.rules)}
    )
    output.emit_record({**record, "refusals": list(found.refusals), "warnings": list(found.warnings)}, form)
    if release is None:
        output.note(f"policy-engine: the release is refused: {found.refusals[0]}")
        raise typer.Exit(exits.Code.REFUSED)


@app.command("test")
def test(
    cases: Annotated[
        list[Path] | None, typer.Option("--cases", metavar="FILE.jsonl", help="Decision cases; may be repeated.")
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE.jsonl…]", help="More case files.")] = None,
    form: FormOption = None,
) -> None:
    """Decide cases through the real path. Prints a line a failure, then `N passed, M failed`; exits 0 or 5.

    Without files, the cases in the policies folder are decided.
    """
    from policy_engine.cases import read_cases, run_cases
    from policy_engine.rules.folder import require_packs

    files = _files(None)
    require_packs(files, "decision cases")
    paths = [*(cases or ()), *(more or ())] or _own_cases()
    found = [case for path in paths for case in _read(read_cases, path)]
    failed: list[Result] = []
    with output.progress("deciding cases") as report:
        for done, result in enumerate(run_cases(found, files), start=1):
            report(done, len(found))
            if not result.passed:
                failed.append(result)
                if form is not Form.JSON:
                    output.data(_failure(result))
    passed = len(found) - len(failed)
    if form is Form.JSON:
        rows = [{"id": each.case.id, "expected": _expected(each.case), "found": _found(each)} for each in failed]
        output.emit({"passed": passed, "failed": len(failed), "failures": rows}, form, str)
    else:
        output.data(f"{passed} passed, {len(failed)} failed")
    if failed:
        raise typer.Exit(exits.Code.CASE_FAILED)


@app.command("show")
def show(hash: HashOption = None, form: FormOption = None) -> None:
    """Show a stored release, by default the active one: its rules with authority and lift key, and its warnings."""
    with opened() as session:
        chosen = find_hash(session, hash)
        published = session.engine.publish.show(session.principal, chosen)
        release = _load(session.engine.publish.files(session.principal, chosen))
    rules = [output.plain(rule) for rule in release.rules]
    record = {
        **output.plain(published),
        "models": sorted(release.catalogue.models),
        "warnings": list(release.warnings),
        "rules": rules,
    }
    output.emit(record, form, lambda: _release_table(record, rules))


@app.command("export")
def export(
    casbin: Annotated[Path, typer.Option("--casbin", metavar="DIR", help="Folder for model.conf and policy.csv.")],
    hash: HashOption = None,
    form: FormOption = None,
) -> None:
    """Write a stored release, by default the active one, as an ordinary Casbin model and policy."""
    from policy_engine.rules.export import export as exported

    with opened() as session:
        chosen = find_hash(session, hash)
        release = _load(session.engine.publish.files(session.principal, chosen))
    written = _write(casbin, exported(release))
    output.emit_record({"release": chosen, "files": [str(path) for path in written]}, form)


@app.command("publish")
def publish(
    folder: FolderArgument = None,
    note: Annotated[str, typer.Option(help="What changed and why.")] = "",
    form: FormOption = None,
) -> None:
    """Store a folder's release and propose to publish it. Another person approves."""
    files = _files(folder)
    with opened() as session:
        proposal = session.engine.publish.publish(session.principal, files, note)
    _waits({"release": proposal.payload["hash"], "proposal": proposal.id, "hash": proposal.hash}, form)


@app.command("activate")
def activate(
    hash: Annotated[str, typer.Argument(metavar="HASH", help="The release, or its first 12 characters.")],
    note: Annotated[str, typer.Option(help="Why now.")] = "",
    form: FormOption = None,
) -> None:
    """Propose to make a published release the active one. It decides as soon as another person approves."""
    with opened() as session:
        chosen = find_hash(session, hash)
        proposal = session.engine.publish.activate(session.principal, chosen, note)
    _waits({"release": chosen, "proposal": proposal.id, "hash": proposal.hash}, form)


@app.command("list")
def list_releases(form: FormOption = None) -> None:
    """List stored releases, oldest first."""
    with opened() as session:
        rows = [output.plain(release) for release in session.engine.publish.list(session.principal)]
    output.emit_rows(rows, form, _COLUMNS)


def find_hash(session: Session, given: str | None) -> str:
    """Return the hash of a stored release from the hash, its beginning, or nothing (the active one).

    Raises `NotFound` when none or several begin so.
    """
    active = session.engine.store.state().release
    if given is None:
        if active is None:
            raise NotFound("no release is active yet; publish one and have it approved")
        return active
    wanted = given if given.startswith("sha256:") else f"sha256:{given}"
    stored = [release.hash for release in session.engine.publish.list(session.principal)]
    found = [hash for hash in stored if hash == wanted]
    if not found and len(wanted) >= len("sha256:") + _PREFIX_CHARACTERS_MIN:
        found = [hash for hash in stored if hash.startswith(wanted)]
    if len(found) != 1:
        raise NotFound("no release, or more than one, has this hash; see `policy list`")
    return found[0]


def _files(folder: Path | None) -> dict[str, bytes]:
    from policy_engine.rules.folder import read_folder

    return read_folder(read_settings().policies if folder is None else folder)


def _write(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write the files into a folder, made when needed. Raises `InputRefused` for a folder that holds packs."""
    if (folder / "packs").exists():
        raise InputRefused("holds packs: it is a policies folder; export beside it", where="--casbin")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError:
        raise InputRefused("cannot be written", where=str(folder)) from None
    return [folder / name for name in files]


def _load(files: Mapping[str, bytes]) -> AnyRelease:
    from policy_engine.rules.folder import load_release

    return load_release(files)


def _own_cases() -> list[Path]:
    folder = read_settings().policies / _CASES_FOLDER
    found = sorted(folder.glob("*.jsonl"))
    if not found:
        raise InputRefused("holds no *.jsonl; name case files with --cases", where=str(folder))
    return found


def _read(read: Any, path: Path) -> Iterable[Case]:
    try:
        cases: list[Case] = read(path)
    except OSError as error:
        raise InputRefused(unreadable(error), where=str(path)) from None
    if not cases:
        raise InputRefused("holds no case, so nothing would be tested", where=str(path))
    return cases


def _failure(result: Result) -> str:
    return f"{result.case.id}: expected {_expected(result.case)}, found {_found(result)} ({', '.join(result.codes)})"


def _expected(case: Case) -> str:
    return "allow" if case.allowed else f"deny {case.rule}"


def _found(result: Result) -> str:
    return "allow" if result.allowed else f"deny {' '.join(result.rules)}"


def _release_table(record: Mapping[str, Any], rules: list[dict[str, Any]]) -> Any:
    from rich.console import Group

    head = {name: record[name] for name in ("hash", "status", "active", "published_by", "approved_by", "note")}
    head |= {"models": record["models"], "warnings": record["warnings"]}
    return Group(output.record_table(head), output.rows_table(rules, _RULES))


def _waits(record: Mapping[str, Any], form: Form | None) -> None:
    output.emit_record({**record, "status": "waiting"}, form)
    output.note(f"Nothing changes until another person has approved {record['proposal']}.")
    raise typer.Exit(exits.Code.APPROVAL_MISSING)
