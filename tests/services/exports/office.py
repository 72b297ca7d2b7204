"""An office for tests of exports and reports: the changing services, exports, decisions, and hostile words in them."""

from __future__ import annotations

import json
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from policy_engine.core.decision import Evaluation, Principal, Reason, Request
from policy_engine.core.facts import Location
from policy_engine.ledger.canonical import canonical
from policy_engine.limits import LIMITS, Limits
from policy_engine.rules.release import read_folder
from policy_engine.services.exports.service import Exports, Form, Target
from policy_engine.services.proposals import Proposal
from policy_engine.services.releases import ReleaseLoader
from tests.services.evidencesamples import evaluation
from tests.services.governed import FILES, House, open_house, person

PEOPLE = {
    "paul": person("paul", "approve", "audit:read"),
    "quinn": person("quinn", "approve", "switch:engage", "switch:release", "orders:write", "facts:write"),
    "una": person("una", "audit:read", "audit:unseal"),
    "una-2": person("una", "audit:read", "audit:unseal", "approve"),
    "vera": person("vera", "audit:read", "audit:unseal"),
    "reader": person("reader", "audit:read"),
    "unsealer": person("unsealer", "audit:unseal"),
    "bounded": person("bounded", "audit:read", "audit:unseal", tenants=("acme",)),
    "writer": person("writer", "orders:write"),
    "rita": person("rita", "policy:write"),
}

FORMULAS = ("=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "=cmd|' /C calc'!A0", "\uff1d1+1", "'=1", "'")
MARKUP = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><b>", "&lt;b&gt;", "<!--", "]]>")


RELEASE = ReleaseLoader().load(read_folder(Path(__file__).parents[3] / "policies"))


class OneRelease(ReleaseLoader):
    """Gives the sample release under the made-up hash of these tests, with the files that have it."""

    def stored(self, store, hash):
        """Return a copy that was never loaded, so that nobody asks stock Casbin about decisions that are made up."""
        made = copy(RELEASE)
        object.__setattr__(made, "files", FILES)
        return made


@dataclass(frozen=True, slots=True)
class Office:
    """The services, exports over them, and the gateway that asks for decisions."""

    house: House
    exports: Exports

    def decide(self, *evaluations: Evaluation) -> None:
        """Write the entries of decisions."""
        state = self.house.store.state()
        drafts = [self.house.recorder.decision(one, self.house["paul"], state.facts_revision) for one in evaluations]
        self.house.recorder.write(drafts, state)

    def evaluation(self, allowed: bool = True, subject: str = "alice", **more: Any) -> Evaluation:
        """Return an evaluation under the state now, of the tenant acme and a place in GB unless told otherwise."""
        request = Request(subject, "infer", "fable-latest", more.pop("tenant", "acme"), Location("GB"))
        return evaluation(
            self.house.store.state(),
            self.house.clock(),
            subject,
            allowed,
            **{"request": request, "revisions": (), **more},
        )

    def publics(self) -> list[dict[str, Any]]:
        """Return the public members of every entry, in order."""
        return [json.loads(public) for _, _, public in self.house.store.entries(limit=100_000)]

    def export(
        self,
        place: Path,
        form: Form = Form.JSONL,
        text: str = "",
        who: str = "reader",
        *,
        force: bool = False,
        **range: int,
    ) -> Any:
        """Make an export and return its sheet."""
        return self.exports.export(self.house[who], self.exports.ask(text, **range), form, Target(place, force))

    def approved(self, text: str = "", who: str = "una", **range: int) -> Proposal:
        """Return an approved proposal for an export of sealed bodies."""
        asked = self.exports.ask(text, **range)
        proposal = self.exports.propose_unsealed(self.house[who], asked, Form.JSONL, "an audit")
        return self.house.approvals.approve(self.house["paul"], proposal.id).proposal


def open_office(folder: Path, limits: Limits = LIMITS) -> Office:
    """Return an office on a new database."""
    house = open_house(folder, PEOPLE)
    exports = Exports(house.store, house.evidence, house.recorder, house.approvals, house.vault, OneRelease(), limits)
    return Office(house, exports)


def denied(office: Office, code: str = "nationality.restricted", rule: str | None = "P7", **more: Any) -> Evaluation:
    """Return a deny with a reason."""
    return office.evaluation(False, reasons=(Reason(code, rule),), **more)


def changed(principal: Principal) -> str:
    """Return what the log calls a principal."""
    return principal.key_id or "local"


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=40) | st.sampled_from(
    (*FORMULAS, *MARKUP, "", 'a,b"c\r\n')
)
"""Texts as the log may hold them: anything but lone surrogates."""

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def public_parts(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the public members of an entry: a decision, or something else with members that nobody foresaw."""
    whole: dict[str, Any] = {
        "v": 1,
        "kind": "decision",
        "id": "0" * 32,
        "log": "aa",
        "seq": draw(st.integers(0, 2**40)),
        "at": draw(st.integers(0, 2**51)),
        "epoch": draw(st.integers(0, 9)),
        "release": draw(st.none() | texts),
        "sealed": draw(texts),
        "by": draw(texts),
    }
    if draw(st.booleans()):
        reason = st.tuples(st.none() | texts, texts, st.lists(texts, max_size=2)).map(list)
        whole |= {
            "outcome": draw(st.sampled_from(("allow", "deny"))),
            "action": draw(st.none() | texts),
            "model": draw(st.none() | texts),
            "tenant": draw(st.none() | texts),
            "tier": draw(st.none() | st.integers(1, 5)),
            "until": draw(st.none() | st.integers(0, 2**51)),
            "instant": draw(st.integers(0, 2**51)),
            "reached": draw(st.booleans()),
            "reasons": draw(st.lists(reason, max_size=2)),
            **{name: draw(st.lists(texts, max_size=2)) for name in ("rules", "lifted", "licences", "missing")},
        }
    else:
        names = st.sampled_from(("tenant", "reasons", "reached", "switch", "rows", "rules", "outcome", "what", "tier"))
        whole |= {"kind": draw(texts), **draw(st.dictionaries(names, values, max_size=4))}
    return json.loads(canonical(whole))
