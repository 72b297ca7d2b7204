"""P2 to P14 as one plain function of the facets: the table of the reference policy, line by line, without an index.

The shipped packs say the same in their own form and are tested in their own room; here it stands so that properties of
derivations can speak of allow and deny.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.core.sample import EMBARGOED, FAVOURED, FRONTIER, RESTRICTED

Groups = Mapping[str, frozenset[str]]


def denials(facets: Mapping[str, Any], groups: Groups) -> frozenset[tuple[str, str]]:
    """Return each rule that denies, with the lift key of what it rests on ("" for none)."""
    tier = int(facets["tier"]) if facets["tier"].isdigit() else 0
    found = set(_at_every_tier(facets, groups))
    if tier >= 3:
        found.update(_from_tier_3(facets, groups))
        if facets["weights"] == "closed":
            found.update(_export_controls(facets, groups, tier))
    if tier == 5 and facets["partner"] == "no" and facets["employee"] == "no":
        found.add(("P9", ""))
    return frozenset(found)


def denied(facets: Mapping[str, Any], groups: Groups) -> bool:
    """Return whether a denial is left after lifting."""
    return any(not lift or lift not in facets["lifts"] for _, lift in denials(facets, groups))


def _at_every_tier(facets: Mapping[str, Any], groups: Groups) -> Iterator[tuple[str, str]]:
    unknown, places = facets["unknown"], facets["location"] | facets["residence"] | facets["entities"]
    if facets["status"] not in ("available", "superseded") or facets["tier"] == "unclassified" or "action" in unknown:
        yield "P2", ""
    if places & groups[EMBARGOED]:
        yield "P3", ""
    in_force = facets["affiliates"] == "in_force"
    if "confirmed" in facets["screening"] or facets["ownership"] & {"sdn", "sdn-share-unknown"}:
        yield "P4", ""
    if in_force and facets["ownership"] & {"affiliates", "affiliates-share-unknown"}:
        yield "P4", ""
    if facets["serving"] != "permitted":
        yield "P6b", ""
    for block in facets["directive"]:
        yield "P12", "" if block == "everyone" else f"directive.{block}"
    if facets["denied"] == "yes":
        yield "P14", ""


def _from_tier_3(facets: Mapping[str, Any], groups: Groups) -> Iterator[tuple[str, str]]:
    unknown = facets["unknown"]
    if unknown & {"location", "location-anonymised", "residence", "incorporation", "headquarters"}:
        yield "P3", ""
    if facets["screening"] & {"possible", "unscreened"} or "owners" in unknown:
        yield "P4", ""
    if facets["evidence"] != "valid" or "end-customer" in unknown:
        yield "P8", ""


def _export_controls(facets: Mapping[str, Any], groups: Groups, tier: int) -> Iterator[tuple[str, str]]:
    unknown, action = facets["unknown"], facets["action"]
    restricted = groups[RESTRICTED] | (groups[FRONTIER] if tier >= 4 else frozenset())
    if facets["seats"] & groups[RESTRICTED] or facets["owned"]:
        yield "P5", "seat"
    if unknown & {"headquarters", "parent", "owners", "owned"}:
        yield "P5", ""
    if facets["location"] & restricted:
        yield "P6", "dest"
    if unknown & {"location", "location-anonymised", "location-region"}:
        yield "P6", ""
    if facets["us_person"] == "no":
        if facets["counted"] & restricted:
            yield "P7", "nat"
        if unknown & {"counted", "nationality", "nationality-test"}:
            yield "P7", ""
    insider = facets["employee"] == "yes" and facets["us_person"] == "yes" and facets["in_us"] == "yes"
    if action == "download_weights" and not insider:
        yield "P10", "weights"
    if tier >= 4 and action == "fine_tune" and (tier == 5 or facets["home"] not in groups[FAVOURED]):
        yield "P11", ""
