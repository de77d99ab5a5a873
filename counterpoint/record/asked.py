"""What a request asked for, without anything that names a person."""

from __future__ import annotations

from counterpoint.bidder.frequency import RECORD_BYTES
from counterpoint.bidder.outgoing import DecisionInput
from counterpoint.catalog.normal import domain
from counterpoint.openrtb.devices import device_os
from counterpoint.openrtb.objects import Audio, BidRequest, Imp, Video
from counterpoint.openrtb.sizes import banner_sizes
from counterpoint.record.story import Asked, AskedImp


def asked_of(request: BidRequest, given: DecisionInput) -> Asked:
    site, app, device = request.site, request.app, request.device
    place = ""
    if site is not None:
        place = f"site {domain(site.domain or site.page) or '?'}"
    elif app is not None:
        place = f"app {app.bundle or app.domain or '?'}"
    geo = device.geo if device is not None else None
    return Asked(
        imps=tuple(
            AskedImp(imp.id, _offers(imp), f"{imp.bidfloor:g} {imp.bidfloorcur or 'USD'}")
            for imp in request.imp
        ),
        place=place,
        country=geo.country if geo is not None else "",
        region=geo.region if geo is not None else "",
        os=device_os(device),
        device_type=device.devicetype if device is not None else 0,
        user_key=given.user.key,
        user_records=len(given.user.events) // RECORD_BYTES,
    )


def _offers(imp: Imp) -> tuple[str, ...]:
    offers: list[str] = []
    if imp.banner is not None:
        offers.append(" ".join(["banner", *(f"{w}x{h}" for w, h in banner_sizes(imp.banner))]))
    for name, timed in (("video", imp.video), ("audio", imp.audio)):
        if timed is not None:
            offers.append(f"{name} {_seconds(timed)}")
    if imp.native is not None:
        offers.append("native")
    return tuple(offers)


def _seconds(timed: Video | Audio) -> str:
    return f"{timed.minduration}-{'' if timed.maxduration is None else timed.maxduration} s"
