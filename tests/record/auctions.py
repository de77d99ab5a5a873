"""Real auctions in small: the demo catalog, policies of four agents, an engine that bids, a recorder that writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from counterpoint.base.clock import NS_PER_S, ManualClock
from counterpoint.base.ids import IdSource, digest
from counterpoint.base.rng import uniform
from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.bidder.engine import Answer, Engine
from counterpoint.bidder.experiment import ARMS, Experiment
from counterpoint.bidder.frequency import FrequencyBook
from counterpoint.bidder.holder import Changes, apply
from counterpoint.bidder.keys import KeyRing
from counterpoint.bidder.signing import Signer
from counterpoint.bidder.view import View, ViewInputs, compile_view
from counterpoint.bidding import policy as bidding_policy
from counterpoint.bidding.policy import BiddingPolicy, Dual, WinCurve
from counterpoint.budget import policy as budget_policy
from counterpoint.budget.policy import BudgetPolicy
from counterpoint.bus.bus import Delivery
from counterpoint.catalog.load import load_catalog
from counterpoint.catalog.model import Catalog
from counterpoint.creative import policy as creative_policy
from counterpoint.creative.policy import CreativePolicy, CreativeScore
from counterpoint.events.decisions import PolicyPublished
from counterpoint.events.event import Event
from counterpoint.events.facts import AuctionWon, BidPlaced
from counterpoint.events.money import AllowanceGranted
from counterpoint.feedback import policy as feedback_policy
from counterpoint.feedback.policy import FeedbackPolicy
from counterpoint.market.demo_world import DemoWorld
from counterpoint.record.archive import Archive
from counterpoint.record.recorder import Recorder

DEMO = Path(__file__).parent / "catalog.toml"  # of its own: the demo is tuned for people to watch
START = 1_700_000_000 * NS_PER_S
HOUR_NS = 3_600 * NS_PER_S
EXPERIMENT = Experiment(
    name="tried",
    salt="s",
    shares={"no_agents": 0.2, "no_bidding": 0.1, "no_creative": 0.1, "no_feedback": 0.1},
)
SETTINGS = {"campaign/stride-clicks/bid_ceiling": 1_500_000, "campaign/lumen-clicks/exploration": 1_500_000}


def published(agent: str, version: int, payload: bytes) -> PolicyPublished:
    return PolicyPublished(
        event_id=f"{agent}-{version}",
        happened_at_ns=START,
        recorded_at_ns=START,
        source=f"agent/{agent}",
        agent=agent,
        policy_version=version,
        checksum=digest(payload),
        payload=payload,
        valid_until_ns=START + 10 * HOUR_NS,
    )


def bidding(version: int, multiplier: float = 1.3) -> PolicyPublished:
    curve = WinCurve(
        (200_000, 800_000, 1_500_000, 4_000_000, 12_000_000), (0.05, 0.2, 0.45, 0.8, 0.97), 5_000.0
    )
    audio = WinCurve((1_000_000, 5_000_000), (0.1, 0.7), 300.0)
    policy = BiddingPolicy(
        version=version,
        made_at_ns=START,
        valid_until_ns=START + 10 * HOUR_NS,
        curves={"*": curve, "airwave/audio": audio},
        multipliers={"stride-clicks": multiplier, "stride-radio": multiplier, "volta-launch": 2.0},
        duals={
            "stride-radio": Dual(0.5, multiplier),
            "harbor-bookings": Dual(1.0, 0.5, 3_500_000_000, 0.25),
        },
        ctr_factors={"northstar/banner": 1.1},
        conversion_rates={"volta-banner": 0.07},
        exploration_rate=0.1,
        exploration_span=0.3,
    )
    return published("bidding", version, bidding_policy.encode(policy))


def creative(version: int, catalog: Catalog, liked: str = "no one's") -> PolicyPublished:
    """``liked``: creatives whose id starts so are clicked by one in twenty."""
    scores = {
        each.id: CreativeScore(
            0.05 if each.id.startswith(liked) else 0.001 + 0.02 * uniform(version, at),
            0.1 + uniform(version + 1, at),
        )
        for at, each in enumerate(catalog.creatives)
    }
    policy = CreativePolicy(
        version=version, made_at_ns=START, valid_until_ns=START + 10 * HOUR_NS, scores=scores
    )
    return published("creative", version, creative_policy.encode(policy))


def budget(version: int) -> PolicyPublished:
    policy = BudgetPolicy(version=version, made_at_ns=START, valid_until_ns=START + 10 * HOUR_NS)
    return published("budget", version, budget_policy.encode(policy))


def feedback(version: int) -> PolicyPublished:
    policy = FeedbackPolicy(version=version, made_at_ns=START, valid_until_ns=START + 10 * HOUR_NS)
    return published("feedback", version, feedback_policy.encode(policy))


class Outbox:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.shed = 0

    def offer(self, event: Event) -> bool:
        self.events.append(event)
        return True


class Auctions:
    """``grant_nanos``: money of each campaign in each arm."""

    def __init__(self, folder: Path, grant_nanos: int = 10**12) -> None:
        self.folder = folder
        self.clock = ManualClock(START)
        self.catalog = load_catalog(DEMO)
        self.archive = Archive(folder / "archive")
        self.recorder = Recorder(folder / "decisions", folder / "snapshots" / "recorder.bin", sample_rate=1.0)
        self.payloads: dict[str, bytes] = {}
        view = compile_view(ViewInputs(catalog=self.catalog, experiment=EXPERIMENT))
        self.outbox = Outbox()
        book = AllowanceBook("b1", "i1", view.part.campaign_ids, ARMS)
        self.engine = Engine(
            view,
            book,
            FrequencyBook(b"k" * 32),
            Signer(KeyRing(1, {1: b"s" * 32})),
            public_url="http://127.0.0.1:8080",
            bidder_id="b1",
            seed=11,
            ids=IdSource("0123456789"),
            outbox=self.outbox,
            clock=self.clock.now_ns,
        )
        for campaign in view.part.campaign_ids:
            for arm in ARMS:
                self.grant(campaign, arm, grant_nanos)
        self.sequence = 0
        self.number = 0
        self.change(
            policies=[bidding(1), creative(1, self.catalog), budget(1), feedback(1)], settings=SETTINGS
        )

    def grant(self, campaign: str, arm: str, nanos: int) -> None:
        now_ns = self.clock.now_ns()
        self.engine.book.grant(
            AllowanceGranted(
                event_id=f"g-{campaign}-{arm}",
                happened_at_ns=now_ns,
                recorded_at_ns=now_ns,
                source="ledger",
                allowance_id=f"a-{campaign}-{arm}",
                request_id="r",
                bidder_id="b1",
                incarnation="i1",
                campaign_id=campaign,
                arm=arm,
                day="2023-11-14",
                granted_nanos=nanos,
                usable_nanos=nanos,
                expires_at_ns=now_ns + HOUR_NS,
            ),
            now_ns,
        )

    @property
    def view(self) -> View:
        return self.engine.view

    def change(self, policies: list[PolicyPublished] | None = None, **changes: Any) -> View:
        """A new View, as the bidder makes, uses and archives it."""
        events = {event.agent: event for event in policies or []}
        view, refused = apply(self.view, Changes(policies=events, **changes), self.clock.now_ns())
        assert refused == []
        self.payloads |= {event.checksum: event.payload for event in events.values()}
        self.engine.swap(view)
        self.archive.keep(view, self.payloads)
        return view

    def post(self, exchange: str, body: dict[str, Any]) -> Answer:
        return self.engine.answer(exchange, msgspec.json.encode(body), self.clock.now_ns())

    def play(self, requests: int, **more: Any) -> list[BidPlaced]:
        """Requests of the demo's traffic; the bids they got."""
        world = DemoWorld(5)
        before = len(self.outbox.events)
        for _ in range(requests):
            self.number += 1
            opportunity = world.opportunity(self.number)
            self.post(opportunity.venue.exchange, opportunity.body | more)
            self.clock.advance(3_000_000)
        return [event for event in self.outbox.events[before:] if isinstance(event, BidPlaced)]

    def record(self, bids: list[BidPlaced]) -> None:
        """Every bid won, at a tenth less than it bid, and written."""
        now_ns = self.clock.now_ns()
        wins = [
            AuctionWon(
                event_id=f"won-{bid.event_id}",
                happened_at_ns=now_ns,
                recorded_at_ns=now_ns,
                source="bidder/b1",
                bid_id=bid.event_id,
                exchange=bid.exchange,
                segment=bid.segment,
                campaign_id=bid.campaign_id,
                line_item_id=bid.line_item_id,
                creative_id=bid.creative_id,
                bid_nanos=bid.price_nanos,
                price_nanos=bid.price_nanos * 9 // 10,
            )
            for bid in bids
        ]
        self.sequence += 1
        self.recorder.on([Delivery("FACTS", self.sequence, now_ns, "facts.bids.b1", (*bids, *wins))], now_ns)
        self.recorder.flush(now_ns)
