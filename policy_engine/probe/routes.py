"""Checks of the way in: other interfaces of the same models, other spellings of a path, lists of models.

Left to others: the interfaces as data (`places`), methods and WebSocket (`methods`, `websocket`), what stands in the
body (`bodies`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from policy_engine.probe import places
from policy_engine.probe.asks import Ask, Bearer, encoded, encoded_part
from policy_engine.probe.checking import PLAIN, Asks, Check, Scene, Verdict, evidence, first, withheld
from policy_engine.probe.outcomes import Evidence, Outcome
from policy_engine.probe.places import DEPLOYMENT, Places, asked_at, bodies
from policy_engine.probe.reading import Kind, documents_of, read
from policy_engine.probe.standing import Standing, folded
from policy_engine.probe.wire import Answer

GROUP: Final = "routes"
LISTING: Final = "/v1/models"
LISTINGS: Final = (LISTING, "/models", f"{LISTING}/")


def at(places: Places) -> Asks:
    """Return requests for a model at each of some places."""

    def asks(_: Scene, model: str) -> Iterator[Ask]:
        for path, body in places:
            yield asked_at(path, body, model)

    return asks


def deployments(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask a deployment by its name in the path, with another model in the body or none."""
    bare = asked_at(DEPLOYMENT, "unnamed", model)
    yield replace(bare, sent="a deployment in the path, no model in the body")
    other = scene.allowed if model == scene.forbidden else scene.forbidden
    yield replace(bare, sent="a deployment in the path, another in the body", body=encoded(bodies(other)["chat"]))


def nested(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask for the other model, with this one in members that a gateway may merge at one interface alone."""
    other = scene.allowed if model == scene.forbidden else scene.forbidden
    for path, body in (places.RESPONSES[0], places.MESSAGES[0], places.COMPLETIONS[0], places.EMBEDDINGS[0]):
        asked = asked_at(path, body, other)
        for name, value in (("extra_body", {"model": model}), *((name, model) for name in places.SECOND_NAMES)):
            document = encoded({**bodies(other)[body], name: value})
            yield replace(asked, sent=f"a second name in {name} at {path}", body=document)


def _paths(*changes: tuple[str, Any]) -> Asks:
    """Return the plain question at other spellings of its path."""

    def asks(scene: Scene, model: str) -> Iterator[Ask]:
        body = encoded(scene.form.document(model))
        for sent, change in changes:
            path = change(scene.form.path, scene)
            yield Ask(sent, path, body, headers=scene.form.headers)

    return asks


def _percent(text: str) -> str:
    return "".join(mark if mark == "/" else f"%{ord(mark):02x}" for mark in text)


slashes = _paths(
    ("a slash behind the path", lambda path, _: f"{path}/"),
    ("two slashes before the path", lambda path, _: f"/{path}"),
    ("two slashes within the path", lambda path, _: path.replace("/v1/", "/v1//")),
    ("a backslash within the path", lambda path, _: path.replace("/v1/", "/v1\\")),
)
dots = _paths(
    ("a dot segment", lambda path, _: path.replace("/v1/", "/v1/./")),
    ("two dots behind a health check", lambda path, _: f"/healthz/..{path}"),
    ("two dots behind the list of models", lambda path, _: f"{LISTING}/..{path.removeprefix('/v1')}"),
    ("two dots, encoded", lambda path, _: f"/healthz/%2e%2e{path}"),
    ("two dots with a parameter", lambda path, _: f"/healthz/..;{path}"),
)
percents = _paths(
    ("one letter encoded", lambda path, _: f"{path[:-1]}%{ord(path[-1]):02x}"),
    ("every letter encoded", lambda path, _: _percent(path)),
    ("slashes encoded", lambda path, _: "/" + path[1:].replace("/", "%2f")),
    ("one letter encoded twice", lambda path, _: f"{path[:-1]}%25{ord(path[-1]):02x}"),
)
cases = _paths(
    ("an upper-case path", lambda path, _: path.upper()),
    ("a path in title case", lambda path, _: path.title()),
)
forms = _paths(
    ("the whole address as path", lambda path, scene: f"{scene.sender.to.origin}{scene.sender.to.prefix}{path}"),
    ("a parameter behind the path", lambda path, _: f"{path};x=1"),
    ("a health check in the query", lambda path, _: f"{path}?path=/healthz"),
    ("a null character behind the path", lambda path, _: f"{path}%00"),
    ("a file name behind the path", lambda path, _: f"{path}/x.css"),
)


def listing(scene: Scene) -> Verdict:
    """Say whether a list of models, at one of its paths, names one that the caller or a stranger may not use."""
    asks = [
        Ask(f"the list of models at {path}{without}", f"{path}?limit=1000", method="GET", headers=(), bearer=bearer)
        for bearer, without in _callers(scene)
        for path in LISTINGS
    ]
    return _worst([_looked_at(scene, ask, usual=ask is asks[0]) for ask in asks])


def one(scene: Scene) -> Verdict:
    """Say whether a model that the caller may not use is shown to it, or to a stranger, by its name."""
    asks = (
        Ask(f"the entry of {name}{without}", f"{LISTING}/{encoded_part(name)}", method="GET", headers=(), bearer=bearer)
        for bearer, without in _callers(scene)
        for name in scene.target.models.withheld
    )
    found = [_entry(scene, ask) for ask in asks]
    shown = _worst(found)
    return shown if shown.outcome is not Outcome.PASSED else Verdict(Outcome.PASSED, f"{len(found)} are not shown")


def _callers(scene: Scene) -> tuple[tuple[Bearer, str], ...]:
    """Return who looks: the caller, and a stranger where the caller has a credential."""
    stranger = ((Bearer.NOBODY, ", without a credential"),) if scene.target.credentials.own else ()
    return ((Bearer.OWN, ""), *stranger)


def _looked_at(scene: Scene, ask: Ask, *, usual: bool) -> Verdict:
    """Return what a list shows. Where lists usually are, there must be one; elsewhere there may be any other page."""
    answer = scene.sender.ask(ask)
    if not isinstance(answer, Answer) or not 200 <= answer.status < 300:
        return _not_listed(scene, ask, answer)
    ids = listed(answer)
    if leaked := [name for name in ids if scene.names.standing(name) is Standing.FORBIDDEN]:
        return _leak(ask, answer, leaked)
    more = any(document.get("has_more") is True for document in documents_of(answer.body))
    text = folded(answer.body.decode("utf-8", "replace"))
    page = not usual and not any(folded(name) in text for name in scene.target.models.withheld)
    if not (ids or page) or more or not answer.whole:
        return Verdict(Outcome.UNCLEAR, f"{ask.sent}: {answer.status}, and no list that could be read to its end")
    return Verdict(Outcome.PASSED, f"{len(ids)} models are shown, none that is forbidden")


def _entry(scene: Scene, ask: Ask) -> Verdict:
    answer = scene.sender.ask(ask)
    if isinstance(answer, Answer) and 200 <= answer.status < 300:
        ids = [each for document in documents_of(answer.body) if isinstance(each := document.get("id"), str)]
        if leaked := [each for each in ids if scene.names.standing(each) is Standing.FORBIDDEN]:
            return _leak(ask, answer, leaked)
    return _not_listed(scene, ask, answer)


def _leak(ask: Ask, answer: Answer, leaked: list[str]) -> Verdict:
    found = f"{answer.status}, it shows {', '.join(f'`{name}`' for name in leaked)}"
    shown = Evidence(ask.sent, ask.method, ask.path, answer.status, leaked[0], found)
    return Verdict(Outcome.HOLE, first((shown,)), (shown,))


def _worst(verdicts: list[Verdict]) -> Verdict:
    """Return the verdict over several places: their holes, else the first that is unclear, else that of the first."""
    holes = tuple(shown for verdict in verdicts if verdict.outcome is Outcome.HOLE for shown in verdict.evidence)
    if holes:
        return Verdict(Outcome.HOLE, first(holes), holes)
    return next((verdict for verdict in verdicts if verdict.outcome is Outcome.UNCLEAR), verdicts[0])


def _not_listed(scene: Scene, ask: Ask, answer: Any) -> Verdict:
    reading = read(answer, scene.names)
    outcome = Outcome.PASSED if reading.kind is Kind.REFUSED and not reading.failed else Outcome.UNCLEAR
    return Verdict(outcome, f"{ask.sent}: {reading.found}", (evidence(ask, reading),))


def listed(answer: Answer) -> list[str]:
    """Return the ids in a list of models, in the forms that are known."""
    found: list[str] = []
    for document in documents_of(answer.body):
        for items in (document.get("data"), document.get("models")):
            for item in items if isinstance(items, list) else ():
                names = (item.get("id"), item.get("name")) if isinstance(item, dict) else (item,)
                found += [name for name in names if isinstance(name, str)]
    return found


_GUARD: Final = "guard every path, and exempt health checks one by one by their exact path"
_PATH: Final = "decide on the path that is sent on: normalise it once, before the decision, and refuse what changes"

CHECKS: Final = (
    Check("listing", GROUP, "filter the list of models by the decisions for this caller", listing, rests=()),
    Check("listing-one", GROUP, "answer 404 for the entry of a model that this caller may not use", one, rests=()),
    Check("route-chat", GROUP, _GUARD, withheld(at(places.CHAT), twin=True)),
    Check("route-messages", GROUP, _GUARD, withheld(at(places.MESSAGES), twin=True)),
    Check("route-responses", GROUP, _GUARD, withheld(at(places.RESPONSES), twin=True)),
    Check("route-completions", GROUP, _GUARD, withheld(at(places.COMPLETIONS), twin=True)),
    Check("route-embeddings", GROUP, _GUARD, withheld(at(places.EMBEDDINGS), twin=True)),
    Check("route-invocations", GROUP, _GUARD, withheld(at(places.INVOCATIONS), twin=True)),
    Check("route-deployments", GROUP, "guard every path; take the model from the path where the upstream does",
          withheld(deployments, twin=True)),
    Check("route-native", GROUP, "guard every path; close the upstream's own interface",
          withheld(at(places.NATIVE), twin=True)),
    Check("nested-elsewhere", GROUP, places.MERGED, withheld(nested),
          rests=(PLAIN, "nested-model", "route-responses", "route-messages", "route-completions", "route-embeddings")),
    Check("path-slash", GROUP, _PATH, withheld(slashes)),
    Check("path-dots", GROUP, _PATH, withheld(dots)),
    Check("path-encoded", GROUP, _PATH, withheld(percents)),
    Check("path-case", GROUP, _PATH, withheld(cases)),
    Check("path-form", GROUP, _PATH, withheld(forms)),
)  # fmt: skip
