"""Tokens that must let nobody in, each named by its attack, sent over HTTP to a service that trusts two issuers.

Every door that takes a key is tried. The control beside all of them is that the good token, made the same way, is let
in at each.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from joserfc import jws

from policy_engine.core.decision import PrincipalKind
from policy_engine.limits import LIMITS
from policy_engine.services.keys import KeyRequest, TokenIdentity
from tests.middleware.tokens import AUDIENCE, ISSUER, claims, key, key_set, part, token, unsigned
from tests.tokens.parties import DOORS, EDGE, OTHER_ISSUER, ROTATING, Trusting, good, knock, trusting


@pytest.fixture(scope="module")
def party(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trusting]:
    """Offer one service to all attacks."""
    with trusting(tmp_path_factory.mktemp("tokens")) as running:
        yield running


def is_out(party: Trusting, bearer: bytes | str) -> bool:
    """Say whether no door lets in what was sent, with 401, without an entry, and without saying any of it back."""
    sent = bearer if isinstance(bearer, bytes) else bearer.encode("ascii")
    before = party.service.entries()
    return is_refused(party, sent) and party.service.entries() == before


def is_refused(party: Trusting, sent: bytes) -> bool:
    """Say the same, whatever was recorded: a deny may be, of who was let in until just now."""
    pieces = [piece for piece in sent.split(b".") if len(piece) > 6]
    answers = [knock(party, door, sent) for door in DOORS]
    return all(each.status_code == 401 and not any(piece in each.content for piece in pieces) for each in answers)


def is_in(party: Trusting, bearer: str) -> bool:
    """Say whether every door lets in what was sent."""
    return all(knock(party, door, bearer.encode()).status_code == 200 for door in DOORS)


def altered(text: bytes) -> str:
    """Return a token of our key whose payload is these bytes; whoever signs chooses them."""
    return str(jws.serialize_compact({"alg": "RS256", "typ": "JWT", "kid": "one"}, text, key("one")))


def signed_with_the_public_key(public: bytes) -> str:
    """Return a token whose HMAC secret is the issuer's public key: public to everybody."""
    said = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'one'})}.{part(OWN)}"
    return f"{said}.{part(hmac.digest(public, said.encode(), 'sha256'))}"


def with_header(**more: Any) -> str:
    """Return a token signed by a stranger's key, with more in its header."""
    return token(claims(sub=EDGE), by=key("stranger"), header={"kid": "one", **more})


def ending(text: bytes) -> str:
    """Return a token of our key whose `exp` is written like this."""
    return altered(TWICE.replace(b'"exp"', b'"was"') + b', "exp": ' + text + b"}")


OWN = claims(sub=EDGE, exp=int(time.time()) + 86_400)  # made when the tests are collected, and good until they ran
TWICE = json.dumps(OWN)[:-1].encode()
ATTACKS: dict[str, Any] = {
    "alg none": lambda: unsigned({"alg": "none", "typ": "JWT", "kid": "one"}, OWN),
    "alg None in capitals": lambda: unsigned({"alg": "NONE", "typ": "JWT", "kid": "one"}, OWN),
    "alg none with the signature of a good token": lambda: unsigned(
        {"alg": "none", "typ": "JWT", "kid": "one"}, OWN, good().split(".")[2]
    ),
    "HS256 signed with the public key as PEM": lambda: signed_with_the_public_key(key("one").as_pem(private=False)),
    "HS256 signed with the public key as JWK": lambda: signed_with_the_public_key(
        json.dumps(key_set(key("one"))["keys"][0]).encode()
    ),
    "an algorithm that is not configured": lambda: token(OWN, algorithm="RS512"),
    "no signature": lambda: good().rpartition(".")[0] + ".",
    "the signature of another token": lambda: f"{good().rpartition('.')[0]}.{good('somebody').split('.')[2]}",
    "another body": lambda: f"{good('x').split('.')[0]}.{part(OWN)}.{good('x').split('.')[2]}",
    "wrong audience": lambda: good(aud="another"),
    "an audience that begins like ours": lambda: good(aud=f"{AUDIENCE}-2"),
    "no audience": lambda: good(aud=None),
    "wrong issuer": lambda: good(iss="https://attacker.example"),
    "an issuer that is a list with ours in it": lambda: good(iss=[ISSUER]),
    "an issuer that begins like ours": lambda: good(iss=f"{ISSUER}/"),
    "no issuer": lambda: good(iss=None),
    "expired": lambda: good(exp=int(time.time()) - 1),
    "no exp": lambda: good(exp=None),
    "exp is infinite": lambda: ending(b"Infinity"),
    "exp is beyond floating point": lambda: ending(b"1" + b"0" * 400),
    "exp overflows to infinity": lambda: ending(b"1e999"),
    "exp is not a number": lambda: ending(b"NaN"),
    "exp is text": lambda: good(exp="9999999999"),
    "not yet valid": lambda: good(nbf=int(time.time()) + 60),
    "no nbf": lambda: good(nbf=None),
    "unknown kid": lambda: token(OWN, by=key("stranger")),
    "our kid, another key": lambda: with_header(),
    "kid is a path": lambda: with_header(kid="../../../../dev/null"),
    "the key of the other issuer": lambda: token(OWN, by=key("bee")),
    "the other issuer's key under our kid": lambda: token(OWN, by=key("bee"), header={"kid": "one"}),
    "jku in the header": lambda: with_header(jku="https://attacker.example/jwks"),
    "x5u in the header": lambda: with_header(x5u="https://attacker.example/cert"),
    "jwk in the header": lambda: with_header(kid="stranger", jwk=key("stranger").as_dict(private=False)),
    "crit": lambda: unsigned({"alg": "RS256", "typ": "JWT", "kid": "one", "crit": ["exp"]}, OWN),
    "b64": lambda: unsigned({"alg": "RS256", "typ": "JWT", "kid": "one", "b64": False}, OWN),
    "another type": lambda: token(OWN, header={"typ": "dpop+jwt"}),
    "no type": lambda: token(OWN, header={"typ": None}),
    "doubled member in the header": lambda: (
        part(b'{"alg":"none","alg":"RS256","typ":"JWT","kid":"one"}') + "." + good().partition(".")[2]
    ),
    "doubled member in the payload": lambda: altered(TWICE + b', "sub": "%s"}' % EDGE.encode()),
    "a payload that is not UTF-8": lambda: altered(TWICE + b', "x": "\xff"}'),
    "a payload that is a list": lambda: altered(b"[]"),
    "a payload that is deep": lambda: altered(b"[" * 3_000),
    "a header that is not UTF-8": lambda: f"{part(bytes([0xFF, 0xFE]))}.{part(OWN)}.{part(b'x')}",
    "not ASCII": lambda: b"\xff\xfe." + good().encode().partition(b".")[2],
    "characters that decoding would drop": lambda: "!" + good(),
    "padding": lambda: good().replace(".", "=.", 1),
    "huge": lambda: good(filler="a" * 8_200),
    "no subject": lambda: good(None),
    "a subject that is a number": lambda: good(7),
    "a subject that is empty": lambda: good(""),
    "a subject that is half a character": lambda: good("\ud800"),
    "a subject with a line end": lambda: good(f"{EDGE}\n"),
    "an endless subject": lambda: good("a" * 257),
    "an unregistered subject": lambda: good("nobody-here"),
    "a registered subject in capitals": lambda: good(EDGE.upper()),
    "a subject that looks like a key's id": lambda: good("first-1"),
    "a subject that is local": lambda: good("local"),
    "a subject that is drill": lambda: good("drill"),
    "a subject that is a sample person's name": lambda: good("operator"),
    "an encrypted token": lambda: "a.b.c.d.e",
    "two parts": lambda: "a.b",
    "only points": lambda: "..",
}  # fmt: skip


def test_a_good_token_is_let_in_at_every_door(party: Trusting) -> None:
    """The control of every attack below: made by the same hands, with nothing wrong, it is let in."""
    assert is_in(party, good())
    assert is_in(party, token(claims(sub=EDGE), by=key("two", "EC"), algorithm="ES256"))
    assert is_in(party, altered(TWICE + b"}"))


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(party: Trusting, name: str) -> None:
    """Every door answers 401, says nothing of the token back, and writes no entry.

    Control: policy_engine/tokens/verifying.py:
    `if audiences != self._audience and not (isinstance(audiences, list) and self._audience in audiences):`
    """
    assert is_out(party, ATTACKS[name]())


def test_the_sentence_for_an_unregistered_subject_is_that_for_an_unknown_key(party: Trusting) -> None:
    """Nobody learns from it which subjects are registered, or that the token was good."""
    stranger = knock(party, "evaluation", good("nobody-here").encode()).json()
    unknown = knock(party, "evaluation", b"pe_" + b"x" * 43).json()
    assert stranger == unknown and stranger["detail"] == "the key is unknown"


def test_the_longest_token(party: Trusting) -> None:
    """At its limit a token is taken, one past it not; three quarters of it are the payload."""
    spare = LIMITS.token_bytes - len(good(filler=""))
    lengths = {
        len(bearer): bearer
        for fill in range(spare // 4 * 3 - 3, spare // 4 * 3 + 9)
        if (bearer := good(filler="a" * fill))
    }
    edge = max(length for length in lengths if length <= LIMITS.token_bytes)
    past = min(length for length in lengths if length > LIMITS.token_bytes)
    assert LIMITS.token_bytes - edge <= 1 and past - LIMITS.token_bytes <= 2
    assert is_in(party, lengths[edge])
    assert is_out(party, lengths[past])


def test_a_token_beyond_what_a_head_may_hold(party: Trusting) -> None:
    """Nothing of a megabyte gets anywhere, and the service goes on."""
    with httpx2.Client(base_url=str(party.service.client.base_url)) as other:
        try:
            answer = other.get("/v1/models", headers={"Authorization": "Bearer " + "a" * 1_000_000})
            assert answer.status_code in (400, 401, 413, 431)
        except httpx2.TransportError:
            pass  # it hung up, which is an answer too
    assert is_in(party, good())


def test_two_tokens_in_one_request(party: Trusting) -> None:
    """Two headers are refused, whichever of them is good."""
    both = [("Authorization", f"Bearer {good()}"), ("Authorization", f"Bearer {good('nobody-here')}")]
    for headers in (both, both[::-1]):
        assert party.service.client.get("/v1/models", headers=headers).status_code == 400


def test_a_subject_registered_under_another_issuer(party: Trusting) -> None:
    """The same subject of the first issuer is somebody else, and nobody here."""
    party.register("shared-name", issuer=OTHER_ISSUER)
    assert is_out(party, good("shared-name"))
    assert is_in(party, token(claims(sub="shared-name", iss=OTHER_ISSUER), by=key("bee")))
    assert is_out(party, token(claims(sub="shared-name", iss=OTHER_ISSUER)))  # signed by the first


def test_a_subject_named_like_what_has_no_key(party: Trusting) -> None:
    """Registered, `local`, `drill` and the id of a key are subjects like others: entries name the row, not them."""
    for subject in ("local", "drill", "first-1"):
        id = party.register(subject, name=f"named-{subject}")
        assert knock(party, "evaluation", good(subject).encode()).json()["decision"] is True
        public = json.loads([public for _, _, public in party.service.engine.store.entries()][-1])
        assert public["by"] == id
        party.service.engine.keys.revoke(party.person("operator"), id)
        assert is_refused(party, good(subject).encode())


def test_a_revoked_row(party: Trusting) -> None:
    """The token is as good as before, and its row says no: the next question is 401, with the sentence of a key."""
    id = party.register("revoked-soon")
    assert is_in(party, good("revoked-soon"))
    party.service.engine.keys.revoke(party.person("operator"), id)
    assert is_refused(party, good("revoked-soon").encode())
    assert is_out(party, good("revoked-soon"))
    assert knock(party, "evaluation", good("revoked-soon").encode()).json()["detail"] == "the key is revoked"


def test_an_expired_row(party: Trusting) -> None:
    """A row that ends before its token ends it."""
    ends = party.service.engine.store.now() + 400_000
    party.register("expires-soon", expires_at=ends)
    assert is_in(party, good("expires-soon"))
    time.sleep(max(0.0, (ends - party.service.engine.store.now()) / 1_000_000) + 0.01)
    assert is_out(party, good("expires-soon"))
    assert knock(party, "evaluation", good("expires-soon").encode()).json()["detail"] == "the key has expired"


def test_a_token_that_was_verified_ends_with_its_time(party: Trusting) -> None:
    """Known by its hash or not, after `exp` it is nobody's.

    Control: policy_engine/tokens/verifying.py: `if now >= until:`
    """
    short = good(exp=time.time() + 0.6)
    assert is_in(party, short)
    time.sleep(0.7)
    assert is_out(party, short)


def test_the_text_whose_hash_the_register_holds(party: Trusting) -> None:
    """What is hashed for an identity is public: sent as a key it is nobody; a key made of its hash lets no token in."""
    assert is_out(party, f"jwt {ISSUER} {EDGE}")
    engine = party.service.engine
    digest = TokenIdentity(ISSUER, "smuggled").digest()
    asked = KeyRequest("smuggler", PrincipalKind.SERVICE, ("decide",))
    issued = engine.keys.create(party.person("operator"), asked, key_hash=digest)
    engine.approvals.approve(party.person("approver"), issued.proposal)
    assert is_out(party, good("smuggled"))


MANAGEMENT = (
    ("POST", "/v1/switches", {"id": "by-token", "scope": {"models": ["fable-5"]}, "reason": "why"}),
    ("POST", "/v1/subjects", {"id": "alice", "facts": {}}),
    ("POST", "/v1/orders", {"kind": "override", "id": "by-token", "reason": "why"}),
    ("GET", "/v1/decisions", None),
    ("GET", "/v1/approvals", None),
)


@pytest.mark.parametrize(("method", "path", "body"), MANAGEMENT, ids=[path for _, path, _ in MANAGEMENT])
def test_management_without_the_scope(party: Trusting, method: str, path: str, body: Any) -> None:
    """A token gives what its row gives: an enforcement point's opens no route beside questions."""
    before = party.service.engine.store.state().epoch
    headers = {"Authorization": f"Bearer {good()}"}
    answer = party.service.client.request(method, path, headers=headers, json=body)
    assert answer.status_code == 403, answer.text
    assert party.service.engine.store.state().epoch == before


def test_claims_that_ask_for_more(party: Trusting) -> None:
    """Scopes, kinds and tenants that a token claims are nothing: the row alone says what its bearer may do."""
    greedy = good(
        scope="decide switch:engage keys:write", scopes=["approve"], kind="person", tenants=None, key_id="first-1"
    )
    headers = {"Authorization": f"Bearer {greedy}"}
    body = {"id": "greedy", "scope": {"models": ["fable-5"]}, "reason": "why"}
    assert party.service.client.post("/v1/switches", headers=headers, json=body).status_code == 403


def test_a_person_by_token_is_that_person_and_cannot_approve_alone(party: Trusting) -> None:
    """Law 11: who proposes by a key and approves by a token, or the other way, is one person and is refused."""
    party.register("sub-of-olga", name="olga", kind=PrincipalKind.PERSON, scopes=("approve", "switch:engage"))
    party.register("sub-2-of-olga", name="olga", kind=PrincipalKind.PERSON, scopes=("switch:release",))
    headers = {"Authorization": f"Bearer {good('sub-of-olga')}"}
    body = {"id": "law-11", "scope": {"models": ["open-1"]}, "reason": "why"}
    client = party.service.client
    assert client.post("/v1/switches", headers=headers, json=body).status_code == 201
    releasing = {"Authorization": f"Bearer {good('sub-2-of-olga')}"}
    waits = client.post("/v1/switches/law-11/release", headers=releasing, json={"reason": "over"})
    assert waits.status_code == 202, waits.text
    proposal = waits.json()["proposal"]
    seen = party.service.get(f"/v1/approvals/{proposal}", key="approver").json()
    own = client.post(f"/v1/approvals/{proposal}/approve", headers=headers, json={"hash": seen["hash"]})
    assert own.status_code == 403, own.text
    other = party.service.post(f"/v1/approvals/{proposal}/approve", {"hash": seen["hash"]}, key="approver")
    assert other.status_code == 200, other.text


def test_rotated_keys(party: Trusting) -> None:
    """After the file of keys changed a token of the new key is taken at once, one of the old key soon never again.

    Even when nobody brings the new key: the file is looked at because time has passed.
    """
    party.register(EDGE, issuer=ROTATING, name="rotating")
    old, new, newest = (token(claims(sub=EDGE, iss=ROTATING), by=key(name)) for name in ("one", "newer", "newest"))
    keys = party.folder / "rotating.json"
    assert is_in(party, old) and is_out(party, new)
    keys.write_text(json.dumps(key_set(key("newer"))))
    time.sleep(LIMITS.jwks_file_seconds + 0.05)
    assert is_out(party, old)
    assert is_in(party, new)
    keys.write_text(json.dumps(key_set(key("newest"))))
    assert is_in(party, newest)
    assert is_out(party, new)
