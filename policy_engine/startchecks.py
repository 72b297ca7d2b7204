"""What a start is refused for: a policies folder or a database that this process must not serve.

Each check raises `StartRefused` with how to mend it, before anything is decided.
Left to others: opening (`bootstrap`), where a sample may be shown (`loopback`).
"""

from __future__ import annotations

from policy_engine.errors import StartRefused
from policy_engine.filling import has_world
from policy_engine.loopback import check_loopback
from policy_engine.rules.folder import read_folder
from policy_engine.services.releases import ReleaseLoader
from policy_engine.settings import Settings
from policy_engine.store.interfaces import Store


def check_world(settings: Settings) -> None:
    """Refuse a folder with a sample world where others reach it."""
    if has_world(settings):
        check_loopback(settings, "the policies folder holds a sample world (world/)")


def check_fillable(settings: Settings) -> None:
    """Refuse an empty PostgreSQL database that this start cannot fill, before a key file is written for it."""
    read_folder(settings.policies)
    if not settings.may_change:
        raise StartRefused(
            "the database is empty, and only an operator's login may fill it: start once where this is set",
            where="POLICY_ENGINE_OPERATOR_DATABASE",
        )
    check_world(settings)


def check_served(settings: Settings, store: Store, releases: ReleaseLoader) -> None:
    """Refuse a folder that is not the active release, and a sample's database where others reach it.

    Which of the two releases is meant is a person's to say.
    """
    state = store.state()
    folder = releases.load(read_folder(settings.policies)).hash
    if state.release != folder:
        raise StartRefused(
            f"the folder holds release {folder[:19]}… and the active release is {(state.release or 'none')[:19]}…: "
            "publish and activate the folder (policy-engine policy publish, policy activate), or serve the one that is "
            "active",
            where=str(settings.policies),
        )
    if state.sample:
        check_loopback(settings, "the database was filled with a sample world")
