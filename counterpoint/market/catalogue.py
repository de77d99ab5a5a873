"""The scenario's demand side as a real catalog, and its auctions as real bid requests: what the very bidder runs on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from counterpoint.base.rng import mix64
from counterpoint.catalog.digest import seal
from counterpoint.catalog.model import (
    Advertiser,
    BudgetPool,
    Campaign,
    Catalog,
    Creative,
    ExchangeProfile,
    FrequencyCap,
    LineItem,
    Media,
    MediaFile,
    NativeAssets,
    Settles,
    Targeting,
)
from counterpoint.market.auctions import Auctions
from counterpoint.market.design import MEDIA, CreativeSpec, Design
from counterpoint.market.people import SYSTEMS
from counterpoint.market.scenario import STARTS_AT_NS, Scenario
from counterpoint.market.world import MICROS, World
from counterpoint.openrtb.request import (
    App,
    Audio,
    Banner,
    BidRequest,
    Device,
    Format,
    Geo,
    Imp,
    Native,
    Publisher,
    Site,
    Source,
    User,
    Video,
)

BUDGET_MIN_SHARE: Final = (
    0.25  # inside its advertiser's pool a campaign keeps at least this share of its budget
)
TMAX_MS: Final = 120
DURATIONS_S: Final = (15, 30)
ACCOUNT_CURRENCY: Final = "USD"
AGENTS: Final = {
    "Android": "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36",
    "iOS": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "Windows": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36",
    "macOS": "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_6) AppleWebKit/605.1.15 Version/18.0 Safari/605.1.15",
}
NATIVE_REQUEST: Final = msgspec.json.encode(
    {
        "ver": "1.2",
        "assets": [
            {"id": 1, "required": 1, "title": {"len": 90}},
            {"id": 2, "required": 1, "img": {"type": 3, "wmin": 600, "hmin": 314}},
            {"id": 3, "required": 0, "data": {"type": 1, "len": 40}},
            {"id": 4, "required": 0, "data": {"type": 2, "len": 120}},
        ],
        "eventtrackers": [{"event": 1, "methods": [1]}],
    }
).decode()


# ---- the catalog


def catalogue(scenario: Scenario, at_ns: int | None = None, faster: float = 1.0) -> Catalog:
    """Everything the bidder needs. ``at_ns``: creatives not in their life then are paused; None: none is.

    ``faster``: for a bidder whose own clock runs while market time passes so many times faster: a day's budget is so
    many market days', a cap's day as much shorter (at least a second), and the flight has begun whatever the date.

    Positions are those of :class:`~counterpoint.market.design.Design`: campaigns, line items and creatives in its order.
    """
    design = Design(scenario)
    s = scenario
    lines: list[list[str]] = [[] for _ in design.line_items]
    for spec in design.creatives:
        lines[spec.line_item].append(spec.id)
    return seal(
        Catalog(
            account_currency=ACCOUNT_CURRENCY,
            advertisers=tuple(
                Advertiser(
                    id=a.id,
                    name=a.id.title(),
                    domain=f"{a.id}.example",
                    conversion_token=f"simulated-{a.id}",
                )
                for a in s.advertiser
            ),
            pools=tuple(BudgetPool(id=f"{a.id}-pool", advertiser_id=a.id) for a in s.advertiser),
            campaigns=tuple(_campaign(s, n, faster) for n in range(len(s.campaign))),
            line_items=tuple(
                _line_item(s, c, MEDIA[m], tuple(lines[n]), faster)
                for n, (c, m) in enumerate(design.line_items)
            ),
            creatives=tuple(_creative(s, spec, at_ns) for spec in design.creatives),
            exchanges=tuple(
                ExchangeProfile(
                    id=v.id,
                    name=v.id.title(),
                    seat=f"seat-{v.id}",
                    currency=ACCOUNT_CURRENCY,
                    auction_type=v.auction_type,
                    settles={m.value: Settles.BILLING for m in MEDIA},
                    win_notice_delay_p999_ms=2_000,
                    billing_delay_max_ms=60_000,
                    sends_loss_notices=v.minimum_bid_to_win,
                    deadline_ms_max=TMAX_MS,
                )
                for v in s.venue
            ),
        )
    )


def budget_micros(scenario: Scenario, campaign: int) -> int:
    """Per local day, micros of the account currency."""
    return round(scenario.campaign[campaign].daily_budget * scenario.budget_factor * MICROS)


def _campaign(s: Scenario, n: int, faster: float) -> Campaign:
    c = s.campaign[n]
    budget = round(budget_micros(s, n) * faster)
    return Campaign(
        id=c.id,
        advertiser_id=c.advertiser,
        name=c.id.replace("-", " ").capitalize(),
        daily_budget_micros=budget,
        pool_id=f"{c.advertiser}-pool",
        budget_min_micros=int(budget * BUDGET_MIN_SHARE),
        starts_at_ns=STARTS_AT_NS if faster == 1.0 else 0,
        goal=c.goal,
        goal_value_micros=c.goal_value_micros,
        expected_order_value_micros=round(c.order_value * MICROS),
        bid_ceiling_micros=round(c.bid_ceiling_cpm * MICROS),
    )


def _line_item(
    s: Scenario, campaign: int, media: Media, creatives: tuple[str, ...], faster: float
) -> LineItem:
    c = s.campaign[campaign]
    day_s = max(1, round(86_400 / faster))
    return LineItem(
        id=f"{c.id}-{media.value}",
        campaign_id=c.id,
        name=f"{c.id}, {media.value}",
        targeting=Targeting(media=(media,), countries=c.countries),
        creative_ids=creatives,
        frequency_cap=FrequencyCap(impressions=c.frequency_cap, window_s=day_s) if c.frequency_cap else None,
        expected_click_rate=c.expected_click_rate,
        expected_conversion_rate=c.expected_conversion_rate,
    )


def _creative(s: Scenario, spec: CreativeSpec, at_ns: int | None) -> Creative:
    campaign = s.campaign[spec.campaign]
    media = MEDIA[spec.media]
    category = next(a.category for a in s.advertiser if a.id == campaign.advertiser)
    features = {
        "colour": s.creatives.colours[spec.colour],
        "message": s.creatives.messages[spec.message],
        "format": media.value,
    }
    w, h, duration_s = 0, 0, 0
    files: tuple[MediaFile, ...] = ()
    image, native = "", None
    base = f"https://cdn.counterpoint.example/{campaign.advertiser}/{spec.id}"
    if media is Media.BANNER:
        w, h, image = s.size[spec.size].w, s.size[spec.size].h, f"{base}.jpg"
    elif media is Media.NATIVE:
        native = NativeAssets(
            title=f"{campaign.advertiser.title()}, {features['message']}",
            main_url=f"{base}.jpg",
            main_w=1_200,
            main_h=627,
            sponsored=campaign.advertiser.title(),
            description="What it is, in a sentence.",
            cta="Open",
        )
    else:
        duration_s = DURATIONS_S[spec.slot % 2]
        features["format"] = f"{duration_s}s"
        kind = (
            ("mp4", "video/mp4", 1280, 720, 1_200)
            if media is Media.VIDEO
            else ("mp3", "audio/mpeg", 0, 0, 128)
        )
        ending, mime, file_w, file_h, rate = kind
        files = (MediaFile(url=f"{base}.{ending}", mime=mime, w=file_w, h=file_h, bitrate_kbps=rate),)
    return Creative(
        id=spec.id,
        advertiser_id=campaign.advertiser,
        media=media,
        click_url=f"https://{campaign.advertiser}.example/{spec.id}",
        w=w,
        h=h,
        duration_s=duration_s,
        mimes=tuple(f.mime for f in files),
        files=files,
        image_url=image,
        native=native,
        categories=(category,),
        attributes=(),
        protocols=(2, 3, 7) if files else (),
        language="en",
        skippable=media is Media.VIDEO,
        features=features,
        paused=at_ns is not None and not spec.from_ns <= at_ns < spec.to_ns,
    )


# ---- requests


_CURRENCIES: Final = (ACCOUNT_CURRENCY,)
REMEMBERED_MAX: Final = 20_000  # imps, by floor
K = TypeVar("K")
V = TypeVar("V")


class Imps(Struct, frozen=True):
    banner: dict[int, Banner]
    video: Video
    audio: Audio
    native: Native


class Requests:
    """Bid requests of a world's auctions. Parts are shared between requests: read them, never change them."""

    def __init__(self, world: World) -> None:
        self.world = world
        s = world.scenario
        sizes = {n: Banner(w=z.w, h=z.h, format=(Format(w=z.w, h=z.h),), pos=1) for n, z in enumerate(s.size)}
        mp4 = ("video/mp4", "video/webm")
        self._imps = Imps(
            sizes,
            Video(
                mimes=mp4,
                minduration=5,
                maxduration=30,
                startdelay=0,
                protocols=(2, 3, 5, 6, 7),
                w=1280,
                h=720,
                plcmt=1,
                linearity=1,
                skip=1,
            ),
            Audio(
                mimes=("audio/mpeg", "audio/mp4"),
                minduration=5,
                maxduration=30,
                protocols=(2, 3, 7, 8),
                feed=3,
            ),
            Native(request=NATIVE_REQUEST, ver="1.2"),
        )
        self._publishers = [Publisher(id=f"pub-{p.id}") for p in s.place]
        self._geos = [Geo(country=c.code) for c in s.users.countries]
        self._salt = mix64(world.seed)
        self._imp_of: dict[tuple[int, int, int, int], Imp] = {}
        self._names: dict[int, str] = {}  # of at most all users
        self._device_of: dict[tuple[int, int, int, bool], Device] = {}

    def request(self, auctions: Auctions, row: int) -> BidRequest:
        """As ``decode_request`` of :meth:`body` would give it."""
        s = self.world.scenario
        index = int(auctions.index[row])
        request = BidRequest(
            id=f"{s.name}-{self.world.seed}-{index:012d}",
            imp=(self._imp(auctions, row),),
            device=self._device(auctions, row),
            at=int(auctions.auction_type[row]),
            tmax=TMAX_MS,
            cur=_CURRENCIES,
            source=Source(tid=f"t-{index}"),
        )
        self._put_place(request, int(auctions.place[row]), index)
        if bool(auctions.known_user[row]):
            request.user = User(id=self.user_id(int(auctions.user[row])))
        return request

    def _imp(self, auctions: Auctions, row: int) -> Imp:
        media = MEDIA[int(auctions.media[row])]
        venue = self.world.scenario.venue[int(auctions.venue[row])]
        imp = Imp(
            id="1",
            tagid=f"{venue.id}-{media.value}",
            bidfloor=int(auctions.floor_micros[row]) / MICROS,
            bidfloorcur=ACCOUNT_CURRENCY,
            secure=1,
        )
        if media is Media.BANNER:
            imp.banner = self._imps.banner[int(auctions.size[row])]
        elif media is Media.VIDEO:
            imp.video = self._imps.video
        elif media is Media.AUDIO:
            imp.audio = self._imps.audio
        else:
            imp.native = self._imps.native
        return imp

    def _device(self, auctions: Auctions, row: int) -> Device:
        system = SYSTEMS[int(auctions.os[row])]
        country = int(auctions.country[row])
        return Device(
            geo=self._geos[country],
            ua=AGENTS[system],
            ip=f"198.51.100.{int(auctions.user[row]) % 250}",
            devicetype=int(auctions.device_type[row]),
            os=system,
            language=self.world.scenario.users.countries[country].language,
            lmt=0 if bool(auctions.known_user[row]) else 1,
        )

    def _put_place(self, request: BidRequest, place_at: int, index: int) -> None:
        place, publisher = self.world.scenario.place[place_at], self._publishers[place_at]
        if place.app:
            request.app = App(id=place.id, bundle=place.id, cat=(place.category,), publisher=publisher)
        else:
            page = f"https://{place.id}/story/{index % 997}"
            request.site = Site(
                id=place.id, domain=place.id, cat=(place.category,), page=page, publisher=publisher
            )

    def of(self, auctions: Auctions) -> Iterator[BidRequest]:
        """:meth:`request` of every row, as it is once the bidder has taken the address out; a third of the work."""
        s = self.world.scenario
        columns = (
            auctions.index,
            auctions.user,
            auctions.known_user,
            auctions.country,
            auctions.device_type,
            auctions.os,
            auctions.venue,
            auctions.media,
            auctions.place,
            auctions.size,
            auctions.auction_type,
            auctions.floor_micros,
        )
        front = f"{s.name}-{self.world.seed}-"
        for row, (
            index,
            user,
            known,
            country,
            device,
            os,
            venue,
            media,
            place_at,
            size,
            kind,
            floor,
        ) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            imp = self._imp_of.get((venue, media, size, floor))
            if imp is None:
                imp = self._remember(self._imp_of, (venue, media, size, floor), self._imp(auctions, row))
            on = self._device_of.get((country, device, os, known))
            if on is None:
                made = self._device(auctions, row)
                made.ip = ""
                on = self._remember(self._device_of, (country, device, os, known), made)
            request = BidRequest(
                id=f"{front}{index:012d}",
                imp=(imp,),
                device=on,
                at=kind,
                tmax=TMAX_MS,
                cur=_CURRENCIES,
                source=Source(tid=f"t-{index}"),
            )
            self._put_place(request, place_at, index)
            if known:
                request.user = User(id=self.user_id(user))
            yield request

    @staticmethod
    def _remember(kept: dict[K, V], key: K, value: V) -> V:
        """Floors are levels, but for sellers that answer us: then there may be many, and the memo starts anew."""
        if len(kept) >= REMEMBERED_MAX:
            kept.clear()
        kept[key] = value
        return value

    def body(self, auctions: Auctions, row: int) -> bytes:
        """The same request as JSON, for the wire."""
        return msgspec.json.encode(self.request(auctions, row))

    def user_id(self, user: int) -> str:
        """What the exchange calls this person."""
        name = self._names.get(user)
        if name is None:
            name = self._names[user] = f"u{mix64(self._salt ^ mix64(user)):016x}"
        return name
