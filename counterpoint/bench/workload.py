"""The frozen workload ``mixed-1800-v1``: requests as exchanges send them, and a catalog that has something to say.

Permanent: a change of any number here gets a new name, so that two figures with one name can be compared. Bodies
are 1.8 kB in the median, 2.5 style with promoted fields in ``ext``, as most captured traffic is: one impression (banner
72 %, video 13 %, native 10 %, audio 5 %), blocked categories and advertisers, device, geo, user and publisher data we
do not read. Line items aim by country, device, channel, category, domain, hour and exchange until about
``AIMED_AT`` of them fit a typical request, whatever the size of the catalog.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from random import Random
from typing import Any, Final

import msgspec

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
    Targeting,
)

NAME: Final = "mixed-1800-v1"
EXCHANGE: Final = "benchx"
AIMED_AT: Final = 17.0  # line items that fit a request, in the middle
CREATIVES: Final = 10_000
USERS: Final = 200_000

_COUNTRIES: Final = (
    ("USA", 0.42), ("GBR", 0.10), ("DEU", 0.08), ("FRA", 0.07), ("CAN", 0.06), ("BRA", 0.05), ("IND", 0.05),
    ("JPN", 0.04), ("ESP", 0.03), ("ITA", 0.03), ("MEX", 0.02), ("AUS", 0.02), ("NLD", 0.01), ("POL", 0.01),
    ("SWE", 0.01),
)  # fmt: skip
_DEVICES: Final = (
    (4, "iOS", 0.34, "iPhone", "Apple", "17.5.1", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"),
    (4, "Android", 0.34, "SM-S918B", "Samsung", "14", "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.6478.71 Mobile Safari/537.36"),
    (2, "Windows", 0.20, "PC", "Dell", "10.0", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.2592.68"),
    (5, "iPadOS", 0.07, "iPad14,5", "Apple", "17.4", "Mozilla/5.0 (iPad; CPU OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1"),
    (3, "Tizen", 0.05, "QN90C", "Samsung", "7.0", "Mozilla/5.0 (SMART-TV; LINUX; Tizen 7.0) AppleWebKit/537.36 (KHTML, like Gecko) 94.0.4606.31/7.0 TV Safari/537.36"),
)  # fmt: skip
_SIZES: Final = (
    (300, 250, 0.46), (320, 50, 0.22), (728, 90, 0.14), (160, 600, 0.08), (970, 250, 0.05), (300, 600, 0.05),
)  # fmt: skip
_MEDIA: Final = ((Media.BANNER, 0.72), (Media.VIDEO, 0.13), (Media.NATIVE, 0.10), (Media.AUDIO, 0.05))
_DOMAINS: Final = tuple(
    f"{word}-{n}.example" for n in range(250) for word in ("news", "sport", "games", "music")
)
_BUNDLES: Final = tuple("com.example." + name.split(".")[0] for name in _DOMAINS)
_CATEGORIES: Final = tuple(f"IAB{n}" for n in range(1, 24) if n not in (7, 14))
_SENSITIVE: Final = ("IAB23-1", "IAB8-18", "IAB7-44", "IAB26", "IAB25", "IAB9-25", "IAB24", "IAB17-18", "IAB9-30",
                     "IAB7-39", "IAB14-1", "IAB11-5", "IAB14-2", "IAB25-3", "IAB26-1")  # fmt: skip


def bodies(seed: int, count: int) -> list[bytes]:
    """``count`` distinct bid requests as JSON; the same for the same seed, on every machine."""
    return [msgspec.json.encode(request) for request in _requests(seed, count)]


def _requests(seed: int, count: int) -> Iterator[dict[str, Any]]:
    rng = Random(f"{NAME}/{seed}")
    for _ in range(count):
        yield _request(rng)


def _pick(rng: Random, weighted: tuple[tuple[Any, ...], ...], at: int) -> tuple[Any, ...]:
    return rng.choices(weighted, [row[at] for row in weighted])[0]


def _hex(rng: Random, digits: int) -> str:
    return f"{rng.getrandbits(4 * digits):0{digits}x}"


def _uuid(rng: Random) -> str:
    return f"{_hex(rng, 8)}-{_hex(rng, 4)}-{_hex(rng, 4)}-{_hex(rng, 4)}-{_hex(rng, 12)}"


def _domain_rank(rng: Random) -> int:
    """Few sites have most of the traffic: rank drawn with density ~ 1/rank."""
    return min(len(_DOMAINS) - 1, int(len(_DOMAINS) ** rng.random()) - 1)


def _request(rng: Random) -> dict[str, Any]:
    device_type, os, _, model, make, osv, agent = _pick(rng, _DEVICES, 2)
    country = _pick(rng, _COUNTRIES, 1)[0]
    media = _pick(rng, _MEDIA, 1)[0]
    domain = _DOMAINS[_domain_rank(rng)]
    categories = [Random(domain).choice(_CATEGORIES)]  # a site's, whatever is asked of it
    publisher = {
        "id": str(rng.randrange(10**8, 10**9)),
        "name": domain,
        "domain": domain,
        "cat": categories,
    }
    content = {"language": "en", "livestream": 0}
    as_app = device_type == 3 or (device_type in (4, 5) and rng.random() < 0.45)
    place: dict[str, Any] = {
        "id": str(rng.randrange(10**8, 10**9)),
        "name": domain.split(".")[0].title(),
        "cat": categories,
        "publisher": publisher,
        "content": content,
    }
    if as_app:
        bundle = "com.example." + domain.split(".")[0]
        place |= {
            "bundle": bundle,
            "domain": domain,
            "ver": "8.12.1",
            "storeurl": f"https://store.example/{bundle}",
        }
    else:
        page = f"https://www.{domain}/{_hex(rng, 12)}/a-story-{rng.randrange(10**6)}.html"
        place |= {
            "domain": domain,
            "page": page,
            "ref": f"https://search.example/?q={_hex(rng, 6)}",
            "mobile": 1,
        }
    personal = rng.random() < 0.85
    request: dict[str, Any] = {
        "id": _uuid(rng),
        "imp": [_impression(rng, media)],
        "app" if as_app else "site": place,
        "device": {
            "ua": agent,
            "ip": f"{rng.randrange(11, 200)}.{rng.randrange(256)}.{rng.randrange(256)}.0",
            "geo": {
                "country": country,
                "region": "CA" if country == "USA" else "",
                "lat": round(rng.uniform(25, 60), 1),
                "lon": round(rng.uniform(-120, 20), 1),
                "type": 2,
                "utcoffset": -300,
            },
            "make": make,
            "model": model,
            "os": os,
            "osv": osv,
            "devicetype": device_type,
            "connectiontype": 2,
            "language": "en",
            "carrier": "310-410",
            "js": 1,
            "dnt": 0,
            "lmt": 0 if personal else 1,
            "w": 390,
            "h": 844,
            "pxratio": 3,
            "ext": {"ifa_type": "aaid", "sua_source": 2},
        },
        "at": 1,
        "tmax": 120,
        "cur": ["USD"],
        "bcat": Random(domain).sample(_SENSITIVE, 11),  # block lists are a publisher's
        "badv": [f"blocked-{Random(domain).randrange(400) + n}.example" for n in range(4)],
        "source": {
            "fd": 1,
            "tid": _uuid(rng),
            "ext": {
                "schain": {
                    "ver": "1.0",
                    "complete": 1,
                    "nodes": [
                        {
                            "asi": "ssp.example",
                            "sid": str(rng.randrange(10**6)),
                            "hp": 1,
                            "rid": _hex(rng, 16),
                        }
                    ],
                }
            },
        },
        "regs": {"coppa": 0, "ext": {"gdpr": 0, "us_privacy": "1YNN"}},
        "ext": {"lane": rng.randrange(64)},
    }
    if personal:
        person = Random(rng.randrange(USERS))
        identifier = _uuid(person)
        request["user"] = {"id": identifier, "buyeruid": _hex(person, 24), "ext": {"sessionduration": 214}}
        if as_app:
            request["device"]["ifa"] = identifier
    return request


def _impression(rng: Random, media: Media) -> dict[str, Any]:
    imp: dict[str, Any] = {
        "id": "1",
        "tagid": _hex(rng, 20),
        "bidfloor": round(rng.uniform(0.05, 0.9) if rng.random() < 0.92 else rng.uniform(7.0, 12.0), 3),
        "bidfloorcur": "USD",
        "secure": 1,
        "exp": 900,
        "displaymanager": "EXAMPLE-SDK",
        "displaymanagerver": "4.2.0",
        "ext": {"gpid": f"/1234/{_hex(rng, 8)}/top", "data": {"pbadslot": _hex(rng, 8)}},
    }
    if media is Media.BANNER:
        sizes = [_pick(rng, _SIZES, 2)[:2]]
        if rng.random() < 0.35:
            sizes = list(dict.fromkeys((*sizes, _pick(rng, _SIZES, 2)[:2])))
        imp["banner"] = {
            "w": sizes[0][0],
            "h": sizes[0][1],
            "format": [{"w": w, "h": h} for w, h in sizes],
            "pos": 1,
            "battr": [8, 9, 10],
            "api": [3, 5, 6, 7],
            "topframe": 1,
        }
    elif media is Media.VIDEO:
        imp["video"] = {
            "mimes": ["video/mp4", "video/webm", "application/javascript"],
            "minduration": 5,
            "maxduration": 30,
            "protocols": [2, 3, 5, 6, 7, 8],
            "w": 640,
            "h": 360,
            "linearity": 1,
            "placement": 1,
            "startdelay": 0,
            "playbackmethod": [1, 2],
            "api": [7],
            "skip": 0,
        }
    elif media is Media.AUDIO:
        imp["audio"] = {
            "mimes": ["audio/mpeg", "audio/mp4"],
            "minduration": 5,
            "maxduration": 30,
            "protocols": [2, 3, 7, 8],
            "startdelay": 0,
            "feed": 1,
        }
    else:
        asked = {
            "ver": "1.2",
            "context": 1,
            "plcmttype": 1,
            "plcmtcnt": 1,
            "assets": [
                {"id": 1, "required": 1, "title": {"len": 90}},
                {"id": 2, "required": 1, "img": {"type": 3, "wmin": 600, "hmin": 314}},
                {"id": 3, "required": 0, "data": {"type": 1, "len": 40}},
            ],
            "eventtrackers": [{"event": 1, "methods": [1, 2]}],
        }
        imp["native"] = {"request": msgspec.json.encode(asked).decode(), "ver": "1.2", "api": [7]}
    return imp


# ---------------------------------------------------------------------------------------------- catalog


_SLOTS: Final = (
    *((Media.BANNER, w, h) for w, h, _ in _SIZES),
    (Media.VIDEO, 640, 360),
    (Media.NATIVE, 0, 0),
    (Media.AUDIO, 0, 0),
)
_OWNED: Final = (14, 8, 6, 3, 2, 2, 6, 6, 3)  # creatives of one advertiser, by slot: 50
_PER_SLOT: Final = 5  # creatives of one line item, by slot
_SLOT_SHARE: Final = 0.18  # of all line items, those that serve a given slot


@lru_cache(maxsize=1)
def catalog(line_items: int, creatives: int = CREATIVES) -> Catalog:
    """A catalog of that many line items, five to a campaign, that answers most of the workload."""
    rng = Random(f"{NAME}/catalog/{line_items}/{creatives}")
    advertisers = max(1, creatives // sum(_OWNED))
    campaigns = max(1, line_items // 5)
    made: list[Creative] = []
    owned: list[list[list[str]]] = []  # by advertiser, by slot
    for advertiser in range(advertisers):
        owned.append([])
        for slot, count in zip(_SLOTS, _OWNED, strict=True):
            batch = [_creative(rng, len(made) + n, advertiser, *slot) for n in range(count)]
            made.extend(batch)
            owned[-1].append([creative.id for creative in batch])
    return Catalog(
        account_currency="USD",
        rates=(
            CurrencyRate(currency="USD", micros=1_000_000),
            CurrencyRate(currency="EUR", micros=1_080_000),
        ),
        advertisers=tuple(
            Advertiser(id=f"adv{n}", name=f"Advertiser {n}", domain=f"brand-{n}.example")
            for n in range(advertisers)
        ),
        campaigns=tuple(
            Campaign(
                id=f"c{n}",
                advertiser_id=f"adv{n % advertisers}",
                name=f"Campaign {n}",
                daily_budget_micros=10_000_000_000,
                goal=Goal.CLICKS,
                goal_value_micros=rng.randrange(600_000, 1_600_000),
            )
            for n in range(campaigns)
        ),
        line_items=tuple(
            _line_item(
                rng, n, n % campaigns, owned[n % campaigns % advertisers], AIMED_AT / _SLOT_SHARE / line_items
            )
            for n in range(line_items)
        ),
        creatives=tuple(made),
        exchanges=(ExchangeProfile(id=EXCHANGE, seat="seat-1", deadline_ms_max=100),),
        digest=f"{NAME}-{line_items}-{creatives}",
    )


def _line_item(rng: Random, n: int, campaign: int, owned: list[list[str]], aim: float) -> LineItem:
    """``aim``: the share of requests its targeting lets through, apart from media and size."""
    kind = rng.random()
    slots = rng.sample(range(6), 2) if kind < 0.6 else [6] if kind < 0.74 else [7] if kind < 0.88 else [8]
    return LineItem(
        id=f"li{n}",
        campaign_id=f"c{campaign}",
        targeting=_targeting(rng, min(1.0, aim * rng.lognormvariate(0.0, 0.4))),
        creative_ids=tuple(
            creative
            for slot in slots
            for creative in rng.sample(owned[slot], min(_PER_SLOT, len(owned[slot])))
        ),
        frequency_cap=FrequencyCap(impressions=5, window_s=86_400) if rng.random() < 0.5 else None,
        expected_click_rate=rng.uniform(0.001, 0.004),
    )


def _targeting(rng: Random, aim: float) -> Targeting:
    """Narrow one dimension after the other until ``aim`` is reached; sites take what is left."""
    left = 1.0
    countries: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    for dimension in rng.sample(("country", "os", "channel", "category"), 4):
        need = max(0.05, aim / left)
        if need >= 1.0:
            break
        if dimension == "country":
            countries, share = _subset(rng, [(row[0], row[1]) for row in _COUNTRIES], need)
        elif dimension == "os":
            systems, share = _subset(rng, [(row[1], row[2]) for row in _DEVICES], need)
        elif dimension == "channel":
            channels, share = _subset(rng, [("site", 0.6), ("app", 0.4)], need)
        else:
            categories, share = _subset(rng, [(name, 1 / len(_CATEGORIES)) for name in _CATEGORIES], need)
        left *= share
    if aim / left < 0.3:
        sites = rng.sample(range(len(_DOMAINS)), max(1, round(len(_DOMAINS) * aim / left)))
        domains = tuple(name for site in sites for name in (_DOMAINS[site], _BUNDLES[site]))
    return Targeting(
        countries=countries,
        os=systems,
        channels=channels,
        categories=categories,
        domains=domains,
        domains_blocked=tuple(rng.sample(_DOMAINS, 10)) if not domains and rng.random() < 0.3 else (),
    )


def _subset(rng: Random, weighted: list[tuple[str, float]], need: float) -> tuple[tuple[str, ...], float]:
    """Values in random order until their weights come to ``need``, and what they come to."""
    taken: list[str] = []
    share = 0.0
    for value, weight in rng.sample(weighted, len(weighted)):
        if share >= need:
            break
        taken.append(value)
        share += weight
    return tuple(taken), min(1.0, share)


def _creative(rng: Random, n: int, advertiser: int, media: Media, w: int, h: int) -> Creative:
    cdn = f"https://cdn.example/{advertiser}/{n}"
    duration = rng.choice((10, 15, 20, 30)) if media in (Media.VIDEO, Media.AUDIO) else 0
    files: tuple[MediaFile, ...] = ()
    if media is Media.VIDEO:
        files = (MediaFile(url=f"{cdn}.mp4", mime="video/mp4", w=w, h=h, bitrate_kbps=1_200),)
    elif media is Media.AUDIO:
        files = (MediaFile(url=f"{cdn}.mp3", mime="audio/mpeg", bitrate_kbps=128),)
    return Creative(
        id=f"cr{n}",
        advertiser_id=f"adv{advertiser}",
        media=media,
        click_url=f"https://brand-{advertiser}.example/landing?creative={n}",
        w=w,
        h=h,
        duration_s=duration,
        mimes=tuple(file.mime for file in files) or (("image/png",) if media is Media.BANNER else ()),
        files=files,
        image_url=f"{cdn}.png" if media is Media.BANNER else "",
        native=NativeAssets(
            title=f"A headline of a usual length, number {n}",
            main_url=f"{cdn}-1200x627.png",
            main_w=1200,
            main_h=627,
            sponsored=f"Brand {advertiser}",
        )
        if media is Media.NATIVE
        else None,
        categories=(rng.choice(_CATEGORIES),),
        attributes=(),
        protocols=(2, 3, 7) if media in (Media.VIDEO, Media.AUDIO) else (),
        features={"colour": rng.choice(("red", "blue", "green")), "format": rng.choice(("static", "story"))},
    )
