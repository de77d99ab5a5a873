"""One running system for all tests of a session that need one: it is started once and must live through them all."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from counterpoint.catalog.store import read_catalog
from tests.app.load import Load
from tests.app.world import Running, write_world


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    system = Running(write_world(tmp_path_factory.mktemp("system")))
    try:
        await system.start()
        yield system
    finally:
        await system.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def load(running: Running) -> AsyncIterator[Load]:
    """Traffic of all tests that share the system: its record must agree with the books at every moment."""
    catalog = read_catalog(running.settings.catalog_url)
    profiles = {profile.id: profile for profile in catalog.exchanges}
    made = Load(running.settings.local_url, profiles, requests_per_s=100.0, seed=7)
    try:
        yield made
    finally:
        await made.close()
