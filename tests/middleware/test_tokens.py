"""Bearer tokens: only what the configured issuer signed for us, with a pinned key, is believed, and only now."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OKPKey

from policy_engine.errors import InputRefused, IssuerUnavailable, NotAuthenticated, StartRefused
from policy_engine.limits import LIMITS
from policy_engine.middleware.head import Head
from policy_engine.middleware.tokens import TokenSubjects, from_jwt
from policy_engine.tokens import keysets
from policy_engine.tokens.keysets import PinnedKeys, UrlKeys
from policy_engine.tokens.verifying import Tokens
from tests.middleware.doors import App, ask, guarded
from tests.middleware.issuing import Issuer, certificate, issuing
from tests.middleware.tokens import AUDIENCE, ISSUER, claims, key, key_set, part, token, unsigned
from tests.remote.hostile import hostile
from tests.remote.test_hostile import trickled

RSA, EC = key("one"), key("two", "EC")


def subjects(**more: Any) -> TokenSubjects:
    """Return subjects by tokens of the issuer."""
    settings: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": key_set(RSA, EC), "tenant": "tenant"}
    return from_jwt(**{**settings, "algorithms": ("RS256", "ES256"), **more})


def sent(bearer: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of a request with a bearer token."""
    return [(b"authorization", b"Bearer " + bearer.encode("latin-1")), (b"content-type", b"application/json")]


def head(bearer: str) -> Head:
    """Return the head of a request with a bearer token."""
    return Head("POST", "/v1/chat/completions", "", sent(bearer), None)


def refused(bearer: str, **more: Any) -> str:
    """Return why a token is refused."""
    with pytest.raises(NotAuthenticated) as found:
        subjects(**more).identify(head(bearer))
    return found.value.message


@pytest.mark.parametrize("jwks", [key_set(RSA), "https://issuer.example/jwks.json", "missing.json"])
def test_a_missing_extra_is_said_before_any_token_comes(jwks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names how to get it, wherever the keys come from; a URL was taken, and failed at each token."""
    monkeypatch.setattr(keysets, "find_spec", lambda name: None)
    with pytest.raises(StartRefused, match=r"pip install 'policy-engine\[jwt\]'"):
        subjects(jwks=jwks)


@pytest.mark.parametrize(("by", "algorithm"), [(RSA, "RS256"), (EC, "ES256")])
def test_a_good_token_names_its_subject(by: Any, algorithm: str) -> None:
    """The subject and tenant are those of the claims, whichever of the keys signed."""
    found = subjects().identify(head(token(by=by, algorithm=algorithm)))
    assert (found.id, found.tenant, found.type) == ("alice", "acme", "person")
    listed = token(claims(aud=["other", AUDIENCE]), header={"typ": "at+jwt"})
    assert subjects().identify(head(listed)).id == "alice"
    unnamed = token(header={"kid": None})
    assert subjects().identify(head(unnamed)).id == "alice"  # the only key for RS256


TWO_ALGS = b'{"alg":"none","alg":"RS256","typ":"JWT","kid":"one"}'

FORGED = {
    "alg none": unsigned({"alg": "none", "typ": "JWT"}),
    "alg None in capitals": unsigned({"alg": "NONE", "typ": "JWT", "kid": "one"}),
    "no alg": unsigned({"typ": "JWT", "kid": "one"}),
    "alg is a list": unsigned({"alg": ["RS256"], "typ": "JWT", "kid": "one"}),
    "HMAC with the public key": token(by=key("one", "oct"), algorithm="HS256"),
    "an algorithm that is not configured": token(algorithm="RS512"),
    "an unknown key": token(by=key("stranger")),
    "our key's name, another key": token(by=key("stranger"), header={"kid": "one"}),
    "a key of its own in the header": token(
        by=key("stranger"), header={"kid": "stranger", "jwk": key("stranger").as_dict(private=False)}
    ),
    "a URL of keys in the header": token(by=key("stranger"), header={"jku": "https://attacker.example/jwks"}),
    "the other kind of key": token(by=RSA, header={"kid": "two"}),
    "no signature": token().rpartition(".")[0] + ".",
    "another body": f"{token().split('.')[0]}.{part(claims(sub='root'))}.{token().split('.')[2]}",
    "wrong typ": token(header={"typ": "dpop+jwt"}),
    "no typ": token(header={"typ": None}),
    "crit": unsigned({"alg": "RS256", "typ": "JWT", "kid": "one", "crit": ["b64"], "b64": False}),
    "two algs": f"{part(TWO_ALGS)}.{part(claims())}.",
    "kid is a number": unsigned({"alg": "RS256", "typ": "JWT", "kid": 7}),
    "an encrypted token": "a.b.c.d.e",
    "two parts": "a.b",
    "no base64": "!!!.???.###",
    "a header that is no object": f"{part([])}.{part({})}.",
    "not UTF-8": f"{part(bytes([0xFF, 0xFE]))}.{part({})}.",
    "deep": f"{part(b'[' * 3_000)}.{part({})}.",
    "too long": "a" * 8_193,
    "other issuer": token(claims(iss="https://other.example")),
    "no issuer": token(claims(iss=None)),
    "wrong audience": token(claims(aud="other")),
    "audience by substring": token(claims(aud=[AUDIENCE + "-2"])),
    "no audience": token(claims(aud=None)),
    "audience is an object": token(claims(aud={AUDIENCE: 1})),
    "expired": token(claims(exp=1)),
    "no exp": token(claims(exp=None)),
    "exp is text": token(claims(exp="9999999999")),
    "exp is true": token(claims(exp=True)),
    "not yet valid": token(claims(nbf=9_999_999_999)),
    "no nbf": token(claims(nbf=None)),
    "no subject": token(claims(sub=None)),
    "the subject is a number": token(claims(sub=7)),
    "an empty subject": token(claims(sub="")),
    "half a character in the subject": token(claims(sub="al\ud800ice")),
    "a line end in the subject": token(claims(sub="alice\n")),
    "half a character in the tenant": token(claims(tenant="\udfff")),
    "an endless subject": token(claims(sub="a" * 257)),
    "no tenant": token(claims(tenant=None)),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_or_stale_token_is_nobody(name: str, engine: Any) -> None:
    """Whatever is wrong with a token, nobody is let in, the answer is 401, and it echoes nothing of the token."""
    app = App()
    answered = ask(guarded(engine, app, subject=subjects()), sent=sent(FORGED[name]))
    assert (answered.status, app.calls) == (401, [])
    assert answered.headers["www-authenticate"] == "Bearer"
    assert not any(piece and piece.encode() in answered.body for piece in FORGED[name].split(".") if len(piece) > 3)


def test_the_reasons_are_told_apart() -> None:
    """Whoever deploys sees which of the common mistakes it is."""
    assert "expired" in refused(FORGED["expired"])
    assert "audience" in refused(FORGED["wrong audience"])
    assert "issuer" in refused(FORGED["other issuer"])
    assert "signature" in refused(FORGED["another body"])


@given(st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=120))
def test_arbitrary_text_is_nobody(bearer: str) -> None:
    """No text fails in any other way than `NotAuthenticated`, or `InputRefused` for a head that is no text."""
    with pytest.raises((NotAuthenticated, InputRefused)):
        subjects().identify(head(bearer))


@given(st.integers(0, 5_000), st.integers(0, 127))
def test_a_token_changed_in_one_place_is_nobody(place: int, by: int) -> None:
    """A signed token with one character changed is refused, unless nothing that is decoded has changed."""
    good = token()
    place %= len(good)
    changed = good[:place] + chr(32 + (ord(good[place]) + by) % 95) + good[place + 1 :]
    try:
        found = subjects().identify(head(changed))
    except (NotAuthenticated, InputRefused):
        return
    assert found.id == "alice"


def test_settings_that_could_verify_anything_are_refused(tmp_path: Path) -> None:
    """Shared secrets, `none`, no algorithm, no issuer, private or weak keys, http URLs: refused when they are set."""
    short = {**RSA.as_dict(private=False), "n": part(bytes(range(1, 129)))}
    bad: list[dict[str, Any]] = [
        {"algorithms": ("HS256",)},
        {"algorithms": ("none",)},
        {"algorithms": ()},
        {"issuer": ""},
        {"audience": ""},
        {"audience": [AUDIENCE]},
        {"leeway_seconds": float("inf")},
        {"leeway_seconds": float("nan")},
        {"leeway_seconds": -1},
        {"jwks": {"keys": []}},
        {"jwks": {"keys": "no list"}},
        {"jwks": {"keys": [key("three", "oct").as_dict()]}},
        {"jwks": {"keys": [{**RSA.as_dict(private=False), "use": "enc"}]}},
        {"jwks": {"keys": [{**RSA.as_dict(private=False), "n": "?"}]}},
        {"jwks": {"keys": [short]}},
        {"jwks": {"keys": [{**short, "n": part(bytes(200) + bytes(range(1, 129)))}]}},
        {"jwks": key_set(OKPKey.generate_key("X25519")), "algorithms": ("EdDSA",)},
        {"jwks": key_set(ECKey.generate_key("secp256k1")), "algorithms": ("ES256",)},
        {"jwks": {"keys": [{**RSA.as_dict(private=False), "kty": ["RSA"]}]}},
        {"jwks": {"keys": [RSA.as_dict(private=False)] * 65}},
        {"jwks": "http://issuer.example/jwks"},
        {"jwks": "https://user@issuer.example/jwks"},
        {"jwks": tmp_path / "missing.json"},
    ]
    for settings in bad:
        with pytest.raises(InputRefused):
            subjects(**settings)


@pytest.mark.parametrize(
    ("own", "algorithm"),
    [
        (ECKey.generate_key("P-384"), "ES384"),
        (ECKey.generate_key("P-521"), "ES512"),
        (OKPKey.generate_key("Ed25519"), "Ed25519"),
    ],
)
def test_keys_of_other_curves_do_not_hide_the_only_one(own: Any, algorithm: str) -> None:
    """A token that names no key is verified with the only one of its algorithm, whatever stands beside it."""
    beside = [ECKey.generate_key("secp256k1"), OKPKey.generate_key("X25519"), RSA, EC]
    found = subjects(jwks=key_set(own, *beside), algorithms=(algorithm,))
    assert found.identify(head(token(by=own, algorithm=algorithm))).id == "alice"


def test_a_pinned_file_is_read_again_when_keys_rotate(tmp_path: Path) -> None:
    """A token of a new key is believed once the file has it, one of a key that left is not; garbage changes nothing."""
    place = tmp_path / "jwks.json"
    place.write_text(json.dumps(key_set(RSA)))
    found = subjects(jwks=place)
    newer = token(by=key("newer"))
    with pytest.raises(NotAuthenticated):
        found.identify(head(newer))
    place.write_text("garbage")
    with pytest.raises(NotAuthenticated):
        found.identify(head(newer))
    assert found.identify(head(token())).id == "alice"
    place.write_text(json.dumps(key_set(key("newer"))))
    assert found.identify(head(newer)).id == "alice"
    with pytest.raises(NotAuthenticated):
        found.identify(head(token()))
    mapping = PinnedKeys(key_set(RSA))
    assert not mapping.is_due("newer")


def test_a_key_that_left_a_pinned_file_is_soon_none(tmp_path: Path) -> None:
    """Even when nobody brings a new key: the file is looked at once in a while, whichever token comes."""
    place, now = tmp_path / "jwks.json", [0.0]
    place.write_text(json.dumps(key_set(RSA)))
    keys = PinnedKeys(place, clock=lambda: now[0])
    tokens = Tokens(keys, issuer=ISSUER, audience=AUDIENCE, algorithms=("RS256",))
    place.write_text(json.dumps(key_set(key("newer"))))
    now[0] = LIMITS.jwks_file_seconds - 0.01
    assert tokens.verify(token())["sub"] == "alice"
    now[0] = LIMITS.jwks_file_seconds
    with pytest.raises(NotAuthenticated, match="key"):
        tokens.verify(token())


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key taken out of it is none soon after it can be read, though nothing but its permission has changed.

    Nobody's made-up tokens make it be read more often than that.
    """
    place, now, tried = tmp_path / "jwks.json", [0.0], [0]
    place.write_text(json.dumps(key_set(RSA)))
    keys = PinnedKeys(place, clock=lambda: now[0])
    tokens = Tokens(keys, issuer=ISSUER, audience=AUDIENCE, algorithms=("RS256",))
    place.write_text(json.dumps(key_set(key("newer"))))

    def denied(path: Path) -> bytes:
        tried[0] += 1
        raise PermissionError

    with monkeypatch.context() as locked:
        locked.setattr(Path, "read_bytes", denied)
        now[0] += LIMITS.jwks_file_seconds
        assert tokens.verify(token())["sub"] == "alice"
        for _ in range(3):
            with pytest.raises(NotAuthenticated):
                tokens.verify(token(by=key("stranger")))
    assert tried == [1]
    now[0] += LIMITS.jwks_file_seconds
    with pytest.raises(NotAuthenticated, match="key"):
        tokens.verify(token())


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Offer a certificate for loopback and its key, as files."""
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def issuer(certified: tuple[Path, Path]) -> Iterator[Issuer]:
    """Run an issuer's endpoint over TLS on loopback."""
    with issuing(certified) as own:
        yield own


def test_a_url_is_fetched_once_and_again_when_keys_rotate(issuer: Issuer, certified: tuple[Path, Path]) -> None:
    """Tokens of known keys fetch nothing; one of an unknown key fetches, at most once in a pause; failure keeps the
    keys until they are too old, and then nobody is believed."""
    now = [1_000.0]
    trusting = ssl.create_default_context(cafile=str(certified[0]))
    keys = UrlKeys(f"https://localhost:{issuer.port}/jwks", tls=trusting, clock=lambda: now[0])
    tokens = Tokens(keys, issuer=ISSUER, audience=AUDIENCE, algorithms=("RS256",))
    for _ in range(3):
        assert tokens.verify(token())["sub"] == "alice"
    assert issuer.asked == 1
    newer = token(by=key("newer"))
    for _ in range(3):
        with pytest.raises(NotAuthenticated):
            tokens.verify(newer)  # within the pause: a flood of made-up key names fetches nothing
    assert issuer.asked == 1
    issuer.document, now[0] = key_set(key("newer")), now[0] + 11
    assert tokens.verify(newer)["sub"] == "alice"
    with pytest.raises(NotAuthenticated):
        tokens.verify(token())
    for status in (500, 302):
        issuer.status, now[0] = status, now[0] + 400
        assert tokens.verify(newer)["sub"] == "alice"
    issuer.status, issuer.document, now[0] = 200, {"keys": ["x" * 300_000]}, now[0] + 400
    assert tokens.verify(newer)["sub"] == "alice"
    now[0] += 4_000
    with pytest.raises(IssuerUnavailable):
        tokens.verify(newer)
    with pytest.raises(NotAuthenticated):
        tokens.verify(FORGED["alg none"])


def test_a_certificate_that_is_not_trusted_gives_no_keys(issuer: Issuer) -> None:
    """Without trust in its certificate the endpoint is not believed, and nobody is let in."""
    keys = UrlKeys(f"https://localhost:{issuer.port}/jwks")
    tokens = Tokens(keys, issuer=ISSUER, audience=AUDIENCE, algorithms=("RS256",))
    with pytest.raises(IssuerUnavailable):
        tokens.verify(token())
    assert issuer.asked == 0


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"])
def test_a_key_set_that_trickles_is_given_up_in_time(certified: tuple[Path, Path], head: bytes) -> None:
    """Each byte comes in time and the whole never does: whoever waits for the keys waits no longer than is said."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*certified)
    trusting = ssl.create_default_context(cafile=str(certified[0]))
    with hostile(trickled(b" " * 100, 0.05, head=head), serving) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        keys = UrlKeys(url, tls=trusting, limits=replace(LIMITS, jwks_seconds=1.0))
        began = time.monotonic()
        keys.refresh(None)
        assert time.monotonic() - began < 3.5 and len(server.asked) == 1
    assert not keys.is_known()


def test_while_no_keys_are_known_the_answer_is_no_refusal_of_the_token(
    issuer: Issuer, certified: tuple[Path, Path], engine: Any
) -> None:
    """The application is not reached and the client may come again; a token that is wrong anyway is still a 401."""
    issuer.status = 500
    trusting = ssl.create_default_context(cafile=str(certified[0]))
    keys = UrlKeys(f"https://localhost:{issuer.port}/jwks", tls=trusting)
    tokens = TokenSubjects(Tokens(keys, issuer=ISSUER, audience=AUDIENCE, algorithms=("RS256",)), tenant="tenant")
    app = App()
    door = guarded(engine, app, subject=tokens, location="US")
    assert [ask(door, sent=sent(each)).status for each in (token(), FORGED["alg none"])] == [503, 401]
    assert app.calls == []


def test_the_door_fetches_keys_beside_its_event_loop(issuer: Issuer, certified: tuple[Path, Path], engine: Any) -> None:
    """The first request of an asynchronous door fetches the set in another thread and is let in."""
    trusting = ssl.create_default_context(cafile=str(certified[0]))
    keys = UrlKeys(f"https://localhost:{issuer.port}/jwks", tls=trusting)
    tokens = TokenSubjects(Tokens(keys, issuer=ISSUER, audience=AUDIENCE, algorithms=("RS256",)), tenant="tenant")
    door = guarded(engine, App(), subject=tokens, location="US")
    assert ask(door, sent=sent(token())).status == 200
    assert issuer.asked == 1


@pytest.mark.parametrize("kind", ["asynchronous", "threads"])
@pytest.mark.parametrize("rotated", [False, True])
def test_whoever_comes_while_keys_are_fetched_is_let_in_with_them(
    issuer: Issuer, certified: tuple[Path, Path], kind: str, rotated: bool
) -> None:
    """At the first request, and when keys rotate, all who need the keys wait for the one fetch: the others were told
    that the keys cannot be had, or that theirs is not accepted. Who is known by the older keys waits for nobody."""
    now, trusting = [1_000.0], ssl.create_default_context(cafile=str(certified[0]))
    keys = UrlKeys(issuer.url, tls=trusting, clock=lambda: now[0])
    tokens = Tokens(keys, issuer=ISSUER, audience=AUDIENCE, algorithms=("RS256",))
    wanted = token(by=key("newer")) if rotated else token()
    if rotated:
        tokens.verify(token())
        issuer.document, now[0] = key_set(key("one"), key("newer")), now[0] + 11
    before = issuer.asked
    issuer.open.clear()
    threading.Timer(0.3, issuer.open.set).start()

    async def together() -> list[Any]:
        asking = [asyncio.ensure_future(tokens.verify_async(wanted)) for _ in range(5)]
        await asyncio.sleep(0.1)
        if rotated:
            assert (await asyncio.wait_for(tokens.verify_async(token()), 0.1))["sub"] == "alice"
        return await asyncio.gather(*asking, tokens.verify_async(wanted))

    if kind == "asynchronous":
        found = asyncio.run(together())
    else:
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(tokens.verify, [wanted] * 6))
    assert [each["sub"] for each in found] == ["alice"] * 6
    assert issuer.asked == before + 1


def test_a_verified_token_is_known_only_while_its_key_and_its_times_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token seen again is not verified again; it ends with its time, and with the key that verified it."""
    from policy_engine.tokens import verifying as module

    place, now, verified = tmp_path / "jwks.json", [0.0], list[str]()
    place.write_text(json.dumps(key_set(RSA)))
    keys = PinnedKeys(place)
    limits = replace(LIMITS, tokens_kept_count=2)
    clock = lambda: now[0]  # noqa: E731  moved by the test
    checked = Tokens(keys, issuer=ISSUER, audience=AUDIENCE, algorithms=("RS256",), clock=clock, limits=limits)
    honest = module._verified_by

    def counted(key: Any, algorithm: str, text: str) -> Any:
        verified.append(text)
        return honest(key, algorithm, text)

    monkeypatch.setattr(module, "_verified_by", counted)
    signed = [token(claims(sub=name, nbf=0, exp=100)) for name in ("alice", "bruno", "chen")]
    for _ in range(3):
        assert checked.verify(signed[0])["sub"] == "alice"
    assert verified == [signed[0]]
    now[0] = 100.0
    with pytest.raises(NotAuthenticated, match="expired"):
        checked.verify(signed[0])
    now[0] = 0.0
    for each in (*signed, signed[0]):  # the third pushes the first out
        checked.verify(each)
    assert verified == [signed[0], signed[1], signed[2], signed[0]]
    place.write_text(json.dumps(key_set(key("newer"))))
    keys.refresh(None)
    with pytest.raises(NotAuthenticated, match="key"):
        checked.verify(signed[2])
