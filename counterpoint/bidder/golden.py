"""A View is tried on golden requests before it is used: what prices these insanely prices nothing.

It also warms the compiled kernels, so that the first real request after a start is as fast as any.
"""

from __future__ import annotations

import math

from counterpoint.base.errors import PolicyRefused
from counterpoint.bidder.decide import AllowancesLeft, Candidates, NoBid, decide, left_of, records
from counterpoint.bidder.experiment import hash64
from counterpoint.bidder.frequency import UserState
from counterpoint.bidder.part import CatalogPart
from counterpoint.bidder.scratch import Scratch
from counterpoint.bidder.view import View
from counterpoint.catalog.model import Creative, Media
from counterpoint.openrtb.objects import (
    Audio,
    Banner,
    BidRequest,
    Device,
    Format,
    Geo,
    Imp,
    Native,
    Site,
    Video,
)

EXCHANGES_MAX = (
    8  # tried; the policies of further ones differ in their win curves only, which were checked alone
)
DRAWS = 3
FLOORS = (0.0, 0.35, 40.0)
_UNSEEN = UserState("0" * 32, 1, 0, b"")
_SEEN = UserState("1" * 32, 2, 0, bytes(64))


def check_view(view: View, now_ns: int) -> int:
    """Try the View; returns how many candidates were looked at. Raises PolicyRefused where one is insane."""
    scratch = Scratch(view.part)
    left = left_of(view, 0, ())
    tried = 0
    for exchange in tuple(view.part.exchanges)[:EXCHANGES_MAX]:
        for draw, request in enumerate(golden_requests(view.part)):
            for key in range(DRAWS):
                user = _SEEN if key == 1 else _UNSEEN
                tried += _check_one(view, request, exchange, user, left, now_ns, 7 * draw + key, scratch)
    return tried


def golden_requests(part: CatalogPart) -> list[BidRequest]:
    """One for each media type in the catalog and floor, and one that offers all of them at once."""
    samples: dict[Media, Creative] = {}
    for creative in part.creatives:
        if not creative.paused:
            samples.setdefault(creative.media, creative)
    found: list[BidRequest] = []
    for at, floor in enumerate(FLOORS):
        for creative in samples.values():
            imp = Imp(id="1", bidfloor=floor, secure=1)
            _offer(imp, creative)
            found.append(_request(f"golden-{at}-{creative.media.value}", imp, at % 2 + 1))
    imp = Imp(id="1")
    for creative in samples.values():
        _offer(imp, creative)
    if len(samples) > 1:
        found.append(_request("golden-all", imp, 1))
    return found


def _request(name: str, imp: Imp, auction_type: int) -> BidRequest:
    return BidRequest(
        id=name,
        imp=(imp,),
        at=auction_type,
        site=Site(domain="golden.example", cat=("IAB1",)),
        device=Device(devicetype=2, os="Windows", geo=Geo(country="USA")),
    )


def _offer(imp: Imp, creative: Creative) -> None:
    if creative.media is Media.BANNER:
        imp.banner = Banner(format=(Format(w=creative.w, h=creative.h),), api=creative.apis)
    elif creative.media is Media.VIDEO:
        imp.video = Video(mimes=creative.mimes, maxduration=3600, api=creative.apis)
    elif creative.media is Media.AUDIO:
        imp.audio = Audio(mimes=creative.mimes, maxduration=3600, api=creative.apis)
    else:
        imp.native = Native(
            request='{"assets":[{"id":1,"required":1,"title":{"len":200}}]}', api=creative.apis
        )


def _check_one(
    view: View,
    request: BidRequest,
    exchange: str,
    user: UserState,
    left: AllowancesLeft,
    now_ns: int,
    key: int,
    scratch: Scratch,
) -> int:
    try:
        made = decide(
            request, exchange, view, user, left, now_ns, hash64(f"{request.id}/{key}"), scratch=scratch
        )
    except AssertionError as error:
        raise PolicyRefused(f"golden request {request.id!r}: {error}") from error
    assert records(user.events) is not None
    return 0 if isinstance(made, NoBid) else _check_candidates(view, request.id, made)


def _check_candidates(view: View, name: str, made: Candidates) -> int:
    looked = 0
    for choice in made.imps:
        for bid in choice.candidates:
            looked += 1
            campaign = view.part.frame.money.item(bid.line_item, 0)
            ceiling = view.part.ceilings.item(campaign)
            numbers = (bid.click_rate, bid.creative_propensity, bid.win_rate, bid.score, bid.price_propensity)
            chances = (bid.click_rate, bid.click, bid.conversion)
            sane = (
                max(1, choice.floor) <= bid.price <= min(bid.paced, ceiling)
                and all(map(math.isfinite, numbers))
                and all(0.0 <= chance <= 1.0 for chance in chances)
                and 0.0 < bid.creative_propensity <= 1.0 + 1e-9
                and 0.0 < bid.price_propensity <= 1.0 + 1e-9
                and 0.0 <= bid.win_rate <= 1.0
            )
            if not sane:
                item = view.part.line_items[bid.line_item].id
                raise PolicyRefused(f"golden request {name!r}: line item {item!r} is priced {bid}")
    return looked
