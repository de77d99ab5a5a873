"""Small catalogs and requests for the hot path: few values, so that they meet often. A seed makes the same one again."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import numpy as np

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.ids import digest
from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.bidder.decide import AllowancesLeft
from counterpoint.bidder.engine import Engine
from counterpoint.bidder.experiment import ARMS
from counterpoint.bidder.frequency import FrequencyBook
from counterpoint.bidder.keys import KeyRing
from counterpoint.bidder.signing import Signer
from counterpoint.bidder.view import View, ViewInputs, compile_view
from counterpoint.bidding import policy as bidding_policy
from counterpoint.bidding.policy import BiddingPolicy, WinCurve
from counterpoint.catalog.model import (
    Advertiser,
    Campaign,
    Catalog,
    Creative,
    CurrencyRate,
    ExchangeProfile,
    FrequencyCap,
    Goal,
    LineItem,
    Media,
    MediaFile,
    NativeAssets,
    NoBidForm,
    Targeting,
    UnknownUser,
)
from counterpoint.creative import policy as creative_policy
from counterpoint.creative.policy import CreativePolicy, CreativeScore
from counterpoint.events.decisions import PolicyPublished
from counterpoint.events.event import Event
from counterpoint.events.money import AllowanceGranted

NOW_NS = 1_772_000_000 * NS_PER_S
PLENTY = 10**15
NATIVE_REQUEST = msgspec.json.encode(
    {"ver": "1.2", "assets": [{"id": 1, "required": 1, "title": {"len": 60}}]}
).decode()


def creative(name: str, media: Media = Media.BANNER, advertiser: str = "adv1", **more: Any) -> Creative:
    fields: dict[str, Any] = {
        "id": name,
        "advertiser_id": advertiser,
        "media": media,
        "click_url": f"https://{advertiser}.example/landing",
        "categories": ("IAB1",),
        "attributes": (),
    }
    if media is Media.BANNER:
        fields |= {
            "w": 300,
            "h": 250,
            "image_url": f"https://cdn.example/{name}.png",
            "mimes": ("image/png",),
        }
    elif media is Media.VIDEO:
        file = MediaFile(url=f"https://cdn.example/{name}.mp4", mime="video/mp4", w=640, h=360)
        fields |= {
            "w": 640,
            "h": 360,
            "duration_s": 15,
            "mimes": ("video/mp4",),
            "files": (file,),
            "protocols": (2, 3, 7),
        }
    elif media is Media.AUDIO:
        file = MediaFile(url=f"https://cdn.example/{name}.mp3", mime="audio/mpeg")
        fields |= {"duration_s": 20, "mimes": ("audio/mpeg",), "files": (file,), "protocols": (2, 3, 7)}
    else:
        fields |= {"native": NativeAssets(title="Short title", sponsored="Brand")}
    return Creative(**(fields | more))


def small_catalog(**campaign: Any) -> Catalog:
    """One campaign with a line item for each media type; two exchanges, one of them answering no-bids at length."""
    made = [creative(f"cr-{media.value}{n}", media) for media in Media for n in (1, 2)]
    fields: dict[str, Any] = {
        "id": "c1",
        "advertiser_id": "adv1",
        "name": "One",
        "daily_budget_micros": 100_000_000,
        "goal": Goal.CLICKS,
        "goal_value_micros": 1_000_000,
    }
    return Catalog(
        account_currency="USD",
        rates=(CurrencyRate(currency="EUR", micros=1_100_000), CurrencyRate(currency="JPY", micros=6_700)),
        advertisers=(
            Advertiser(id="adv1", name="One", domain="adv1.example"),
            Advertiser(id="adv2", name="Two", domain="adv2.example"),
        ),
        campaigns=(Campaign(**(fields | campaign)),),
        line_items=tuple(
            LineItem(
                id=f"li-{media.value}",
                campaign_id="c1",
                creative_ids=tuple(c.id for c in made if c.media is media),
            )
            for media in Media
        ),
        creatives=tuple(made),
        exchanges=(
            ExchangeProfile(id="x1", seat="s1"),
            ExchangeProfile(id="x2", seat="s2", currency="EUR", auction_type=2, no_bid=NoBidForm.NBR_BODY),
        ),
        digest="small" + digest(repr(sorted(campaign.items()))),
    )


def random_catalog(seed: int) -> Catalog:
    rng = Random(f"catalog/{seed}")
    campaigns = []
    for n in range(rng.randint(1, 4)):
        goal = rng.choice(list(Goal))
        value = {
            Goal.REACH: 4_000_000,
            Goal.CLICKS: 900_000,
            Goal.CONVERSIONS: 30_000_000,
            Goal.VALUE: 2_000_000,
        }
        campaigns.append(
            Campaign(
                id=f"c{n}",
                advertiser_id=f"adv{n % 2 + 1}",
                name=f"C{n}",
                daily_budget_micros=10_000_000,
                goal=goal,
                goal_value_micros=int(value[goal] * rng.uniform(0.2, 3.0)),
                bid_ceiling_micros=rng.choice((300_000, 2_000_000, 20_000_000)),
                paused=rng.random() < 0.05,
            )
        )
    creatives = [
        creative(f"cr{n}", rng.choice((Media.BANNER, *Media)), f"adv{n % 2 + 1}")
        for n in range(rng.randint(4, 16))
    ]
    lines = []
    for n in range(rng.randint(2, 14)):
        campaign = rng.choice(campaigns)
        own = [c.id for c in creatives if c.advertiser_id == campaign.advertiser_id]
        low = rng.choice((0, 0, 150_000))
        capped = rng.random() < 0.5
        lines.append(
            LineItem(
                id=f"li{n}",
                campaign_id=campaign.id,
                creative_ids=tuple(rng.sample(own, rng.randint(1, len(own)))) if own else (),
                targeting=Targeting(countries=rng.choice(((), ("USA",), ("DEU", "USA")))),
                bid_min_micros=low,
                bid_max_micros=rng.choice((None, low + rng.randint(1, 3_000_000))),
                frequency_cap=FrequencyCap(impressions=rng.randint(1, 3), window_s=3_600) if capped else None,
                unknown_user=rng.choice(list(UnknownUser)),
                expected_click_rate=rng.uniform(0.0005, 0.02),
            )
        )
    return msgspec.structs.replace(
        small_catalog(),
        campaigns=tuple(campaigns),
        line_items=tuple(lines),
        creatives=tuple(creatives),
        digest=f"random{seed}",
    )


def random_request(seed: int) -> dict[str, Any]:
    rng = Random(f"request/{seed}")
    return {
        "id": f"r{seed}",
        "imp": [_random_imp(rng, str(n)) for n in range(rng.choice((1, 1, 1, 2, 5)))],
        "site": {"domain": "news.example", "cat": ["IAB1"]},
        "device": {"geo": {"country": rng.choice(("USA", "DEU", "FRA"))}, "devicetype": 2, "ua": "x"},
        "regs": {"gdpr": 0},
        "at": rng.choice((1, 1, 2, 3)),
        "cur": rng.choice((["USD"], ["EUR"], ["JPY", "EUR"], ["CHF", "USD"], ["CHF"])),
        "tmax": 200,
        "test": rng.choice((0, 0, 0, 1)),
        "badv": rng.choice(([], [], ["adv2.example"])),
    }


def _random_imp(rng: Random, name: str) -> dict[str, Any]:
    imp: dict[str, Any] = {"id": name, "secure": 1}
    if rng.random() < 0.8:
        imp |= {
            "bidfloor": round(rng.expovariate(1.0), 4),
            "bidfloorcur": rng.choice(("USD", "EUR", "JPY", "CHF")),
        }
    kinds = rng.sample(("banner", "banner", "video", "audio", "native"), rng.choice((1, 1, 2)))
    if "banner" in kinds:
        imp["banner"] = {"format": [{"w": 300, "h": 250}]}
    if "video" in kinds:
        imp["video"] = {"mimes": ["video/mp4"], "protocols": [2, 3], "maxduration": 30, "linearity": 1}
    if "audio" in kinds:
        imp["audio"] = {"mimes": ["audio/mpeg"], "protocols": [2, 3], "maxduration": 30}
    if "native" in kinds:
        imp["native"] = {"request": NATIVE_REQUEST}
    return imp


def banner_request(**more: Any) -> dict[str, Any]:
    request: dict[str, Any] = {
        "id": "r1",
        "imp": [{"id": "1", "banner": {"w": 300, "h": 250}, "bidfloor": 0.1}],
        "site": {"domain": "news.example"},
        "device": {"geo": {"country": "USA"}, "ua": "x", "ifa": "0e1b7a52-3c4d-4e5f-8a9b-0c1d2e3f4a5b"},
        "regs": {"gdpr": 0},
        "at": 1,
    }
    return request | more


def body_of(request: dict[str, Any]) -> bytes:
    return msgspec.json.encode(request)


def view_of(catalog: Catalog, **more: Any) -> View:
    return compile_view(ViewInputs(catalog=catalog, **more))


def left_everywhere(view: View, nanos: int = PLENTY) -> AllowancesLeft:
    return np.full((len(view.part.campaigns), len(ARMS)), nanos, np.int64)


def bidding_published(version: int = 1, **fields: Any) -> PolicyPublished:
    standard: dict[str, Any] = {
        "curves": {"*": WinCurve((200_000, 1_000_000, 5_000_000), (0.05, 0.3, 0.8), 100.0)},
        "exploration_rate": 0.1,
        "exploration_span": 0.3,
    }
    policy = BiddingPolicy(
        version=version, made_at_ns=NOW_NS, valid_until_ns=NOW_NS + 600 * NS_PER_S, **(standard | fields)
    )
    return published("bidding", version, bidding_policy.encode(policy))


def creative_published(catalog: Catalog, version: int = 1) -> PolicyPublished:
    scores = {c.id: CreativeScore(0.001 * (n % 9 + 1), float(n % 4)) for n, c in enumerate(catalog.creatives)}
    policy = CreativePolicy(
        version=version, made_at_ns=NOW_NS, valid_until_ns=NOW_NS + 600 * NS_PER_S, scores=scores
    )
    return published("creative", version, creative_policy.encode(policy))


def published(agent: str, version: int, payload: bytes) -> PolicyPublished:
    return PolicyPublished(
        event_id=f"{agent}-{version}",
        happened_at_ns=NOW_NS,
        recorded_at_ns=NOW_NS,
        source=f"agent/{agent}",
        agent=agent,
        policy_version=version,
        checksum=digest(payload),
        payload=payload,
        valid_until_ns=NOW_NS + 600 * NS_PER_S,
    )


class Heard:
    """An outbox that keeps what it is offered."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def offer(self, event: Event) -> bool:
        self.events.append(event)
        return True

    @property
    def shed(self) -> int:
        return 0


class Bidder:
    """An engine with everything real around it but the socket and the bus; money by arm, on request."""

    def __init__(self, view: View, *, nanos: int = PLENTY, arms: tuple[str, ...] = ARMS) -> None:
        self.now_ns = NOW_NS
        self.book = AllowanceBook("b1", "i1", view.part.campaign_ids, ARMS)
        self.frequency = FrequencyBook(b"a key of the id hash, for tests.")
        self.signer = Signer(KeyRing(signs=1, keys={1: bytes(range(32))}))
        self.heard = Heard()
        self.engine = Engine(
            view,
            self.book,
            self.frequency,
            self.signer,
            public_url="https://track.example/",
            bidder_id="b1",
            seed=7,
            outbox=self.heard,
            clock=lambda: self.now_ns,
        )
        for arm in arms:
            for campaign_id in view.part.campaign_ids:
                self.grant(campaign_id, arm, nanos)

    def grant(self, campaign_id: str, arm: str, nanos: int, line: str = "") -> None:
        self.book.grant(
            AllowanceGranted(
                event_id=f"g-{campaign_id}{line}-{arm}",
                happened_at_ns=self.now_ns,
                recorded_at_ns=self.now_ns,
                source="ledger",
                allowance_id=f"al-{campaign_id}{line}-{arm}",
                request_id="r",
                bidder_id="b1",
                incarnation="i1",
                campaign_id=campaign_id,
                arm=arm,
                day="2026-02-25",
                granted_nanos=nanos,
                usable_nanos=nanos,
                expires_at_ns=self.now_ns + 3_600 * NS_PER_S,
                line_item_id=line,
            ),
            self.now_ns,
        )

    def ask(self, request: dict[str, Any], exchange: str = "x1") -> dict[str, Any] | str:
        """The decoded response of a bid, or the reason there is none."""
        answer = self.engine.answer(exchange, body_of(request), self.now_ns)
        if answer.reason is not None:
            return str(answer.reason)
        assert answer.status == 200
        decoded = msgspec.json.decode(answer.body)
        assert isinstance(decoded, dict)
        return decoded

    def bids(self, request: dict[str, Any], exchange: str = "x1") -> list[dict[str, Any]]:
        made = self.ask(request, exchange)
        return [] if isinstance(made, str) else list(made["seatbid"][0]["bid"])
