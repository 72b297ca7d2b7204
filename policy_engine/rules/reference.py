"""The data that derivations read, from tables and `facets.toml`: gazetteer, groups by edition, dated statuses.

Rules of the room: only a country with a row in some group table (or its territory) resolves; every group that a rule
or a derivation names stands ready under its own text. Left to others: what is derived from it (`core.derive`).
"""

from __future__ import annotations

from collections.abc import Mapping

from policy_engine.core.derive import Reference
from policy_engine.core.places import Edition, Gazetteer, GroupTables, Timeline
from policy_engine.errors import LoadRefused
from policy_engine.rules.facets import Facets
from policy_engine.rules.groups import CompiledGroup
from policy_engine.rules.tables import Tables


def build_reference(facets: Facets, tables: Tables, groups: Mapping[str, CompiledGroup]) -> Reference:
    """Return the reference data of a release. Raises `LoadRefused` where a setting names what no table has."""
    settings = facets.reference
    gazetteer = Gazetteer(tables.listed_countries, tables.sovereigns, tables.regions, tables.listed_regions)
    for key, codes in (("home_country", {settings.home_country}), ("coarse_countries", settings.coarse_countries)):
        for code in codes:
            if gazetteer.country(code) != code:
                message = f"`{code}` has no row in a group table; correct the code"
                raise LoadRefused(message, where=facets.file.where("reference", None, key))
    actions = facets.of("action")
    if actions is None or actions.values is None:
        message = "the actions are not declared; give the token of derive:action a closed list of values"
        raise LoadRefused(message, where=facets.file.where("tokens", None, "action"))
    return Reference(
        gazetteer=gazetteer,
        groups=GroupTables(_editions(tables, groups)),
        affiliates=affiliates_timeline(tables),
        actions=actions.values,
        lab_tenant=settings.lab_tenant,
        evidence_days=settings.evidence_days,
        home_country=settings.home_country,
        coarse_countries=settings.coarse_countries,
        seat_group=settings.seat_group,
        seat=settings.seat,
        sdn=settings.sdn,
        affiliate=settings.affiliate,
    )


def affiliates_timeline(tables: Tables) -> Timeline:
    """Return when the affiliates rule is in force. Without a table it always is; before its first day it is not."""
    spans = [(span.start, span.until, span.value) for span in tables.affiliates]
    return Timeline(spans, before="suspended" if spans else "in_force", otherwise="in_force")


def _editions(tables: Tables, groups: Mapping[str, CompiledGroup]) -> dict[str, tuple[Edition, ...]]:
    return {
        name: tuple(
            Edition(
                table.domain(at),
                start,
                {group.text: group.editions[at] for group in groups.values() if group.table == name},
            )
            for at, start in enumerate(table.starts)
        )
        for name, table in tables.groups.items()
    }
