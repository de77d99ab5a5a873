"""The small world behind ``counterpoint up --demo``: people with tastes, pages, rival bidders, and what comes of an ad.

It knows truths that the bidder must learn: which creative appeals to whom, who skips video, what rivals pay. Every
draw is a function of (seed, stream, counter), so two runs with one seed ask the same questions in the same order.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec import Struct

from counterpoint.base.rng import mix64, uniform

COUNTRIES = (("USA", 0.5, -300), ("GBR", 0.2, 0), ("DEU", 0.15, 60), ("CAN", 0.15, -300))
SITES = (
    ("news.example.org", "IAB12", 1.3),
    ("recipes.example.net", "IAB8", 1.0),
    ("football.example.com", "IAB17", 0.9),
    ("gadgets.example.io", "IAB19", 1.1),
    ("travel.example.co", "IAB20", 1.2),
)
APPS = (("com.example.weather", "IAB15", 0.9), ("org.example.chess", "IAB9", 0.7))
PODCASTS = (("com.example.radio", "IAB1", 1.0),)
BANNER_SIZES = ((300, 250), (728, 90), (320, 50), (300, 600), (970, 250), (160, 600))
AGENTS = (
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36",
        "Windows",
        2,
    ),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148", "iOS", 4),
    (
        "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36",
        "Android",
        4,
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_6) AppleWebKit/605.1.15 Version/18.0 Safari/605.1.15",
        "macOS",
        2,
    ),
)
USERS = 4_000


class Rival(Struct, frozen=True):
    """Lognormal highest rival bid, CPM in account-currency units."""

    median: float
    sigma: float


class Venue(Struct, frozen=True):
    """How one demo exchange sells. Matches the profiles in examples/catalogs/demo.toml."""

    exchange: str
    share: float
    auction_type: int
    media: tuple[tuple[str, float], ...]
    rivals: dict[str, Rival]
    loss_notices: bool


VENUES = (
    Venue(
        "northstar",
        0.5,
        1,
        (("banner", 0.55), ("video", 0.25), ("native", 0.2)),
        {"banner": Rival(1.3, 0.5), "video": Rival(6.0, 0.45), "native": Rival(1.8, 0.5)},
        True,
    ),
    Venue("harbour", 0.35, 2, (("banner", 1.0),), {"banner": Rival(1.1, 0.6)}, False),
    Venue("airwave", 0.15, 1, (("audio", 1.0),), {"audio": Rival(4.5, 0.4)}, False),
)


class Opportunity(Struct, frozen=True):
    """One ad request, and the truths about it that the request does not tell."""

    venue: Venue
    media: str
    user: int
    page_quality: float
    rival_cpm: float
    floor_cpm: float
    body: dict[str, Any]


class DemoWorld:
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def _u(self, stream: int, counter: int) -> float:
        return uniform(mix64(self.seed * 1_000_003 + stream), counter)

    def _normal(self, stream: int, counter: int) -> float:
        radius = math.sqrt(-2.0 * math.log(1.0 - self._u(stream, 2 * counter)))
        return radius * math.cos(2.0 * math.pi * self._u(stream, 2 * counter + 1))

    def opportunity(self, number: int) -> Opportunity:
        venue = _pick([(v, v.share) for v in VENUES], self._u(1, number))
        media = _pick(list(venue.media), self._u(2, number))
        user = int(USERS * self._u(3, number) ** 2)  # some people are seen far more often than others
        country, _, offset = _pick([(c, c[1]) for c in COUNTRIES], self._u(4, user))
        agent, os_name, device_type = AGENTS[int(len(AGENTS) * self._u(5, user))]
        in_app = media == "audio" or (device_type == 4 and self._u(6, number) < 0.5)
        pool = PODCASTS if media == "audio" else APPS if in_app else SITES
        place, category, quality = pool[int(len(pool) * self._u(7, number))]
        rival = venue.rivals[media]
        rival_cpm = rival.median * quality * math.exp(rival.sigma * self._normal(8, number))
        floor_cpm = round(0.25 * rival.median * (0.5 + self._u(9, number)), 4)
        consented = self._u(10, user) > 0.08
        inventory: dict[str, Any] = {"id": place, "cat": [category], "publisher": {"id": f"pub-{place}"}}
        inventory |= (
            {"bundle": place}
            if in_app
            else {"domain": place, "page": f"https://{place}/story/{number % 997}"}
        )
        body: dict[str, Any] = {
            "id": f"demo-{self.seed}-{number:012d}",
            "at": venue.auction_type,
            "tmax": 120,
            "cur": ["USD"],
            "imp": [self._imp(venue, media, number, floor_cpm)],
            "app" if in_app else "site": inventory,
            "device": {
                "ua": agent,
                "os": os_name,
                "devicetype": device_type,
                "ip": f"198.51.100.{user % 250}",
                "language": "en",
                "geo": {"country": country, "utcoffset": offset, "type": 2},
                **({"lmt": 1} if not consented else {}),
            },
            "user": {"id": f"u{mix64(user):016x}"} if consented else {},
            "source": {"fd": 0, "tid": f"t-{number}"},
            "regs": {"coppa": 1} if self._u(11, number) < 0.01 else {},
        }
        if number % 500 == 499:
            body["test"] = 1
        return Opportunity(venue, media, user, quality, rival_cpm, floor_cpm, body)

    def _imp(self, venue: Venue, media: str, number: int, floor_cpm: float) -> dict[str, Any]:
        imp: dict[str, Any] = {
            "id": "1",
            "bidfloor": floor_cpm,
            "bidfloorcur": "USD",
            "secure": 1,
            "tagid": f"{venue.exchange}-{media}",
        }
        if media == "banner":
            w, h = BANNER_SIZES[int(len(BANNER_SIZES) * self._u(12, number))]
            imp["banner"] = {"w": w, "h": h, "format": [{"w": w, "h": h}], "pos": 1}
        elif media == "video":
            imp["video"] = {
                "mimes": ["video/mp4", "video/webm"],
                "protocols": [2, 3, 5, 6, 7],
                "minduration": 5,
                "maxduration": 30,
                "w": 1280,
                "h": 720,
                "linearity": 1,
                "startdelay": 0,
                "plcmt": 1,
            }
        elif media == "audio":
            imp["audio"] = {
                "mimes": ["audio/mpeg", "audio/mp4"],
                "protocols": [2, 3, 7, 8],
                "minduration": 5,
                "maxduration": 30,
                "feed": 3,
            }
        else:
            assets = [
                {"id": 1, "required": 1, "title": {"len": 90}},
                {"id": 2, "required": 1, "img": {"type": 3, "wmin": 600, "hmin": 314}},
                {"id": 3, "required": 0, "data": {"type": 1, "len": 40}},
                {"id": 4, "required": 0, "data": {"type": 2, "len": 120}},
            ]
            request = (
                '{"ver":"1.2","assets":' + _json(assets) + ',"eventtrackers":[{"event":1,"methods":[1]}]}'
            )
            imp["native"] = {"request": request, "ver": "1.2"}
        return imp

    # ---- truths about outcomes

    def click_rate(self, creative_id: str, opportunity: Opportunity) -> float:
        """Hidden appeal of the creative, times this person's taste for it, times the page. About 0.2 % to 6 %."""
        appeal = self._normal(20, _key(creative_id))
        taste = self._normal(21, _key(creative_id) ^ mix64(opportunity.user))
        logit = -4.2 + 0.8 * appeal + 0.5 * taste + 0.5 * math.log(opportunity.page_quality)
        return 1.0 / (1.0 + math.exp(-logit))

    def skips(self, opportunity: Opportunity, number: int) -> bool:
        """Some people skip whatever moves."""
        averse = self._u(22, opportunity.user) < 0.3
        return opportunity.media in ("video", "audio") and self._u(23, number) < (0.85 if averse else 0.15)

    def conversion_rate(self, campaign_id: str) -> float:
        """Per click; differs fourfold between campaigns, so that moving money pays."""
        return 0.05 + 0.15 * self._u(24, _key(campaign_id))

    def draw(self, stream: int, number: int) -> float:
        return self._u(100 + stream, number)


def _pick(choices: list[tuple[Any, float]], u: float) -> Any:
    total = sum(weight for _, weight in choices)
    mark = u * total
    for choice, weight in choices:
        mark -= weight
        if mark < 0:
            return choice
    return choices[-1][0]


def _key(text: str) -> int:
    key = 0
    for byte in text.encode():
        key = mix64(key ^ byte)
    return key


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
