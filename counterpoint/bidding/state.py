"""What the bidding learner is told once, and what it keeps: plain structs, so that a snapshot is all of it."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from counterpoint.bidding.cost_watch import Cost
from counterpoint.bidding.forecast import Forecast
from counterpoint.bidding.pacing import EVEN_PPM, HOURS, PPM, Pace
from counterpoint.bidding.rates import RatesState
from counterpoint.bidding.target_cost import Delays


class BiddingConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    publish_every_ms: int = 1_000
    renew_every_ms: int = 60_000  # published again unchanged, so that it does not expire
    valid_ms: int = 300_000
    pacing_step_ms: int = 5_000
    proposal_life_ms: int = 10_000
    proposal_every_ms: int = 4_000
    curve_half_life_s: float = 43_200.0
    rates_half_life_s: float = 7 * 86_400.0
    cost_half_life_s: float = 1_800.0
    exploration_rate: float = 0.03
    exploration_span: float = 0.2


MEAN_BIDS_MIN = 200.0  # of a line item, before its impressions are classed
MEAN_BIDS_MAX = 20_000.0  # the mean forgets what is older


class MeanRate(Struct, array_like=True):
    """Running mean of a line item's predicted click rates."""

    mean: float = 0.0
    bids: float = 0.0

    def add(self, click_rate: float) -> None:
        self.bids = min(self.bids + 1.0, MEAN_BIDS_MAX)
        self.mean += (click_rate - self.mean) / self.bids

    @property
    def known(self) -> float:
        """0 before there were enough."""
        return self.mean if self.bids >= MEAN_BIDS_MIN else 0.0


class OpenBid(Struct, frozen=True, array_like=True):
    """What is kept of a bid until its outcome."""

    click_rate: float
    value_nanos: int
    won: bool = False
    # what its outcome says of the market
    kind: int = -1  # class of the impression, -1: none
    auction_type: int = 1
    floor_nanos: int = 0
    context: bytes = b""  # what its value was made of
    exposed: int = 0


class Money(Struct):
    """One campaign's day, in nanos."""

    day: str = ""
    budget: int = 0
    spent_all: int = 0  # as we heard it booked
    spent_governed: int = 0
    stopped: bool = False


class HourlyPlan(Struct):
    """Of the Budget agent's artefact, only what is read here; agents import no other agent."""

    hourly_ppm: tuple[int, ...] = EVEN_PPM


class SpendPlans(Struct):
    valid_until_ns: int = 0
    plans: dict[str, HourlyPlan] = {}


def read_spend_plans(payload: bytes) -> SpendPlans | None:
    """None where the bytes are not a budget policy (the bidder refuses it too, and says so); a campaign whose plan is not
    24 shares of a whole is left out, and spent evenly."""
    try:
        plans = msgspec.msgpack.decode(payload, type=SpendPlans)
    except msgspec.DecodeError:
        return None
    usable = {
        name: plan
        for name, plan in plans.plans.items()
        if len(plan.hourly_ppm) == HOURS and min(plan.hourly_ppm) >= 0 and sum(plan.hourly_ppm) == PPM
    }
    return SpendPlans(plans.valid_until_ns, usable)


class Refused(Struct):
    """Heard and not believed, since the start."""

    predictions: int = 0  # click rates that are no chance, values below 0 or beyond belief: they count as 0
    prices: int = 0  # clearing prices above the bid or below 0: the bid is taken instead
    wins_repeated: int = 0  # a second one of the same bid, under another event id
    losses_after_win: int = 0  # of a bid that is known to have won
    orders: int = 0  # whose value cannot be
    spends: int = 0  # below 0
    clocks: int = 0  # times our own clock turned out to have been over a minute ahead
    policies: int = 0  # our own, not published: they would have been refused


class State(Struct):
    """Everything but the curves, which are arrays."""

    open_bids: dict[str, OpenBid] = {}
    mean_rates: dict[str, MeanRate] = {}  # by line item
    money: dict[str, Money] = {}
    paces: dict[str, Pace] = {}
    costs: dict[str, Cost] = {}
    rates: RatesState = msgspec.field(default_factory=RatesState)
    plans: SpendPlans = msgspec.field(default_factory=SpendPlans)
    ceilings: dict[str, int] = {}  # as resolved
    stopped: dict[str, bool] = {}  # stop targets; a dict, since a set's order differs between processes
    wished_at_ns: dict[str, int] = {}  # campaign -> when its standing wish was last published
    supply: bool = False
    money_moved: bool = False  # a budget changed: paced again at the next tick
    forecast: Forecast = msgspec.field(default_factory=Forecast)
    delays: Delays = msgspec.field(default_factory=Delays)
    version: int = 0
    dirty: bool = True
    published_at_ns: int = 0
    stepped_at_ns: int = 0
    decayed_at_ns: int = 0
    judged_at_ns: int = 0
    clock_physical_ns: int = 0
    clock_logical: int = 0
    bids_forgotten: int = 0
    doubted_at_ns: dict[str, int] = {}  # exchange -> when an alarm last made us doubt its curves
    refused: Refused = msgspec.field(default_factory=Refused)
    bids_all: float = 0.0  # decayed, by which the arms' shares are known
    bids_governed: float = 0.0
    last: str = "nothing published yet"
    why: str = "no event heard yet"


class Snapshot(Struct):
    state: State
    curves: msgspec.Raw
    outcomes: msgspec.Raw
    seen: tuple[bytes, bytes]
