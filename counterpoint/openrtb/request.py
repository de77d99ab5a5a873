"""The bid request: bytes -> :class:`BidRequest`, naming only the fields a bidder reads.

OpenRTB 2.6-202606, section 3.2; 2.5 bodies are read too. Three stages, each only when the one before did not do:

1. the typed decoder (about 5 us for 1.8 kB): numbers sent as strings or whole floats are taken, unknown fields skipped;
2. the tolerant reader (``tolerant.py``): decodes to plain objects and keeps what can be understood;
3. :class:`~counterpoint.base.errors.InvalidRequest`: not an object, no ``id``, or no ``imp`` with an ``id``.

Fields promoted from ``ext`` are found at their 2.6 place, whichever place they came in.
"""

from __future__ import annotations

import msgspec

from counterpoint.base.errors import InvalidRequest
from counterpoint.openrtb.objects import (
    FLOOR_UNITS_MAX,
    App,
    Audio,
    Banner,
    BidRequest,
    BrandVersion,
    Content,
    Deal,
    Device,
    Dooh,
    Dsa,
    DurFloor,
    Eid,
    Format,
    Geo,
    Imp,
    Native,
    Pmp,
    Publisher,
    Qty,
    Regs,
    RegsExt,
    Site,
    Source,
    SupplyChain,
    Uid,
    User,
    UserAgent,
    Video,
    floor_micros,
)
from counterpoint.openrtb.tolerant import read_request

__all__ = [
    "App",
    "Audio",
    "Banner",
    "BidRequest",
    "BrandVersion",
    "Content",
    "Deal",
    "Device",
    "Dooh",
    "Dsa",
    "DurFloor",
    "Eid",
    "Format",
    "Geo",
    "Imp",
    "Native",
    "Pmp",
    "Publisher",
    "Qty",
    "Regs",
    "Site",
    "Source",
    "SupplyChain",
    "Uid",
    "User",
    "UserAgent",
    "Video",
    "decode_request",
    "floor_micros",
]

_DECODER = msgspec.json.Decoder(BidRequest, strict=False)
# The tolerant reader costs up to 8 us an object: a body beyond this would hold up every other request. The fattest of
# our corpora is under 40 kB.
TOLERANT_BYTES_MAX = 128 * 1024
_BROKEN_BYTES = (msgspec.MsgspecError, RecursionError, ValueError)  # ValueError: also what is no UTF-8


def decode_request(body: bytes) -> BidRequest:
    """Bytes of a bid request, whatever they are: a request or :class:`InvalidRequest`, nothing else.

    >>> decode_request(b'{"id": "1", "imp": [{"id": "a", "bidfloor": "0.5"}]}').imp[0].floor_micros
    500000
    """
    try:
        request = _DECODER.decode(body)
    except _BROKEN_BYTES as strict:
        if len(body) > TOLERANT_BYTES_MAX:
            raise InvalidRequest(
                f"not as the specification says, and too large to guess at: {strict}"
            ) from strict
        try:
            plain = msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
            request = read_request(plain)
        except _BROKEN_BYTES as error:
            raise InvalidRequest(f"not JSON that can be read: {error}") from error
        return _settle(request, request.imps_unsound)
    request.unreadable = ""  # ours: not to be set from outside
    return _settle(request, 0)


def _settle(request: BidRequest, unsound: int) -> BidRequest:
    """Check the hard requirements, lift promoted fields to their 2.6 place, keep sound imps."""
    if not request.id:
        raise InvalidRequest("the request has no id")
    imps = request.imp
    if not imps and not unsound:
        raise InvalidRequest("the request has no imp")
    keep = True
    for imp in imps:
        keep = _settle_imp(imp) and keep
    if len(imps) > 1 or not keep:
        kept, dropped = _sound(imps)
        if not kept and not unsound and not any(imp.id for imp in imps):
            raise InvalidRequest("no imp has an id")
        request.imp = kept
        unsound += dropped
    request.imps_unsound = unsound
    user = request.user
    if user is not None and user.ext is not None:
        user.consent = user.consent or user.ext.consent
        user.eids = user.eids or user.ext.eids
        user.ext = None
    if request.regs is not None and request.regs.ext is not None:
        _settle_regs(request.regs, request.regs.ext)
    source = request.source
    if source is not None and source.ext is not None:
        source.schain = source.schain or source.ext.schain
        source.ext = None
    return request


def _settle_regs(regs: Regs, ext: RegsExt) -> None:
    """The 2.6 place wins, but of two readings of a protecting flag the stricter one."""
    if ext.gdpr is not None:
        regs.gdpr = ext.gdpr if regs.gdpr is None else max(regs.gdpr, ext.gdpr)
    regs.coppa = max(regs.coppa, ext.coppa)
    regs.gpc = max(regs.gpc, ext.gpc)
    regs.us_privacy = regs.us_privacy or ext.us_privacy
    regs.gpp = regs.gpp or ext.gpp
    regs.gpp_sid = regs.gpp_sid or ext.gpp_sid
    regs.dsa = regs.dsa or ext.dsa
    regs.ext = None


def _settle_imp(imp: Imp) -> bool:
    """Lift promoted fields; whether the imp itself is sound (ids of the others aside)."""
    video = imp.video
    if video is not None:
        ext = video.ext
        if ext is not None:
            video.plcmt = video.plcmt or ext.plcmt or 0
            imp.rwdd = imp.rwdd or ext.rewarded
            video.ext = None
        if video.protocol and not video.protocols:
            video.protocols = (video.protocol,)
        if video.sequence == 1 and not video.slotinpod:
            video.slotinpod = 1
    audio = imp.audio
    if audio is not None and audio.sequence == 1 and not audio.slotinpod:
        audio.slotinpod = 1
    if imp.ext is not None:
        imp.rwdd = imp.rwdd or imp.ext.rwdd or imp.ext.rewarded
        imp.ext = None
    native = imp.native
    if native is not None and type(native.request) is not str:
        native.request = msgspec.json.encode(native.request).decode()
    return bool(imp.id) and 0.0 <= imp.bidfloor <= FLOOR_UNITS_MAX


def _sound(imps: tuple[Imp, ...]) -> tuple[tuple[Imp, ...], int]:
    """Keep the imps that are sound and whose id is their own; equal copies become one. Second: how many went."""
    by_id: dict[str, Imp] = {}
    ambiguous: set[str] = set()
    for imp in imps:
        first = by_id.setdefault(imp.id, imp)
        if first is not imp and first != imp:
            ambiguous.add(imp.id)
    kept = tuple(
        imp
        for imp in by_id.values()
        if imp.id and imp.id not in ambiguous and 0.0 <= imp.bidfloor <= FLOOR_UNITS_MAX
    )
    return kept, len(imps) - len(kept)
