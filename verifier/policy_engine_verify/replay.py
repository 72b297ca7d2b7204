"""`--replay`: every decision that reached the rules is decided again by stock Casbin, with functions pinned here.

It needs an unsealed export, for the values that the rules saw are personal; making one is itself an entry of the log.
The text of a model comes out of the bundle, so it may be an enemy's. It is given to Casbin only if its matcher is
nothing but calls of the pinned functions on request and policy values, joined by `&&`, or if the caller vouched for its
SHA-256. Casbin's own evaluator runs it; Python's `eval` is nowhere. Install with `policy-engine-verify[replay]`.
"""

from __future__ import annotations

import json
import logging
import re
from base64 import b64decode
from collections import Counter
from typing import Any

import casbin
from casbin.persist import Adapter
from casbin.persist.adapter import load_policy_line
from casbin.util.log import DEFAULT_LOGGING

from policy_engine_verify import limits
from policy_engine_verify.beside import files_of
from policy_engine_verify.formats import Refused
from policy_engine_verify.functions import pinned
from policy_engine_verify.source import Source

PLACES_COUNT = 100
_DEFINITION = re.compile(r"[a-z][a-z_]*(?:, [a-z][a-z_]*)*")
_CALL = re.compile(r"([a-z]+)\((?:[rp]_[a-z][a-z_]*(?:, |(?=\))))+\)")
_EFFECTS = {
    "some(where (p_eft == allow)) && !some(where (p_eft == deny))",
    "some(where (p_eft == allow))",
    "!some(where (p_eft == deny))",
}
"""As Casbin spells them when it has read a model: `p_eft` for `p.eft`, and so in a matcher."""


class _Policy(Adapter):  # type: ignore[misc]  # Casbin ships no types
    """The lines of a policy, read in Casbin's own way and never written."""

    def __init__(self, text: str) -> None:
        self._text = text

    def load_policy(self, model: Any) -> None:
        """Put each line into the model."""
        for line in self._text.splitlines():
            load_policy_line(line.strip(), model)


def replay(source: Source, vouched: frozenset[str]) -> dict[str, Any]:
    """Return how many decisions come out the same, differ, or were left out, with places and reasons."""
    if not any(name.startswith("bodies/") for name in source.sizes):
        raise Refused("--replay needs an unsealed export, which shows what the rules saw; this bundle is sealed")
    for name in DEFAULT_LOGGING["loggers"]:
        logging.getLogger(name).disabled = True  # Casbin writes the values of denied requests
    run = _Run(source, vouched)
    for log in [name[8:-6] for name in source.sizes if name.startswith("entries/")]:
        run.log(log)
    return {
        "same": run.counts["same"],
        "differ": run.counts["differ"],
        "left_out": sum(run.left_out.values()),
        "reasons": dict(run.left_out),
        "releases": run.releases,
        "places": run.places,
    }


class _Run:
    def __init__(self, source: Source, vouched: frozenset[str]) -> None:
        self._source, self._vouched = source, vouched
        self._enforcers: dict[str, Any] = {}
        self._answers: dict[tuple[str, str], bool | None] = {}
        self.releases: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.places: list[str] = []

    def log(self, log: str) -> None:
        """Decide every shown decision of a log again."""
        entries, bodies = self._source.lines(f"entries/{log}.jsonl"), self._source.lines(f"bodies/{log}.jsonl")
        waits: Any = None
        while taken := entries.take(1):
            entry = json.loads(taken[0])
            while waits is None or waits["seq"] < entry["seq"]:
                line = bodies.take(1)
                waits = json.loads(line[0]) if line else {"seq": limits.SIZE_MAX}
            if entry["kind"] == "decision":
                try:
                    self._decision(entry, waits["texts"] if waits["seq"] == entry["seq"] else [None])
                except (LookupError, TypeError, ValueError, AttributeError, RecursionError):  # signed, and none of ours
                    self._differs(entry, "and what it says cannot be read")

    def _decision(self, entry: dict[str, Any], texts: list[str | None]) -> None:
        if not entry["reached"] and entry["outcome"] != "deny":
            self._differs(entry, "only the rules can allow, and it never reached them")
        elif not entry["reached"]:
            self.left_out["the decision never reached the rules"] += 1
        elif texts[0] is None:
            self.left_out["the body was erased or pruned"] += 1
        else:
            values = json.loads(b64decode(texts[0]))["body"]["values"]
            self._compare(entry, values)

    def _compare(self, entry: dict[str, Any], values: list[Any]) -> None:
        try:
            enforcer = self._enforcer(str(entry["release"]))
        except Refused as refused:
            self.left_out[str(refused)] += 1
            return
        question = (str(entry["release"]), json.dumps(values))
        if question not in self._answers:
            try:
                self._answers[question] = bool(enforcer.enforce(*(_plain(value) for value in values)))
            except Exception:  # noqa: BLE001  a rule that errs denies, whatever Casbin raises for it
                self._answers[question] = False
        outcome = "allow" if self._answers[question] else "deny"
        if outcome == entry["outcome"]:
            self.counts["same"] += 1
        else:
            self._differs(entry, f"stock Casbin says {outcome}")

    def _differs(self, entry: dict[str, Any], why: str) -> None:
        self.counts["differ"] += 1
        if len(self.places) < PLACES_COUNT:
            recorded = entry.get("outcome", "nothing")
            self.places.append(f"log {entry['log']}, entry {entry['seq']}: recorded {recorded}, {why}")

    def _enforcer(self, release: str) -> Any:
        if release not in self._enforcers:
            try:
                self._enforcers[release] = self._made(release)
            except Refused as refused:
                self._enforcers[release] = refused
        found = self._enforcers[release]
        if isinstance(found, Refused):
            raise found
        return found

    def _made(self, release: str) -> Any:
        """Return stock Casbin on a release's model and policy. Raises `Refused` for what may not be run."""
        name = release.removeprefix("sha256:")
        listed = files_of(self._source, name)
        parts = [
            self._source.read(f"releases/{name}/{file}", 8 * limits.SMALL_BYTES)
            for file in ("model.conf", "policy.csv")
        ]
        try:
            model_text, policy_text = (part.decode() for part in parts)
        except ValueError:
            raise Refused("the files of a release in the bundle cannot be read") from None
        if listed["model.conf"] not in self._vouched and not is_known(model_text):
            raise Refused("the matcher is more than calls of known functions; read it, and name it by --model-sha256")
        bound = "policy.csv" in listed
        self.releases[release] = (
            "its policy is that of the release" if bound else "its policy is what the exporter made of it"
        )
        return _stock(model_text, policy_text)


def is_known(text: str) -> bool:
    """Return whether a model is nothing but definitions, a known effect, and calls of the pinned functions.

    It is judged as Casbin reads it: whoever reads lines and comments in another way can be led past a matcher.
    """
    model = casbin.Model()
    try:
        model.load_model_from_text(text)
        found = {name: " ".join(each.value.split()) for part in model.model.values() for name, each in part.items()}
        sections = {section: list(part) for section, part in model.model.items()}
    except Exception:  # noqa: BLE001  Casbin raises bare RuntimeError, IndexError and others
        return False
    if sections != {name: [name] for name in "rpgem"}:
        return False
    calls = [_CALL.fullmatch(call) for call in found["m"].split(" && ")]
    known = pinned(lambda *link: False)
    return (
        _DEFINITION.fullmatch(found["r"]) is not None
        and _DEFINITION.fullmatch(found["p"]) is not None
        and found["g"] == "_, _, _"
        and found["e"] in _EFFECTS
        and all(call is not None and call[1] in known for call in calls)
    )


def _stock(model_text: str, policy_text: str) -> Any:
    try:
        model = casbin.Model()
        model.load_model_from_text(model_text)
        enforcer = casbin.Enforcer(model, _Policy(policy_text), enable_log=False)
        for name, function in pinned(lambda *link: bool(enforcer.get_role_manager().has_link(*link))).items():
            enforcer.add_function(name, function)
    except Exception as error:  # noqa: BLE001  Casbin raises bare RuntimeError, IndexError and others
        raise Refused(f"Casbin cannot read the model or the policy in the bundle ({type(error).__name__})") from None
    return enforcer


def _plain(value: Any) -> Any:
    """Return a recorded value as the rules saw it: sets as tuples, and what JSON alone could hold."""
    if isinstance(value, list):
        return tuple(value)
    return json.loads(value["json"]) if isinstance(value, dict) else value
