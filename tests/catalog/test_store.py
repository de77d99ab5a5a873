"""The catalog in a database: exact round trip, all or nothing, cheap to watch for changes."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.catalog.digest import seal
from counterpoint.catalog.index import compile_index
from counterpoint.catalog.load import load_catalog
from counterpoint.catalog.model import Advertiser, Catalog
from counterpoint.catalog.store import CatalogStoreError, current_digest, read_catalog, save_catalog
from counterpoint.catalog.synthetic import synthetic_catalog
from tests.catalog.worlds import World

EXAMPLES = Path(__file__).parents[2] / "examples" / "catalogs"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'catalog.db'}"


@pytest.mark.parametrize("name", ["demo", "wide"])
def test_a_catalog_comes_back_as_it_went(url: str, name: str) -> None:
    catalog = load_catalog(EXAMPLES / f"{name}.toml")
    assert current_digest(url) is None
    assert save_catalog(url, catalog) == catalog.digest
    assert read_catalog(url) == catalog
    assert current_digest(url) == catalog.digest


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_any_catalog_comes_back_as_it_went(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    catalog = seal(World(seed).catalog())
    path = str(
        tmp_path_factory.getbasetemp() / "any.db"
    )  # a plain path is SQLite; each save replaces the last
    save_catalog(path, catalog)
    assert read_catalog(path) == catalog


def test_a_save_replaces_everything(url: str) -> None:
    save_catalog(url, load_catalog(EXAMPLES / "wide.toml"))
    demo = load_catalog(EXAMPLES / "demo.toml")
    save_catalog(url, demo)
    assert read_catalog(url) == demo
    changed = msgspec.structs.replace(demo, account_currency="EUR")
    assert save_catalog(url, changed) != demo.digest
    assert read_catalog(url).account_currency == "EUR"


def test_a_reload_changes_what_is_found(url: str) -> None:
    """As a running part does it: watch the digest, read, compile beside, swap."""
    demo = load_catalog(EXAMPLES / "demo.toml")
    save_catalog(url, demo)
    old = compile_index(read_catalog(url))
    paused = tuple(msgspec.structs.replace(c, paused=c.id == "stride-clicks") for c in demo.campaigns)
    save_catalog(url, msgspec.structs.replace(demo, campaigns=paused))
    assert current_digest(url) != old.digest
    new = compile_index(read_catalog(url))
    assert new.digest == current_digest(url)
    stopped = new.campaign_at["stride-clicks"]
    before, after = (
        np.unpackbits(index.live.view(np.uint8), bitorder="little")[: len(demo.line_items)]
        for index in (old, new)
    )
    assert before.all()
    assert (after == (new.li_campaign != stopped)).all()


def test_unchanged_content_writes_nothing(url: str, tmp_path: Path) -> None:
    demo = load_catalog(EXAMPLES / "demo.toml")
    save_catalog(url, demo)
    with sqlite3.connect(tmp_path / "catalog.db") as before:
        (version,) = before.execute("PRAGMA data_version").fetchone()
        save_catalog(url, demo)
        assert before.execute("PRAGMA data_version").fetchone() == (version,)


def test_a_save_that_fails_leaves_the_old_catalog(url: str) -> None:
    demo = load_catalog(EXAMPLES / "demo.toml")
    save_catalog(url, demo)
    twice = Advertiser(id="same", name="", domain="a.example")
    with pytest.raises(CatalogStoreError, match="UNIQUE"):
        save_catalog(url, Catalog(advertisers=(twice, twice)))
    assert read_catalog(url) == demo


def test_a_reader_sees_the_old_catalog_or_the_new_one(url: str) -> None:
    catalogs = [synthetic_catalog(300, creatives=300, seed=seed) for seed in (1, 2)]
    save_catalog(url, catalogs[0])
    stop = threading.Event()

    def rewrite() -> None:
        for n in range(20):
            save_catalog(url, catalogs[(n + 1) % 2])
        stop.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    seen = 0
    while not stop.is_set():
        assert read_catalog(url) in catalogs
        seen += 1
    writer.join()
    assert seen > 0


def test_nothing_stored_and_nowhere_to_store(url: str, tmp_path: Path) -> None:
    with pytest.raises(CatalogStoreError, match="holds no catalog"):
        read_catalog(url)
    with pytest.raises(CatalogStoreError, match="check path"):
        save_catalog(f"sqlite:///{tmp_path}/no/such/folder/c.db", Catalog())
    with pytest.raises(CatalogStoreError, match="sqlite:///FILE"):
        read_catalog("nonsense://x")


def test_rows_changed_by_others_are_refused(url: str, tmp_path: Path) -> None:
    save_catalog(url, load_catalog(EXAMPLES / "demo.toml"))
    with sqlite3.connect(tmp_path / "catalog.db") as database:
        database.execute("DELETE FROM catalog_creative WHERE position = 3")
    with pytest.raises(CatalogStoreError, match="changed behind our back"):
        read_catalog(url)
    with sqlite3.connect(tmp_path / "catalog.db") as database:
        database.execute("UPDATE catalog_campaign SET body = x'c1'")
    with pytest.raises(CatalogStoreError, match="cannot be read"):
        read_catalog(url)


def test_tens_of_thousands_of_rows(url: str) -> None:
    catalog = synthetic_catalog(20_000)
    save_catalog(url, catalog)
    assert read_catalog(url) == catalog


def test_postgresql_by_the_same_code() -> None:
    server = os.environ.get("COUNTERPOINT_TEST_POSTGRES", "")
    if not server:
        pytest.skip("COUNTERPOINT_TEST_POSTGRES names no PostgreSQL database")
    demo = load_catalog(EXAMPLES / "demo.toml")
    save_catalog(server, demo)
    assert read_catalog(server) == demo
    assert current_digest(server) == demo.digest
