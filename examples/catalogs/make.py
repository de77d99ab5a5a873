"""Writes ``demo.toml`` and ``wide.toml`` beside itself: ``python examples/catalogs/make.py``.

Both are ordinary catalog files; most of what they hold is one creative per size, which nobody likes to type.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
CDN: Final = "https://cdn.counterpoint.example"

_COMMON: Final = (
    "300x250 728x90 320x50 300x600 160x600 970x250 320x100 300x50 336x280 468x60 120x600 320x480 480x320 970x90"
    " 250x250 200x200 300x100 1024x768 768x1024 640x480 300x300 320x250"
)
_RARE: Final = (
    "600x500 728x250 300x200 160x160 600x800 400x800 600x300 320x300 1030x590 980x240 980x300 100x100 800x300 320x534"
    " 375x667 300x350 200x50 168x28 234x60 120x60 88x31 120x240 125x125 180x150 120x20 216x36 300x75 240x400 580x400"
    " 930x180 980x120 970x66 800x600 640x360 1280x720 1920x1080 360x640 300x1050 950x90 750x200 750x100 750x300 640x320"
    " 640x100 640x200 500x500 400x400 400x300 300x400 320x320 300x150 320x160 320x400 480x250 600x600 1000x250 1000x90"
    " 500x1000 50x50 100x200 200x100 600x400 400x600 320x180 640x640 1080x1920 1080x1080 414x736 360x592 320x568 568x320"
    " 667x375 736x414 480x80 600x90 700x500 990x90 994x250 240x240 150x150 600x200 800x250"
)
COMMON_SIZES: Final = _COMMON.split(" ")
RARE_SIZES: Final = _RARE.split(" ")
RATES: Final = {
    "EUR": "1.08", "GBP": "1.27", "RUB": "0.011", "AUD": "0.66", "PLN": "0.25", "JPY": "0.0067", "TRY": "0.029",
    "MXN": "0.055", "BRL": "0.18", "CAD": "0.73", "CHF": "1.12", "INR": "0.012", "CNY": "0.14", "SEK": "0.095",
    "NOK": "0.093", "DKK": "0.145", "CZK": "0.043", "HUF": "0.0027", "UAH": "0.024", "KRW": "0.00072", "SGD": "0.74",
    "HKD": "0.128", "NZD": "0.6", "ZAR": "0.055", "ILS": "0.27", "AED": "0.272", "RON": "0.217", "ARS": "0.001",
}  # fmt: skip

Row = dict[str, Any]


def toml(value: Any) -> str:
    """A value as TOML; text as JSON writes it, which TOML reads alike."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def table(kind: str, row: Row) -> str:
    """``[[kind]]`` with a line per key; a nested targeting gets its own header."""
    lines = [f"[[{kind}]]", *(f"{key} = {toml(value)}" for key, value in row.items() if key != "targeting")]
    if "targeting" in row:
        lines += [f"[{kind}.targeting]", *(f"{key} = {toml(each)}" for key, each in row["targeting"].items())]
    return "\n".join(lines) + "\n"


def inline(kind: str, them: Iterable[Row]) -> str:
    """``kind = [...]`` with a line per thing: short, and must stand before any header."""
    return "\n".join([f"{kind} = [", *(f"  {toml(row)}," for row in them), "]\n"])


def document(
    about: str,
    creatives: Iterable[Row],
    rates: dict[str, str],
    sections: Iterable[tuple[str, str, list[Row]]],
) -> str:
    """The whole file: creatives first, one a line, then headed tables."""
    parts = [about, 'account_currency = "USD"\n', inline("creative", creatives)]
    parts += ["[rates]  # one unit costs so many US dollars; made up, keep your own"]
    parts += [f"{name} = {toml(rate)}" for name, rate in rates.items()]
    for comment, kind, rows in sections:
        parts.append(f"\n# {comment}\n")
        parts += [table(kind, row) for row in rows]
    return "\n".join(parts).rstrip() + "\n"


class Brand:
    """An advertiser and the creatives it makes."""

    def __init__(self, name: str, title: str, domain: str, category: str, words: tuple[str, str]) -> None:
        self.id, self.title, self.domain, self.category, self.words = name, title, domain, category, words

    def advertiser(self) -> Row:
        return {
            "id": self.id,
            "name": self.title,
            "domain": self.domain,
            "conversion_token": f"demo-{self.id}-token",
        }

    def _base(self, kind: str, media: str, page: str, features: Row) -> Row:
        return {
            "id": f"{self.id}-{kind}",
            "advertiser": self.id,
            "media": media,
            "click_url": f"https://{self.domain}/{page}",
            "categories": [self.category],
            "attributes": [],
            "language": "en",
            "features": features,
        }

    def banner(self, size: str, colour: str, message: str, *, html: bool = False) -> Row:
        row = self._base(
            f"{size}-{colour}-{message}", "banner", message, _features(colour, message, "display")
        )
        row["size"] = size
        if html:
            width, height = size.split("x")
            row["html"] = (
                f'<a href="{{click_url}}" target="_blank"><img src="{CDN}/{self.id}/{size}-{colour}.jpg" '
                f'width="{width}" height="{height}" alt="{self.words[0]}"></a>'
            )
        else:
            row["image_url"] = f"{CDN}/{self.id}/{size}-{colour}-{message}.jpg"
        return row

    def video(self, seconds: int, message: str, *, skippable: bool = False) -> Row:
        kind = f"video-{seconds}s-{message}"
        row = self._base(kind, "video", message, _features("film", message, f"{seconds}s"))
        row["duration_s"] = seconds
        row["protocols"] = [2, 3, 7, 11, 13]
        row["files"] = [
            {
                "url": f"{CDN}/{self.id}/{kind}.{ending}",
                "mime": mime,
                "w": 1280,
                "h": 720,
                "bitrate_kbps": kbps,
            }
            for ending, mime, kbps in (("mp4", "video/mp4", 1200), ("webm", "video/webm", 1000))
        ]
        if skippable:
            row["skippable"] = True
        return row

    def audio(self, seconds: int, message: str) -> Row:
        kind = f"audio-{seconds}s-{message}"
        row = self._base(kind, "audio", message, _features("voice", message, f"{seconds}s"))
        row["duration_s"] = seconds
        row["protocols"] = [2, 3, 7, 11, 13]
        mimes = (
            ("mp3", "audio/mpeg"),
            ("mp3", "audio/mp3"),
            ("m4a", "audio/mp4"),
            ("aac", "audio/aac"),
            ("ogg", "audio/ogg"),
        )
        row["files"] = [
            {"url": f"{CDN}/{self.id}/{kind}.{ending}", "mime": mime, "bitrate_kbps": 128}
            for ending, mime in mimes
        ]
        return row

    def native(self, main: str, icon: str, colour: str, message: str) -> Row:
        kind = f"native-{main}-{colour}-{message}"
        row = self._base(kind, "native", message, _features(colour, message, "native"))
        row["native"] = {
            "title": self.words[0],
            "main_url": f"{CDN}/{self.id}/{kind}.jpg",
            "main_size": main,
            "icon_url": f"{CDN}/{self.id}/icon-{icon}.png",
            "icon_size": icon,
            "sponsored": self.title,
            "description": self.words[1],
            "cta": "Open",
            "rating": "5",
            "likes": "1200",
            "downloads": "50000",
            "price": "$20",
            "sale_price": "$15",
            "phone": "+1 555 0100",
            "address": "1 Main Street",
            "description2": "Free returns.",
            "display_url": self.domain,
        }
        return row


def _features(colour: str, message: str, shape: str) -> Row:
    return {"colour": colour, "message": message, "format": shape}


def exchange(name: str, title: str, **more: Any) -> Row:
    return {"id": name, "name": title, "seat": f"counterpoint-{name}", **more}


WIDE_BRANDS: Final = (
    Brand("stride", "Stride Shoes", "stride.example", "IAB18-3", ("Walk on air", "Light shoes for long days, made to be repaired.")),
    Brand("volta", "Volta Cars", "volta.example", "IAB2-10", ("Drive electric", "A family car that charges over lunch.")),
    Brand("harbor", "Harbor Hotels", "harbor-hotels.example", "IAB20-18", ("Sleep by sea", "Rooms with a view, breakfast with bread.")),
    Brand("lumen", "Lumen Phones", "lumen.example", "IAB19-6", ("See in the dark", "A phone whose camera likes the evening.")),
    Brand("orchard", "Orchard Foods", "orchard.example", "IAB8-9", ("Eat in season", "A box of vegetables at your door each week.")),
    Brand("ledgerly", "Ledgerly", "ledgerly.example", "IAB3-4", ("Books that fit", "Bookkeeping for shops with one till.")),
)  # fmt: skip


def wide() -> str:
    """Something for nearly every sound request: all sizes, all media, six advertisers of different trades."""
    creatives: list[Row] = []
    for n, brand in enumerate(WIDE_BRANDS):
        creatives += [brand.banner(size, "blue", "brand", html=n % 2 == 1) for size in COMMON_SIZES]
        rare = [size for k, size in enumerate(RARE_SIZES) if k % 3 == n % 3]
        creatives += [brand.banner(size, "green", "brand", html=n % 2 == 1) for size in rare]
        creatives += [brand.video(seconds, "brand") for seconds in (6, 15, 30)]
        creatives += [
            brand.video(seconds, "story")
            for seconds in ((2, 60), (10, 120), (20, 90), (3, 150), (5, 45), (8, 180))[n]
        ]
        creatives.append(brand.video(25, "skippable", skippable=True))
        creatives += [brand.audio(seconds, "brand") for seconds in (10, 15, 30)]
        creatives += [
            brand.native(main, icon, "blue", "brand")
            for main, icon in (
                ("1200x627", "80x80"), ("300x250", "80x80"), ("180x120", "50x50"), ("120x100", "80x80"),
                ("150x50", "50x50"), ("480x320", "80x80"), ("1200x1200", "128x128"),
            )
        ]  # fmt: skip
    campaigns = [
        {
            "id": f"{brand.id}-always",
            "advertiser": brand.id,
            "name": f"{brand.title}, everywhere",
            "daily_budget": "100000.00",
            "goal": "reach",
            "target_cpm": f"{30 + n}.00",
            "bid_ceiling_cpm": "40.00",
        }
        for n, brand in enumerate(WIDE_BRANDS)
    ]
    line_items = [
        {
            "id": f"{brand.id}-{media}",
            "campaign": f"{brand.id}-always",
            "creatives": [c["id"] for c in creatives if c["advertiser"] == brand.id and c["media"] == media],
            "expected_click_rate": 0.003,
        }
        for brand in WIDE_BRANDS
        for media in ("banner", "video", "audio", "native")
    ]
    about = (
        "# A wide catalog: something that fits nearly every sound request. For replaying logs against the bidder,\n"
        "# not for delivery. Written by make.py beside it; every key is explained in docs/catalog.md.\n"
    )
    slow = {"deadline_ms_max": 1000}
    exchanges = [
        exchange("corpus", "Recorded requests", auction_type=2, **slow),
        exchange("northstar", "Northstar", auction_type=1),
        exchange("harbour", "Harbour", auction_type=2, currency="EUR"),
        exchange("airwave", "Airwave", auction_type=1, currency="GBP"),
    ]
    return "\n".join(
        [
            about,
            f'account_currency = "USD"\nrates = {toml(RATES)}  # made up\n',
            inline("advertiser", [brand.advertiser() for brand in WIDE_BRANDS]),
            inline("campaign", campaigns),
            inline("line_item", line_items),
            inline("exchange", exchanges),
            inline("creative", creatives).rstrip("\n") + "\n",
        ]
    )


DEMO_BRANDS: Final = WIDE_BRANDS[:4]
DEMO_SIZES: Final = ("300x250", "728x90", "320x50", "300x600", "970x250", "160x600")


def _demo_creatives(brand: Brand) -> list[Row]:
    made = [
        brand.banner(size, colour, message)
        for size in DEMO_SIZES
        for colour, message in (("red", "price"), ("blue", "brand"))
    ]
    made += [brand.video(15, "price", skippable=True), brand.video(30, "brand")]
    made += [
        brand.native("1200x627", "80x80", "red", "price"),
        brand.native("1200x627", "80x80", "blue", "brand"),
    ]
    if brand.id in ("stride", "lumen"):
        made += [brand.audio(15, "price"), brand.audio(30, "brand")]
    return made


def _of(creatives: list[Row], brand: str, media: str) -> list[str]:
    return [c["id"] for c in creatives if c["advertiser"] == brand and c["media"] == media]


def demo() -> str:
    """A small agency: four advertisers, eight campaigns, three exchanges."""
    creatives = [row for brand in DEMO_BRANDS for row in _demo_creatives(brand)]
    pools = [{"id": f"{brand.id}-pool", "advertiser": brand.id} for brand in DEMO_BRANDS]

    def campaign(name: str, brand: str, title: str, budget: str, low: str, high: str, **more: Any) -> Row:
        row: Row = {
            "id": name,
            "advertiser": brand,
            "name": title,
            "daily_budget": budget,
            "pool": f"{brand}-pool",
        }
        return row | {"budget_min": low, "budget_max": high} | more

    # At 250 requests a second these budgets last the day: paced, some third of all requests ends in a win.
    campaigns = [
        campaign("stride-clicks", "stride", "Stride, visits", "1200.00", "400.00", "2000.00",
                 goal="clicks", target_cpc="0.20", bid_ceiling_cpm="12.00"),
        campaign("stride-radio", "stride", "Stride, on the radio", "800.00", "200.00", "1600.00",
                 goal="reach", target_cpm="9.00", bid_ceiling_cpm="14.00"),
        # Its owner hopes for seven times the clicks that people give, and for more reach than that price buys. Until that is
        # learned, line item by line item, its clicks are too dear: the bidding agent wishes a lower bid ceiling. And it
        # falls behind its plan: the budget agent wishes a higher one.
        campaign("volta-launch", "volta", "Volta, launch in America", "3000.00", "2500.00", "3500.00",
                 goal="clicks", target_cpc="0.015", bid_ceiling_cpm="4.00", reach_weight=0.6, cost_weight=0.4),
        campaign("volta-film", "volta", "Volta, the film", "1000.00", "200.00", "1800.00",
                 goal="reach", target_cpm="10.00", bid_ceiling_cpm="16.00"),
        campaign("harbor-bookings", "harbor", "Harbor, bookings", "1200.00", "400.00", "1600.00",
                 goal="value", target_roas="20.0", bid_ceiling_cpm="14.00"),
        # So small that it is spent within a minute or two: see the ledger stop it.
        campaign("harbor-teaser", "harbor", "Harbor, teaser", "1.50", "1.00", "2.00",
                 pacing="asap", goal="reach", target_cpm="6.00", bid_ceiling_cpm="8.00"),
        campaign("lumen-clicks", "lumen", "Lumen, visits", "1000.00", "400.00", "1600.00",
                 goal="clicks", target_cpc="0.30", bid_ceiling_cpm="12.00"),
        campaign("lumen-sales", "lumen", "Lumen, sales", "800.00", "200.00", "1400.00",
                 goal="conversions", target_cpa="4.00", bid_ceiling_cpm="14.00"),
    ]  # fmt: skip

    def item(name: str, owner: str, media: str, targeting: Row | None = None, **more: Any) -> Row:
        brand = owner.partition("-")[0]
        row: Row = {"id": name, "campaign": owner, "creatives": _of(creatives, brand, media)}
        row |= {"expected_click_rate": 0.012, "expected_conversion_rate": 0.1} | more
        return row | ({"targeting": targeting} if targeting else {})

    capped: Row = {"frequency_cap": {"impressions": 6, "window_s": 3600}}
    english = ["USA", "GBR", "CAN"]
    elsewhere = ["GBR", "CAN"]  # display in America is the launch's alone, in Germany that of Stride
    hopeful: Row = {"expected_click_rate": 0.16}
    america: Row = {"countries": ["USA"]}
    launch: dict[str, Row] = {
        "desktop": america | {"channels": ["site"], "device_types": [2]},
        "phone": america | {"channels": ["site"], "device_types": [4]},
        "app": america | {"channels": ["app"]},
    }
    line_items = [
        item("stride-banner-web", "stride-clicks", "banner", {"channels": ["site"], "countries": ["DEU"]}, **capped),
        item("stride-banner-app", "stride-clicks", "banner", {"channels": ["app"], "countries": ["DEU"]}, **capped),
        item("stride-native", "stride-clicks", "native", {"countries": ["DEU"]}),
        item("stride-video", "stride-clicks", "video", {"device_types": [4, 5]}),
        item("stride-audio", "stride-radio", "audio", {"exchanges": ["airwave"]}, **capped),
        *(
            item(f"volta-{place}-{size}", "volta-launch", "banner", targeting | {"sizes": [size]}, **hopeful)
            for place, targeting in launch.items() for size in ("320x50", "728x90", "160x600", "300x600", "970x250")
        ),
        *(
            item(f"volta-{place}-native", "volta-launch", "native", targeting, **hopeful)
            for place, targeting in launch.items()
        ),
        item("volta-video", "volta-film", "video", {"countries": english}, **capped),
        item("volta-video-de", "volta-film", "video", {"countries": ["DEU"]}),
        item("harbor-banner", "harbor-bookings", "banner",
             {"categories_blocked": ["IAB12"], "countries": elsewhere}, **capped),
        item("harbor-banner-travel", "harbor-bookings", "banner", {"categories": ["IAB20"], "countries": elsewhere}),
        item("harbor-native", "harbor-bookings", "native", {"countries": elsewhere}),
        item("harbor-video", "harbor-bookings", "video", {"countries": english}),
        item("harbor-teaser-banner", "harbor-teaser", "banner", {"countries": elsewhere}),
        item("lumen-banner-phones", "lumen-clicks", "banner",
             {"device_types": [4], "countries": elsewhere}, **capped),
        item("lumen-banner-desktop", "lumen-clicks", "banner", {"device_types": [2], "countries": elsewhere}),
        item("lumen-native", "lumen-clicks", "native",
             {"countries": elsewhere, "domains": ["example.io", "example.net", "example.org"]}),
        item("lumen-video", "lumen-sales", "video", **capped),
        item("lumen-audio", "lumen-sales", "audio"),
        item("lumen-banner-sales", "lumen-sales", "banner",
             {"countries": elsewhere, "exchanges": ["harbour"]}, unknown_user="no_bid", **capped),
    ]  # fmt: skip
    about = (
        "# What `make run` delivers: four advertisers, eight campaigns that share money in four pools, three exchanges.\n"
        "# Written by make.py beside it; every key is explained in docs/catalog.md.\n"
    )
    return document(
        about,
        creatives,
        {name: RATES[name] for name in ("EUR", "GBP")},
        [
            ("Who pays", "advertiser", [brand.advertiser() for brand in DEMO_BRANDS]),
            ("Inside a pool money may move from one campaign to another", "pool", pools),
            ("Budgets per local day, goals, and what each will not exceed", "campaign", campaigns),
            ("What may be shown where", "line_item", line_items),
            (
                "Who asks us for bids",
                "exchange",
                [
                    exchange(
                        "northstar",
                        "Northstar: first price, banner, video, native",
                        auction_type=1,
                        sends_loss_notices=True,
                        win_notice_delay_p999_ms=5000,
                        billing_delay_max_ms=60000,
                    ),
                    exchange(
                        "harbour",
                        "Harbour: second price, banner",
                        auction_type=2,
                        win_notice_delay_p999_ms=5000,
                        billing_delay_max_ms=60000,
                    ),
                    exchange(
                        "airwave",
                        "Airwave: audio",
                        auction_type=1,
                        win_notice_delay_p999_ms=5000,
                        billing_delay_max_ms=60000,
                    ),
                ],
            ),
        ],
    )


if __name__ == "__main__":
    (HERE / "demo.toml").write_text(demo(), encoding="utf-8")
    (HERE / "wide.toml").write_text(wide(), encoding="utf-8")
