"""Why we do not bid, each reason with its OpenRTB ``nbr``, and what this version must not answer.

``nbr`` is the list of OpenRTB 3.0 ("No-Bid Reason Codes"), which 2.6 refers to. Most of our reasons are our own
business and stand as 0 (unknown) there.
"""

from __future__ import annotations

from enum import IntFlag, StrEnum

import msgspec

from counterpoint.openrtb.categories import TAXONOMY_1, in_taxonomy_1
from counterpoint.openrtb.objects import Audio, BidRequest, Imp, Video

NBR_UNKNOWN = 0
NBR_TECHNICAL_ERROR = 1
NBR_INVALID_REQUEST = 2
NBR_UNSUPPORTED_DEVICE = 6
NBR_BLOCKED_PUBLISHER = 7
NBR_UNMATCHED_USER = 8
NBR_DAILY_USER_CAP = 9
NBR_INSUFFICIENT_TIME = 15


class NoBidReason(StrEnum):
    """The value is the label in metrics and logs; ``nbr`` is what an exchange may be told."""

    nbr: int

    def __new__(cls, value: str, nbr: int = NBR_UNKNOWN) -> NoBidReason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.nbr = nbr
        return member

    # the request itself
    INVALID_REQUEST = "invalid_request", NBR_INVALID_REQUEST
    NO_SOUND_IMP = "no_sound_imp", NBR_INVALID_REQUEST
    UNREADABLE_LIMIT = "unreadable_limit", NBR_INVALID_REQUEST
    AMBIGUOUS_CHANNEL = "ambiguous_channel", NBR_INVALID_REQUEST  # more than one of site, app, dooh
    UNKNOWN_EXCHANGE = "unknown_exchange", NBR_INVALID_REQUEST
    # us, now
    LATE = "late", NBR_INSUFFICIENT_TIME
    OVERLOAD = "overload", NBR_TECHNICAL_ERROR
    INTERNAL_ERROR = "internal_error", NBR_TECHNICAL_ERROR
    CATCHING_UP = "catching_up", NBR_TECHNICAL_ERROR  # user state not complete after a start
    STOPPED = "stopped"  # by a person, a law or the ledger
    EXCHANGE_PAUSED = "exchange_paused"
    TEST_REFUSED = "test_refused"
    # not answered by this version
    NO_MEDIA = "no_media"  # no media type offered that we serve, or without what it requires
    NEEDS_DEAL = "needs_deal"
    NEEDS_POD = "needs_pod"
    NEEDS_DURATION_FLOOR = "needs_duration_floor"
    NEEDS_DOOH = "needs_dooh"
    NEEDS_CONSENT = "needs_consent"
    NEEDS_DSA = "needs_dsa"  # Digital Services Act transparency is required of the bid
    NEEDS_ALL_IMPS = "needs_all_imps"
    NEEDS_CATEGORY_MAPPING = "needs_category_mapping"  # category limits in a taxonomy we can't compare with
    CURRENCY_UNKNOWN = "currency_unknown"
    SEAT_NOT_ALLOWED = "seat_not_allowed"
    # nothing to offer
    BLOCKED_ADVERTISER = "blocked_advertiser"
    BLOCKED_CATEGORY = "blocked_category"
    BLOCKED_ATTRIBUTE = "blocked_attribute"
    BLOCKED_PUBLISHER = "blocked_publisher", NBR_BLOCKED_PUBLISHER
    NO_ELIGIBLE_LINE_ITEM = "no_eligible_line_item"
    NO_FITTING_CREATIVE = "no_fitting_creative"
    NO_POSITIVE_VALUE = "no_positive_value"
    BELOW_FLOOR = "below_floor"
    BUDGET_SPENT = "budget_spent"
    NO_ALLOWANCE = "no_allowance"
    FREQUENCY_CAPPED = "frequency_capped", NBR_DAILY_USER_CAP
    UNKNOWN_USER = "unknown_user", NBR_UNMATCHED_USER
    UNSUPPORTED_DEVICE = "unsupported_device", NBR_UNSUPPORTED_DEVICE


class WhenPrivate(StrEnum):
    """What to do while a privacy string that we can't read yet is in force."""

    NO_BID = "no_bid"
    CONTEXTUAL = "contextual"  # bid without ids, profile or frequency: see ``identity.ids_usable``


class Offered(IntFlag):
    """Media types of an imp that this version may answer. Bit = 1 << (mtype - 1)."""

    NONE = 0
    BANNER = 1
    VIDEO = 2
    AUDIO = 4
    NATIVE = 8


GPP_TCF_EU = 2  # GPP section ids
GPP_NOT_IN_FORCE = (0, -1)

# Plain integers: operations on IntFlag members cost microseconds.
_BANNER, _VIDEO, _AUDIO, _NATIVE = (
    Offered.BANNER.value,
    Offered.VIDEO.value,
    Offered.AUDIO.value,
    Offered.NATIVE.value,
)


def gdpr_in_force(request: BidRequest) -> bool:
    regs = request.regs
    return regs is not None and (bool(regs.gdpr) or GPP_TCF_EU in regs.gpp_sid)


def gpp_in_force(request: BidRequest) -> bool:
    """Whether a GPP section applies; a GPP string without section ids counts as applying."""
    regs = request.regs
    if regs is None:
        return False
    if regs.gpp_sid:
        return any(sid not in GPP_NOT_IN_FORCE for sid in regs.gpp_sid)
    return bool(regs.gpp)


def screen(
    request: BidRequest,
    seat: str = "",
    *,
    gdpr: WhenPrivate = WhenPrivate.NO_BID,
    gpp: WhenPrivate = WhenPrivate.CONTEXTUAL,
) -> NoBidReason | None:
    """What forbids an answer to the whole request; ``None``: go on, imp by imp. ``seat``: ours at this exchange."""
    if not request.imp:
        return NoBidReason.NO_SOUND_IMP
    if request.unreadable:
        return NoBidReason.UNREADABLE_LIMIT
    if request.dooh is not None:
        return NoBidReason.NEEDS_DOOH
    if request.site is not None and request.app is not None:
        return NoBidReason.AMBIGUOUS_CHANNEL
    if request.wseat and seat not in request.wseat:
        return NoBidReason.SEAT_NOT_ALLOWED
    if request.bseat and seat in request.bseat:
        return NoBidReason.SEAT_NOT_ALLOWED
    if request.cattax > TAXONOMY_1 and not (
        in_taxonomy_1(request.bcat, request.cattax) and in_taxonomy_1(request.acat, request.cattax)
    ):
        return NoBidReason.NEEDS_CATEGORY_MAPPING
    regs = request.regs
    if regs is not None:
        if gdpr is WhenPrivate.NO_BID and gdpr_in_force(request):
            return NoBidReason.NEEDS_CONSENT
        if gpp is WhenPrivate.NO_BID and gpp_in_force(request):
            return NoBidReason.NEEDS_CONSENT
        if regs.dsa is not None and regs.dsa.dsarequired in (2, 3):
            return NoBidReason.NEEDS_DSA
    return None


def screen_imp(imp: Imp) -> int | NoBidReason:
    """The media types of this imp that may be answered (bits of :class:`Offered`, never 0), or why none.

    Deals of an open auction (``private_auction`` 0) do not stand against an open bid.
    """
    if imp.pmp is not None and imp.pmp.private_auction:
        return NoBidReason.NEEDS_DEAL
    if imp.qty is not None and imp.qty.multiplier != 1.0:
        return NoBidReason.NEEDS_DOOH
    offered = 0
    reason = NoBidReason.NO_MEDIA
    if imp.banner is not None:
        offered |= _BANNER
    if imp.video is not None:
        refused = _screen_timed(imp.video)
        if refused is None:
            offered |= _VIDEO
        else:
            reason = refused
    if imp.audio is not None:
        refused = _screen_timed(imp.audio)
        if refused is None:
            offered |= _AUDIO
        else:
            reason = refused
    if imp.native is not None and imp.native.request:
        offered |= _NATIVE
    return offered or reason


def _screen_timed(media: Video | Audio) -> NoBidReason | None:
    if not media.mimes:
        return NoBidReason.NO_MEDIA
    if media.podid or media.poddur or media.maxseq or media.rqddurs:
        return NoBidReason.NEEDS_POD
    if media.mincpmpersec or media.durfloors:
        return NoBidReason.NEEDS_DURATION_FLOOR
    return None


def no_bid_body(request_id: str, nbr: int) -> bytes:
    """The long form of a no-bid (4.2.1, 7.1); the short one is status 204 without a body."""
    return b'{"id":' + msgspec.json.encode(request_id) + b',"seatbid":[],"nbr":%d}' % nbr
