"""The section about tokens, executed: its file is served with, its command registers, its request is let in."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

from policy_engine.cli.exits import Code
from policy_engine.tokens import anchors
from tests.api.served import serving
from tests.cli.conftest import Shell
from tests.commandline import releases_loaded_once
from tests.docs import pages
from tests.middleware.tokens import claims, key, key_set, token

PAGE = pages.ROOT / "docs" / "operations.md"
TEXT = pages.section(PAGE, "Tokens instead of keys")
(LANGUAGE, ISSUERS), (_, REGISTER), (_, ASK) = pages.FENCE.findall(TEXT)


def test_a_reader_s_caller_is_let_in(tmp_path: Path) -> None:
    """Served with the page's file; unknown before the page's command and its approval, afterwards allowed."""
    assert LANGUAGE == "json"
    (tmp_path / "tokens.json").write_text(ISSUERS)
    (tmp_path / "jwks.json").write_text(json.dumps(key_set(key("one"))))
    _, *words = shlex.split(REGISTER.replace("\\\n", " "))
    subject = words[words.index("--subject") + 1]
    with serving(tmp_path, replica=True, tokens=tmp_path / "tokens.json") as service, releases_loaded_once():
        request = ASK.replace("127.0.0.1:8181", f"127.0.0.1:{service.port}")
        environment = {"PATH": "/usr/bin:/bin", "TOKEN": token(claims(sub=subject))}

        def asked() -> dict[str, object]:
            ran = subprocess.run(["sh", "-c", request], env=environment, capture_output=True, check=True, timeout=20)
            return dict(json.loads(ran.stdout))

        assert asked()["detail"] == "the key is unknown"
        shell = Shell(tmp_path / "engine.db", service.keys)
        ran = shell(*words, key="operator")
        assert ran.code == Code.APPROVAL_MISSING, ran.err
        assert subject in shell("approvals", "show", ran.json[0]["proposal"], key="approver").out
        shell.approved(ran.json[0]["proposal"])
        assert asked()["decision"] is True


def test_the_table_names_every_member_with_its_default() -> None:
    """No member is undocumented, and none has another default."""
    rows = [
        [cell.strip().strip("`") for cell in line.split("|")[1:3]] for line in TEXT.splitlines() if line[:3] == "| `"
    ]
    defaults = dict.fromkeys(anchors.MEMBERS[:3], "needed") | {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in anchors._DEFAULTS.items()
    }
    assert dict(rows) == defaults
