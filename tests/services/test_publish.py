"""Releases as a service: what is stored, published and activated, by whom, and what a bad one leaves behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
from pysqlite3 import dbapi2

from policy_engine.core.plain import AnyRelease
from policy_engine.errors import Conflict, InputRefused, LoadRefused, NotFound, NotPermitted, TooLarge
from policy_engine.limits import Limits
from policy_engine.rules.release import load_release, read_folder
from policy_engine.services.approvals import Approvals
from policy_engine.services.permissions import LOCAL
from policy_engine.services.publish import Publish
from policy_engine.services.releases import ReleaseLoader, read_files
from policy_engine.services.vocabulary import ANYTHING, vocabulary_of
from policy_engine.store.interfaces import Change
from policy_engine.store.registerinterfaces import RegisterReader
from tests.rules.plainfolders import folder
from tests.services.governed import House, open_house

FOLDER = Path(__file__).parents[2] / "policies"


@cache
def sample() -> Mapping[str, bytes]:
    """Return the files of the sample release."""
    return read_folder(FOLDER)


def another(number: int = 1) -> dict[str, bytes]:
    """Return a release that differs from the sample in a comment of its catalogue."""
    return {**sample(), "models.toml": sample()["models.toml"] + b"\n# %d\n" % number}


@pytest.fixture
def released(tmp_path: Path) -> Iterator[House]:
    """Offer the services on a database whose genesis activated the sample release."""
    house = open_house(tmp_path, release=False, releases=ReleaseLoader())
    first = house.publish.genesis_release(sample(), "the sample")
    house.store.change(Change("genesis", {}, first.writes, raises_epoch=True, activate=first.hash, blobs=first.blobs))
    yield house
    house.close()


def approved(house: House, proposal_id: str) -> None:
    """Have paul approve a proposal."""
    house.approvals.approve(house["paul"], proposal_id)


def test_the_first_release_is_part_of_the_genesis(released: House) -> None:
    """The pieces for a genesis change store, publish and activate a release whose files read back as they were."""
    release = released.publish.show(LOCAL, released.store.state().release)
    assert (release.status, release.active, release.note) == ("published", True, "the sample")
    assert read_files(released.store, release.hash) == released.publish.files(LOCAL, release.hash) == sample()


def test_a_new_release_takes_two_persons_twice(released: House) -> None:
    """Publishing stores the content and waits; only once published may it be activated, which waits again."""
    before = released.store.state()
    proposal = released.publish.publish(released["olga"], another(), "a comment")
    hash = proposal.payload["hash"]
    assert released.store.state() == before
    assert released.publish.show(LOCAL, hash).status == "stored"
    with pytest.raises(Conflict, match="not published yet"):
        released.publish.activate(released["olga"], hash)
    approved(released, proposal.id)
    shown = released.publish.show(LOCAL, hash)
    assert (shown.status, shown.active, shown.published_by, shown.approved_by) == ("published", False, "olga", "paul")
    activation = released.publish.activate(released["olga"], hash, "on Monday")
    assert released.store.state().release == before.release
    approved(released, activation.id)
    assert (released.store.state().release, released.kinds()[-1]) == (hash, "release.activated")
    assert [release.hash for release in released.publish.list(LOCAL) if release.active] == [hash]


def test_a_release_that_does_not_load_changes_nothing(released: House) -> None:
    """Files that are refused leave no row, no content and no proposal; the active release stays."""
    before = (released.store.state(), released.kinds())
    for broken in (
        {**sample(), "model.conf": b"[request_definition]\nr = nothing\n"},
        {name: content for name, content in sample().items() if name != "facets.toml"},
        {},
    ):
        with pytest.raises(LoadRefused):
            released.publish.publish(released["olga"], broken)
    assert (released.store.state(), released.kinds()) == before
    assert released.approvals.list(released["paul"]) == ()


def test_a_release_beyond_the_limit_is_refused(released: House) -> None:
    """A release of more bytes than allowed is refused before it is read."""
    size = sum(len(content) for content in sample().values())
    for limit, fits in ((size, True), (size - 1, False)):
        limits = dataclasses.replace(Limits(), release_bytes=limit)
        publish = Publish(released.store, Approvals(released.store), ReleaseLoader(), limits=limits)
        if fits:
            assert publish.genesis_release(sample()).hash
        else:
            with pytest.raises(LoadRefused, match=str(limit)):
                publish.genesis_release(sample())


def test_publishing_the_same_again(released: House) -> None:
    """Content that is stored already may be proposed again; a published release may not; a note has a bound."""
    first = released.publish.publish(released["olga"], another())
    second = released.publish.publish(released["quinn"], another(), "the same")
    approved(released, second.id)
    with pytest.raises(Conflict):
        approved(released, first.id)
    with pytest.raises(Conflict, match="published already"):
        released.publish.publish(released["olga"], another())
    with pytest.raises(TooLarge):
        released.publish.publish(released["olga"], another(2), "x" * 1_025)


def test_two_processes_storing_the_same_content_at_once(released: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content that another process stored in between is the same release, so it is proposed all the same."""
    change = released.store.change

    def meanwhile(own: Change) -> object:
        monkeypatch.undo()
        released.publish.publish(released["quinn"], another())
        return change(own)

    monkeypatch.setattr(released.store, "change", meanwhile)
    proposal = released.publish.publish(released["olga"], another())
    approved(released, proposal.id)


def test_storing_that_loses_its_key_is_refused(released: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the proposer's key is revoked before the content is stored, nothing is stored."""
    change = released.store.change

    def meanwhile(own: Change) -> object:
        monkeypatch.undo()
        released.keys.revoke(released["quinn"], "olga")
        return change(own)

    monkeypatch.setattr(released.store, "change", meanwhile)
    with pytest.raises(Conflict):
        released.publish.publish(released["olga"], another())
    assert len(released.publish.list(LOCAL)) == 1


def test_activations_race(released: House) -> None:
    """Of two activations proposed under one active release, the second to be approved fails and is logged as failed."""
    activations = []
    for number in (1, 2):
        proposal = released.publish.publish(released["olga"], another(number))
        approved(released, proposal.id)
        activations.append(released.publish.activate(released["olga"], proposal.payload["hash"]))
    approved(released, activations[0].id)
    with pytest.raises(Conflict, match="active release"):
        approved(released, activations[1].id)
    assert released.store.state().release == activations[0].payload["hash"]
    assert released.approvals.show(released["paul"], activations[1].id).status == "failed"


def test_what_cannot_be_activated(released: House) -> None:
    """The active release, and one that is not stored, are not proposed for activation."""
    with pytest.raises(Conflict, match="active already"):
        released.publish.activate(released["olga"], released.store.state().release)
    for read in (released.publish.activate, released.publish.show, released.publish.files):
        with pytest.raises(NotFound):
            read(released["olga"], "sha256:" + "00" * 32)


ALIAS = b'aliases = ["fable-latest"]\n'
"""The line that makes `fable-latest` mean `fable-5` in the sample's catalogue."""

TAKEN = {
    "the alias is gone": (ALIAS, b""),
    "the alias moved": (b'id = "fable-5-1"\n', b'id = "fable-5-1"\n' + ALIAS),
    "another family": (b'family = "fable"', b'family = "tale"'),
    "another tier": (b"tier = 4", b"tier = 3"),
    "the alias became a model": (ALIAS, b""),
    "no base": (b'base = ["fable-5"]\n', b""),
}
"""Changes of a catalogue that take a model from an order, by what they do."""

TUNED = (
    b'\n[[model]]\nid = "tuned"\ntier = 5\nstatus = "available"\nfamily = "own"\nbase = ["fable-5"]\n'
    b'permitted_serving_regions = ["US"]\nnationality_test = "EAR"\n'
)
EASED = {"models": ["fable-latest"], "who": "lab_foreign_national_employees"}


def edited(change: str) -> dict[str, bytes]:
    """Return the sample release with a derivative of `fable-5`, changed in one way."""
    old, new = TAKEN[change]
    catalogue = sample()["models.toml"] + TUNED
    if change == "the alias moved":
        catalogue = catalogue.replace(ALIAS, b"")
    if change == "the alias became a model":
        catalogue += TUNED.replace(b'"tuned"', b'"fable-latest"')
    return {**sample(), "models.toml": catalogue.replace(old, new)}


def published(house: House, files: Mapping[str, bytes]) -> str:
    """Return the hash of a release that two have published."""
    proposal = house.publish.publish(house["olga"], files)
    approved(house, proposal.id)
    return str(proposal.payload["hash"])


def with_derivative(house: House) -> None:
    """Make the sample release with a derivative of `fable-5` the active one."""
    hash = published(house, {**sample(), "models.toml": sample()["models.toml"] + TUNED})
    approved(house, house.publish.activate(house["olga"], hash).id)


@pytest.mark.parametrize(
    ("change", "order"),
    [
        ("the alias is gone", {"models": ["fable-latest"]}),
        ("the alias moved", {"models": ["fable-latest"], "actions": ["infer"]}),
        ("another family", {"families": ["fable"]}),
        ("another tier", {"tiers": [4]}),
        ("no base", {"models": ["fable-5"]}),
        ("the alias is gone", {"id": "d", "models": ["fable-latest"], "blocks": ["foreign_person"]}),
        ("no base", {"id": "d", "models": ["fable-5"], "blocks": ["foreign_person"]}),
        (
            "the alias moved",
            {
                "id": "d",
                "models": ["fable-5", "fable-5-1"],
                "blocks": ["foreign_person"],
                "exempts": [EASED],
            },
        ),
        (
            "the alias became a model",
            {"id": "d", "models": ["fable-5"], "blocks": ["foreign_person"], "exempts": [EASED]},
        ),
    ],
)
def test_no_activation_takes_a_model_from_an_order(released: House, change: str, order: dict[str, object]) -> None:
    """A release under which a standing order stops less is refused, at its proposal and at its approval."""
    with_derivative(released)
    hash = published(released, edited(change))
    before = released.publish.activate(released["olga"], hash)
    if "id" in order:
        receipt = released.orders.receive(released["olga"], "directive", order)
        if receipt.proposal is not None:
            approved(released, receipt.proposal)
    else:
        released.switches.engage(released["olga"], "stop", order, "a letter")
    active = released.store.state().release
    with pytest.raises(Conflict, match=r"under this release|this release gives to another"):
        approved(released, before.id)
    with pytest.raises(Conflict, match="propose the activation again"):
        released.publish.activate(released["olga"], hash)
    assert released.store.state().release == active


def test_an_order_that_keeps_its_reach_holds_up_no_activation(released: House) -> None:
    """What stays stopped, what the release knows no more, and an order that is over stand in nobody's way."""
    with_derivative(released)
    released.switches.engage(released["olga"], "own", {"models": ["fable-5"]}, "a letter")
    released.switches.engage(released["olga"], "alias", {"models": ["fable-latest"]}, "a letter")
    gone = edited("the alias is gone")
    hash = published(released, gone)
    with pytest.raises(Conflict, match="kill switch alias"):
        released.publish.activate(released["olga"], hash)
    approved(released, released.switches.release(released["olga"], "alias", "over").id)
    approved(released, released.publish.activate(released["olga"], hash).id)
    without = gone["models.toml"].replace(b'id = "fable-5"\n', b'id = "fable-old"\n').replace(TUNED, b"")
    last = published(released, {**gone, "models.toml": without})
    approved(released, released.publish.activate(released["olga"], last).id)
    assert released.store.state().release == last


def test_a_plain_folder_is_not_activated_over_a_directive(released: House) -> None:
    """A plain Casbin folder consults no directive; over a switch on a model's own id it may follow, and be followed."""
    hash = published(released, folder())
    released.switches.engage(released["olga"], "own", {"models": ["fable-5"]}, "a letter")
    activation = released.publish.activate(released["olga"], hash)
    order = {"id": "d", "models": "all", "blocks": ["foreign_person"]}
    released.orders.receive(released["olga"], "directive", order)
    with pytest.raises(Conflict, match="directive d would block nothing"):
        approved(released, activation.id)
    approved(released, released.orders.end(released["olga"], "d", "over").proposal or "")
    released.switches.engage(released["olga"], "tier", {"tiers": [5]}, "a letter")
    approved(released, released.publish.activate(released["olga"], hash).id)
    with pytest.raises(Conflict, match="kill switch tier stops the model"):
        released.publish.activate(released["olga"], released.publish.list(LOCAL)[0].hash)


def test_a_release_that_does_not_load_can_be_followed(released: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the active release is damaged nothing is decided, and no order that stands keeps another from following."""
    hash, active = published(released, edited("the alias is gone")), released.store.state().release
    released.switches.engage(released["olga"], "stop", {"models": ["fable-latest"]}, "a letter")
    whole = ReleaseLoader.stored

    def damaged(loader: ReleaseLoader, store: RegisterReader, wanted: str) -> AnyRelease:
        """Return a stored release, and refuse the active one."""
        if wanted == active:
            raise LoadRefused("the stored content does not hash to its name", where=wanted)
        return whole(loader, store, wanted)

    monkeypatch.setattr(ReleaseLoader, "stored", damaged)
    approved(released, released.publish.activate(released["olga"], hash).id)
    assert released.store.state().release == hash


def test_content_changed_behind_the_engines_back_is_not_activated(released: House, tmp_path: Path) -> None:
    """A stored file that no longer hashes to its name stops the activation, at the proposal and at the approval."""
    proposal = released.publish.publish(released["olga"], another())
    approved(released, proposal.id)
    hash = proposal.payload["hash"]
    activation = released.publish.activate(released["olga"], hash)
    connection = dbapi2.connect(tmp_path / "engine.db")
    connection.execute("UPDATE blobs SET content = CAST(content || '# eased' AS BLOB) WHERE content LIKE '%# 1%'")
    connection.commit()
    connection.close()
    fresh = Approvals(released.store)
    Publish(released.store, fresh, ReleaseLoader())
    with pytest.raises(LoadRefused, match="hash"):
        fresh.approve(released["paul"], activation.id)
    again = Publish(released.store, Approvals(released.store), ReleaseLoader())
    with pytest.raises(LoadRefused, match="hash"):
        again.activate(released["olga"], hash)
    assert released.store.state().release != hash


def test_who_publishes(released: House) -> None:
    """Publishing and activating need `policy:write` with a key that is not bounded; anybody may read releases."""
    for principal in (released["paul"], released["gateway"], released["bounded"], LOCAL):
        with pytest.raises(NotPermitted):
            released.publish.publish(principal, another())
        with pytest.raises(NotPermitted):
            released.publish.activate(principal, released.store.state().release)
        assert len(released.publish.list(principal)) == 1


def test_what_a_release_knows_by_name() -> None:
    """The vocabulary of a release holds models, aliases, actions and places; without a catalogue any word does."""
    known = vocabulary_of(load_release(sample()))
    known.require_names(["fable-5", "fable-latest"], "models")
    known.require_places(["XK", "US-CA", "UA-43"], "regions")
    with pytest.raises(InputRefused, match=r"models\[1\]"):
        known.require_models(["fable-5", "fable-latest"], "models")
    with pytest.raises(InputRefused, match="actions"):
        known.require_actions(["distil"], "actions")
    assert known.evidence_days == 365
    for require in (ANYTHING.require_names, ANYTHING.require_models, ANYTHING.require_actions):
        require(["anything"], "where")
    ANYTHING.require_places(["anywhere"], "where")
    ANYTHING.require_countries(["anywhere"], "where")
