"""Checks of the way in: other interfaces of the same models, other spellings of a path, lists of models.

Left to others: methods and WebSocket (`methods`, `websocket`), what stands in the body (`bodies`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from policy_engine.probe.asks import ANTHROPIC, JSON_TYPE, PROMPT, Ask, encoded, encoded_part
from policy_engine.probe.checking import Asks, Check, Scene, Verdict, evidence, withheld
from policy_engine.probe.outcomes import Evidence, Outcome
from policy_engine.probe.reading import Kind, Standing, documents_of, read
from policy_engine.probe.wire import Answer

GROUP: Final = "routes"
LISTING: Final = "/v1/models"


def _bodies(model: str) -> Mapping[str, dict[str, Any]]:
    words, chat = [{"role": "user", "content": PROMPT}], {"model": model, "max_tokens": 1}
    return {
        "chat": {**chat, "messages": words},
        "responses": {"model": model, "input": PROMPT, "max_output_tokens": 16},
        "prompt": {**chat, "prompt": PROMPT},
        "input": {"model": model, "input": PROMPT},
        "contents": {"contents": [{"parts": [{"text": PROMPT}]}], "generationConfig": {"maxOutputTokens": 1}},
        "native": {"model": model, "messages": words, "stream": False, "options": {"num_predict": 1}},
        "generate": {"model": model, "prompt": PROMPT, "stream": False, "options": {"num_predict": 1}},
        "unnamed": {"messages": words, "max_tokens": 1},
    }


def at(*places: tuple[str, str]) -> Asks:
    """Return requests at paths, each with one of the known bodies; `{model}` in a path is the name, encoded."""

    def asks(_: Scene, model: str) -> Iterator[Ask]:
        for path, body in places:
            headers = ANTHROPIC.headers if path.endswith("/messages") else (JSON_TYPE,)
            yield Ask(
                path, path.replace("{model}", encoded_part(model)), encoded(_bodies(model)[body]), headers=headers
            )

    return asks


def deployments(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask a deployment by its name in the path, with another model in the body or none."""
    path = f"/openai/deployments/{encoded_part(model)}/chat/completions?api-version=2024-10-21"
    yield Ask("a deployment in the path, no model in the body", path, encoded(_bodies("")["unnamed"]))
    other = scene.allowed if model == scene.forbidden else scene.forbidden
    yield Ask("a deployment in the path, another in the body", path, encoded(_bodies(other)["chat"]))


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
    """Say whether the list of models names one that the caller may not use."""
    ask = Ask("the list of models", f"{LISTING}?limit=1000", method="GET", headers=())
    answer = scene.sender.ask(ask)
    if not isinstance(answer, Answer) or not 200 <= answer.status < 300:
        return _not_listed(scene, ask, answer)
    ids = listed(answer)
    leaked = [name for name in ids if scene.names.standing(name) is Standing.FORBIDDEN]
    if leaked:
        shown = Evidence(ask.sent, ask.method, ask.path, answer.status, leaked[0], f"{answer.status}, `{leaked[0]}`")
        return Verdict(Outcome.HOLE, f"it shows {', '.join(f'`{name}`' for name in leaked)}", (shown,))
    more = any(document.get("has_more") is True for document in documents_of(answer.body))
    if not ids or more or not answer.whole:
        return Verdict(Outcome.UNCLEAR, f"{answer.status}, and no list of models that could be read to its end")
    return Verdict(Outcome.PASSED, f"{len(ids)} models are shown, none that is forbidden")


def one(scene: Scene) -> Verdict:
    """Say whether a model that the caller may not use is shown when it is asked for by its name."""
    found = []
    for name in scene.target.models.withheld:
        ask = Ask(f"the entry of {name}", f"{LISTING}/{encoded_part(name)}", method="GET", headers=())
        answer = scene.sender.ask(ask)
        if isinstance(answer, Answer) and 200 <= answer.status < 300:
            ids = [each for document in documents_of(answer.body) if isinstance(each := document.get("id"), str)]
            if any(scene.names.standing(each) is Standing.FORBIDDEN for each in ids):
                shown = Evidence(ask.sent, ask.method, ask.path, answer.status, ids[0], f"{answer.status}, `{ids[0]}`")
                return Verdict(Outcome.HOLE, f"{ask.sent} is shown", (shown,))
        found.append(_not_listed(scene, ask, answer))
    unclear = [each for each in found if each.outcome is Outcome.UNCLEAR]
    return unclear[0] if unclear else Verdict(Outcome.PASSED, f"{len(found)} are not shown")


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
    Check("route-chat", GROUP, _GUARD, withheld(at(("/v1/chat/completions", "chat"), ("/chat/completions", "chat")),
                                                twin=True)),
    Check("route-messages", GROUP, _GUARD, withheld(at(("/v1/messages", "chat"), ("/messages", "chat")), twin=True)),
    Check("route-responses", GROUP, _GUARD, withheld(at(("/v1/responses", "responses"), ("/responses", "responses")),
                                                     twin=True)),
    Check("route-completions", GROUP, _GUARD, withheld(at(("/v1/completions", "prompt"),
                                                          ("/v1/engines/{model}/completions", "prompt")), twin=True)),
    Check("route-embeddings", GROUP, _GUARD, withheld(at(("/v1/embeddings", "input"), ("/embeddings", "input")),
                                                      twin=True)),
    Check("route-invocations", GROUP, _GUARD, withheld(at(("/invocations", "chat"), ("/model/{model}/invoke", "chat")),
                                                       twin=True)),
    Check("route-deployments", GROUP, "guard every path; take the model from the path where the upstream does",
          withheld(deployments, twin=True)),
    Check("route-native", GROUP, "guard every path; close the upstream's own interface",
          withheld(at(("/api/chat", "native"), ("/api/generate", "generate"),
                      ("/v1beta/models/{model}:generateContent", "contents")), twin=True)),
    Check("path-slash", GROUP, _PATH, withheld(slashes)),
    Check("path-dots", GROUP, _PATH, withheld(dots)),
    Check("path-encoded", GROUP, _PATH, withheld(percents)),
    Check("path-case", GROUP, _PATH, withheld(cases)),
    Check("path-form", GROUP, _PATH, withheld(forms)),
)  # fmt: skip
