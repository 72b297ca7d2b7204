"""Steps 1 and 3 to 8 of a decision (design): from a request to an evaluation, with no entry written.

Rules of the room: nothing here waits, logs or writes; every way out that is not a known yes is a deny that names why;
an unexpected error in a rule or a derivation denies. Used alike by live requests, previews, searches, replays and
case files. Left to others: parsing (the doors), what an evaluation says (`services.outcomes`), the entry and the answer
(`services.decide`, `services.record`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from policy_engine.core.authorizer import authorize
from policy_engine.core.decision import Evaluation, Outcome, Principal, Reason, Request
from policy_engine.core.derive import NOBODY, PersonFacets, PlaceFacets, Reference, TenantFacets, derive_place
from policy_engine.core.facets import Parts, assemble
from policy_engine.core.facts import Location, Model, Person, Tenant
from policy_engine.core.freshness import fresh_person
from policy_engine.core.instants import ENDLESS
from policy_engine.core.orders import Asked
from policy_engine.core.plain import AnyRelease, PlainRelease
from policy_engine.core.release import Release
from policy_engine.services.cells.doubt import Doubt, Doubting
from policy_engine.services.drillsubject import DRILL_SUBJECT, DRILL_TENANT, drill_person, drill_tenant
from policy_engine.services.factcache import FactCache, Known
from policy_engine.services.outcomes import at_another_instant, refused, ruled
from policy_engine.services.permissions import is_drill
from policy_engine.services.plain import evaluate_plain, plain_question
from policy_engine.services.snapshot import Snapshot
from policy_engine.services.switchreasons import question_of, switch_reasons

ALTERNATIVES_COUNT = 4
_KEPT_PLACES_COUNT = 4_096
_KEPT_ANSWERS_COUNT = 8_192

K = TypeVar("K")
V = TypeVar("V")


class _Under(dict[K, V]):
    """What is remembered under one snapshot or reference, which it names.

    Threads evaluate side by side under an old and a new one: each writes into what it has looked at, so nothing of the
    old is ever found under the new.
    """

    __slots__ = ("under",)

    def __init__(self, under: object) -> None:
        super().__init__()
        self.under = under


class Evaluator:
    """Evaluates requests against a snapshot and the facts in memory."""

    def __init__(
        self, facts: FactCache, *, serving_region: str | None, remembers: bool = True, hints: bool = True
    ) -> None:
        self.facts, self._hints = facts, hints
        self._serving_region = serving_region
        self._drill = drill_person(), drill_tenant()
        self._places: _Under[tuple[str | None, str | None, bool], PlaceFacets] = _Under(None)
        self._answered: _Under[tuple[object, ...], Evaluation] = _Under(None)
        self._remembers = remembers
        self.doubting: Doubting | None = None
        """What is doubted because of other cells, where this process has any."""

    def evaluate(self, request: Request, principal: Principal, snapshot: Snapshot, at: int) -> Evaluation:
        """Return the evaluation of a request at an instant, with fallback models tried on a deny if hints are wanted.

        Alternatives are hints, evaluated the same way; using one needs a request and an entry of its own.
        """
        request = self._bounded(request, principal)
        key = question_key(request, principal)
        doubt = self.doubt()
        answered = self._answered
        if answered.under is snapshot and doubt is None:
            known = answered.get(key)
            if known is not None and known.at <= at < known.until:
                return at_another_instant(known, snapshot, at)
        evaluation, model = self._one(request, principal, snapshot, at, doubt)
        if model is None:
            return evaluation
        alternatives = self._alternatives(evaluation, model, principal, snapshot, at, doubt) if self._hints else ()
        if alternatives:
            evaluation = evaluation._replace(alternatives=alternatives)
        if doubt is None:
            self._keep(key, snapshot, evaluation)
        return evaluation

    def doubt(self) -> Doubt | None:
        """Return what is doubted now because of other cells."""
        return None if self.doubting is None else self.doubting()

    def _keep(self, key: tuple[object, ...], snapshot: Snapshot, evaluation: Evaluation) -> None:
        """Remember an evaluation until anything it rests on may change (law 5: it is a function of just that).

        A snapshot ends with every change of epoch, release or any fact; `until` is the next instant that may matter.
        Only questions about known persons, tenants and models that reached the rules are kept, so nobody can fill the
        memory with made-up names.
        """
        release = snapshot.release
        if not self._remembers or evaluation.values is None or release is None or release.reads_paths:
            return
        answered = self._answered
        if answered.under is not snapshot or len(answered) >= _KEPT_ANSWERS_COUNT:
            answered = self._answered = _Under(snapshot)
        answered[key] = evaluation._replace(shared={})

    def _bounded(self, request: Request, principal: Principal) -> Request:
        """1. The principal bounds the request: what it may not supply is unknown, and is not recorded as believed.

        Where a request names no serving region, ours is used, and stands in the entry as if it had been named.
        """
        location = request.location if _supplies(principal, "location") else None
        if request.serving_region is None:
            serving_region = self._serving_region
        else:
            serving_region = request.serving_region if _supplies(principal, "serving_region") else None
        if location is request.location and serving_region is request.serving_region:
            return request
        return replace(request, location=location, serving_region=serving_region)

    def _one(
        self, request: Request, principal: Principal, snapshot: Snapshot, at: int, doubt: Doubt | None
    ) -> tuple[Evaluation, Model | None]:
        release = snapshot.release
        if release is None:
            return refused(request, snapshot, at, [Reason("release.missing", message=_NO_RELEASE)], None), None
        if isinstance(release, PlainRelease):
            plain = evaluate_plain(release, request, principal, snapshot, at)
            if doubt is not None and plain.outcome is Outcome.ALLOW:
                plain = doubt.applied(plain, plain_question(release, request, principal, snapshot, at, doubt.behind))
            return plain, None
        # 3. Alias and derivative resolve to catalogue entries; unknown model or tenant, or no member of it: deny.
        reasons, model, person, tenant = self._resolve(request, principal, snapshot, release, at)
        if reasons or model is None or person is None or tenant is None:
            return refused(request, snapshot, at, reasons, model, person, tenant), None
        try:
            return self._with_facts(request, principal, snapshot, release, model, person, tenant, at, doubt), model
        except Exception:  # noqa: BLE001  whatever errs denies; the values must not reach a log or a traceback
            return refused(request, snapshot, at, [release.reason("rules.error")], model, person, tenant), None

    def _resolve(
        self, request: Request, principal: Principal, snapshot: Snapshot, release: Release, at: int
    ) -> tuple[list[Reason], Model | None, Known[Person, PersonFacets] | None, Known[Tenant, TenantFacets] | None]:
        reasons: list[Reason] = []
        revision = snapshot.state.facts_revision
        model = release.catalogue.find(request.model) if request.resource_type == "model" else None
        if model is None:
            reasons.append(release.reason("model.unknown"))
        drill = is_drill(principal)
        tenant = None if request.tenant is None else self.facts.tenant(request.tenant, revision)
        if drill and request.tenant == DRILL_TENANT:
            tenant = self._drill[1]
        if tenant is None or tenant.subject is None:
            reasons.append(release.reason("tenant.unknown"))
        elif principal.tenants is not None and request.tenant not in principal.tenants:
            reasons.append(release.reason("tenant.not-permitted"))
        drilled = drill and request.subject_id == DRILL_SUBJECT
        person = self._drill[0] if drilled else self.facts.person(request.subject_id, revision)
        if person.subject is None or request.subject_type != ("service" if person.service else "person"):
            reasons.append(release.reason("subject.unknown"))
        elif request.tenant not in fresh_person(person.subject, at)[0].tenants:
            reasons.append(release.reason("tenant.not-member"))
        return reasons, model, person, tenant

    def _with_facts(
        self,
        request: Request,
        principal: Principal,
        snapshot: Snapshot,
        release: Release,
        model: Model,
        person: Known[Person, PersonFacets],
        tenant: Known[Tenant, TenantFacets],
        at: int,
        doubt: Doubt | None,
    ) -> Evaluation:
        # 4. Facts come from the registers, plus what the principal may supply.
        # 5. Facets are derived at one instant, read once by the caller.
        reference = release.reference
        person_facets = _service(person, at) if person.service else person.at(at, reference)
        tenant_facets = tenant.at(at, reference)
        place = self._place(request.location, reference)
        serving_region = request.serving_region
        until = min(person_facets.until, tenant_facets.until, snapshot.next_boundary(at))
        # 6. Kill switches are checked first, by code that shares nothing with the rules.
        covered, lacks = switch_reasons(release, snapshot, request, model, tenant_facets, place, principal, at)
        if covered:
            return refused(request, snapshot, at, covered, model, person, tenant, until, lacks)
        if snapshot.orders is None:
            return refused(request, snapshot, at, [release.reason("orders.unreadable")], model, person, tenant, until)
        catalogue = release.catalogue
        person_id = None if person.service else request.subject_id
        tenant_id = request.tenant or ""
        names = catalogue.names(model.id)
        asked = Asked(model.id, names, catalogue.aliases, request.action, person_id, tenant_id)
        parts = Parts(asked, model, person_facets, tenant_facets, place, serving_region, snapshot.orders, at, reference)
        found = assemble(parts)
        # 7. The compiled release gives all rules that match; lifts remove exactly what they name.
        values = release.values(found.facets, request, principal)
        verdict = authorize(release.rules, release.index.places(values), found.facets["lifts"])
        # 8. Outcome, reasons, missing facts.
        judged = ruled(request, snapshot, release, model, person, tenant, found, values, verdict, at, until)
        if doubt is None:
            return judged
        return doubt.applied(judged, question_of(release, request, model, tenant_facets, place, principal))

    def _place(self, location: Location | None, reference: Reference) -> PlaceFacets:
        if location is None:
            return derive_place(None, reference)
        places = self._places
        if places.under is not reference:
            places = self._places = _Under(reference)
        key = (location.country, location.region, location.anonymiser)
        place = places.get(key)
        if place is None:
            place = derive_place(location, reference)
            if place.place.known and len(places) < _KEPT_PLACES_COUNT:  # only real codes: bounded for good
                places[key] = place
        return place

    def _alternatives(
        self,
        evaluation: Evaluation,
        model: Model,
        principal: Principal,
        snapshot: Snapshot,
        at: int,
        doubt: Doubt | None,
    ) -> tuple[str, ...]:
        allowed = evaluation.outcome is Outcome.ALLOW
        if snapshot.release is None or (allowed and model.superseded_by is None):
            return ()
        found: list[str] = []
        for name in _fallbacks(snapshot.release, model, successors_only=allowed):
            other, _ = self._one(replace(evaluation.request, model=name), principal, snapshot, at, doubt)
            if other.outcome is Outcome.ALLOW:
                found.append(name)
        return tuple(found)


def question_key(request: Request, principal: Principal) -> tuple[object, ...]:
    """Return what an evaluation depends on of a bounded request; rules that read paths of it may read more."""
    place = request.location
    return (
        request.subject_id,
        request.model,
        request.action,
        request.tenant,
        request.serving_region,
        None if place is None else (place.country, place.region, place.anonymiser),
        principal.tenants,
        is_drill(principal),
        request.subject_type,
        request.resource_type,
    )


def _service(service: Known[Person, PersonFacets], at: int) -> PersonFacets:
    """Return the facets of a service: nobody's, until its membership may have run out."""
    until = ENDLESS if service.subject is None else fresh_person(service.subject, at)[1]
    return NOBODY if until == ENDLESS else replace(NOBODY, until=until)


_NO_RELEASE = "No policy is active yet, so nothing can be allowed."


def _supplies(principal: Principal, name: str) -> bool:
    return name in principal.supplies or "*" in principal.supplies


def _fallbacks(release: AnyRelease, model: Model, *, successors_only: bool) -> list[str]:
    """Return successor and fallback models of the model, and theirs, each once."""
    seen = [model.id]
    for id in seen:
        entry = release.catalogue.find(id)
        if entry is None:
            continue
        for name in (entry.superseded_by, None if successors_only else entry.fallback):
            if name is not None and name not in seen and len(seen) <= ALTERNATIVES_COUNT:
                seen.append(name)
    return seen[1:]
