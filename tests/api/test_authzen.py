"""What an AuthZEN body may say and how it is read: members, types, defaults, places."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from policy_engine.api.authzen import Batch, read_evaluation, read_evaluations
from policy_engine.core.decision import Request
from policy_engine.core.facts import Location
from policy_engine.errors import InputRefused
from policy_engine.limits import LIMITS

SUBJECT = {"type": "person", "id": "alice"}
ACTION = {"name": "infer"}
RESOURCE = {"type": "model", "id": "fable-5"}


def body(**members: Any) -> dict[str, Any]:
    return {"subject": SUBJECT, "action": ACTION, "resource": RESOURCE, **members}


def test_a_whole_body_becomes_a_request() -> None:
    """Every member that the engine reads arrives, and the body itself is kept for tokens that name a path."""
    context = {"tenant": "acme", "location": "UA-43", "serving_region": "US", "time": "later"}
    given = body(context=context)
    assert read_evaluation(given) == Request(
        subject_id="alice",
        action="infer",
        model="fable-5",
        tenant="acme",
        location=Location("UA", "UA-43"),
        serving_region="US",
        subject_type="person",
        resource_type="model",
        raw=given,
    )


def test_context_and_properties_are_optional() -> None:
    """A body of the three required entities is enough; what nobody says is unknown, not a default."""
    request = read_evaluation(body())
    assert (request.tenant, request.location, request.serving_region) == (None, None, None)


@pytest.mark.parametrize("member", ["subject", "action", "resource"])
@pytest.mark.parametrize("value", [None, "text", 5, True, [], [{}]])
def test_an_entity_of_the_wrong_type_is_refused(member: str, value: Any) -> None:
    """Subject, action and resource are objects."""
    with pytest.raises(InputRefused, match=f"^{member}: must be an object"):
        read_evaluation(body(**{member: value}))


@pytest.mark.parametrize("member", ["subject", "action", "resource"])
def test_a_missing_entity_is_refused_by_name(member: str) -> None:
    """The sentence names what is missing."""
    given = body()
    del given[member]
    with pytest.raises(InputRefused, match=f"^{member}: is missing"):
        read_evaluation(given)


@pytest.mark.parametrize(
    ("entity", "member"),
    [("subject", "type"), ("subject", "id"), ("action", "name"), ("resource", "type"), ("resource", "id")],
)
@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("absent", "is missing"),
        (None, "is missing"),
        (5, "must be a string"),
        (1.5, "must be a string"),
        (True, "must be a string"),
        (["a"], "must be a string"),
        ({"a": 1}, "must be a string"),
        ("", "must have 1 to 256 characters"),
        ("x" * 257, "must have 1 to 256 characters"),
        ("a\nb", "control characters"),
        ("a\x00", "control characters"),
        ("a\x7f", "control characters"),
        ("a\x85b", "control characters"),
        ("a\u2028b", "control characters"),
    ],
)
def test_a_required_member_that_is_not_a_name_is_refused(entity: str, member: str, value: Any, sentence: str) -> None:
    """Ids, types and names are text of bounded length without control characters; the refusal does not echo them."""
    whole = dict(body()[entity])
    if value == "absent":
        del whole[member]
    else:
        whole[member] = value
    with pytest.raises(InputRefused, match=f"^{entity}.{member}: .*{sentence}"):
        read_evaluation(body(**{entity: whole}))


@pytest.mark.parametrize("id", ["x" * 256, "Zoë Müller", "urn:person:7", "a b", "نم\u200cم", "👩\u200d🔬", "%0a"])
def test_ids_of_any_script_are_taken_as_they_are(id: str) -> None:
    """Joiners and other letters are part of names; nothing is trimmed, folded or decoded."""
    assert read_evaluation(body(subject={"type": "person", "id": id})).subject_id == id


@pytest.mark.parametrize("entity", ["subject", "action", "resource"])
@pytest.mark.parametrize("value", [None, "text", [], 5])
def test_properties_are_an_object(entity: str, value: Any) -> None:
    """Properties of the wrong type are refused, for a token may read them."""
    with pytest.raises(InputRefused, match=f"^{entity}.properties: must be an object"):
        read_evaluation(body(**{entity: {**body()[entity], "properties": value}}))


def test_unknown_members_are_ignored_at_every_level() -> None:
    """Whatever else a body holds changes nothing of what is asked."""
    plain = read_evaluation(body(context={"tenant": "acme", "location": {"country": "US"}}))
    noisy = read_evaluation(
        {
            "subject": {**SUBJECT, "future": [1], "properties": {"any": {"thing": None}}},
            "action": {**ACTION, "future": {}},
            "resource": {**RESOURCE, "future": 1},
            "context": {"tenant": "acme", "location": {"country": "US", "city": "Boston"}, "future": "x"},
            "options": "of the other endpoint",
            "evaluations": "of the other endpoint",
            "future": None,
        }
    )
    assert replace(noisy, raw=plain.raw) == plain


@pytest.mark.parametrize("value", [None, "text", [], 5, True])
def test_context_is_an_object(value: Any) -> None:
    """A context of the wrong type is refused rather than taken for none."""
    with pytest.raises(InputRefused, match=r"^context: must be an object"):
        read_evaluation(body(context=value))


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("US", Location("US")),
        ("UA-43", Location("UA", "UA-43")),
        ("us", Location("us")),
        ("Atlantis", Location("Atlantis")),
        ("US-", Location("US", "US-")),
        ("-43", Location("", "-43")),
        ({}, Location()),
        ({"country": "US"}, Location("US")),
        ({"country": None, "region": None}, Location()),
        ({"country": "UA", "region": "UA-43", "anonymiser": True}, Location("UA", "UA-43", True)),
        (None, None),
    ],
)
def test_places_are_read_and_never_mended(given: Any, place: Location | None) -> None:
    """A code that means nothing stays what it is, so that the decider finds it unknown; no case is folded."""
    assert read_evaluation(body(context={"location": given})).location == place


@pytest.mark.parametrize(
    ("given", "where"),
    [
        (5, "context.location"),
        (True, "context.location"),
        (["US"], "context.location"),
        ("", "context.location"),
        ("U\nS", "context.location"),
        ({"country": 5}, "context.location.country"),
        ({"country": ""}, "context.location.country"),
        ({"region": []}, "context.location.region"),
        ({"country": "US", "anonymiser": "false"}, "context.location.anonymiser"),
        ({"country": "US", "anonymiser": 0}, "context.location.anonymiser"),
        ({"country": "US", "anonymiser": None}, "context.location.anonymiser"),
        ({"country": "US", "anonymizer": True}, "context.location.anonymizer"),
    ],
)
def test_a_place_of_the_wrong_type_is_refused(given: Any, where: str) -> None:
    """A place that cannot be read is said to be so; a misspelt anonymiser is not ignored into "not detected"."""
    with pytest.raises(InputRefused) as refused:
        read_evaluation(body(context={"location": given}))
    assert refused.value.where == where


@pytest.mark.parametrize("name", ["tenant", "serving_region"])
@pytest.mark.parametrize("value", [5, True, [], {}, "", "a\tb", "x" * 257])
def test_tenant_and_serving_region_are_text(name: str, value: Any) -> None:
    """What the engine reads from the context has a type."""
    with pytest.raises(InputRefused, match=f"^context.{name}:"):
        read_evaluation(body(context={name: value}))


def test_the_order_of_members_says_nothing() -> None:
    """A body is read by its names, whatever comes first."""
    given = body(context={"tenant": "acme", "location": {"country": "UA", "region": "UA-43"}})
    turned = {name: dict(reversed(given[name].items())) for name in reversed(given)}
    assert replace(read_evaluation(turned), raw={}) == replace(read_evaluation(given), raw={})


def batch(**members: Any) -> Batch:
    read = read_evaluations(members)
    assert isinstance(read, Batch)
    return read


def test_an_item_takes_the_defaults_it_leaves_out() -> None:
    """Top-level members fill what an item lacks, context included."""
    read = batch(**body(context={"tenant": "acme"}), evaluations=[{}, {"action": {"name": "list"}}])
    assert [(item.subject_id, item.action, item.tenant) for item in read.items if isinstance(item, Request)] == [
        ("alice", "infer", "acme"),
        ("alice", "list", "acme"),
    ]


def test_an_item_replaces_a_whole_entity() -> None:
    """No member of a default is merged into an item's own entity: not its properties, not its tenant."""
    defaults = body(resource={**RESOURCE, "properties": {"x": 1}}, context={"tenant": "acme", "location": "US"})
    read = batch(**defaults, evaluations=[{"resource": RESOURCE, "context": {"location": "DE"}}])
    (item,) = read.items
    assert isinstance(item, Request)
    assert item.raw["resource"] == RESOURCE
    assert (item.tenant, item.location) == (None, Location("DE"))


def test_the_raw_of_an_item_is_what_was_asked_of_it() -> None:
    """Tokens that name a path read the item with its defaults, not the batch."""
    (item,) = batch(**body(), evaluations=[{"action": {"name": "list"}}]).items
    assert isinstance(item, Request) and item.raw["action"] == {"name": "list"}
    assert item.raw["subject"] == SUBJECT and "evaluations" not in item.raw


@pytest.mark.parametrize("evaluations", [{}, {"evaluations": []}])
def test_absent_or_empty_evaluations_are_a_single_request(evaluations: dict[str, Any]) -> None:
    """Such a body is read as the single endpoint reads it, refusals included."""
    assert isinstance(read_evaluations({**body(), **evaluations}), Request)
    with pytest.raises(InputRefused, match=r"^subject: is missing"):
        read_evaluations({"action": ACTION, "resource": RESOURCE, **evaluations})


@pytest.mark.parametrize(
    "item",
    [None, 5, "text", [], {"subject": None}, {"subject": {"type": "person"}}, {"action": {"name": 5}}, {"context": 5}],
)
def test_an_item_that_is_wrong_is_refused_alone(item: Any) -> None:
    """The other items of the batch stay."""
    read = batch(**body(), evaluations=[{}, item, {}])
    assert [type(each) for each in read.items] == [Request, InputRefused, Request]


@pytest.mark.parametrize(
    "members",
    [
        {"evaluations": {}},
        {"evaluations": None},
        {"evaluations": "text"},
        {"evaluations": [{}], "subject": "alice"},
        {"evaluations": [{}], "context": []},
        {"evaluations": [{}], "options": []},
        {"evaluations": [{}], "options": None},
        {"evaluations": [{}], "options": {"evaluations_semantic": "bogus_value"}},
        {"evaluations": [{}], "options": {"evaluations_semantic": None}},
        {"evaluations": [{}], "options": {"evaluations_semantic": ["execute_all"]}},
        {"evaluations": [{}], "options": {"evaluations_semantic": "EXECUTE_ALL"}},
        {"evaluations": [{}], "options": {"explain": "yes"}},
        {"evaluations": [], "options": {"evaluations_semantic": "bogus_value"}},
        {"evaluations": [{}] * (LIMITS.evaluations_count + 1)},
    ],
)
def test_a_batch_that_is_broken_as_a_whole_is_refused_as_a_whole(members: dict[str, Any]) -> None:
    """What is wrong with no single item is wrong with the request."""
    with pytest.raises(InputRefused):
        read_evaluations({**body(), **members})


def test_the_largest_batch_is_taken() -> None:
    """The limit itself is allowed."""
    assert len(batch(**body(), evaluations=[{}] * LIMITS.evaluations_count).items) == LIMITS.evaluations_count


@pytest.mark.parametrize("semantic", ["execute_all", "deny_on_first_deny", "permit_on_first_permit"])
def test_options_are_read_and_unknown_ones_ignored(semantic: str) -> None:
    """Semantic and explain arrive; any other option is ignored."""
    read = batch(**body(), evaluations=[{}], options={"evaluations_semantic": semantic, "explain": True, "x": 1})
    assert (read.semantic, read.explain) == (semantic, True)


def test_execute_all_without_explanations_is_the_default() -> None:
    """Without options every item is decided and bodies stay lean."""
    read = batch(**body(), evaluations=[{}])
    assert (read.semantic, read.explain) == ("execute_all", False)
