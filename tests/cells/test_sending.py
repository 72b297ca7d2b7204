"""One order to two regions on two servers: the slower counts, who is cut off is named, a second run completes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from policy_engine.cli.app import app
from policy_engine.cli.exits import Code
from policy_engine.limits import LIMITS
from policy_engine.services.cells import instructions
from policy_engine.services.cells.sending import CONFLICT, CUT_OFF, REACHED, REFUSED, send
from policy_engine.services.withdrawal import Stage
from tests.cells.regions import Region, cells_file, regions
from tests.postgresql import expendable, running

FAST, SLOW = 200, 600
DIRECTIVE = 'kind = "directive"\nid = "{id}"\nmodels = ["fable-5"]\nblocks = ["foreign_person"]\n'
EXEMPT = '\n[[exempts]]\nmodels = ["fable-5"]\nwho = "lab_foreign_national_employees"\n'
SHORT = replace(LIMITS, cell_seconds=4.0, withdrawal_wait_seconds=5.0)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Region, Region]]:
    """Two regions on two servers; the answers of the second are valid for longer."""
    places = (("east", running(), FAST), ("west", expendable(), SLOW))
    with regions(places, tmp_path_factory.mktemp("regions")) as (east, west):
        yield east, west


@pytest.fixture
def file(both: tuple[Region, Region], tmp_path: Path) -> Path:
    """The file of cells with the operators' keys."""
    return cells_file(tmp_path, both)


def run(*words: Any) -> tuple[int, Any, str]:
    """Return exit code, document and notes of a command."""
    done = CliRunner().invoke(app, ["cells", *(str(word) for word in words)])
    return done.exit_code, json.loads(done.stdout) if done.stdout else None, done.stderr


def engage(id: str, file: Path, *more: str, model: str = "summit-4") -> tuple[int, Any, str]:
    """Engage a switch in every cell."""
    return run("engage", id, "--scope", f"model={model}", "--reason", "why", "--cells", file, *more)


def by_name(shown: Any) -> dict[str, Any]:
    """Return what became of it in each cell."""
    return {each["cell"]: each for each in shown["cells"]}


def test_the_slower_cell_counts(both: tuple[Region, Region], file: Path) -> None:
    """It is committed in both; `settled` of the whole is the slower one's, not before its budget and 1% is over."""
    assert engage("first", file, model="open-1")[0] == Code.OK  # what each does once after its start says nothing here
    code, shown, _ = engage("whole", file, "--wait", "settled")
    east, west = by_name(shown)["east"], by_name(shown)["west"]
    assert (code, shown["stage"], shown["slowest"]) == (Code.OK, "settled", "west")
    assert {each["status"] for each in (east, west)} == {REACHED}
    assert shown["settled_ms"] == west["settled_ms"] >= SLOW * 1.01
    assert east["settled_ms"] < west["settled_ms"]
    assert shown["committed_ms"] == max(east["committed_ms"], west["committed_ms"])
    for region in both:
        assert region.decide("summit-4") == (False, ["switch.engaged"])


def test_a_cell_whose_port_is_refused_is_named_and_a_second_run_completes(
    both: tuple[Region, Region], file: Path
) -> None:
    """Exit 7 with its name and no stage of the whole; when it is back the same command completes it, sent once each."""
    east, west = both
    west.end()
    code, shown, said = engage("port", file, model="opus-4-8")
    assert (code, by_name(shown)["west"]["status"], "stage" in shown) == (Code.UNREACHABLE, CUT_OFF, False)
    assert "west is not committed: cut off" in said and "east" not in said
    assert east.decide("opus-4-8")[0] is False
    west.begin()
    west.await_ready()
    assert west.decide("opus-4-8")[0] is True
    code, shown, said = engage("port", file, model="opus-4-8")
    assert (code, said, by_name(shown)["east"]["already"], by_name(shown)["west"]["already"]) == (0, "", True, False)
    assert west.decide("opus-4-8")[0] is False
    assert [region.ask("GET", "/v1/switches/port")[1]["revision"] for region in both] == [1, 1]


def test_a_cell_that_stands_still_is_given_up_and_completed_later(both: tuple[Region, Region]) -> None:
    """A stopped process takes connections and never answers: it is cut off after a bound, whatever became of it."""
    east, west = both
    order = instructions.engage("still", {"models": ["open-1"]}, "why")
    west.stop()
    found = send([east.cell(), west.cell()], order, Stage.COMMITTED, SHORT)
    west.go_on()
    assert [each.status for each in found.cells] == [REACHED, CUT_OFF]
    assert (found.stage, found.committed_ms) == (None, None)
    again = send([east.cell(), west.cell()], order, Stage.SETTLED, LIMITS)
    assert [each.status for each in again.cells] == [REACHED, REACHED]
    assert again.cells[0].already
    assert west.ask("GET", "/v1/switches/still")[1]["revision"] == 1


def test_something_else_under_the_id_is_a_conflict(both: tuple[Region, Region], file: Path) -> None:
    """A switch of that id with another scope is left as it is, and its cell is named."""
    _, west = both
    status, _ = west.ask("POST", "/v1/switches", body={"id": "taken", "scope": {"models": ["mythos-5"]}, "reason": "w"})
    assert status == 201
    code, shown, said = engage("taken", file, model="fable-5-1")
    assert (code, by_name(shown)["east"]["status"], by_name(shown)["west"]["status"]) == (7, REACHED, CONFLICT)
    assert "west is not committed: conflict" in said
    assert west.ask("GET", "/v1/switches/taken")[1]["scope"] == {"models": ["mythos-5"]}


def test_what_a_cell_refuses_is_named_by_its_title(both: tuple[Region, Region], tmp_path: Path) -> None:
    """A key that may not engage is refused in each cell, and the title of the problem is shown."""
    code, shown, _ = engage("no", cells_file(tmp_path, both, "auditor"))
    assert (code, {each["status"] for each in shown["cells"]}) == (Code.UNREACHABLE, {REFUSED})
    assert {each["problem"] for each in shown["cells"]} == {"The caller is not permitted (403)"}


def test_a_directive_goes_through_its_life_in_both(both: tuple[Region, Region], file: Path, tmp_path: Path) -> None:
    """Received and tightened at once; its exemption and its end wait in each cell, asked for once."""
    order = tmp_path / "order.toml"
    order.write_text(DIRECTIVE.format(id="d"))
    code, shown, _ = run("receive", order, "--cells", file, "--wait", "drained")
    assert (code, shown["stage"], {each["status"] for each in shown["cells"]}) == (Code.OK, "drained", {REACHED})
    assert run("receive", order, "--cells", file)[1]["cells"][0]["already"] is True
    order.write_text(
        DIRECTIVE.format(id="d")
        .replace("]\n", ', "destination_outside_us"]\n', 2)
        .replace('["fable-5", "destination_outside_us"]', '["fable-5"]')
    )
    assert run("amend", "d", order, "--cells", file)[0] == Code.OK
    assert {region.ask("GET", "/v1/orders/d")[1]["revision"] for region in both} == {2}
    assert run("amend", "d", order, "--cells", file)[0] == Code.OK
    assert {region.ask("GET", "/v1/orders/d")[1]["revision"] for region in both} == {2}
    order.write_text(order.read_text() + EXEMPT)
    waits = [run("amend", "d", order, "--cells", file) for _ in range(2)]
    assert [code for code, _, _ in waits] == [Code.APPROVAL_MISSING] * 2
    first, second = ([each["proposal"] for each in shown["cells"]] for _, shown, _ in waits)
    assert first == second
    for region, proposal in zip(both, first, strict=True):
        region.approve(proposal)
    assert run("amend", "d", order, "--cells", file, "--wait", "settled")[0] == Code.OK
    code, shown, said = run("end", "d", "--reason", "over", "--cells", file)
    assert code == Code.APPROVAL_MISSING and "another person" in said
    for region, each in zip(both, shown["cells"], strict=True):
        region.approve(each["proposal"])
    assert run("end", "d", "--reason", "over", "--cells", file)[0] == Code.OK


def test_a_received_exemption_waits_and_is_not_asked_for_twice(
    both: tuple[Region, Region], file: Path, tmp_path: Path
) -> None:
    """The directive denies at once, its exemption waits; sent again, neither the order nor the proposal is new."""
    order = tmp_path / "order.toml"
    order.write_text(DIRECTIVE.format(id="e") + EXEMPT)
    (code, first, _), (again, second, _) = (run("receive", order, "--cells", file) for _ in range(2))
    assert (code, again, first["stage"]) == (Code.APPROVAL_MISSING, Code.APPROVAL_MISSING, "committed")
    assert [each["proposal"] for each in first["cells"]] == [each["proposal"] for each in second["cells"]]
    assert {each["already"] for each in second["cells"]} == {True}


def test_status_names_what_a_cell_lacks(both: tuple[Region, Region], file: Path) -> None:
    """What one has in force and the other lacks stands by id and revision, and nothing else of it; exit 7."""
    east, _ = both
    body = {"id": "lone", "scope": {"tenants": ["acme"]}, "reason": "confidential"}
    assert east.ask("POST", "/v1/switches", body=body)[0] == 201
    code, shown, said = run("status", "--cells", file)
    found = {each["cell"]: each for each in shown}
    assert code == Code.UNREACHABLE and "west: lacks" in said
    assert {"kind": "switch", "id": "lone", "revision": 1} in found["west"]["lacks"]
    assert found["east"]["reachable"] and found["east"]["release"].startswith("sha256:")
    assert "confidential" not in json.dumps(shown)
    assert engage("lone2", file)[0] == Code.OK
    assert "lone2" not in json.dumps(run("status", "--cells", file)[1])
