"""The file of issuers: what it may say, and the sentence for each thing that it may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policy_engine.bootstrap import open_engine
from policy_engine.errors import StartRefused
from policy_engine.limits import LIMITS
from policy_engine.settings import Settings
from policy_engine.tokens import keysets
from policy_engine.tokens.anchors import read_anchors
from tests.conftest import POLICIES
from tests.middleware.tokens import AUDIENCE, ISSUER, key, key_set
from tests.tokens.parties import anchor


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Offer a folder with a set of keys."""
    (tmp_path / "jwks.json").write_text(json.dumps(key_set(key("one"))))
    (tmp_path / "empty.json").write_text('{"keys": []}')
    return tmp_path


def written(folder: Path, content: Any) -> Path:
    """Write the file of issuers."""
    place = folder / "tokens.json"
    place.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return place


def test_what_stands_in_it_is_what_is_trusted(folder: Path) -> None:
    """Members that are left out have the defaults of `from_jwt`; a file of keys lies beside, a URL is not asked."""
    full = anchor("https://issuer.example/jwks", "https://b.example", claim="client_id", types=["at+jwt"])
    full |= {"algorithms": ["ES256", "ES256"], "leeway_seconds": 1.5}
    first, second = read_anchors(written(folder, [anchor("jwks.json"), full]))
    assert (first.issuer, first.audience, first.claim, first.leeway_seconds) == (ISSUER, AUDIENCE, "sub", 0.0)
    assert (first.algorithms, set(first.types)) == (("RS256",), {"jwt", "at+jwt"})
    assert first.keys.find("one", "RS256") is not None
    assert (second.algorithms, second.claim, second.types) == (("ES256",), "client_id", ("at+jwt",))
    assert second.leeway_seconds == 1.5 and second.keys.is_due(None)


def changed(**more: Any) -> list[dict[str, Any]]:
    """Return a list of one issuer with members changed; `...` leaves one out."""
    return [{name: value for name, value in {**anchor("jwks.json"), **more}.items() if value is not ...}]


REFUSED: dict[str, tuple[Any, str]] = {
    "no JSON": (b"[", "not JSON"),
    "not UTF-8": (b'["\xff"]', "not JSON"),
    "a member twice": (b'[{"issuer": "a", "issuer": "b"}]', "stand once"),
    "an object": (anchor("jwks.json"), "a list"),
    "an empty list": ([], "a list of 1 to 16"),
    "too many": ([anchor("jwks.json", f"https://{n}.example") for n in range(17)], "a list of 1 to 16"),
    "an issuer twice": ([anchor("jwks.json")] * 2, "stands twice"),
    "a text": (["x"], "issuer 1: must be an object"),
    "a member that is none": (changed(jkws="x"), "issuer 1: must be an object"),
    "no audience": (changed(audience=...), "issuer 1: must be an object"),
    "no keys": (changed(jwks=...), "issuer 1: must be an object"),
    "an empty issuer": (changed(issuer=""), "issuer 1: issuer"),
    "an issuer with a line end": (changed(issuer="https://a\nb"), "issuer 1: issuer"),
    "an audience that is a list": (changed(audience=["models"]), "issuer 1: audience"),
    "a claim that is a number": (changed(claim=7), "issuer 1: claim"),
    "a shared secret": (changed(algorithms=["HS256"]), "issuer 1: algorithms: must be among"),
    "algorithm none": (changed(algorithms=["RS256", "none"]), "issuer 1: algorithms"),
    "no algorithm": (changed(algorithms=[]), "issuer 1: algorithms"),
    "algorithms that are a text": (changed(algorithms="RS256"), "issuer 1: algorithms"),
    "no type": (changed(types=[]), "issuer 1: types"),
    "a leeway below nothing": (changed(leeway_seconds=-1), "issuer 1: leeway_seconds"),
    "a leeway of an hour": (changed(leeway_seconds=3_600), "issuer 1: leeway_seconds"),
    "a leeway that is true": (changed(leeway_seconds=True), "issuer 1: leeway_seconds"),
    "a leeway that is no number": (changed(leeway_seconds=float("nan")), "issuer 1: leeway_seconds"),
    "a set that is not there": (changed(jwks="missing.json"), "issuer 1: jwks: cannot be read"),
    "a set without keys": (changed(jwks="empty.json"), "issuer 1: jwks: holds no public key"),
    "a URL without TLS": (changed(jwks="http://issuer.example/jwks"), "issuer 1: jwks: must be one https URL"),
    "a URL with a port that is none": (changed(jwks="https://issuer.example:99999/jwks"), "jwks: must be one https"),
    "a URL with a port of letters": (changed(jwks="https://issuer.example:tls/jwks"), "jwks: must be one https"),
    "a URL with half an address": (changed(jwks="https://[::1/jwks"), "issuer 1: jwks: must be one https URL"),
    "the second is wrong": ([*changed(), *changed(issuer="https://b.example", claim="")], "issuer 2: claim"),
    "too large": (b" " * (LIMITS.document_bytes + 1), "larger than"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_wrong_refuses_the_start(folder: Path, name: str) -> None:
    """The sentence says which issuer and member it is, and repeats no value; no database is left behind."""
    content, sentence = REFUSED[name]
    place = written(folder, content)
    with pytest.raises(StartRefused) as refused:
        open_engine(Settings(database=f"sqlite:///{folder / 'e.db'}", policies=POLICIES, tokens=place), serving=True)
    assert sentence in str(refused.value) and str(refused.value).startswith(str(place))
    assert "issuer.example" not in refused.value.message and not (folder / "e.db").exists()


def test_a_file_that_is_not_there_refuses_the_start(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(StartRefused, match=r"missing\.json: the file of issuers cannot be read"):
        read_anchors(tmp_path / "missing.json")


def test_a_missing_extra_is_said_clearly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names how to get it."""
    monkeypatch.setattr(keysets, "find_spec", lambda name: None)
    with pytest.raises(StartRefused, match=r"pip install 'policy-engine\[jwt\]'"):
        read_anchors(written(folder, [anchor("jwks.json")]))
