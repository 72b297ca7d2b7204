"""What Casbin stumbles over while it loads: one sentence with file and line, and still an error of Casbin's kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from casbin.persist.adapters import StringAdapter

from policy_engine.errors import LoadRefused
from policy_engine.rules import CompiledEnforcer, stock_enforcer
from policy_engine.rules.folder import load_release
from policy_engine.rules.stock import read_model
from tests.rules.plainfolders import MODEL, folder

POLICY = "p, reader, doc, read, allow\ng, alice, reader\n"
EFFECT = "some(where (p.eft == allow)) && !some(where (p.eft == deny))"
SUBJECTS = MODEL.replace(EFFECT, "subjectPriority(p.eft) || deny")
WITHOUT_ROLES = SUBJECTS.replace("[role_definition]\ng = _, _\n", "").replace("g(r.sub, p.sub)", "r.sub == p.sub")
PRIORITY = MODEL.replace("p = sub, obj", "p = priority, obj").replace("g(r.sub, p.sub) && ", "")
LAST = MODEL.replace("act, eft", "act, priority")
STUMBLES: dict[str, tuple[str | bytes, str | bytes, str, str]] = {
    "no definition": (MODEL + "nonsense\n", POLICY, "model.conf:15", "no section and no `name = value`"),
    "a marked model": ("\ufeff" + MODEL, POLICY, "model.conf:1", "byte order mark"),
    "a model in Latin-1": (b"# \xe9\n" + MODEL.encode(), POLICY, "model.conf", "not UTF-8"),
    "an unknown effect": (MODEL.replace(EFFECT, "most(where)"), POLICY, "model.conf:11", "unsupported effect: most("),
    "subjects without roles": (
        WITHOUT_ROLES,
        "p, a, b, c, allow",
        "model.conf:9",
        "roles of `g`, which is not defined",
    ),
    "one place": (MODEL.replace("g = _, _", "g = _"), POLICY, "model.conf:8", "`g` must have two or three places"),
    "a policy in Latin-1": (MODEL, POLICY.encode() + b"p, \xe9", "policy.csv:3", "not UTF-8"),
    "a bracket": (MODEL, POLICY + "# note\np, a), b, c, allow", "policy.csv:4", "brackets of the line do not match"),
    "no kind": (MODEL, POLICY + "\n, a, b, c, allow", "policy.csv:4", "has no kind"),
    "a short link": (MODEL, POLICY + "g, alice", "policy.csv:3", "the `g` line has 1 values where the model defines 2"),
    "priorities without order": (
        PRIORITY,
        "p, 1, a, b, allow\np, 10, a, b, allow\np, x, a, b, allow\n",
        "policy.csv:3",
        "whole numbers in some rows",
    ),
    "digits that are none": (PRIORITY, "p, 1, a, b, allow\np, \u00b2, a, b, allow\n", "policy.csv:2", "whole numbers"),
    "a row without priority": (LAST, "p, a, b, c, 1\np, a, b\n", "policy.csv:2", "has 2 values where `p` defines 4"),
    "a circle of subjects": (SUBJECTS, POLICY + "g, reader, alice", "policy.csv:3", "makes a subject its own role"),
}


@pytest.mark.parametrize("case", STUMBLES)
def test_it_is_told_with_file_and_line(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stock raises a bare error, ours is one sentence with the place; whoever catches stock's catches ours."""
    model, policy, where, words = STUMBLES[case]
    monkeypatch.chdir(tmp_path)
    for name, content in (("model.conf", model), ("policy.csv", policy)):
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Exception) as bare:
        stock_enforcer("model.conf", "policy.csv")
    with pytest.raises(LoadRefused) as caught:
        CompiledEnforcer("model.conf", "policy.csv")
    kind = ValueError if isinstance(bare.value, UnicodeDecodeError) else bare.type
    assert isinstance(caught.value, kind) or case == "one place"  # refused by name before Casbin comes to it
    assert str(caught.value).startswith(f"{where}: ") and words in caught.value.message
    assert "\n" not in str(caught.value)


def test_a_definition_without_a_value_is_named(tmp_path: Path) -> None:
    """Casbin takes it for none; who wrote it is shown the line, and no section is called missing that is there."""
    path = tmp_path / "model.conf"
    for line, key in (("r = sub", "r"), ("p = sub", "p"), ("e = some", "e"), ("m = g", "m")):
        text = "\n".join(f"{key} =" if each.startswith(line) else each for each in MODEL.split("\n"))
        path.write_text(text, encoding="utf-8")
        number = text.split("\n").index(f"{key} =") + 1
        with pytest.raises(LoadRefused, match=rf"model\.conf:{number}: `{key} = \.\.\.` has no value; write one"):
            CompiledEnforcer(str(path))


def test_a_matcher_is_named_by_the_line_that_casbin_takes(tmp_path: Path) -> None:
    """Of two matchers Casbin takes the last; one that goes over several lines is named by its first."""
    path = tmp_path / "model.conf"
    path.write_text(MODEL + "# again\nm = r.sub == p.sub && \\\n  m = like(r.sub)\n", encoding="utf-8")
    with pytest.raises(LoadRefused, match=r"model\.conf:16: the matcher is no expression"):
        CompiledEnforcer(str(path))
    path.write_text(MODEL + "m = like(r.sub, p.sub)\n", encoding="utf-8")
    with pytest.raises(LoadRefused, match=r"model\.conf:15: the function `like` is not known"):
        CompiledEnforcer(str(path))
    path.write_text(MODEL.replace("r = sub", "r2 = sub, obj\nr = sub"), encoding="utf-8")
    with pytest.raises(LoadRefused, match=r"model\.conf:2: a second definition `r2`"):
        CompiledEnforcer(str(path))


def test_paths_that_lead_nowhere_and_other_objects_are_refused(tmp_path: Path) -> None:
    """A policy that is not there is named by its path; what is no path and no adapter is refused with what to pass."""
    (tmp_path / "model.conf").write_text(MODEL, encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"none\.csv: invalid file path: there is no such policy file"):
        CompiledEnforcer(str(tmp_path / "model.conf"), str(tmp_path / "none.csv"))
    for arguments in ((tmp_path / "model.conf", None), (None, None), (read_model(MODEL, "m"), "policy.csv")):
        with pytest.raises(RuntimeError, match="Invalid parameters for enforcer: pass two paths"):
            CompiledEnforcer(*arguments)


def test_a_model_of_subjects_without_roles_loads_where_stock_loads_it() -> None:
    """Without a policy nothing is sorted, and stock has nothing against such a model."""
    model = read_model(WITHOUT_ROLES, "m")
    assert stock_enforcer(model).enforce("", "", "") is CompiledEnforcer(model).enforce("", "", "")
    with pytest.raises(TypeError, match="roles of `g`"):
        CompiledEnforcer(model, StringAdapter("p, a, b, c, allow"))


def test_a_served_folder_of_subjects_without_roles_is_refused_by_the_line_of_its_effect() -> None:
    """Casbin sorts such rows by roles that are not defined, and says no more than that something is None."""
    with pytest.raises(LoadRefused, match=r"^model\.conf:9: this effect sorts rows by the roles of `g`"):
        load_release(folder("p, a, doc, read, allow\n", WITHOUT_ROLES))


@pytest.mark.parametrize("name", ["model.conf", "policy.csv", "facets.toml", "models.toml", "entities.jsonl"])
def test_a_byte_order_mark_is_named_in_every_file(name: str) -> None:
    """A file that an editor saved with a byte order mark is refused for that, and not for a line that looks right."""
    files = folder(POLICY, facets_toml="", models_toml='[[model]]\nid = "doc"\n', entities_jsonl="")
    with pytest.raises(LoadRefused) as caught:
        load_release({**files, name: b"\xef\xbb\xbf" + files[name]})
    assert str(caught.value).startswith(f"{name}:1: the file begins with a byte order mark")
