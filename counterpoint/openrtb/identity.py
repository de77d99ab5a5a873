"""Who the person is: taken out of the request first, so that what is decided on and archived holds no raw id.

Whether ids may be used at all is read from the privacy signals (OpenRTB 2.6, 3.2.3, 3.2.18, 7.5; community extension
GPC). Where a signal cannot be read yet (TC strings, GPP sections), being in force is enough: no ids.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec import Struct

from counterpoint.openrtb.countries import country_alpha3
from counterpoint.openrtb.nobid import gdpr_in_force, gpp_in_force
from counterpoint.openrtb.objects import BidRequest, Eid

# Where GDPR holds: an absent ``regs.gdpr`` is unknown there, not false (EEA, United Kingdom, Switzerland).
GDPR_COUNTRIES = frozenset(
    [
        "AUT",
        "BEL",
        "BGR",
        "HRV",
        "CYP",
        "CZE",
        "DNK",
        "EST",
        "FIN",
        "FRA",
        "DEU",
        "GRC",
        "HUN",
        "IRL",
        "ITA",
        "LVA",
        "LTU",
        "LUX",
        "MLT",
        "NLD",
        "POL",
        "PRT",
        "ROU",
        "SVK",
        "SVN",
        "ESP",
        "SWE",
        "ISL",
        "LIE",
        "NOR",
        "GBR",
        "CHE",
    ]
)


class IdKind(StrEnum):
    """What a stable id belongs to; ids of different kinds must not be mixed under one key."""

    IFA = "ifa"  # device
    BUYERUID = "buyeruid"  # ours, by cookie sync
    USER = "user"  # the exchange's: means something only together with the exchange
    EID = "eid"  # with its source in front
    NONE = "none"


class Identity(Struct, gc=False, frozen=True, omit_defaults=True):
    """What was taken out. Lives for one request in memory; never published, logged or stored as it is."""

    user_id: str = ""
    buyeruid: str = ""
    ifa: str = ""
    ip: str = ""
    ipv6: str = ""
    eids: tuple[Eid, ...] = ()
    lat: float | None = None
    lon: float | None = None
    page_query: str = ""  # of site.page, from "?" or "#" on: may carry ids

    def stable_id(self) -> tuple[IdKind, str]:
        """The id to count a person by, the most stable first; ``(IdKind.NONE, "")`` when there is none."""
        if self.ifa and self.ifa.strip("0-") != "":  # all zeros: tracking refused
            return IdKind.IFA, self.ifa.lower()
        if self.buyeruid:
            return IdKind.BUYERUID, self.buyeruid
        if self.user_id:
            return IdKind.USER, self.user_id
        for eid in self.eids:
            for uid in eid.uids:
                if eid.source and uid.id:
                    return IdKind.EID, f"{eid.source}:{uid.id}"
        return IdKind.NONE, ""


NOBODY = Identity()


def ids_usable(request: BidRequest) -> bool:
    """Whether this request's ids may be read, counted by or stored against (in any form, hashed too).

    No when: coppa; lmt or dnt; GDPR in force, unknown in a country where it holds, or a TC string without the flag; a
    GPP section in force; a US Privacy string that opts out or is no such string; GPC. A signal is enough, ids present
    or not.
    """
    device = request.device
    if device is not None and (device.dnt or device.lmt):
        return False
    regs = request.regs
    gdpr: int | None = None
    if regs is not None:
        if regs.coppa or regs.gpc or gdpr_in_force(request) or gpp_in_force(request):
            return False
        if regs.us_privacy and _opts_out(regs.us_privacy):
            return False
        gdpr = regs.gdpr
    if gdpr is None:
        if request.user is not None and request.user.consent:
            return False
        if device is not None and device.geo is not None and device.geo.country:
            return country_alpha3(device.geo.country) not in GDPR_COUNTRIES
    return True


def _opts_out(us_privacy: str) -> bool:
    """Version, notice, opt-out of sale, LSPA: the third character. What does not look like that counts as opted out."""
    text = us_privacy.strip()
    return not (len(text) == 4 and text[0] == "1" and text[2] in "Nn-")


def take_identity(request: BidRequest) -> Identity:
    """Move every field that names a person or their exact place out of ``request``, leaving blanks.

    Country, region, metro, city and the user agent stay: they are read by targeting. ``user.consent`` stays too: the
    consent in force travels with every stored event.
    """
    user_id = buyeruid = ifa = ip = ipv6 = page_query = ""
    eids: tuple[Eid, ...] = ()
    lat = lon = None
    user = request.user
    if user is not None:
        user_id, buyeruid, eids = user.id, user.buyeruid, user.eids
        user.id = user.buyeruid = ""
        user.eids = ()
    device = request.device
    if device is not None:
        ifa, ip, ipv6 = device.ifa, device.ip, device.ipv6
        device.ifa = device.ip = device.ipv6 = ""
        geo = device.geo
        if geo is not None:
            lat, lon = geo.lat, geo.lon
            geo.lat = geo.lon = None
    site = request.site
    if site is not None:
        cut = _query_start(site.page)
        if cut >= 0:
            page_query = site.page[cut:]
            site.page = site.page[:cut]
    return Identity(user_id, buyeruid, ifa, ip, ipv6, eids, lat, lon, page_query)


def _query_start(page: str) -> int:
    query, fragment = page.find("?"), page.find("#")
    if query < 0 or 0 <= fragment < query:
        return fragment
    return query


def names_a_person(request: BidRequest) -> bool:
    """Whether anything that :func:`take_identity` takes is still there."""
    user, device, site = request.user, request.device, request.site
    if user is not None and (user.id or user.buyeruid or user.eids):
        return True
    if device is not None:
        if device.ifa or device.ip or device.ipv6:
            return True
        if device.geo is not None and (device.geo.lat is not None or device.geo.lon is not None):
            return True
    return site is not None and _query_start(site.page) >= 0


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODER = msgspec.msgpack.Decoder(BidRequest)


def archive_request(request: BidRequest) -> bytes:
    """The request as compact bytes (MessagePack, defaults left out) from which a decision can be run again."""
    assert not names_a_person(request), "take_identity comes before the archive"
    return _ENCODE(request)


def restore_request(archived: bytes) -> BidRequest:
    """The inverse of :func:`archive_request`; raises ``msgspec.DecodeError`` for bytes that are none of its."""
    return _DECODER.decode(archived)
