"""Every recorded request of the third-party corpora through the engine, each bid judged by an independent reading."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from counterpoint.base.clock import ManualClock
from counterpoint.base.ids import IdSource
from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.bidder.engine import Engine
from counterpoint.bidder.experiment import ARMS
from counterpoint.bidder.frequency import FrequencyBook
from counterpoint.bidder.keys import KeyRing
from counterpoint.bidder.signing import Signer
from counterpoint.bidder.view import ViewInputs, compile_view
from counterpoint.catalog.load import load_catalog
from counterpoint.events.money import AllowanceGranted
from tests.bidder.independent import Judge
from tests.openrtb.corpora import records, request_files

WIDE = Path(__file__).parents[2] / "examples" / "catalogs" / "wide.toml"
FILES = [name for name in request_files() if "requests" in name]
SOUND_BID_SHARE_MIN = 0.6


@pytest.fixture(scope="module")
def engine() -> Engine:
    clock = ManualClock(1_795_451_570_061_029_646)
    catalog = load_catalog(WIDE)
    view = compile_view(ViewInputs(catalog=catalog))
    book = AllowanceBook("b1", "i1", view.part.campaign_ids, ARMS)
    for campaign in catalog.campaigns:
        book.grant(
            AllowanceGranted(
                event_id=f"g-{campaign.id}",
                happened_at_ns=clock.now_ns(),
                recorded_at_ns=clock.now_ns(),
                source="ledger",
                allowance_id=f"a-{campaign.id}",
                request_id="r",
                bidder_id="b1",
                incarnation="i1",
                campaign_id=campaign.id,
                arm="agents",
                day="2026-11-23",
                granted_nanos=10**14,
                usable_nanos=10**14,
                expires_at_ns=clock.now_ns() + 10**12,
            ),
            clock.now_ns(),
        )
    signer = Signer(KeyRing(1, {1: bytes(range(32))}))
    return Engine(
        view,
        book,
        FrequencyBook(bytes(32)),
        signer,
        public_url="http://127.0.0.1:8080",
        bidder_id="b1",
        seed=7,
        ids=IdSource("t"),
        clock=clock.now_ns,
    )


def request_of(record: dict[str, Any]) -> dict[str, Any] | None:
    if record.get("kind", "request") != "request":
        return None
    body = record.get("body", record)
    return body if isinstance(body, dict) else None


@pytest.mark.parametrize("name", FILES)
def test_every_bid_on_a_recorded_request_is_valid(engine: Engine, name: str) -> None:
    judge, faults = Judge(WIDE), []
    outcomes: Counter[str] = Counter()
    sound = sound_bid = 0
    for record in records(name):
        request = request_of(record)
        if request is None:
            continue
        answer = engine.answer("corpus", json.dumps(request).encode(), engine.clock())
        assert answer.status in (200, 204, 400), f"{record.get('key')}: {answer.status}"
        outcomes[answer.reason.value if answer.reason else "bid"] += 1
        bid = answer.status == 200
        if bid:
            found = judge.faults(request, json.loads(answer.body))
            faults += [f"{record.get('key') or request.get('id')}: {fault}" for fault in found]
        if record.get("issues") == []:
            sound += 1
            sound_bid += bid
    assert not faults, f"{len(faults)} faults: {faults[:10]}"
    assert engine.failed_assertions == 0
    print(name, dict(outcomes), f"{sound_bid} of {sound} sound records bid")
    if sound:
        assert sound_bid >= SOUND_BID_SHARE_MIN * sound


def test_the_judge_finds_what_is_wrong(engine: Engine) -> None:
    """A check that never fails proves nothing."""
    request = {
        "id": "r1",
        "cur": ["USD"],
        "imp": [{"id": "1", "bidfloor": 1.0, "banner": {"w": 300, "h": 250}}],
        "site": {"domain": "x.example"},
    }
    answer = engine.answer("corpus", json.dumps(request).encode(), engine.clock())
    response = json.loads(answer.body)
    judge = Judge(WIDE)
    assert judge.faults(request, response) == []
    bid = response["seatbid"][0]["bid"][0]
    creative = judge.creatives[bid["crid"]]
    spoiled: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (request | {"cur": ["EUR"]}, response),
        (request | {"badv": bid["adomain"]}, response),
        (request | {"bcat": [creative["categories"][0].split("-")[0]]}, response),
        (request | {"imp": [{"id": "1", "bidfloor": 999, "banner": {"w": 300, "h": 250}}]}, response),
        (request | {"imp": [{"id": "1", "banner": {"w": 728, "h": 90}}]}, response),
        (request | {"imp": [{"id": "2", "banner": {"w": 300, "h": 250}}]}, response),
        (request | {"imp": [{"id": "1", "video": {"mimes": ["video/mp4"]}}]}, response),
    ]
    for wrong_request, answered in spoiled:
        assert judge.faults(wrong_request, answered), wrong_request
