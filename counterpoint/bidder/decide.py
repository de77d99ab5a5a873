"""One bid request in, ranked and priced candidates out: a pure function of what it is given.

The way of an imp: targeting (line items that match the request) -> money and frequency -> creatives that fit ->
one creative per line item -> value, pace, shade, price -> the best by expected surplus. Nothing is reserved or
counted here (``commit.py``), nothing is read but the arguments, so ``explain`` runs it again on archived input.

Prices are micros CPM of the account currency, which is nanos per impression (base/money.py). A floor is converted
up, into the bid's currency and from there into ours, so that our price converted down again is never below it.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.base.money import MICROS_PER_UNIT
from counterpoint.base.rng import mix64
from counterpoint.bidder import fits, kernels
from counterpoint.bidder.ask import Size, ask, fit_of, sizes_of
from counterpoint.bidder.auction import COUNT_MATCHED, COUNT_PAIRS, NO_RECORDS, ArmArguments
from counterpoint.bidder.experiment import hash64
from counterpoint.bidder.frequency import RECORD_BYTES, UserState
from counterpoint.bidder.kernels import TOP_FLOATS, TOP_INTS
from counterpoint.bidder.part import CatalogPart, ExchangePart
from counterpoint.bidder.scratch import ImpFit, Scratch
from counterpoint.bidder.view import ArmTables, View
from counterpoint.bidder.watching import StageClock, Trace
from counterpoint.bidding.policy import CompiledBidding, price
from counterpoint.creative.policy import CompiledCreative, choose
from counterpoint.openrtb.nobid import NoBidReason, screen, screen_imp
from counterpoint.openrtb.objects import BidRequest, Imp, floor_micros

_ROW: Final = struct.Struct(f"={TOP_INTS}q{TOP_FLOATS}d")
IMPS_MAX: Final = 20  # answered in one request; the rest stays unanswered
MASK64: Final = 0xFFFF_FFFF_FFFF_FFFF
SECOND_PRICE: Final = 2

AllowancesLeft = NDArray[np.int64]  # [purse, arm]: nanos that may be bid now; purses: CatalogPart.rules


class NoBid(Struct, frozen=True, gc=False):
    """No answer to the whole request, and the reason of the imp that came furthest."""

    request_id: str
    reason: NoBidReason


class Candidate(Struct, frozen=True, gc=False, array_like=True):
    """One priced bid for one imp. Positions are those of the View's catalog; money in nanos per impression."""

    line_item: int
    creative: int
    price: int
    value: int  # expected, before pacing
    paced: int  # v_eff
    explored: int
    click_rate: float
    creative_propensity: float
    win_rate: float
    score: float  # expected surplus
    price_propensity: float
    click: float  # chance of a click here, and
    conversion: float  # of a conversion per click, by the value model


class ImpCandidates(Struct, frozen=True, gc=False, array_like=True):
    imp: int  # position in request.imp
    floor: int  # nanos, account currency
    candidates: tuple[Candidate, ...]  # best first, at least one
    context: bytes = b""  # the imp's features, hashed (bidding/features.py)


class Candidates(Struct, frozen=True, gc=False, array_like=True):
    """What may be bid, and under which conditions it was decided.

    ``limited``: (purse, nanos left) wherever the money left was less than the ceiling: with these and
    plenty for all others the decision comes out the same."""

    request_id: str
    arm: int
    bucket: int
    unit: str  # "user" | "request"
    currency: str
    rate_micros: int  # one unit of ``currency`` in micros of the account currency
    auction_type: int  # 1 first price, 2 second price
    bidding_version: int  # 0: the stated fallback was used
    creative_version: int
    budget_version: int
    feedback_version: int
    imps: tuple[ImpCandidates, ...]
    limited: tuple[tuple[int, int], ...]
    eligible: int  # line items that matched
    scored: int  # pairs of line item and creative that fitted


# reasons in the order in which a request comes to them: of several imps the furthest is told
_ORDER: Final = {
    reason: place
    for place, reason in enumerate(
        (
            NoBidReason.NO_MEDIA,
            NoBidReason.NEEDS_DEAL,
            NoBidReason.NEEDS_POD,
            NoBidReason.NEEDS_DURATION_FLOOR,
            NoBidReason.NEEDS_DOOH,
            NoBidReason.CURRENCY_UNKNOWN,
            NoBidReason.NO_ELIGIBLE_LINE_ITEM,
            NoBidReason.UNKNOWN_USER,
            NoBidReason.FREQUENCY_CAPPED,
            NoBidReason.NO_ALLOWANCE,
            NoBidReason.NO_FITTING_CREATIVE,
            NoBidReason.BLOCKED_CATEGORY,
            NoBidReason.BLOCKED_ADVERTISER,
            NoBidReason.NO_POSITIVE_VALUE,
            NoBidReason.BELOW_FLOOR,
        )
    )
}


def decide(
    request: BidRequest,
    exchange: str,
    view: View,
    user: UserState,
    left: AllowancesLeft,
    now_ns: int,
    rng_key: int,
    *,
    scratch: Scratch | None = None,
    trace: Trace | None = None,
    stages: StageClock | None = None,
) -> Candidates | NoBid:
    """The same arguments give the same bytes. ``left`` is read, never written; ``scratch`` only saves allocation.

    ``exchange`` names the profile the request came in under. ``user.key`` is empty where nothing may be known of the
    person. ``rng_key`` is 64 bits of chance. Deadlines and identity are the engine's.
    """
    part = view.part
    place = part.exchanges.get(exchange)
    if place is None:
        return NoBid(request.id, NoBidReason.UNKNOWN_EXCHANGE)
    refused = _screen(request, view, place)
    if refused is not None:
        return NoBid(request.id, refused)
    if scratch is None or scratch.part is not part:
        scratch = Scratch(part)
    conversion = bid_currency(request, place, part)
    if conversion is None:
        return NoBid(request.id, NoBidReason.CURRENCY_UNKNOWN)
    reason = NoBidReason.NO_MEDIA
    offers: list[tuple[int, Imp, int, tuple[Size, ...]]] = []
    media_all = 0
    sizes_all: tuple[Size, ...] = ()
    for at, imp in enumerate(request.imp[:IMPS_MAX]):
        media = screen_imp(imp)
        if isinstance(media, NoBidReason):
            reason = _further(reason, media)
            continue
        sizes = sizes_of(part.index, imp, request.device) if imp.banner is not None else ()
        offers.append((at, imp, media, sizes))
        media_all |= media
        sizes_all = sizes_all + sizes if sizes_all else sizes
    if not offers:
        return NoBid(request.id, reason)

    unit_hash = user.unit_hash if user.key else hash64(request.id)
    bucket = view.experiment.bucket_of(unit_hash)
    arm = view.experiment.arms[bucket]
    tables, bidding, creative = tables_of(view, arm, now_ns)

    given = arguments_of(view, arm, tables, bidding, creative, scratch, left)
    ask(scratch, request, exchange, media_all, sizes_all, now_ns, rng_key)
    if trace is not None:
        trace.eligible(part.index.eligible(scratch.query, scratch.index, view.live), scratch)
    events = records(user.events)
    admitted = given.match(events, user.known_since_ns, now_ns)
    matched = scratch.counts.item(COUNT_MATCHED)
    if trace is not None:
        trace.admitted(matched, admitted, scratch)
    if stages is not None:
        stages.lap("eligible")
    if matched == 0:
        return NoBid(request.id, NoBidReason.NO_ELIGIBLE_LINE_ITEM)
    if admitted == 0:
        return NoBid(request.id, _why_none_admitted(scratch))
    allowed = part.index.allowed_creatives(
        bcat=request.bcat,
        acat=request.acat,
        cattax=request.cattax,
        badv=request.badv,
        wlang=request.wlang or request.wlangb,
    )
    if allowed is None:
        return NoBid(request.id, NoBidReason.UNREADABLE_LIMIT)

    contexts = scratch.contexts
    if user.key:
        contexts.person(len(events))
    currency, rate = conversion
    secure_only = place.profile.secure_only
    auction_type = request.at or place.profile.auction_type
    auction_type = SECOND_PRICE if auction_type == SECOND_PRICE else 1
    found: list[ImpCandidates] = []
    scored = 0
    for at, imp, media, sizes in offers:
        floor = floor_in_account(imp, rate, part)
        if floor is None:
            reason = _further(reason, NoBidReason.CURRENCY_UNKNOWN)
            continue
        key = rng_key if at == 0 else mix64(rng_key + at)
        fit = fit_of(part.index, scratch, imp, media, sizes, secure_only or imp.secure == 1, key)
        contexts.imp(imp, sizes)
        simple = media & (media - 1) == 0 and stages is None
        pairs = -1
        kept = 0
        if simple:
            kept = given.auction(
                admitted,
                fit.classes,
                allowed,
                bidding.segments.get(place.segment_names[media.bit_length()], 0),
                auction_type,
                floor,
                key,
                events,
            )
            pairs = scratch.counts.item(COUNT_PAIRS)
        if pairs < 0:
            pairs = _pairs(admitted, fit, allowed, part, scratch)
            if pairs > 0:
                kept = _choose_and_price(
                    pairs,
                    place,
                    media,
                    floor,
                    auction_type,
                    key,
                    tables,
                    bidding,
                    creative,
                    part,
                    left,
                    arm,
                    events,
                    scratch,
                    stages,
                )
        if trace is not None:
            trace.fitting(at, pairs, scratch)
        if pairs == 0:
            reason = _further(reason, NoBidReason.NO_FITTING_CREATIVE)
            continue
        scored += pairs
        if trace is not None:
            trace.priced(at, pairs, floor, key, media, scratch)
        if kept == 0:
            reason = _further(reason, _why_none_priced(scratch))
            continue
        found.append(ImpCandidates(at, floor, _read_top(kept, scratch), contexts.packed()))
    if not found:
        return NoBid(request.id, reason)
    last = scratch.limited.item(0)
    return Candidates(
        request.id,
        arm,
        bucket,
        "user" if user.key else "request",
        currency,
        rate,
        auction_type,
        bidding.version,
        creative.version,
        tables.budget_version,
        tables.feedback_version,
        tuple(found),
        _limited(last, scratch, left, arm) if last else (),
        matched,
        scored,
    )


def arguments_of(
    view: View,
    arm: int,
    tables: ArmTables,
    bidding: CompiledBidding,
    creative: CompiledCreative,
    scratch: Scratch,
    left: AllowancesLeft,
) -> ArmArguments:
    """What the compiled calls are handed, put together once per View, arm and array of money."""
    found: ArmArguments | None = scratch.arguments.get(arm)
    if found is None or not found.serves(view, tables, bidding, creative, left):
        found = scratch.arguments[arm] = ArmArguments(view, tables, bidding, creative, scratch, left, arm)
    return found


def _pairs(admitted: int, fit: ImpFit, allowed: NDArray[np.uint64], part: CatalogPart, s: Scratch) -> int:
    """(line item, creative that fits) into ``s.index.candidates``; where there is no room, the index takes turns."""
    pairs = fits.pairs(
        s.index.eligible,
        admitted,
        part.index.members,
        part.fit_classes.of_member,
        fit.classes,
        allowed,
        s.index.candidates,
    )
    return pairs if pairs >= 0 else part.index.fitting(admitted, fit.fit, s.index, allowed)


def tables_of(view: View, arm: int, now_ns: int) -> tuple[ArmTables, CompiledBidding, CompiledCreative]:
    """What the arm decides by at this time: an expired policy gives way to its stated fallback."""
    tables = (view.arms if now_ns <= view.feedback_until_ns else view.arms_trusting)[arm]
    bidding = tables.bidding if now_ns <= tables.bidding.valid_until_ns else view.bidding_fallback
    creative = tables.creative if now_ns <= tables.creative.valid_until_ns else view.creative_fallback
    return tables, bidding, creative


def _choose_and_price(
    pairs: int,
    place: ExchangePart,
    media: int,
    floor: int,
    auction_type: int,
    key: int,
    tables: ArmTables,
    bidding: CompiledBidding,
    creative: CompiledCreative,
    part: CatalogPart,
    left: AllowancesLeft,
    arm: int,
    events: NDArray[np.int64],
    s: Scratch,
    stages: StageClock | None,
) -> int:
    """Draw a creative per line item, price it, rank: how many candidates stand in ``s.top_ints``."""
    draws = np.uint64(key)
    n = choose(
        pairs,
        s.index.cand_li,
        s.index.cand_cr,
        creative.weight,
        creative.click_rate,
        part.frame.campaign_of,
        tables.exploration,
        creative.epsilon,
        1 if creative.fallback else 0,
        draws,
        s.chosen_li,
        s.chosen_cr,
        s.chosen_propensity,
        s.chosen_ctr,
    )
    if stages is not None:
        stages.lap("choose")
    if media & (media - 1) == 0:
        segment = bidding.segments.get(place.segment_names[media.bit_length()], 0)
        price(
            n, s.chosen_li, s.chosen_ctr, bidding.money, bidding.values, tables.ceilings, *bidding.market, *bidding.value_model, s.context, events, segment, auction_type, floor, draws,
            s.money, s.rates,
        )  # fmt: skip
    else:
        for mtype in range(1, 5):
            if not media & (1 << (mtype - 1)):
                continue
            k = kernels.of_media(
                n,
                mtype,
                part.creative_mtype,
                s.chosen_li,
                s.chosen_cr,
                s.chosen_ctr,
                s.at,
                s.media_li,
                s.media_ctr,
            )
            segment = bidding.segments.get(place.segment_names[mtype], 0)
            price(
                k, s.media_li, s.media_ctr, bidding.money, bidding.values, tables.ceilings, *bidding.market, *bidding.value_model, s.context, events, segment, auction_type, floor, draws,
                s.media_money, s.media_rates,
            )  # fmt: skip
            kernels.put_back(k, s.at, s.media_money, s.media_rates, s.money, s.rates)
    kept = kernels.rank(
        n, s.chosen_li, s.chosen_cr, s.chosen_ctr, s.chosen_propensity, s.money, s.rates, part.rules, left, arm,
        draws, s.top_ints, s.top_floats, s.counts,
    )  # fmt: skip
    if stages is not None:
        stages.lap("price")
    return kept


def _read_top(kept: int, s: Scratch) -> tuple[Candidate, ...]:
    return tuple([Candidate(*row) for row in _ROW.iter_unpack(s.top_rows[: kept * _ROW.size])])


# ---- conditions


def _screen(request: BidRequest, view: View, place: ExchangePart) -> NoBidReason | None:
    if view.stopped:
        return NoBidReason.STOPPED
    if place.profile.paused:
        return NoBidReason.EXCHANGE_PAUSED
    return screen(request, place.profile.seat)


def bid_currency(request: BidRequest, place: ExchangePart, part: CatalogPart) -> tuple[str, int] | None:
    """(currency we bid in, micros of the account currency for one unit of it); None: none allowed that we can convert.

    The profile's own where the request allows it, else the first that we know. No list means USD (3.2.1)."""
    allowed = request.cur or ("USD",)
    rates = part.rates
    own = place.profile.currency
    if own in allowed and own in rates:
        return own, rates[own]
    for name in allowed:
        rate = rates.get(name)
        if rate is not None:
            return name, rate
    return None


def floor_in_account(imp: Imp, rate: int, part: CatalogPart) -> int | None:
    """The floor in nanos of the account currency, rounded up through the bid's currency; None: not convertible."""
    if imp.bidfloor == 0.0:
        return 0
    floor_rate = part.rates.get(imp.bidfloorcur or "USD")
    if floor_rate is None:
        return None
    micros = floor_micros(imp.bidfloor)
    if floor_rate != rate:
        micros = -(-micros * floor_rate // rate)
    return micros if rate == MICROS_PER_UNIT else -(-micros * rate // MICROS_PER_UNIT)


def price_in_bid_currency(price_nanos: int, rate: int) -> int:
    """Micros CPM of the bid's currency, rounded down."""
    return price_nanos if rate == MICROS_PER_UNIT else price_nanos * MICROS_PER_UNIT // rate


def records(events: bytes) -> NDArray[np.int64]:
    """A person's records as rows of (line item key, at, until, bid key); read-only."""
    return np.ndarray((len(events) // RECORD_BYTES, 4), np.int64, events) if events else NO_RECORDS


# ---- reasons


def _further(reason: NoBidReason, other: NoBidReason) -> NoBidReason:
    return other if _ORDER.get(other, 0) >= _ORDER.get(reason, 0) else reason


def _why_none_admitted(s: Scratch) -> NoBidReason:
    """Money before people: who would have bid but for the allowance says so first."""
    counts = s.counts.tolist()
    if counts[kernels.NO_MONEY]:
        return NoBidReason.NO_ALLOWANCE
    return NoBidReason.FREQUENCY_CAPPED if counts[kernels.CAPPED] else NoBidReason.UNKNOWN_USER


def _why_none_priced(s: Scratch) -> NoBidReason:
    priced, too_dear, worth = s.counts.tolist()[:3]
    if priced:
        assert too_dear == priced, "what was priced and affordable is a candidate"
        return NoBidReason.NO_ALLOWANCE
    return NoBidReason.BELOW_FLOOR if worth else NoBidReason.NO_POSITIVE_VALUE


def _limited(last: int, s: Scratch, left: AllowancesLeft, arm: int) -> tuple[tuple[int, int], ...]:
    purses = dict.fromkeys(s.limited[1 : last + 1].tolist())
    return tuple((purse, left.item(purse, arm)) for purse in purses)


def left_of(view: View, arm: int, limited: tuple[tuple[int, int], ...]) -> AllowancesLeft:
    """Allowances as a decision saw them, from what it noted: plenty wherever nothing was noted."""
    left = np.full((view.part.purses, len(view.arms)), np.int64(1) << 60, np.int64)
    for purse, nanos in limited:
        left[purse, arm] = nanos
    return left
