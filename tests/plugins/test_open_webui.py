"""The Open WebUI filter: one file, copied, loaded by an interpreter without the engine, against a real service.

`openwebui_host` calls it as Open WebUI does; nothing of the engine is in that process.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from policy_engine.client import permission
from policy_engine.core.decision import PrincipalKind
from policy_engine.plugins import open_webui
from policy_engine.services.keys import KeyRequest
from tests.api.served import Served, serving

ALICE = {"id": "alice", "email": "alice@corp.example", "name": "planted-name", "role": "user"}
EVE = {"id": "eve", "email": "eve@corp.example", "name": "planted-name", "role": "user"}
PROMPT = "planted-prompt"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Offer one running service on the sample world."""
    with serving(tmp_path_factory.mktemp("served")) as running:
        yield running


class WebUI:
    """The host process, by commands."""

    def __init__(self, folder: Path) -> None:
        copied = shutil.copy(open_webui.__file__, folder / "filter.py")
        host = Path(__file__).with_name("openwebui_host.py")
        # -I and -S: neither this checkout nor anything installed can be imported.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(host), str(copied)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
        )
        self.foreign = self._read()["foreign"]

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def do(self, **command: Any) -> Any:
        """Send a command and return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._read()

    def call(self, handler: str, chat: str, data: Any, **more: Any) -> Any:
        """Call a handler for a chat of alice with a workspace model on `fable-5`, unless told otherwise."""
        given = {"user": ALICE, "model": {"id": "helper", "info": {"base_model_id": "fable-5"}}, **more}
        return self.do(do="call", handler=handler, chat=chat, data=data, **given)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebUI]:
    """Offer one host process to this module."""
    made = WebUI(tmp_path_factory.mktemp("host"))
    yield made
    made.close()


def valves(served: Served, **more: Any) -> dict[str, Any]:
    """Return the settings an administrator would save."""
    url = f"http://127.0.0.1:{served.port}"
    return {"url": url, "key": served.keys["gateway"], "tenant": "acme", "location": "US", **more}


@pytest.fixture
def webui(process: WebUI, served: Served) -> WebUI:
    """Offer the host with the usual settings saved."""
    assert "given" in process.do(do="save", valves=valves(served))
    return process


def body(model: str = "helper") -> dict[str, Any]:
    """Return what Open WebUI puts before a filter."""
    return {"model": model, "messages": [{"role": "user", "content": PROMPT}], "stream": True}


def test_the_file_alone_is_enough(webui: WebUI) -> None:
    """Copied and loaded by an interpreter without packages, it imported the standard library and nothing else."""
    assert webui.foreign == []


def test_a_user_who_may_passes_and_the_body_stays_as_it_was(webui: WebUI) -> None:
    """An allowed request goes on unchanged."""
    assert webui.call("inlet", "allowed", body()) == {"given": body()}


def test_the_base_model_behind_a_workspace_model_is_decided(webui: WebUI) -> None:
    """The name of a workspace model says nothing: what is decided is the model that answers."""
    allowed = {"id": "mythos-5", "info": {"base_model_id": "open-1"}}
    assert "given" in webui.call("inlet", "named", body("mythos-5"), model=allowed)
    hidden = {"id": "open-1", "info": {"base_model_id": "mythos-5"}}
    assert webui.call("inlet", "hidden", body("open-1"), model=hidden)["kind"] == "Denied"
    plain = {"id": "fable-5", "info": {"base_model_id": None}}
    assert "given" in webui.call("inlet", "plain", body("fable-5"), model=plain)
    assert "given" in webui.call("inlet", "bare", body("fable-5"), model={"id": "fable-5"})


def test_a_denied_user_reads_why_what_else_and_where(webui: WebUI, served: Served) -> None:
    """The sentence says that it is policy, why, which model may be asked for instead, and the id in the log."""
    said = webui.call("inlet", "denied", body(), user=EVE)["raised"]
    assert said.startswith("Policy, not login: ")
    assert "This model needs a verified identity; please complete verification." in said
    assert "What may be asked for instead: open-1." in said
    found = served.get(f"/v1/decisions/{said.partition('Reference: ')[2].rstrip('.')}", key="auditor")
    assert found.status_code == 200, found.text


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"user": None}, "named no user"),
        ({"user": {}}, "named no user"),
        ({"user": {"id": ""}}, "named no user"),
        ({"user": {"id": ["alice"]}}, "named no user"),
        ({"model": None}, "which model"),
        ({"model": {}}, "which model"),
        ({"model": {"id": "another", "info": {}}}, "which model"),
        ({"model": {"id": "helper", "info": {"base_model_id": ["fable-5"]}}}, "which model"),
        ({"model": {"id": "helper", "owned_by": "arena", "info": {}}}, "which model"),
        ({"metadata": {"direct": True}}, "direct connections"),
    ],
)
def test_what_open_webui_did_not_say_is_denied(webui: WebUI, changed: dict[str, Any], why: str) -> None:
    """Without a user, without a model that is certain, or past the server, nothing is sent to a model."""
    chat = f"odd-{json.dumps(changed)}"
    assert why in webui.call("inlet", chat, body(), **changed)["raised"]


@pytest.mark.parametrize(
    "more",
    [
        {"models": ["mythos-5"]},
        {"Model": "mythos-5"},
        {"deployment_id": "mythos-5"},
        {"fallbacks": ["mythos-5"]},
        {"preset": "mythos"},
        {"user_config": {"model_list": []}},
        {"router_settings_override": {"fallbacks": ["mythos-5"]}},
        {"extra_body": {"model": "mythos-5"}},
        {"extra_body": {"extra_body": {"model_id": "mythos-5"}}},
        {"extra_body": "x"},
    ],
    ids=str,
)
def test_a_second_name_of_a_model_is_denied(webui: WebUI, more: dict[str, Any]) -> None:
    """What a user adds to the parameters of a chat reaches the provider: none may say beside `model` who answers."""
    chat = f"second-{json.dumps(more)}"
    for handler in ("inlet", "request"):
        assert "another model" in webui.call(handler, chat, {**body(), **more})["raised"]
    kept = {**body(), "models": None, "extra_body": {"top_k": 1}, "tools": [{"model": "x"}]}
    assert webui.call("inlet", f"{chat}-kept", kept) == {"given": kept}


def test_who_asks_is_never_taken_from_the_body(webui: WebUI) -> None:
    """A body that names another user is asked about as the user whom Open WebUI authenticated."""
    forged = {**body(), "user": "alice", "metadata": {"user_id": "alice"}, "__user__": ALICE}
    assert webui.call("inlet", "forged", forged, user=EVE)["kind"] == "Denied"


def test_a_chat_with_tools_is_asked_again(webui: WebUI, served: Served) -> None:
    """`request` uses an answer that is fresh, asks for another model anew, and asks when there is none."""
    before = served.entries()
    webui.call("inlet", "tools", body())
    assert "given" in webui.call("request", "tools", body())
    assert served.entries() == before + 1
    other = {"id": "open-1", "info": {"base_model_id": "mythos-5"}}
    assert webui.call("request", "tools", body("open-1"), model=other)["kind"] == "Denied"
    assert "given" in webui.call("request", "never asked", body())
    assert served.entries() == before + 3


def test_a_reply_is_cut_when_the_model_is_withdrawn(webui: WebUI, tmp_path: Path) -> None:
    """Pieces pass; once the model is withdrawn the next old enough piece becomes one error, and nothing follows it."""
    with serving(tmp_path) as own:  # nothing else of this module may meet the switch
        webui.do(do="save", valves=valves(own, recheck_seconds=0))
        grown = {"id": "helper", "info": {"base_model_id": "open-1"}}
        piece = {"choices": [{"delta": {"content": "word"}}]}
        assert "given" in webui.call("inlet", "cut", body(), model=grown)
        assert webui.call("stream", "cut", piece, model=grown) == {"given": piece}
        scope = {"models": ["open-1"], "tenants": ["acme"]}
        engaged = own.post("/v1/switches", {"id": "webui", "scope": scope, "reason": "why"}, key="operator")
        assert engaged.status_code == 201
        ended = webui.call("stream", "cut", piece, model=grown)["given"]
        assert ended["error"]["message"].startswith("Policy, not login: ")
        assert webui.call("stream", "cut", piece, model=grown) == {"given": None}
        chat = {"messages": [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": "words"}]}
        closed = webui.call("outlet", "cut", chat)["given"]["messages"]
        assert closed[0]["content"] == PROMPT and closed[1]["content"] == f"words\n\n{ended['error']['message']}"


def test_pieces_of_a_reply_that_nobody_allowed_do_not_pass(webui: WebUI) -> None:
    """A stream without an answer behind it, or with one that a caller put beside the request, ends at once."""
    forged = {"policy_engine": {"model": "fable-5", "until": 1e12, "cut": None}}
    piece = {"choices": [{"delta": {"content": "word"}}]}
    for chat, metadata in (("unheld", {}), ("forged metadata", forged)):
        assert "error" in webui.call("stream", chat, piece, metadata=metadata)["given"]


def test_a_reply_that_was_not_cut_is_left_alone(webui: WebUI) -> None:
    """`outlet` changes nothing where nothing was cut."""
    webui.call("inlet", "whole", body())
    chat = {"messages": [{"role": "assistant", "content": "words"}]}
    assert webui.call("outlet", "whole", chat) == {"given": chat}
    assert webui.call("outlet", "unknown", chat) == {"given": chat}


@pytest.mark.parametrize(
    "changed",
    [
        {"url": ""},
        {"key": ""},
        {"key": "pe_wrong"},
        {"url": "ftp://127.0.0.1"},
        {"url": "http://[127.0.0.1"},
        {"url": "http://pdp.example:8181"},
        {"tenant": ""},
        {"url": "http://127.0.0.1:9"},
        {"timeout_seconds": 0},
        {"timeout_seconds": -1},
    ],
)
def test_settings_that_cannot_work_deny(webui: WebUI, served: Served, changed: dict[str, Any]) -> None:
    """A missing or wrong address, key, organisation or time denies, and no key goes over http to another machine."""
    webui.do(do="save", valves=valves(served, **changed))
    assert webui.call("inlet", f"set-{json.dumps(changed)}", body())["kind"] == "Denied"


def test_settings_of_the_wrong_kind_are_refused(webui: WebUI) -> None:
    """Saving them fails, and so would every request."""
    for wrong in ({"subject": "name"}, {"timeout_seconds": "soon"}, {"priority": "first"}):
        assert "raised" in webui.do(do="save", valves=wrong)


def test_the_settings_are_drawn_and_kept_as_open_webui_wants(webui: WebUI, served: Served) -> None:
    """There is a schema for the form, only what was saved is stored, and users have no switch."""
    drawn = webui.do(do="schema")
    assert drawn["toggle"] is False
    assert drawn["given"]["properties"]["priority"] == {
        "title": "priority",
        "type": "integer",
        "default": 1_000_000,
        "description": open_webui.Valves.texts["priority"],
    }
    assert webui.do(do="save", valves=valves(served, unknown=1))["given"] == valves(served)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\ntrue",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b'{"decision": true}',
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
        + b'{"decision": "true", "context": {"valid_for_ms": 2000}}',
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
        + b'{"decision": true, "context": {"valid_for_ms": 0}}',
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
        + b'{"decision": true, "context": {"valid_for_ms": 9999999}}',
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
        + b'{"decision": true, "context": {"valid_for_ms": 2000, "obligations": [{"id": "x", "type": "step-up"}]}}',
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
        + b'{"decision": true, "context": {"valid_for_ms": 2000}}',
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Type: application/json\r\n\r\n"
        + b'{"decision": true, "context": {"valid_for_ms": 2000}}',
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
        + b'{"decision": true, "context": {"valid_for_ms": 2000, "x": "'
        + b"x" * 70_000
        + b'"}}',
    ],
    ids=["nothing", "scalar", "bare", "text", "spent", "long", "obligation", "html", "redirect", "huge"],
)
def test_answers_that_are_no_allow_deny(webui: WebUI, served: Served, said: bytes) -> None:
    """Whatever answers instead of a decision point, a user reads that nobody could decide.

    Control: policy_engine/plugins/open_webui.py,
    `if type(budget) is not int or not 0 <= budget <= BUDGET_MILLISECONDS_MAX or context.get("obligations"):`.
    """
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def once() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(said)

        thread = threading.Thread(target=once)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        webui.do(do="save", valves=valves(served, url=url))
        answer = webui.call("inlet", f"hostile-{len(said)}", body())
        thread.join(timeout=10)
    assert answer == {"raised": open_webui.AWAY, "kind": "Denied"}


def test_no_prompt_name_or_address_leaves(webui: WebUI, served: Served) -> None:
    """What is sent holds the ids of user, organisation, model and action, the place, and nothing else."""
    heard: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def once() -> None:
            connection, _ = listening.accept()
            with connection:
                heard.append(connection.recv(65_536))
                if b"\r\n\r\n" in heard[0] and heard[0].endswith(b"\r\n\r\n"):
                    heard.append(connection.recv(65_536))

        thread = threading.Thread(target=once)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        webui.do(do="save", valves=valves(served, url=url))
        webui.call("inlet", "watched", body())
        thread.join(timeout=10)
    head, _, sent = b"".join(heard).partition(b"\r\n\r\n")
    assert b"planted" not in head and json.loads(sent) == {
        "subject": {"type": "person", "id": "alice"},
        "action": {"name": "infer"},
        "resource": {"type": "model", "id": "fable-5"},
        "context": {"tenant": "acme", "location": "US"},
    }


def test_a_key_without_location_supplies_none(webui: WebUI, served: Served) -> None:
    """The place in the valves counts only where the key may say it; otherwise it is unknown, and that is denied."""
    operator = served.engine.keys.authenticate(served.keys["operator"], served.engine.store.now())
    approver = served.engine.keys.authenticate(served.keys["approver"], served.engine.store.now())
    issued = served.engine.keys.create(operator, KeyRequest("webui", PrincipalKind.SERVICE, ("decide",)))
    served.engine.approvals.approve(approver, issued.proposal)
    webui.do(do="save", valves=valves(served, key=issued.secret))
    assert "place" in webui.call("inlet", "no place", body())["raised"]


def test_budgets_are_counted_as_the_reference_client_does() -> None:
    """The copied file keeps to the same share of a budget and believes none that is longer."""
    assert open_webui.USED_SHARE == permission.USED_SHARE
    assert open_webui.BUDGET_MILLISECONDS_MAX == permission.BUDGET_MILLISECONDS_MAX
