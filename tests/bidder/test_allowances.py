"""The money a bidder holds, bid by bid."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from counterpoint.base.clock import NS_PER_S
from counterpoint.bidder.allowances import GRANT_MEMORY_NS, SLOT_NS, AllowanceBook, AllowanceBookConfig
from counterpoint.events.money import AllowanceGranted, AllowanceRefused, AllowanceReturned, BalanceReported

S = NS_PER_S
NOW = 1_700_000_000 * S
DAY = "2023-11-14"
CAMPAIGNS = ("c1", "c2")
ARMS = ("agents", "no_agents")


def book(**settings_of: int) -> AllowanceBook:
    return AllowanceBook("b1", "i1", CAMPAIGNS, ARMS, AllowanceBookConfig(**settings_of))


def grant(
    allowance_id: str = "a1",
    usable: int = 1_000,
    *,
    campaign_id: str = "c1",
    arm: str = "agents",
    expires: int = NOW + 45 * S,
    starts: int = 0,
    incarnation: str = "i1",
    bidder: str = "b1",
    request_id: str = "",
    day: str = DAY,
) -> AllowanceGranted:
    return AllowanceGranted(
        event_id=f"granted-{allowance_id}",
        happened_at_ns=NOW,
        recorded_at_ns=NOW,
        source="ledger",
        allowance_id=allowance_id,
        request_id=request_id,
        bidder_id=bidder,
        incarnation=incarnation,
        campaign_id=campaign_id,
        arm=arm,
        day=day,
        granted_nanos=usable + usable // 50,
        usable_nanos=usable,
        expires_at_ns=expires,
        starts_at_ns=starts,
    )


def refusal(request_id: str, retry_after: int = 0) -> AllowanceRefused:
    return AllowanceRefused(
        event_id=f"refused-{request_id}",
        happened_at_ns=NOW,
        recorded_at_ns=NOW,
        source="ledger",
        request_id=request_id,
        bidder_id="b1",
        incarnation="i1",
        campaign_id="c1",
        arm="agents",
        reason="budget_spent",
        retry_after_ns=retry_after,
    )


def balance(*, free: int = 0, stopped: bool = False, day: str = DAY) -> BalanceReported:
    return BalanceReported(
        event_id="balance",
        happened_at_ns=NOW,
        recorded_at_ns=NOW,
        source="ledger",
        campaign_id="c1",
        day=day,
        budget_nanos=10**12,
        spent_on_time_nanos=10**12 - free,
        late_spend_nanos=0,
        reserved_nanos=0,
        overspend_nanos=0,
        stopped=stopped,
    )


def test_a_bid_holds_its_money_until_it_is_settled() -> None:
    held = book()
    assert held.reserve(0, 0, 100, "bid1", NOW, NOW + 10 * S) is None
    held.grant(grant(), NOW)
    assert held.left.tolist() == [[1_000, 0], [0, 0]]
    assert held.reserve(0, 0, 400, "bid1", NOW, NOW + 10 * S, "context") == "a1"
    assert held.reserve(0, 0, 400, "bid1", NOW, NOW + 10 * S) is None  # the same bid
    assert held.reserve(0, 0, 700, "bid2", NOW, NOW + 10 * S) is None  # not enough
    assert held.left[0, 0] == 600
    assert held.context("bid1") == "context"
    assert held.won("bid1", NOW + 60 * S) == "context"
    assert held.won("bid1", NOW + 60 * S) is None
    assert held.expire(NOW + 30 * S) == []  # the win holds
    assert held.settled("bid1", 300) == NOW + 60 * S
    assert held.settled("bid1", 300) == 0
    assert held.left[0, 0] == 700


def test_a_lost_bid_and_a_silent_one_give_their_money_back() -> None:
    held = book()
    held.grant(grant(), NOW)
    held.reserve(0, 0, 100, "bid1", NOW, NOW + 10 * S, "one")
    held.reserve(0, 0, 100, "bid2", NOW, NOW + 5 * S, "two")
    held.reserve(0, 0, 100, "bid3", NOW, NOW + 10 * S, "three")
    assert held.lost("bid1") == "one"
    assert held.lost("bid1") is None
    assert held.expire(NOW + 5 * S) == []
    expired = held.expire(NOW + 5 * S + 2 * SLOT_NS)
    assert [(e.bid_id, e.nanos, e.context) for e in expired] == [("bid2", 100, "two")]
    assert held.left[0, 0] == 900
    held.won("bid3", NOW + 20 * S)
    assert held.expire(NOW + 20 * S + 2 * SLOT_NS) == []  # a win without its bill is no lost auction
    assert held.wins_expired == 1
    assert held.left[0, 0] == 1_000
    assert held.settled("bid2", 50) == 0  # late: not ours to pay any more


def test_a_reservation_is_never_released_early_and_soon_after_its_end() -> None:
    held = book()
    held.grant(grant(usable=10**6, expires=NOW + 10**6 * S), NOW)
    ends = {f"bid{i}": NOW + (i * 7_919) % 20_000 * 1_000_003 for i in range(500)}
    for bid_id, until_ns in ends.items():
        held.reserve(0, 0, 1, bid_id, NOW, until_ns)
    now_ns = NOW
    released: dict[str, int] = {}
    while len(released) < len(ends):
        now_ns += 30_000_000
        released.update({e.bid_id: now_ns for e in held.expire(now_ns)})
    assert all(ends[b] < at <= ends[b] + SLOT_NS + 30_000_000 for b, at in released.items())
    assert held.left[0, 0] == 10**6


def test_no_bid_on_an_allowance_outside_its_time() -> None:
    held = book()
    held.grant(grant("early", starts=NOW + S), NOW)
    assert held.reserve(0, 0, 1, "bid1", NOW, NOW + S) is None
    assert held.reserve(0, 0, 1, "bid2", NOW + S, NOW + 2 * S) == "early"
    assert held.reserve(0, 0, 1, "bid3", NOW + 45 * S, NOW + 46 * S) is None
    held.expire(NOW + 45 * S)
    assert held.left[0, 0] == 0


def test_grants_count_once_and_only_for_this_incarnation() -> None:
    held = book()
    assert held.grant(grant(), NOW)
    assert not held.grant(grant(), NOW)
    assert not held.grant(grant("a2", incarnation="i0"), NOW)
    assert not held.grant(grant("a3", bidder="b2"), NOW)
    assert held.left[0, 0] == 1_000
    assert held.grants_ignored == 3
    held.expire(NOW + 50 * S)
    (returned,) = held.returns_due(NOW + 50 * S)
    assert returned.final
    assert not held.grant(grant(), NOW + 60 * S)  # a repeat after all is returned
    assert not held.grant(grant(), NOW + 45 * S + GRANT_MEMORY_NS * 2)  # even when it is forgotten
    assert held.returns_due(NOW + 10**5 * S) == []


def test_what_is_left_is_deducted_then_returned_and_the_last_return_is_final() -> None:
    held = book()
    held.grant(grant(), NOW)
    held.reserve(0, 0, 300, "bid1", NOW + 40 * S, NOW + 50 * S)
    held.reserve(0, 0, 200, "bid2", NOW + 40 * S, NOW + 50 * S)
    assert held.returns_due(NOW + 44 * S) == []
    (first,) = held.returns_due(NOW + 45 * S)
    assert (first.amount_nanos, first.final) == (500, False)
    assert held.returns_due(NOW + 47 * S) == []
    held.settled("bid1", 250)
    (second,) = held.returns_due(NOW + 48 * S)
    assert (second.amount_nanos, second.final) == (50, False)
    held.expire(NOW + 51 * S)
    (last,) = held.returns_due(NOW + 51 * S)
    assert (last.amount_nanos, last.final) == (200, True)
    assert len({first.event_id, second.event_id, last.event_id}) == 3
    assert held.returns_due(NOW + 60 * S) == []
    assert held.figures()["allowances"] == 0


def test_the_number_of_reservations_is_bounded() -> None:
    held = book(reservations_max=3)
    held.grant(grant(), NOW)
    taken = [held.reserve(0, 0, 1, f"bid{i}", NOW, NOW + S) for i in range(5)]
    assert taken == ["a1"] * 3 + [None] * 2
    assert held.refused_full == 2
    assert held.left[0, 0] == 997


def test_it_asks_for_what_it_uses_once_at_a_time_and_backs_off() -> None:
    held = book(request_first_nanos=500)
    asked = held.requests_due(NOW)
    assert sorted((r.campaign_id, r.arm, r.amount_nanos) for r in asked) == [
        (c, a, 500) for c in CAMPAIGNS for a in ARMS
    ]
    assert held.requests_due(NOW + S) == []  # they are on their way
    (mine,) = [r for r in asked if (r.campaign_id, r.arm) == ("c1", "agents")]
    held.refuse(refusal(mine.request_id, 3 * S), NOW + S)
    assert [r for r in held.requests_due(NOW + 3 * S) if r.campaign_id == "c1" and r.arm == "agents"] == []
    (again,) = [r for r in held.requests_due(NOW + 4 * S) if r.campaign_id == "c1" and r.arm == "agents"]
    held.refuse(refusal(again.request_id), NOW + 4 * S)  # spent: not before something changes
    assert not any(r.campaign_id == "c1" and r.arm == "agents" for r in held.requests_due(NOW + 60 * S))
    held.balance(balance(free=10**11), NOW + 60 * S)
    assert any(r.campaign_id == "c1" and r.arm == "agents" for r in held.requests_due(NOW + 61 * S))


def test_the_next_allowance_is_sized_by_throughput_and_asked_for_in_time() -> None:
    held = book()
    for request in held.requests_due(NOW):
        held.grant(grant(request.request_id, 10**9, campaign_id=request.campaign_id, arm=request.arm), NOW)
    now_ns, number, asked = NOW, 0, []
    for _ in range(300):  # 30 s at 10 bids of 2,000,000 a second
        now_ns += S // 10
        number += 1
        held.reserve(0, 0, 2_000_000, f"bid{number}", now_ns, now_ns + 10 * S)
        held.expire(now_ns)
        asked += held.requests_due(now_ns)
    assert asked == []  # a thousand million last
    for _ in range(100):
        now_ns += S // 10
        number += 1
        held.reserve(0, 0, 2_000_000, f"bid{number}", now_ns, now_ns + 10 * S)
        asked += held.requests_due(now_ns)
    busy = [r for r in asked if r.campaign_id == "c1" and r.arm == "agents"]
    assert len(busy) == 1  # before the old one expires at 45 s
    assert busy[0].recorded_at_ns < NOW + 45 * S
    assert 200_000_000 <= busy[0].amount_nanos <= 400_000_000  # 10 to 20 s of 20,000,000 a second
    capped = np.zeros((2, 2), dtype=np.int64)
    capped[0, 0] = 7
    assert [r.amount_nanos for r in held.requests_due(now_ns + 60 * S, capped)] == [7]


def test_a_stopped_campaign_bids_no_more_today() -> None:
    held = book()
    held.grant(grant(), NOW)
    held.balance(balance(stopped=True), NOW)
    assert held.left[0, 0] == 0
    assert held.reserve(0, 0, 1, "bid1", NOW, NOW + S) is None
    (returned,) = held.returns_due(NOW)
    assert (returned.amount_nanos, returned.final) == (1_000, True)
    held.grant(grant("a2"), NOW)
    assert held.left[0, 0] == 0


def test_a_stop_that_is_lifted_lets_it_bid_again() -> None:
    held = book()
    held.grant(grant(), NOW)
    held.balance(balance(stopped=True), NOW)
    (request,) = [r for r in held.requests_due(NOW) if (r.campaign_id, r.arm) == ("c1", "agents")]
    held.refuse(refusal(request.request_id), NOW)
    held.balance(balance(free=10**12), NOW + S)
    asked = [r for r in held.requests_due(NOW + S) if (r.campaign_id, r.arm) == ("c1", "agents")]
    assert len(asked) == 1, "at once, whatever the refusal said"
    held.grant(grant("a2"), NOW + S)
    assert held.reserve(0, 0, 1, "bid1", NOW + S, NOW + 2 * S) == "a2"


def test_a_day_that_is_stopped_ends_no_other_day() -> None:
    held = book()
    held.grant(grant(), NOW)
    held.balance(balance(stopped=True, day="2023-11-13"), NOW)
    assert held.left[0, 0] == 1_000
    held.balance(balance(stopped=True), NOW)
    held.balance(balance(stopped=True, day="2023-11-13"), NOW)
    held.balance(balance(free=10**12, day="2023-11-13"), NOW)
    held.grant(grant("a2"), NOW)
    assert held.left[0, 0] == 0, "the newest stopped day is remembered"
    held.grant(grant("a3", day="2023-11-15"), NOW)
    assert held.left[0, 0] == 1_000


def test_a_new_catalog_moves_positions_and_keeps_reservations() -> None:
    held = book()
    held.grant(grant(), NOW)
    held.grant(grant("a2", 500, campaign_id="c2"), NOW)
    held.reserve(0, 0, 100, "bid1", NOW, NOW + 10 * S)
    held.reserve(1, 0, 100, "bid2", NOW, NOW + 10 * S)
    held.remap(("c0", "c2"))
    assert held.left.tolist() == [[0, 0], [400, 0]]
    (returned,) = held.returns_due(NOW)
    assert (returned.allowance_id, returned.amount_nanos, returned.final) == ("a1", 900, False)
    assert held.settled("bid1", 100) > 0
    held.lost("bid2")
    assert held.left.tolist() == [[0, 0], [500, 0]]
    held.grant(grant("a3"), NOW)  # of a campaign that is gone
    assert sorted(r.allowance_id for r in held.returns_due(NOW + 2 * S)) == ["a1", "a3"]


class BookMachine(RuleBasedStateMachine):
    """Nothing a bidder does makes money: left + reserved + spent + returned is what was granted, per allowance."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = NOW
        self.book = AllowanceBook("b1", "i1", CAMPAIGNS, ARMS, AllowanceBookConfig(reservations_max=30))
        self.granted: dict[str, int] = {}
        self.spent: dict[str, int] = defaultdict(int)
        self.returned: dict[str, int] = defaultdict(int)
        self.final: set[str] = set()
        self.bids: dict[str, tuple[str, int]] = {}
        self.campaigns: tuple[str, ...] = CAMPAIGNS

    @rule(campaign=st.sampled_from(("c1", "c2", "c3")), arm=st.sampled_from(ARMS), usable=st.integers(0, 500))
    def grant(self, campaign: str, arm: str, usable: int) -> None:
        event = grant(
            f"a{len(self.granted)}", usable, campaign_id=campaign, arm=arm, expires=self.now_ns + 20 * S
        )
        assert self.book.grant(event, self.now_ns)
        assert not self.book.grant(event, self.now_ns)
        self.granted[event.allowance_id] = usable

    @rule(
        position=st.integers(0, 1), arm=st.integers(0, 1), nanos=st.integers(1, 200), hold=st.integers(0, 30)
    )
    def bid(self, position: int, arm: int, nanos: int, hold: int) -> None:
        bid_id = f"bid{len(self.bids)}"
        allowance = self.book.reserve(position, arm, nanos, bid_id, self.now_ns, self.now_ns + hold * S)
        if allowance is not None:
            self.bids[bid_id] = (allowance, nanos)

    @rule(number=st.integers(0, 10**6), act=st.sampled_from(("won", "lost", "settled", "settled")))
    def hear(self, number: int, act: str) -> None:
        if not self.bids:
            return
        bid_id = list(self.bids)[number % len(self.bids)]
        allowance, nanos = self.bids[bid_id]
        if act == "won":
            self.book.won(bid_id, self.now_ns + 15 * S)
        elif act == "lost":
            self.book.lost(bid_id)
        elif self.book.settled(bid_id, nanos // 2):
            self.spent[allowance] += nanos // 2

    @rule(milliseconds=st.sampled_from((10, 500, 3_000, 25_000)))
    def wait(self, milliseconds: int) -> None:
        self.now_ns += milliseconds * 1_000_000
        self.book.expire(self.now_ns)

    @rule()
    def give_back(self) -> None:
        for event in self.book.returns_due(self.now_ns):
            assert isinstance(event, AllowanceReturned)
            assert event.allowance_id not in self.final
            self.returned[event.allowance_id] += event.amount_nanos
            if event.final:
                self.final.add(event.allowance_id)

    @rule(campaigns=st.permutations(("c1", "c2", "c3")))
    def reload(self, campaigns: list[str]) -> None:
        self.book.remap(campaigns[:2])

    @invariant()
    def money_is_kept(self) -> None:
        held = self.book._allowances
        assert (self.book.left >= 0).all()
        assert int(self.book.left.sum()) == sum(a.left for a in held.values() if a.cell is not None)
        for allowance_id, usable in self.granted.items():
            inside = held[allowance_id].left + held[allowance_id].reserved if allowance_id in held else 0
            assert inside + self.spent[allowance_id] + self.returned[allowance_id] == usable
        assert self.book.reservations <= 30


TestBook = BookMachine.TestCase
TestBook.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
