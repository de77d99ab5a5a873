"""What a notice means: the rules about money, one by one, and as properties."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.bidder.notices import Judgement, NoticeAnomaly, NoticeOutcome, judge
from counterpoint.bidder.signing import NoticeKind, SignedBid
from counterpoint.catalog.model import Settles
from counterpoint.events.facts import AdSkipped, AuctionLost, AuctionWon, ClickSeen, ImpressionSeen
from counterpoint.events.money import SettlementNoticed
from counterpoint.openrtb.macros import parse_notice

NOW = 1_700_000_000_000_000_000
DAY = 86_400 * 10**9
BID = SignedBid(
    bid_id="b1",
    allowance_id="a1",
    campaign_id="c1",
    line_item_id="l1",
    creative_id="cr1",
    exchange="adx",
    media="banner",
    settles="billing",
    bid_nanos=2_000_000,
    currency="EUR",
    rate_micros=1_080_000,
    arm="agents",
    bid_at_ns=NOW - 10**9,
    reservation_until_ns=NOW + 10**10,
    expires_at_ns=NOW + DAY,
    user_key="u1",
)


def judged(
    kind: NoticeKind, query: dict[str, str] | None = None, now_ns: int = NOW, **changes: object
) -> Judgement:
    bid = msgspec.structs.replace(BID, **changes)
    return judge(kind, bid, parse_notice(query or {}), now_ns, "bidder/b1")


def settlement(judgement: Judgement) -> SettlementNoticed:
    assert judgement.outcome is NoticeOutcome.SETTLED
    assert judgement.settlement is not None
    return judgement.settlement


def test_the_price_of_the_settling_notice_is_booked_in_account_currency_rounded_up() -> None:
    found = settlement(judged(NoticeKind.BILLING, {"p": "1.5000001", "c": "EUR"}))
    assert found.paid_nanos == 1_620_002  # 1.500001 EUR x 1.08, up
    assert (found.excess_nanos, found.client_side) == (0, False)
    assert (found.event_id, found.bid_id, found.allowance_id) == ("settle-b1", "b1", "a1")
    assert (found.bid_at_ns, found.reservation_until_ns) == (BID.bid_at_ns, BID.reservation_until_ns)


def test_never_more_than_the_signed_price_the_rest_is_held_for_a_person() -> None:
    judgement = judged(NoticeKind.BILLING, {"p": "5"})
    assert settlement(judgement).paid_nanos == 2_000_000
    assert settlement(judgement).excess_nanos == 3_400_000
    assert NoticeAnomaly.PRICE_EXCESS in judgement.anomalies


@pytest.mark.parametrize(
    ("query", "anomaly"),
    [
        ({}, NoticeAnomaly.PRICE_MISSING),
        ({"p": ""}, NoticeAnomaly.PRICE_MISSING),
        ({"p": "${AUCTION_PRICE}"}, NoticeAnomaly.PRICE_MISSING),
        ({"p": "%24%7BAUCTION_PRICE%7D"}, NoticeAnomaly.PRICE_MISSING),
        ({"p": "cheap"}, NoticeAnomaly.PRICE_BROKEN),
        ({"p": "-1"}, NoticeAnomaly.PRICE_BROKEN),
        ({"p": "NaN"}, NoticeAnomaly.PRICE_BROKEN),
        ({"p": "1e99"}, NoticeAnomaly.PRICE_BROKEN),
        ({"p": "1,5"}, NoticeAnomaly.PRICE_BROKEN),
        ({"p": "0.5", "c": "JPY"}, NoticeAnomaly.CURRENCY_MISMATCH),
    ],
)
def test_without_a_usable_price_the_signed_one_is_booked(
    query: dict[str, str], anomaly: NoticeAnomaly
) -> None:
    judgement = judged(NoticeKind.BILLING, query)
    assert settlement(judgement).paid_nanos == BID.bid_nanos
    assert judgement.anomalies == (anomaly,)


@pytest.mark.parametrize("settles", list(Settles))
def test_exactly_one_kind_of_notice_settles(settles: Settles) -> None:
    settling = [
        kind for kind in NoticeKind if judged(kind, {"p": "1"}, settles=settles.value).settlement is not None
    ]
    expected = {
        Settles.WIN: NoticeKind.WIN,
        Settles.BILLING: NoticeKind.BILLING,
        Settles.IMPRESSION: NoticeKind.IMPRESSION,
    }
    assert settling == [expected[settles]]


def test_a_client_side_notice_books_the_signed_price_whatever_it_says() -> None:
    judgement = judged(NoticeKind.IMPRESSION, {"p": "0.01", "m": "9"}, settles="impression")
    found = settlement(judgement)
    assert (found.paid_nanos, found.excess_nanos, found.client_side) == (BID.bid_nanos, 0, True)
    won = next(fact for fact in judgement.facts if isinstance(fact, AuctionWon))
    assert (won.price_nanos, won.min_to_win_nanos) == (None, None)


@pytest.mark.parametrize("kind", list(NoticeKind))
def test_an_audit_and_a_test_bid_book_and_tell_nothing(kind: NoticeKind) -> None:
    for settles in Settles:
        audit = judged(kind, {"p": "AUDIT"}, settles=settles.value)
        assert audit == Judgement(NoticeOutcome.AUDIT)
        assert judged(kind, {"p": "1"}, settles=settles.value, test=True) == Judgement(NoticeOutcome.TEST)


def test_an_expired_settlement_is_booked_late_and_other_expired_notices_are_dropped() -> None:
    late = NOW + 3 * DAY
    judgement = judged(NoticeKind.BILLING, {"p": "1"}, now_ns=late)
    assert settlement(judgement).recorded_at_ns == late
    assert judgement.anomalies == (NoticeAnomaly.EXPIRED_SETTLEMENT,)
    for kind in (NoticeKind.WIN, NoticeKind.LOSS, NoticeKind.IMPRESSION, NoticeKind.CLICK, NoticeKind.SKIP):
        assert judged(kind, now_ns=late) == Judgement(NoticeOutcome.EXPIRED)


def test_facts_carry_what_learners_need() -> None:
    (won,) = judged(NoticeKind.WIN, {"p": "1", "m": "0.9"}).facts
    assert isinstance(won, AuctionWon)
    assert (won.event_id, won.price_nanos, won.min_to_win_nanos) == ("won-b1", 1_080_000, 972_000)
    assert (won.segment, won.bid_nanos, won.arm, won.user_key) == ("adx/banner", 2_000_000, "agents", "u1")
    (lost,) = judged(NoticeKind.LOSS, {"l": "102", "m": "3"}).facts
    assert isinstance(lost, AuctionLost)
    assert (lost.loss_code, lost.min_to_win_nanos, lost.inferred) == (102, 3_240_000, False)
    (unclear,) = judged(NoticeKind.LOSS, {"l": "${AUCTION_LOSS}"}).facts
    assert isinstance(unclear, AuctionLost)
    assert unclear.loss_code == 0
    for kind, event in (
        (NoticeKind.IMPRESSION, ImpressionSeen),
        (NoticeKind.CLICK, ClickSeen),
        (NoticeKind.SKIP, AdSkipped),
    ):
        (fact,) = judged(kind).facts
        assert isinstance(fact, event)
        assert fact.event_id == f"{kind.value}-b1"


def test_a_settling_notice_tells_the_win_only_where_nobody_has() -> None:
    assert [type(f) for f in judged(NoticeKind.BILLING, {"p": "1"}).facts] == [AuctionWon]
    known = judge(NoticeKind.BILLING, BID, parse_notice({"p": "1"}), NOW, "bidder/b1", win_known=True)
    assert known.facts == ()


@given(
    kind=st.sampled_from(list(NoticeKind)),
    settles=st.sampled_from([*Settles, "nonsense"]),
    price=st.one_of(st.none(), st.text(max_size=20), st.decimals(allow_nan=True).map(str)),
    currency=st.one_of(st.none(), st.sampled_from(["EUR", "USD", "x"])),
    age_ns=st.integers(-DAY, 30 * DAY),
    rate=st.integers(1, 10**9),
)
@settings(deadline=None, max_examples=300)
def test_whatever_a_notice_says_at_most_the_signed_price_is_booked(
    kind: NoticeKind, settles: str, price: str | None, currency: str | None, age_ns: int, rate: int
) -> None:
    query = {name: value for name, value in (("p", price), ("c", currency)) if value is not None}
    judgement = judged(kind, query, now_ns=NOW + age_ns, settles=str(settles), rate_micros=rate)
    if judgement.settlement is not None:
        assert 0 <= judgement.settlement.paid_nanos <= BID.bid_nanos
        assert judgement.settlement.excess_nanos >= 0
