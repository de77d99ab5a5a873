from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.bus.worlds import Embedded, World, make_world

KINDS = ("memory", "embedded", "external")


@pytest_asyncio.fixture(params=KINDS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    made = await make_world(request.param, tmp_path)
    yield made
    await made.close()


@pytest_asyncio.fixture(params=KINDS)
async def small_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """FACTS holds about 20 batches of ``BULK``."""
    made = await make_world(request.param, tmp_path, small=True)
    yield made
    await made.close()


@pytest_asyncio.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Embedded]:
    made = Embedded(tmp_path, small=False)
    await made.restart()
    yield made
    await made.close()
