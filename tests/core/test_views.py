"""Views of AuthZEN entities: how names resolve, and what a hostile key cannot reach."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.release import Token
from policy_engine.core.views import View, views

HOSTILE = ("items", "keys", "get", "pop", "update", "values", "__class__", "__dict__", "__init__", "_View__members")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def seen(source: str, value: Any) -> Any:
    """Return what rules see of a value from a source."""
    return views((Token("sub", source, "object"),), (value,))[0]


def subject(**properties: Any) -> Any:
    """Return the view of a subject."""
    return seen("subject", {"type": "user", "id": "alice", "properties": properties})


def test_own_members_come_before_properties() -> None:
    """`type`, `id` and `properties` are the entity's own; any other name is a property; all are under `properties`."""
    view = subject(role="admin", id="root", type="god")
    assert (view["type"], view["id"], view["role"]) == ("user", "alice", "admin")
    assert (view["properties"]["id"], view["properties"]["type"]) == ("root", "god")
    action = seen("action", {"name": "read", "properties": {"name": "write", "id": "x"}})
    assert (action["name"], action["id"], action["properties"]["name"]) == ("read", "x", "write")


def test_context_is_an_object_as_it_is() -> None:
    """A token from the context, or from inside an entity, shows the object's members and nothing of an entity."""
    context = seen("context", {"ip": "::1", "place": {"country": "US"}, "properties": {"x": 1}})
    assert (context["ip"], context["place"]["country"], context["properties"]["x"]) == ("::1", "US", 1)
    with pytest.raises(KeyError):
        context["x"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_key_is_a_key(name: str) -> None:
    """A property of any name is reached by that name, and no attribute of a view shadows it."""
    assert subject(**{name: "said"})[name] == "said"
    assert name not in subject()
    with pytest.raises(KeyError):
        subject()[name]
    if not name.startswith("_"):
        assert not hasattr(subject(**{name: "said"}), name)


def test_what_is_not_there_raises() -> None:
    """A name that nobody stated is an error of the rule that reads it, never an empty value."""
    with pytest.raises(KeyError):
        subject()["role"]
    with pytest.raises(AttributeError):
        _ = subject(role="admin").role


def test_a_view_cannot_be_changed_or_walked() -> None:
    """There is no way to write, iterate, hash or print what a view holds; lists come out as tuples."""
    view = subject(roles=["admin", {"name": "x"}])
    assert view["roles"][0] == "admin" and view["roles"][1]["name"] == "x" and type(view["roles"]) is tuple
    with pytest.raises(TypeError):
        view["role"] = "admin"
    with pytest.raises(AttributeError):
        view.role = "admin"
    with pytest.raises(TypeError):
        list(view)
    with pytest.raises(TypeError):
        hash(view)
    assert "admin" not in repr(view)


def test_equality_is_of_what_is_shown() -> None:
    """Two views of equal objects are equal, so that a rule that compares them decides the same when replayed."""
    assert subject(role="admin") == subject(role="admin")
    assert subject(role="admin") != subject(role="user")
    assert subject() != {"type": "user", "id": "alice"}
    assert View({}) == View({})


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_a_view_of_what_was_recorded_is_the_same(properties: dict[str, Any]) -> None:
    """By way of its JSON text a value gives an equal view: what an auditor reads is what the rules read."""
    value = {"type": "user", "id": "alice", "properties": properties}
    again = json.loads(json.dumps(value, sort_keys=True))
    assert seen("subject", value) == seen("subject", again)
    for name in properties:
        assert name in seen("subject", value)["properties"]
