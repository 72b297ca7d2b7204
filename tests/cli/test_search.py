"""`who-can` and `what-can`: what they list is allowed when asked, and what they leave out is denied (law 9)."""

from __future__ import annotations

from policy_engine.cli.exits import Code
from tests.cli.conftest import Shell


def test_who_can_lists_exactly_whom_check_allows(shell: Shell) -> None:
    """The two answers agree for every sample person."""
    ran = shell("who-can", "--model", "mythos-5", "--action", "infer", "--location", "US")
    listed = {(hit["subject"], hit["tenant"]) for hit in ran.json["hits"]}
    assert ran.code == Code.OK and ran.json["complete"] is True
    assert {subject for subject, _ in listed} == {"greg", "henry", "ines", "marco", "ruth"}
    assert all(shell.asked(subject, "mythos-5", tenant).code == Code.OK for subject, tenant in listed)
    assert shell.asked("alice", "mythos-5").code == Code.DENY


def test_what_can_lists_models_and_actions(shell: Shell) -> None:
    """Narrowed by action and tenant; a stranger can nothing."""
    ran = shell("what-can", "alice", "--action", "infer", "--tenant", "acme", "--location", "US")
    assert {hit["model"] for hit in ran.json["hits"]} == {"fable-5", "fable-5-1", "summit-4", "opus-4-8", "open-1"}
    assert shell("what-can", "nobody", "--location", "US").json["hits"] == []


def test_a_search_without_a_place_says_what_that_hides(shell: Shell) -> None:
    """Location unknown denies from tier 3 up."""
    ran = shell("what-can", "alice", "--action", "infer")
    assert [hit["model"] for hit in ran.json["hits"]] == ["open-1"] and "--location" in ran.err


def test_a_search_is_one_entry_and_a_table_on_request(shell: Shell) -> None:
    """It grants nothing and is recorded once."""
    assert "greg" in shell("who-can", "--model", "mythos-5", "--location", "US", "-o", "table").out
    (entry,) = shell("audit", "query", "--kind", "search").json["entries"]
    assert entry["count"] > 0


def test_usage(shell: Shell) -> None:
    """A search names what it searches for."""
    assert shell("who-can").code == Code.USAGE and shell("what-can").code == Code.USAGE
