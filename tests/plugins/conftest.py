"""What the LiteLLM tests share: one proxy, for as long as tests of this room run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.plugins.litellm_place import Place, placed


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Offer the proxy and what stands around it."""
    with placed(tmp_path_factory.mktemp("litellm")) as made:
        yield made
