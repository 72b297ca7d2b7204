"""A loaded release: its catalogue, its reasons, and the flat tuple it makes of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from policy_engine.core.decision import Principal, PrincipalKind, Reason, Request
from policy_engine.core.index import Index
from policy_engine.core.release import Catalogue, ReasonText, Release, RuleMeta, Token
from policy_engine.errors import InputRefused, LoadRefused
from policy_engine.limits import Limits
from tests.core.sample import REFERENCE, model

ANYTHING = Principal("pep", PrincipalKind.SERVICE, frozenset(("decide",)), supplies=frozenset("*"))
LITTLE = Principal("pep", PrincipalKind.SERVICE, frozenset(("decide",)), supplies=frozenset(("location",)))


def release(*tokens: Token) -> Release:
    """Return a release of these tokens, without rules."""
    return Release(
        hash="sha256:0",
        tokens=tokens,
        rules=(),
        index=Index((), 0),
        reference=REFERENCE,
        catalogue=Catalogue(()),
        files={},
        boundaries=(),
        engine_reasons={"switch.engaged": ReasonText("P1", "Switched off.")},
        lift_keys=frozenset(),
    )


def request(raw: Mapping[str, Any]) -> Request:
    """Return a request whose body is this."""
    return Request("alice", "infer", "m", raw=raw)


def test_a_model_is_found_by_id_and_alias() -> None:
    """An id and each alias find the model; another name finds nothing."""
    catalogue = Catalogue((model("m", aliases=("latest",)),))
    assert catalogue.find("m") is catalogue.find("latest")
    assert catalogue.find("n") is None
    assert dict(catalogue.aliases) == {"latest": "m"}


def test_lineage_reaches_every_base() -> None:
    """A derivative's lineage holds its bases, theirs, and bases that are no entry; its names hold their aliases."""
    base = model("base", aliases=("b-latest",), bases=("elsewhere",))
    middle = model("middle", bases=("base",))
    merge = model("merge", bases=("middle", "base"))
    catalogue = Catalogue((merge, middle, base))
    assert catalogue.lineage("merge") == {"merge", "middle", "base", "elsewhere"}
    assert catalogue.names("merge") == {"merge", "middle", "base", "elsewhere", "b-latest"}
    assert catalogue.names("base") == {"base", "elsewhere", "b-latest"}


@pytest.mark.parametrize(
    "models",
    [
        (model("m"), model("m")),
        (model("m", aliases=("n",)), model("n")),
        (model("m"), model("n", aliases=("m",))),
        (model("m", aliases=("x",)), model("n", aliases=("x",))),
    ],
)
def test_a_name_stands_for_one_model(models: tuple[Any, ...]) -> None:
    """An id or alias used twice is refused."""
    with pytest.raises(LoadRefused, match="two models"):
        Catalogue(models)


def test_a_circle_of_bases_is_refused() -> None:
    """Models that derive from each other are refused by name."""
    with pytest.raises(LoadRefused, match="derives from itself"):
        Catalogue((model("m", bases=("n",)), model("n", bases=("m",))))


def test_a_lineage_is_bounded() -> None:
    """As many ancestors as the limit are followed; one more is refused."""
    chain = [model(f"m{at}", bases=(f"m{at + 1}",)) for at in range(3)]
    assert Catalogue(chain, limits=Limits(lineage_models_count=4)).lineage("m0") == {"m0", "m1", "m2", "m3"}
    with pytest.raises(LoadRefused, match="lineage_models_count"):
        Catalogue(chain, limits=Limits(lineage_models_count=3))


def test_an_unknown_model_has_no_lineage() -> None:
    """Asking for the lineage of a model that is no entry raises; it is never empty."""
    with pytest.raises(KeyError):
        Catalogue(()).names("m")


def test_a_rule_makes_its_reason_once() -> None:
    """A rule's reason carries code, label, sentence, authority and id; an empty authority is none."""
    rule = RuleMeta("P7.x", "P7", "deny", "nationality.restricted", "No.", "15 CFR 734.13", "nat", (), "p.toml", 3)
    assert rule.reason == Reason("nationality.restricted", "P7", "No.", "15 CFR 734.13", "P7.x")
    assert RuleMeta("a", "b", "deny", "c", "d", "", "", (), "p.toml", 3).reason.authority is None


def test_the_engine_gives_reasons_by_code() -> None:
    """A described code has its label and sentence; another is still a reason, without them."""
    assert release().reason("switch.engaged") == Reason("switch.engaged", "P1", "Switched off.")
    assert release().reason("stale") == Reason("stale")


def test_facets_become_the_flat_tuple_in_the_order_of_tokens() -> None:
    """Derived tokens read the facets they name, in the release's order, for one token as for many."""
    first, second = Token("b", "derive:y", "scalar"), Token("a", "derive:x", "set")
    facets = {"x": frozenset("v"), "y": "w"}
    assert release(first, second).values(facets, request({}), LITTLE) == ("w", frozenset("v"))
    assert release(first).values(facets, request({}), LITTLE) == ("w",)


def test_a_path_reads_the_request_of_a_trusted_caller() -> None:
    """A token that names a path reads the body, a list as a set, for a caller that may supply everything."""
    held = release(
        Token("role", "subject.properties.role", "scalar"),
        Token("teams", "subject.properties.teams", "set"),
        Token("tier", "derive:tier", "scalar"),
    )
    asked = request({"subject": {"properties": {"role": "admin", "teams": ["x", "y"]}}})
    assert held.values({"tier": "4"}, asked, ANYTHING) == ("admin", frozenset(("x", "y")), "4")
    with pytest.raises(InputRefused):
        held.values({"tier": "4"}, asked, LITTLE)


@pytest.mark.parametrize("role", [None, 3, ["admin"], {"a": 1}])
def test_a_path_without_a_fitting_value_raises(role: Any) -> None:
    """A value that is missing, or of another kind than the token says, raises: the caller denies."""
    held = release(Token("role", "subject.properties.role", "scalar"))
    with pytest.raises(InputRefused, match="role"):
        held.values({}, request({"subject": {"properties": {"role": role}}}), ANYTHING)
    with pytest.raises(InputRefused):
        held.values({}, request({"subject": "admin"}), ANYTHING)


@pytest.mark.parametrize("teams", ["x", [1], [["x"]]])
def test_a_set_is_a_list_of_texts(teams: Any) -> None:
    """A set token takes a list of texts and nothing else."""
    held = release(Token("teams", "context.teams", "set"))
    with pytest.raises(InputRefused):
        held.values({}, request({"context": {"teams": teams}}), ANYTHING)
