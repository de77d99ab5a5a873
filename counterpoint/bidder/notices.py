"""What a verified notice means: which of it is money, which is information, and what is wrong with it.

Pure: the signed bid and the macro values in, facts and at most one settlement out. The rules (OpenRTB 2.6, 4.2.3, 7.8):

- One notice settles a bid: the one that the exchange profile named for its media when the bid was made. The others
  inform and book nothing.
- The price counts only from a settling notice that a server sent, and at most up to the signed bid price; what is
  above is reported as excess for a person, not booked.
- A settling notice without a usable price (missing, not replaced, no number, in another currency than the bid's)
  books the signed bid price: the exchange will bill us, and never more than that.
- A client-side settling notice books the signed bid price, whatever it claims.
- ``AUDIT`` in any macro is a creative audit: nothing happened. A test bid bills and informs nobody.
- Expired notices that settle are booked (the ledger calls them late); expired ones that inform are dropped.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

from counterpoint.base.money import MICROS_PER_UNIT
from counterpoint.bidder.signing import NoticeKind, SignedBid
from counterpoint.catalog.model import Settles
from counterpoint.events.event import Event
from counterpoint.events.facts import AdSkipped, AuctionLost, AuctionWon, ClickSeen, ImpressionSeen
from counterpoint.events.money import SettlementNoticed
from counterpoint.openrtb.macros import Code, Currency, Missing, NoticeValues, Price


class NoticeOutcome(StrEnum):
    """What became of one notice; the value is the label in metrics."""

    SETTLED = "settled"
    INFORMED = "informed"
    REPLAYED = "replayed"  # known already: changed nothing
    TEST = "test"
    AUDIT = "audit"
    EXPIRED = "expired"  # one that informs, past its life
    CONTRADICTED = "contradicted"  # a loss notice for a bid that was won
    MALFORMED = "malformed"
    FORGED = "forged"
    NOT_DURABLE = "not_durable"  # answered 503, not booked


class NoticeAnomaly(StrEnum):
    """Counted, and settled all the same by the rule above."""

    PRICE_MISSING = "price_missing"
    PRICE_BROKEN = "price_broken"
    PRICE_EXCESS = "price_excess"
    PRICE_ZERO = "price_zero"
    CURRENCY_MISMATCH = "currency_mismatch"
    EXPIRED_SETTLEMENT = "expired_settlement"


_SETTLING: Final = {
    Settles.WIN.value: NoticeKind.WIN,
    Settles.BILLING.value: NoticeKind.BILLING,
    Settles.IMPRESSION.value: NoticeKind.IMPRESSION,
}
_ATTRIBUTED: Final = frozenset({NoticeKind.IMPRESSION, NoticeKind.CLICK})
CLIENT_SIDE: Final = frozenset({NoticeKind.IMPRESSION, NoticeKind.CLICK, NoticeKind.SKIP})


class Judgement(Struct, frozen=True):
    """``settlement`` is to be made durable before the notice is answered; ``facts`` may be shed."""

    outcome: NoticeOutcome
    settlement: SettlementNoticed | None = None
    facts: tuple[Event, ...] = ()
    anomalies: tuple[NoticeAnomaly, ...] = ()


_INFORMED: Final = Judgement(NoticeOutcome.INFORMED)


def settles(kind: NoticeKind, bid: SignedBid) -> bool:
    """Whether this kind of notice is the spend of this bid."""
    return _SETTLING.get(bid.settles) is kind


def judge(
    kind: NoticeKind,
    bid: SignedBid,
    values: NoticeValues,
    now_ns: int,
    source: str,
    win_known: bool = False,
    tells: bool = True,
) -> Judgement:
    """``win_known``: the win of this bid has been told already, so a settling notice need not tell it.
    ``tells`` False: nobody wants to hear of wins, losses and skips; views and clicks are what orders are attributed to."""
    if bid.test:
        return Judgement(NoticeOutcome.TEST)
    if values.audit:
        return Judgement(NoticeOutcome.AUDIT)
    expired = now_ns > bid.expires_at_ns
    if settles(kind, bid):
        return _settle(kind, bid, values, now_ns, source, win_known, expired, tells)
    if expired:
        return Judgement(NoticeOutcome.EXPIRED)
    if not tells and kind not in _ATTRIBUTED:
        return _INFORMED
    return Judgement(
        NoticeOutcome.INFORMED, facts=_facts(kind, bid, values, now_ns, source, win_known or not tells)
    )


def _settle(
    kind: NoticeKind,
    bid: SignedBid,
    values: NoticeValues,
    now_ns: int,
    source: str,
    win_known: bool,
    expired: bool,
    tells: bool,
) -> Judgement:
    anomalies: list[NoticeAnomaly] = [NoticeAnomaly.EXPIRED_SETTLEMENT] if expired else []
    client_side = kind in CLIENT_SIDE
    claimed = bid.bid_nanos if client_side else _claimed(bid, values, anomalies)
    excess = max(0, claimed - bid.bid_nanos)
    if excess:
        anomalies.append(NoticeAnomaly.PRICE_EXCESS)
    settlement = SettlementNoticed(
        event_id=f"settle-{bid.bid_id}",
        happened_at_ns=now_ns,
        recorded_at_ns=now_ns,
        source=source,
        bid_id=bid.bid_id,
        exchange=bid.exchange,
        allowance_id=bid.allowance_id,
        campaign_id=bid.campaign_id,
        line_item_id=bid.line_item_id,
        creative_id=bid.creative_id,
        bid_nanos=bid.bid_nanos,
        paid_nanos=claimed - excess,
        excess_nanos=excess,
        bid_at_ns=bid.bid_at_ns,
        reservation_until_ns=bid.reservation_until_ns,
        client_side=client_side,
        arm=bid.arm,
    )
    assert 0 <= settlement.paid_nanos <= bid.bid_nanos, "never booked above the signed bid price"
    silent = expired or not (tells or kind in _ATTRIBUTED)
    facts = () if silent else _facts(kind, bid, values, now_ns, source, win_known or not tells)
    return Judgement(NoticeOutcome.SETTLED, settlement, facts, tuple(anomalies))


def _claimed(bid: SignedBid, values: NoticeValues, anomalies: list[NoticeAnomaly]) -> int:
    """What the exchange says we pay, nanos of the account currency, rounded up; the bid price where it does not."""
    match values.price:
        case Price(nanos=nanos):
            if _foreign(values, bid):
                anomalies.append(NoticeAnomaly.CURRENCY_MISMATCH)
                return bid.bid_nanos
            if nanos == 0:
                anomalies.append(NoticeAnomaly.PRICE_ZERO)
            return _to_account(nanos, bid)
        case Missing():
            anomalies.append(NoticeAnomaly.PRICE_MISSING)
        case _:
            anomalies.append(NoticeAnomaly.PRICE_BROKEN)
    return bid.bid_nanos


def _to_account(nanos: int, bid: SignedBid) -> int:
    return -(-nanos * bid.rate_micros // MICROS_PER_UNIT)


def _foreign(values: NoticeValues, bid: SignedBid) -> bool:
    """Whether the price is in another currency than the bid's, for which no rate was fixed."""
    return isinstance(values.currency, Currency) and values.currency.value != bid.currency


def _told(price: object, bid: SignedBid) -> int | None:
    return _to_account(price.nanos, bid) if isinstance(price, Price) else None


def _facts(
    kind: NoticeKind, bid: SignedBid, values: NoticeValues, now_ns: int, source: str, win_known: bool
) -> tuple[Event, ...]:
    match kind:
        case NoticeKind.WIN:
            return (_won(bid, values, now_ns, source),)
        case NoticeKind.BILLING:
            return () if win_known else (_won(bid, values, now_ns, source),)
        case NoticeKind.IMPRESSION:
            seen = _outcome(ImpressionSeen, "imp", bid, now_ns, source)
            if win_known or not settles(kind, bid):
                return (seen,)
            return (_won(bid, values, now_ns, source, client_side=True), seen)
        case NoticeKind.CLICK:
            return (_outcome(ClickSeen, "click", bid, now_ns, source),)
        case NoticeKind.SKIP:
            return (_outcome(AdSkipped, "skip", bid, now_ns, source),)
        case NoticeKind.LOSS:
            code = values.loss
            return (
                AuctionLost(
                    event_id=f"lost-{bid.bid_id}",
                    happened_at_ns=now_ns,
                    recorded_at_ns=now_ns,
                    source=source,
                    bid_id=bid.bid_id,
                    exchange=bid.exchange,
                    segment=bid.segment_name,
                    campaign_id=bid.campaign_id,
                    line_item_id=bid.line_item_id,
                    creative_id=bid.creative_id,
                    bid_nanos=bid.bid_nanos,
                    loss_code=code.value if isinstance(code, Code) else 0,
                    min_to_win_nanos=_told(values.min_to_win, bid),
                    arm=bid.arm,
                    bid_at_ns=bid.bid_at_ns,
                ),
            )


def _won(
    bid: SignedBid, values: NoticeValues, now_ns: int, source: str, client_side: bool = False
) -> AuctionWon:
    """What a client claims about prices is not passed on: anybody may have written it."""
    return AuctionWon(
        event_id=f"won-{bid.bid_id}",
        happened_at_ns=now_ns,
        recorded_at_ns=now_ns,
        source=source,
        bid_id=bid.bid_id,
        exchange=bid.exchange,
        segment=bid.segment_name,
        campaign_id=bid.campaign_id,
        line_item_id=bid.line_item_id,
        creative_id=bid.creative_id,
        bid_nanos=bid.bid_nanos,
        price_nanos=None if client_side or _foreign(values, bid) else _told(values.price, bid),
        min_to_win_nanos=None if client_side else _told(values.min_to_win, bid),
        arm=bid.arm,
        bid_at_ns=bid.bid_at_ns,
        user_key=bid.user_key,
    )


def _outcome(
    event: type[ImpressionSeen] | type[ClickSeen] | type[AdSkipped],
    name: str,
    bid: SignedBid,
    now_ns: int,
    source: str,
) -> Event:
    return event(
        event_id=f"{name}-{bid.bid_id}",
        happened_at_ns=now_ns,
        recorded_at_ns=now_ns,
        source=source,
        bid_id=bid.bid_id,
        exchange=bid.exchange,
        segment=bid.segment_name,
        campaign_id=bid.campaign_id,
        line_item_id=bid.line_item_id,
        creative_id=bid.creative_id,
        arm=bid.arm,
        bid_at_ns=bid.bid_at_ns,
        user_key=bid.user_key,
    )
