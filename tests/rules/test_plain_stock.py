"""Law 6 for plain folders: stock Casbin on the exported files says of every flat tuple what the release says."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import casbin
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from policy_engine.core.views import views
from policy_engine.errors import LoadRefused
from policy_engine.ledger.decisions import flat_text, flat_values
from policy_engine.rules.export import export
from policy_engine.rules.functions import add_functions
from policy_engine.rules.plain import load_plain
from tests.rules.plainfolders import MODEL, folder

ALLOW_OVERRIDE = MODEL.replace(" && !some(where (p.eft == deny))", "")
PRIORITY = MODEL.replace("some(where (p.eft == allow)) && !some(where (p.eft == deny))", "priority(p.eft) || deny")
PATTERNS = MODEL.replace(
    "g(r.sub, p.sub) && r.obj == p.obj", "keyMatch(r.obj, p.obj) && (r.sub == p.sub || p.sub == '*')"
)
OBJECTS = MODEL.replace("g(r.sub, p.sub)", "r.sub.role == p.sub")
FACETS = '[tokens]\nsub = { from = "subject", kind = "object" }\n'
NAMES = st.sampled_from(("alice", "bob", "admin", "root", "*"))
THINGS = st.sampled_from(("doc", "doc/1", "doc/*", "*"))
ACTS = st.sampled_from(("read", "write"))
RULES = st.tuples(NAMES, THINGS, ACTS, st.sampled_from(("allow", "deny")))
LINKS = st.tuples(NAMES, NAMES)
ROLES = st.fixed_dictionaries({}, optional={"role": NAMES | st.integers(0, 1), "age": st.integers(0, 1)})


@pytest.mark.parametrize(
    "model", [MODEL, ALLOW_OVERRIDE, PRIORITY, PATTERNS], ids=["roles", "allow", "priority", "keys"]
)
@given(st.lists(RULES, min_size=1, max_size=6), st.lists(LINKS, max_size=4), NAMES, THINGS, ACTS)
def test_stock_casbin_agrees_on_texts(
    model: str, rules: list[Any], links: list[Any], subject: str, thing: str, act: str
) -> None:
    """For random rows and roles under several effects, both sides give the same outcome, allow or deny."""
    lines = [f"p, {', '.join(rule)}" for rule in rules] + [f"g, {', '.join(link)}" for link in links]
    try:
        release = load_plain(folder("\n".join(lines), model))
    except LoadRefused as refused:
        assert "its own member" in str(refused)
        return
    values = (subject, thing, act)
    judged = release.judge(values)
    assert stock(release).enforce(*values) is judged.allowed
    event("allow" if judged.allowed else "deny")
    assert (judged.deciding is not None) or not judged.allowed


@given(st.lists(RULES, min_size=1, max_size=4), ROLES, THINGS, ACTS)
def test_stock_casbin_agrees_on_objects(rules: list[Any], properties: dict[str, Any], thing: str, act: str) -> None:
    """From the recorded text of an object stock Casbin reads what the rules read, and errs where they err."""
    release = load_plain(folder("\n".join(f"p, {', '.join(rule)}" for rule in rules), OBJECTS, facets_toml=FACETS))
    values = ({"type": "user", "id": "alice", "properties": properties}, thing, act)
    recorded = views(release.tokens, flat_values(json.loads(flat_text(values))))
    if "role" not in properties:
        with pytest.raises(Exception, match="role"):
            release.judge(values)
        with pytest.raises(Exception, match="role"):
            stock(release).enforce(*recorded)
        return
    assert stock(release).enforce(*recorded) is release.judge(values).allowed


def stock(release: Any) -> Any:
    """Return an unmodified enforcer on the exported files."""
    with tempfile.TemporaryDirectory() as place:
        for name, content in export(release).items():
            (Path(place) / name).write_bytes(content)
        enforcer = casbin.Enforcer(f"{place}/model.conf", f"{place}/policy.csv", enable_log=False)
    add_functions(enforcer)
    return enforcer
