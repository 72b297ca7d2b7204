"""What the tests of previews share: an empty database to copy and the sample release's files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from policy_engine.bootstrap import Template
from policy_engine.rules.release import read_folder
from policy_engine.services.releases import ReleaseLoader
from tests.services.preview.worlds import Scene, World, lived

POLICIES = Path(__file__).parents[3] / "policies"

Live = Callable[[World], AbstractContextManager[Scene]]


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory, compiled: ReleaseLoader) -> Iterator[Live]:
    """Offer `live(world)`, an engine over a world on a copy of one empty database."""
    template = Template.create(tmp_path_factory.mktemp("previews") / "template.db")
    files = read_folder(POLICIES)
    yield lambda world: lived(template, compiled, files, world)
