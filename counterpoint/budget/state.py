"""Everything the Budget learner knows: plain structs, so that a snapshot is one msgpack message."""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

from counterpoint.budget.allocate import Safety
from counterpoint.budget.delivery import Delivery, Tally
from counterpoint.budget.plan import Traffic
from counterpoint.budget.response import Model

# periods of a day or a quarter of one, found on tuning seeds of the simulated markets (docs/agents.md)
DAILY_MODEL: Final = Model()
DAILY_SAFETY: Final = Safety(trust_factor=1.3)
QUARTER_DAY_KEEP: Final = 0.97


class BudgetConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    period_s: int = 15  # evidence is closed and money moved once per period
    half_life_periods: float = 480.0  # of evidence: two hours
    trust_factor: float = 1.05  # a budget moves at most by this factor per period
    floor_share: float = 0.03  # of an equal share: exploration floor
    gain_min: float = 0.002  # a split is moved for a gain of at least this share of the pool's value ...
    doubt: float = 0.5  # ... and this many standard deviations
    behind: float = (
        0.02  # of the owner's split: so far behind it, with 95 % certainty, sends the pool back to it
    )
    rest_periods: int = 240  # for which the owner's split then holds
    shadow: bool = (
        False  # wishes nothing and takes back what stands, but tells in its policy what it would have moved
    )
    residual: bool = False  # the learned tilt (residual.py); off: where counts are few it does not gain (docs/benchmarks.md)
    hear_margins: bool = True  # the bidder's lambda is the marginal return of its campaign's money
    window_periods: int = 6  # over which delivery is judged
    renew_s: int = 40  # wishes are said again, so that they hold
    policy_s: int = 30
    policy_life_s: int = 900
    late_s: int = 2  # a period waits this long for its events
    quiet_s: int = 30  # and this long when nothing at all is heard

    def keep(self) -> float:
        """What remains of evidence after a period."""
        return float(0.5 ** (1.0 / self.half_life_periods))

    def safety(self) -> Safety:
        return Safety(
            trust_factor=self.trust_factor,
            floor_share=self.floor_share,
            gain_min=self.gain_min,
            doubt=self.doubt,
            behind=self.behind,
            behind_keep=self.keep(),
            rest_periods=self.rest_periods,
        )


class Balance(Struct):
    day: str
    version: int
    budget: int
    spent: int
    stopped: bool = False


class Arm(Struct):
    spend: int = 0
    value: float = 0.0


class State(Struct):
    """Bounded by the catalog, except the ids seen lately (``SeenIds``)."""

    version: int = 0
    policy_at_ns: int = 0
    renewed_at_ns: int = 0
    period: int = -1  # the open one; -1: not started
    heard_ns: int = 0  # newest fact heard
    clock_physical_ns: int = 0
    clock_logical: int = 0
    open: dict[str, dict[str, Tally]] = {}  # by period (as text), by campaign
    too_late: int = 0  # facts that came long after their period was closed
    too_early: int = 0  # facts stamped well ahead of our clock
    curves: dict[str, list[list[float]]] = {}  # evidence by campaign, as ``PoolSplit.rows`` has it
    accounts: dict[str, list[float]] = {}  # by pool: how it stands against the owner's split
    units: dict[str, float] = {}  # by pool: the money that its curves count as one, nanos a day
    lambdas: dict[str, float] = {}  # by campaign, as the bidder paces now
    lags: dict[str, list[float]] = {}  # by campaign: outcomes by periods since their bid, discounted
    requests: int = 0  # in the open period
    requests_a_day: float = 0.0
    agents_share: dict[str, float] = {}  # of a campaign's spend that the arm ``agents`` made, averaged
    balances: dict[str, Balance] = {}
    budgets: dict[str, int] = {}  # nanos a day, by campaign of a pool, as last told
    wished: dict[str, int] = {}  # share of its pool, ppm
    wished_in: dict[str, str] = {}  # the pool in which it was wished
    taken_back: dict[str, str] = {}  # targets whose wish is to be withdrawn, with its intent
    marginal: dict[str, float] = {}
    deliveries: dict[str, Delivery] = {}
    ceilings: dict[str, int] = {}  # resolved bid ceilings, as last told
    traffic: Traffic = field(default_factory=Traffic)
    arms: dict[str, Arm] = {}
    moves: int = 0
    shadow_moves: int = 0
    decided: str = "even spending"
    why: str = "nothing measured yet"
    seen: tuple[bytes, bytes] = (b"", b"")  # filled for a snapshot only
    seen_counted: tuple[bytes, bytes] = (b"", b"")  # of spend and outcomes; the same
