"""The pytest fixture `chronik`: a fresh broker in memory for each test that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chronik.testing.embedded import Chronik


@pytest.fixture
def chronik() -> Iterator[Chronik]:
    """A running broker; its address is `chronik.bootstrap_servers`."""
    with Chronik() as broker:
        yield broker
