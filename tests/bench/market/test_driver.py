"""The driver: an exact hard stop, the rules of the game, the same world for everybody, nothing told too early."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.errors import AnswerRefused
from counterpoint.bench.market import driver
from counterpoint.bench.market.baselines.ladder import LADDER
from counterpoint.bench.market.driver import play
from counterpoint.bench.market.facts import Facts, Floats
from counterpoint.bench.market.kernels import CAPPED, LOST, NO_MONEY, SILENT, WON, settle
from counterpoint.bench.market.policy import CLICK, Answers, Books, Feedback, Requests
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS
from counterpoint.market.world import World
from tests.bench.market.small import facts, small, world_of


class Everything:
    """Bids the ceiling for the first campaign that is open, everywhere; remembers what it was told."""

    name = "everything"

    def begin(self, facts: Facts, seed: int) -> None:
        self.facts = facts
        self.told: list[Feedback] = []
        self.books: list[Books] = []
        self.shares: Floats | None = None

    def split(self, day: int) -> Floats | None:
        return self.shares

    def decide(self, requests: Requests, books: Books) -> Answers:
        self.books.append(books)
        able = self.facts.living(int(requests.auctions.t_ns[0]))[requests.formats]
        able = able & requests.open[:, self.facts.creative_campaign]
        creative = np.where(able.any(axis=1), able.argmax(axis=1), -1)
        bid = np.where(creative >= 0, self.facts.ceiling_micros[self.facts.creative_campaign[creative]], 0)
        return Answers(creative=creative[:, None], bid_micros=bid[:, None])

    def learn(self, feedback: Feedback) -> None:
        self.told.append(feedback)


@pytest.mark.parametrize("name", ["stationary-v1", "adversary-v1", "churn-v1", "adstock-v1", "outage-v1"])
def test_spending_is_what_was_paid_and_never_above_a_days_budget(name: str) -> None:
    world = world_of(name)
    policy = Everything()
    run = play(world, policy)
    assert (run.tally.spend <= run.tally.budget).all()
    assert run.tally.spend.sum() == sum(int(f.paid_micros.sum()) for f in policy.told)
    assert run.tally.spend.sum() > 0.1 * run.tally.budget.sum(), "somebody who bids the ceiling spends"
    for told in policy.told:
        won = told.won
        assert (told.paid_micros[won] <= told.bid_micros[won]).all()
        assert (told.paid_micros[won] >= told.requests.auctions.floor_micros[won]).all()
        assert (told.paid_micros[~won] == 0).all()
    # a creative may die inside a batch, after the policy chose it
    assert run.refused == 0 or name == "churn-v1"


def test_the_same_seed_gives_the_same_run() -> None:
    first = play(world_of(), LADDER["tools"](None))
    again = play(World(small(), 0), LADDER["tools"](None))
    for name in first.tally.__struct_fields__:
        assert np.array_equal(getattr(first.tally, name), getattr(again.tally, name)), name
    assert first.digest == again.digest


@pytest.mark.parametrize("name", ["stationary-v1", "adversary-v1"])
def test_how_much_is_drawn_at_once_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = play(world_of(name), LADDER["manual"](None))
    monkeypatch.setattr(driver, "CHUNK", 2_000)
    parts = play(world_of(name), LADDER["manual"](None))
    assert np.array_equal(whole.tally.spend, parts.tally.spend)
    assert np.array_equal(whole.tally.value, parts.tally.value)


def test_two_policies_meet_the_same_auctions_and_an_unknown_person_has_no_number() -> None:
    one, other = Everything(), Everything()
    play(world_of(), one)
    play(world_of(seed=0), other)
    for a, b in zip(one.told, other.told, strict=True):
        assert np.array_equal(a.requests.auctions.t_ns, b.requests.auctions.t_ns)
        auctions = a.requests.auctions
        assert ((auctions.user == -1) == ~auctions.known_user).all()


def test_batches_are_of_one_day_and_times_grow() -> None:
    policy = Everything()
    play(world_of(), policy)
    last = 0
    for told, books in zip(policy.told, policy.books, strict=True):
        t_ns = told.requests.auctions.t_ns
        days = (t_ns - STARTS_AT_NS) // DAY_NS
        assert (days == books.day).all()
        assert t_ns[0] >= last
        assert books.day_share <= books.day_share_end
        last = int(t_ns[-1])


def test_events_are_told_once_and_not_before_they_happen() -> None:
    policy = Everything()
    run = play(world_of("delay-v1"), policy)
    clicks = orders = 0
    for told in policy.told:
        now = int(told.requests.auctions.t_ns[-1])
        assert (told.events.shown_at_ns <= now).all()
        clicks += int((told.events.kind == CLICK).sum())
        orders += int((told.events.kind != CLICK).sum())
    assert 0 < clicks <= run.tally.clicks_realised.sum()
    assert orders <= run.tally.conversions_realised.sum()


def test_an_outage_hides_clicks() -> None:
    policy = Everything()
    run = play(world_of("outage-v1", auctions=20_000), policy)
    told = sum(int((f.events.kind == CLICK).sum()) for f in policy.told)
    assert told < 0.97 * run.tally.clicks_realised.sum()


def test_expected_and_realised_clicks_agree() -> None:
    runs = [play(world_of(seed=k), Everything()) for k in range(4)]
    expected = sum(run.tally.clicks.sum() for run in runs)
    realised = sum(run.tally.clicks_realised.sum() for run in runs)
    assert abs(realised - expected) < 4.0 * np.sqrt(expected)


def test_prices_are_told_where_the_exchange_tells_them() -> None:
    policy = Everything()
    world = world_of()
    play(world, policy)
    tells = facts(world).minimum_told
    for told in policy.told:
        auctions = told.requests.auctions
        known = told.minimum_micros >= 0
        stood = told.creative >= 0
        second_won = (auctions.auction_type == 2) & told.won
        assert np.array_equal(known, (stood & tells[auctions.venue]) | second_won)
        assert (told.paid_micros[second_won] == told.minimum_micros[second_won]).all()


def test_a_split_moves_money_and_makes_none() -> None:
    policy = Everything()
    world = world_of()
    every = facts(world)

    class Moved(Everything):
        def split(self, day: int) -> Floats | None:
            return np.arange(every.campaigns, dtype=np.float64)

        def decide(self, requests: Requests, books: Books) -> Answers:
            answers = super().decide(requests, books)
            shares = np.roll(np.arange(every.campaigns, dtype=np.float64), books.day)
            return msgspec.structs.replace(answers, split=shares)

    policy = Moved()
    run = play(world, policy)
    by_day = run.tally.budget.sum(axis=1)
    assert (by_day <= every.pool_nanos).all()
    assert (by_day >= every.pool_nanos - 100_000).all()
    assert (run.tally.spend <= run.tally.budget).all()
    assert run.tally.budget[0, 0] == 0


@pytest.mark.parametrize("shares", [[-1.0] * 8, [0.0] * 8, [float("nan")] * 8, [1e308] * 8, [1.0]])
def test_a_split_that_is_none_is_refused(shares: list[float]) -> None:
    class Bad(Everything):
        def split(self, day: int) -> Floats | None:
            return np.array(shares)

    with pytest.raises(AnswerRefused, match=r"'everything'.*split"):
        play(world_of(), Bad())


def test_a_cap_holds_and_a_person_without_id_never_sees_what_is_capped() -> None:
    world = world_of(auctions=20_000)
    policy = Everything()
    play(world, policy)
    every = facts(world)
    capped = np.flatnonzero(every.frequency_cap)
    assert capped.size
    seen: dict[tuple[int, int, int], int] = {}
    for told in policy.told:
        auctions = told.requests.auctions
        day = int((auctions.t_ns[0] - STARTS_AT_NS) // DAY_NS)
        for row in np.flatnonzero(told.won).tolist():
            c = int(every.creative_campaign[told.creative[row]])
            if c in capped:
                assert auctions.known_user[row]
                key = (day, int(auctions.user[row]), c)
                seen[key] = seen.get(key, 0) + 1
                assert seen[key] <= every.frequency_cap[c]


# ---- the kernel against a plain rewrite


def _plain(
    bids: list[list[tuple[int, int]]], thresholds: list[int], second: list[bool], left: list[int], cap: int
) -> tuple[list[int], list[int], list[int]]:
    """One person, one creative per campaign."""
    fates, paid, shown = [], [], [0] * len(left)
    for alternatives, threshold, is_second in zip(bids, thresholds, second, strict=True):
        fate, price = SILENT, 0
        for campaign, bid in alternatives:
            if bid <= 0:
                continue
            if cap and shown[campaign] >= cap:
                fate = CAPPED
            elif bid > left[campaign]:
                fate = NO_MONEY
            elif bid < threshold:
                fate = LOST
                break
            else:
                fate, price = WON, threshold if is_second else bid
                left[campaign] -= price
                shown[campaign] += 1
                break
        fates.append(fate)
        paid.append(price)
    return fates, paid, left


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_batch_is_settled_in_order(data: st.DataObject) -> None:
    n, campaigns = data.draw(st.integers(1, 12)), 3
    price = st.integers(0, 50)
    bids = [
        [(data.draw(st.integers(0, campaigns - 1)), data.draw(price)) for _ in range(2)] for _ in range(n)
    ]
    thresholds = [data.draw(price) for _ in range(n)]
    second = [data.draw(st.booleans()) for _ in range(n)]
    left = [data.draw(st.integers(0, 120)) for _ in range(campaigns)]
    cap = data.draw(st.integers(0, 3))
    expected = _plain(bids, thresholds, second, list(left), cap)
    money: Any = np.array(left, dtype=np.int64)
    fate = np.zeros(n, dtype=np.int8)
    made, paid, seen = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64), np.zeros(n)
    settle(
        np.array([[c for c, _ in row] for row in bids], dtype=np.int64),
        np.array([[b for _, b in row] for row in bids], dtype=np.int64),
        np.array(thresholds, dtype=np.int64),
        np.array(second),
        np.arange(n, dtype=np.int64),
        np.zeros(n, dtype=np.int64),
        np.ones(n, dtype=np.bool_),
        np.ones((1, campaigns), dtype=np.bool_),
        np.zeros(n, dtype=np.int64),
        np.zeros(campaigns, dtype=np.int64),
        np.full(campaigns, 1 << 60, dtype=np.int64),
        np.arange(campaigns, dtype=np.int64),
        np.full(campaigns, 1_000, dtype=np.int64),
        np.full(campaigns, cap, dtype=np.int64),
        money,
        np.full(campaigns, 1 << 60, dtype=np.int64),
        np.zeros((1, campaigns), dtype=np.int32),
        np.zeros((1, campaigns), dtype=np.float32),
        np.zeros((1, campaigns), dtype=np.int64),
        1e12,
        fate,
        made,
        paid,
        seen,
    )
    assert (fate.tolist(), paid.tolist(), money.tolist()) == expected
