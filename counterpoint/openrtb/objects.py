"""The objects of a bid request (OpenRTB 2.6-202606, section 3.2), only the fields a bidder reads.

Absent means unknown, not false: a field whose absence matters is ``None``; where the specification states a default
it stands here; an empty tuple or string is "not stated". ``ext`` fields exist for decoding only: after
``request.decode_request`` each is ``None`` and what was promoted from it stands at its 2.6 place.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from counterpoint.base.money import MICROS_PER_UNIT, PRICE_MICROS_MAX, price_up

# No number of the wire that we read as an integer is larger; compiled kernels take 32 bits of them.
Int = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]

FLOOR_UNITS_MAX = PRICE_MICROS_MAX / MICROS_PER_UNIT


def floor_micros(units: float) -> int:
    """A floor in currency units as micros CPM, rounded up, exactly as ``price_up`` does it but in 0.2 us.

    ``units`` is the double nearest to what was sent; its shortest decimal text is what counts. When
    ``micros / 1e6`` gives the same double back, that text has at most six decimals and nothing is to be rounded.

    >>> floor_micros(0.1), floor_micros(0.1234567)
    (100000, 123457)
    """
    micros = round(units * 1e6)
    return micros if micros / 1e6 == units else price_up(units)


class Wire(Struct, gc=False, omit_defaults=True):
    """Base of what is read: trees without cycles, so the collector need not see them."""


class Format(Wire):
    w: Int = 0
    h: Int = 0
    wratio: Int = 0
    hratio: Int = 0
    wmin: Int = 0


class Banner(Wire):
    """3.2.6. Sizes: see ``sizes.banner_sizes``."""

    format: tuple[Format, ...] = ()
    w: Int = 0
    h: Int = 0
    wmin: Int = 0
    hmin: Int = 0
    wmax: Int = 0
    hmax: Int = 0
    btype: tuple[Int, ...] = ()
    battr: tuple[Int, ...] = ()
    pos: Int = 0
    mimes: tuple[str, ...] = ()
    topframe: Int = 0
    expdir: tuple[Int, ...] = ()
    api: tuple[Int, ...] = ()
    vcm: Int = 0


class DurFloor(Wire):
    """3.2.35: seconds, both ends included, an absent end is open."""

    mindur: Int | None = None
    maxdur: Int | None = None
    bidfloor: float = 0.0


class RewardExt(Wire):
    rewarded: Int = 0  # 2.5 exchanges: video.ext.rewarded, imp.ext.rewarded
    rwdd: Int = 0


class TimedExt(Wire):
    rewarded: Int = 0
    plcmt: Int | None = None


class Video(Wire):
    """3.2.7. Durations in seconds, bitrates in kbit/s. ``None``: not stated."""

    mimes: tuple[str, ...] = ()
    minduration: Int = 0
    maxduration: Int | None = None
    startdelay: Int | None = None
    maxseq: Int | None = None
    poddur: Int | None = None
    protocols: tuple[Int, ...] = ()
    protocol: Int = 0  # 2.2 and older, one value
    w: Int = 0
    h: Int = 0
    podid: str = ""
    podseq: Int = 0
    rqddurs: tuple[Int, ...] = ()
    placement: Int = 0  # deprecated, kept for what sends no plcmt
    plcmt: Int = 0
    linearity: Int = 0  # 0: any
    skip: Int | None = None
    skipmin: Int = 0
    skipafter: Int = 0
    sequence: Int = 0  # deprecated
    slotinpod: Int = 0
    mincpmpersec: float = 0.0
    battr: tuple[Int, ...] = ()
    maxextended: Int = 0
    minbitrate: Int = 0
    maxbitrate: Int = 0
    boxingallowed: Int = 1
    playbackmethod: tuple[Int, ...] = ()
    delivery: tuple[Int, ...] = ()
    pos: Int = 0
    api: tuple[Int, ...] = ()
    durfloors: tuple[DurFloor, ...] = ()
    ext: TimedExt | None = None


class Audio(Wire):
    """3.2.8."""

    mimes: tuple[str, ...] = ()
    minduration: Int = 0
    maxduration: Int | None = None
    poddur: Int | None = None
    protocols: tuple[Int, ...] = ()
    startdelay: Int | None = None
    rqddurs: tuple[Int, ...] = ()
    podid: str = ""
    podseq: Int = 0
    sequence: Int = 0  # deprecated
    slotinpod: Int = 0
    mincpmpersec: float = 0.0
    battr: tuple[Int, ...] = ()
    maxextended: Int = 0
    minbitrate: Int = 0
    maxbitrate: Int = 0
    delivery: tuple[Int, ...] = ()
    api: tuple[Int, ...] = ()
    feed: Int = 0
    stitched: Int = 0
    nvol: Int | None = None
    maxseq: Int | None = None
    durfloors: tuple[DurFloor, ...] = ()


class Native(Wire):
    """3.2.9. ``request`` is JSON text after decoding, also where an object was sent; read it with ``native.py``."""

    request: str | dict[str, Any] = ""
    ver: str = ""
    api: tuple[Int, ...] = ()
    battr: tuple[Int, ...] = ()

    @property
    def request_text(self) -> str:
        assert type(self.request) is str, "a decoded request holds text here"
        return self.request


class Deal(Wire):
    """3.2.12. Its currency does not inherit ``imp.bidfloorcur``."""

    id: str
    bidfloor: float = 0.0
    bidfloorcur: str = "USD"
    at: Int = 0
    wseat: tuple[str, ...] = ()
    wadomain: tuple[str, ...] = ()
    guar: Int = 0


class Pmp(Wire):
    private_auction: Int = 0
    deals: tuple[Deal, ...] = ()


class Qty(Wire):
    multiplier: float = 1.0
    sourcetype: Int = 0
    vendor: str = ""


class Imp(Wire):
    """3.2.4."""

    id: str
    banner: Banner | None = None
    video: Video | None = None
    audio: Audio | None = None
    native: Native | None = None
    pmp: Pmp | None = None
    instl: Int = 0
    tagid: str = ""
    bidfloor: float = 0.0
    bidfloorcur: str = "USD"
    secure: Int = 0  # absent: http is allowed; we send https all the same
    exp: Int = 0  # seconds between auction and impression; 0: not stated
    rwdd: Int = 0
    ssai: Int = 0
    qty: Qty | None = None
    dt: float = 0.0
    ext: RewardExt | None = None

    @property
    def floor_micros(self) -> int:
        """``bidfloor`` in micros CPM of ``bidfloorcur``, rounded up. A sound imp's is >= 0 and finite."""
        return floor_micros(self.bidfloor)


class Publisher(Wire):
    id: str = ""
    domain: str = ""


class Content(Wire):
    cat: tuple[str, ...] = ()
    cattax: Int = 1
    language: str = ""


class Site(Wire):
    id: str = ""
    domain: str = ""
    cattax: Int = 1
    cat: tuple[str, ...] = ()
    sectioncat: tuple[str, ...] = ()
    pagecat: tuple[str, ...] = ()
    page: str = ""
    mobile: Int = 0
    publisher: Publisher | None = None
    content: Content | None = None


class App(Wire):
    id: str = ""
    bundle: str = ""
    domain: str = ""
    storeurl: str = ""
    cattax: Int = 1
    cat: tuple[str, ...] = ()
    sectioncat: tuple[str, ...] = ()
    pagecat: tuple[str, ...] = ()
    publisher: Publisher | None = None
    content: Content | None = None


class Dooh(Wire):
    id: str = ""


class Geo(Wire):
    lat: float | None = None
    lon: float | None = None
    country: str = ""  # alpha-3 by specification; see ``places.country_alpha3``
    region: str = ""
    metro: str = ""
    city: str = ""


class BrandVersion(Wire):
    brand: str = ""
    version: tuple[str, ...] = ()


class UserAgent(Wire):
    """3.2.29: preferred to ``ua``."""

    platform: BrandVersion | None = None
    mobile: Int = 0
    model: str = ""


class Device(Wire):
    geo: Geo | None = None
    dnt: Int = 0
    lmt: Int = 0
    ua: str = ""
    sua: UserAgent | None = None
    ip: str = ""
    ipv6: str = ""
    devicetype: Int = 0
    make: str = ""
    model: str = ""
    os: str = ""
    osv: str = ""
    h: Int = 0
    w: Int = 0
    language: str = ""
    langb: str = ""
    connectiontype: Int = 0
    ifa: str = ""


class Uid(Wire):
    id: str = ""
    atype: Int = 0


class Eid(Wire):
    source: str = ""
    uids: tuple[Uid, ...] = ()
    mm: Int = 0


class UserExt(Wire):
    consent: str = ""
    eids: tuple[Eid, ...] = ()


class User(Wire):
    id: str = ""
    buyeruid: str = ""
    consent: str = ""
    eids: tuple[Eid, ...] = ()
    ext: UserExt | None = None


class Dsa(Wire):
    dsarequired: Int = 0


class RegsExt(Wire):
    gdpr: Int | None = None
    us_privacy: str = ""
    gpp: str = ""
    gpp_sid: tuple[Int, ...] = ()
    coppa: Int = 0
    gpc: Int = 0
    dsa: Dsa | None = None


class Regs(Wire):
    """3.2.3, and the community extensions ``gpc`` and ``dsa`` lifted out of ``ext``."""

    coppa: Int = 0
    gdpr: Int | None = None
    us_privacy: str = ""
    gpp: str = ""
    gpp_sid: tuple[Int, ...] = ()
    gpc: Int = 0
    dsa: Dsa | None = None
    ext: RegsExt | None = None


class SupplyChain(Wire):
    """Presence and completeness only; nodes are checked off-line."""

    complete: Int = 0


class SourceExt(Wire):
    schain: SupplyChain | None = None


class Source(Wire):
    fd: Int = 0
    tid: str = ""
    schain: SupplyChain | None = None
    ext: SourceExt | None = None


class BidRequest(Wire):
    """3.2.1. ``imp`` holds the sound impressions only; ``imps_unsound`` counts the others.

    Unsound is an imp that is no object, has no id, has a floor that is no amount of money (negative, not a number,
    above 10,000 units CPM), terms of sale that can't be read, or an id that a *different* imp has too: a bid names its
    imp by id alone, so nobody could tell which one it is for. Equal copies of one imp count as one.

    ``unreadable`` names a limit of the request (a block or seat list) that was sent but could not be understood;
    such a request must not be bid on. ``""``: none.
    """

    id: str
    imp: tuple[Imp, ...]
    site: Site | None = None
    app: App | None = None
    dooh: Dooh | None = None
    device: Device | None = None
    user: User | None = None
    test: Int = 0
    at: Int = 0  # 0: not stated; the specification's default is 2, the exchange profile may know better
    tmax: Int = 0  # ms with network time; 0: not stated; may be absurd
    wseat: tuple[str, ...] = ()
    bseat: tuple[str, ...] = ()
    allimps: Int = 0
    cur: tuple[str, ...] = ()  # empty: USD
    wlang: tuple[str, ...] = ()
    wlangb: tuple[str, ...] = ()
    acat: tuple[str, ...] = ()
    bcat: tuple[str, ...] = ()
    cattax: Int = 1
    badv: tuple[str, ...] = ()
    bapp: tuple[str, ...] = ()
    source: Source | None = None
    regs: Regs | None = None
    imps_unsound: int = 0
    unreadable: str = ""
