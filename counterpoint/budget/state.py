"""Everything the Budget learner knows: plain structs, so that a snapshot is one msgpack message."""

from __future__ import annotations

from msgspec import Struct, field

from counterpoint.budget.delivery import Delivery, Tally
from counterpoint.budget.plan import Traffic
from counterpoint.budget.response import Curve


class BudgetConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    period_s: int = 15  # evidence is closed and money moved once per period
    half_life_periods: float = 480.0  # of evidence: two hours
    trust_factor: float = 1.05  # a budget moves at most by this factor per period
    floor_share: float = 0.03  # of an equal share: exploration floor
    gain_min: float = 0.002  # a split is moved for a gain of at least this share of the pool's value ...
    doubt: float = 0.5  # ... and this many standard deviations
    window_periods: int = 6  # over which delivery is judged
    renew_s: int = 40  # wishes are said again, so that they hold
    policy_s: int = 30
    policy_life_s: int = 900
    late_s: int = 2  # a period waits this long for its events
    quiet_s: int = 30  # and this long when nothing at all is heard


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
    curves: dict[str, Curve] = {}
    agents_share: dict[str, float] = {}  # of a campaign's spend that the arm ``agents`` made, averaged
    balances: dict[str, Balance] = {}
    budgets: dict[str, int] = {}  # nanos a day, by campaign of a pool, as last told
    wished: dict[str, int] = {}  # share of its pool, ppm
    marginal: dict[str, float] = {}
    deliveries: dict[str, Delivery] = {}
    ceilings: dict[str, int] = {}  # resolved bid ceilings, as last told
    traffic: Traffic = field(default_factory=Traffic)
    arms: dict[str, Arm] = {}
    moves: int = 0
    decided: str = "even spending"
    why: str = "nothing measured yet"
    seen: tuple[bytes, bytes] = (b"", b"")  # filled for a snapshot only
