"""An audit beside a ledger at work: one picture, on either database."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from sqlalchemy import select, update

from counterpoint.ledger.migrate import open_engine
from counterpoint.ledger.tables import WRITER
from tests.ledger.build import postgres_url, sqlite_url


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_is_booked_meanwhile_is_not_half_seen(tmp_path: Path, kind: str) -> None:
    """Money moved between two of its queries would look as if the books were wrong."""
    with nullcontext(sqlite_url(tmp_path)) if kind == "sqlite" else postgres_url() as url:
        engine = open_engine(url)
        reader = engine.execution_options(reads=True)
        try:
            with reader.connect() as audit, audit.begin():
                before = audit.execute(select(WRITER.c.entry_next)).scalar_one()
                with engine.begin() as writer:
                    writer.execute(update(WRITER).values(entry_next=before + 1))
                assert audit.execute(select(WRITER.c.entry_next)).scalar_one() == before
            with reader.connect() as audit, audit.begin():
                assert audit.execute(select(WRITER.c.entry_next)).scalar_one() == before + 1
        finally:
            engine.dispose()
