"""The third-party records beside the checkout, where they are; absent, the tests that need them are skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

SHARED = Path(os.environ.get("COUNTERPOINT_SHARED", Path(__file__).parents[3] / "shared")) / "openrtb"


def need(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not there")
    return path


def records(name: str) -> Iterator[dict[str, Any]]:
    with need(name).open("rb") as lines:
        for line in lines:
            yield msgspec.json.decode(line)


def request_files() -> list[str]:
    """Every file that holds requests; a placeholder when the material is absent, so that the skip is seen."""
    names = sorted(path.name for path in SHARED.glob("*requests*.jsonl"))
    names += [n for n in ("pbs_java_exchanges.jsonl", "pbs_validation_cases.jsonl") if (SHARED / n).exists()]
    return names or ["bidder_requests.jsonl"]


def request_bodies(name: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """(record, body) of each request; records of another kind, or without a body, are passed over."""
    for record in records(name):
        if record.get("kind", "request") == "request" and record.get("body", record) is not None:
            yield record, record.get("body", record)
