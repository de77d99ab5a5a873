"""From candidates to bids: reserve the money, count the person, take the next candidate where one is refused.

Never awaits, so between the decision and the commit nothing changes but what this request itself commits: two imps of
one request can't spend or count the same thing, because the second one meets the reservation of the first.
"""

from __future__ import annotations

from msgspec import Struct

from counterpoint.base.ids import IdSource
from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.bidder.decide import Candidate, Candidates
from counterpoint.bidder.frequency import FrequencyBook, UserState, bid_key
from counterpoint.bidder.part import R_CAMPAIGN, R_CAP, R_KEY, R_PURSE, R_WINDOW, CatalogPart, ExchangePart
from counterpoint.bidder.respond import Form, Markups, bid_price_micros, reservation_until_ns
from counterpoint.bidder.view import View
from counterpoint.openrtb.nobid import NoBidReason
from counterpoint.openrtb.objects import BidRequest, Imp

TEST_ALLOWANCE = "test"  # the allowance of a test bid: none


class LineItemFailed(AssertionError):
    """What we did wrong shows at this line item (by position)."""

    def __init__(self, line_item: int, what: str) -> None:
        super().__init__(what)
        self.line_item = line_item


class BidContext(Struct, frozen=True, gc=False):
    """What the allowance book remembers of a bid that holds money: enough to tell its loss when no notice comes, and
    to take back or confirm its count."""

    bid_id: str
    exchange: str
    segment: str
    campaign_id: str
    line_item_id: str
    creative_id: str
    price_nanos: int
    arm: str
    bid_at_ns: int
    user_key: str  # empty: nobody is counted
    line_item_key: int  # 0: not counted


class Committed(Struct, frozen=True, gc=False):
    """One bid that holds its money. ``price_micros``: CPM in the response's currency."""

    imp: Imp
    imp_at: int
    floor: int
    candidate: Candidate
    form: Form
    bid_id: str
    allowance_id: str
    until_ns: int
    price_micros: int
    context: bytes


class Refusals:
    """Why candidates were passed over, counted."""

    __slots__ = ("capped", "misfit", "no_money", "too_small")

    def __init__(self) -> None:
        self.capped = 0
        self.misfit = 0
        self.no_money = 0
        self.too_small = 0


def commit(
    candidates: Candidates,
    request: BidRequest,
    view: View,
    place: ExchangePart,
    user: UserState,
    book: AllowanceBook,
    frequency: FrequencyBook,
    markups: Markups,
    ids: IdSource,
    refusals: Refusals,
    now_ns: int,
) -> list[Committed] | NoBidReason:
    """At most one bid an imp, each with its money reserved and its person counted; or why there is none.

    ``request.test`` = 1: the same choice, but nothing is reserved or counted.
    """
    part = view.part
    arm = candidates.arm
    until_ns = reservation_until_ns(place, now_ns)
    test = request.test == 1
    secure_only = place.profile.secure_only
    committed: list[Committed] = []
    spent_here: dict[int, int] = {}  # test bids hold no money, so what they would is added up here
    reason = NoBidReason.NO_ALLOWANCE
    for choice in candidates.imps:
        imp = request.imp[choice.imp]
        for candidate in choice.candidates:
            _check(candidate, choice.floor, view, arm)
            item = candidate.line_item
            capped = part.rules.item(item, R_CAP)
            if capped and committed and _reached(committed, item, capped, part, user, frequency, now_ns):
                refusals.capped += 1
                reason = NoBidReason.FREQUENCY_CAPPED
                continue
            form = markups.form(candidate.creative, imp, secure_only or imp.secure == 1)
            if form is None:
                refusals.misfit += 1
                reason = NoBidReason.NO_FITTING_CREATIVE
                continue
            price_micros = bid_price_micros(candidate.price, candidates)
            if price_micros <= 0:
                refusals.too_small += 1
                reason = NoBidReason.BELOW_FLOOR
                continue
            bid_id = ids.next(now_ns)
            purse = part.rules.item(item, R_PURSE)
            if test:
                spent = spent_here.get(purse, 0) + candidate.price
                allowance_id: str | None = None
                if spent <= book.left.item(purse, arm):
                    spent_here[purse] = spent
                    allowance_id = TEST_ALLOWANCE
            else:
                context = BidContext(
                    bid_id,
                    place.profile.id,
                    place.segment_names[form.mtype],
                    part.campaign_ids[part.rules.item(item, R_CAMPAIGN)],
                    part.line_items[item].id,
                    part.creatives[candidate.creative].id,
                    candidate.price,
                    book.arms[arm],
                    now_ns,
                    user.key if capped else "",
                    part.rules.item(item, R_KEY) if capped else 0,
                )
                allowance_id = book.reserve(purse, arm, candidate.price, bid_id, now_ns, until_ns, context)
            if allowance_id is None:
                refusals.no_money += 1
                continue
            if capped and user.key and not test:
                frequency.count(user.key, part.rules.item(item, R_KEY), bid_key(bid_id), now_ns, until_ns)
            committed.append(
                Committed(
                    imp,
                    choice.imp,
                    choice.floor,
                    candidate,
                    form,
                    bid_id,
                    allowance_id,
                    until_ns,
                    price_micros,
                    choice.context,
                )
            )
            break
    return committed or reason


def _reached(
    committed: list[Committed],
    item: int,
    cap: int,
    part: CatalogPart,
    user: UserState,
    frequency: FrequencyBook,
    now_ns: int,
) -> bool:
    """Whether this request's own bids have used up the cap; of a person we can't count, they are all that counts."""
    shown = sum(1 for bid in committed if bid.candidate.line_item == item)
    if user.key and shown:
        key, window_ns = part.rules.item(item, R_KEY), part.rules.item(item, R_WINDOW)
        shown = max(shown, frequency.shown(user.key, key, window_ns, now_ns))
    return shown >= cap


def _check(candidate: Candidate, floor: int, view: View, arm: int) -> None:
    """Once where the price was made (the kernel clips), again where it is sent."""
    item = candidate.line_item
    price = candidate.price
    money = view.part.frame.money
    if not max(floor, 1) <= price <= candidate.paced:
        raise LineItemFailed(item, f"price {price} is not between floor {floor} and worth {candidate.paced}")
    if not money.item(item, 1) <= price <= money.item(item, 2):
        raise LineItemFailed(item, f"price {price} is outside the line item's own bounds")
    if price > view.arms[arm].ceilings.item(money.item(item, 0)):
        raise LineItemFailed(item, f"price {price} is above the campaign's ceiling")
