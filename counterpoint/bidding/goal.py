"""What an impression is worth at a goal, learned from what came of those won: for use without bus, server or catalog.

The live learner's parts: value model, orders per click, delays from click to order (:mod:`outcomes`), and what the target
cost (:mod:`target_cost`) hears. Worth is in micros CPM of the account currency, time in nanoseconds of any one clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.errors import ConfigError
from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.base.seen import SeenIds
from counterpoint.bidding.outcomes import Counts, Impression, Outcomes, OutcomesState
from counterpoint.bidding.rates import RATE_GUESS, Rates, RatesState
from counterpoint.bidding.target_cost import Delays, TargetCost
from counterpoint.bidding.told import Refused
from counterpoint.bidding.value_model import Impressions, Shown

F64 = NDArray[np.float64]
# line items, and campaigns; past it further ones are predicted from the others, learn nothing, and are counted
NAMES_MAX = 10_000
ORDER_MICROS_MAX = 1e15
EARLY_MAX = 4_096  # clicks kept until their win is heard; past it the oldest are forgotten
WINDOW_S = 30 * 86_400.0
RATES_HALF_LIFE_S = 7 * 86_400.0
DECAY_EVERY_NS = 60 * NS_PER_S


class Buys(StrEnum):
    REACH = "reach"
    CLICKS = "clicks"
    CONVERSIONS = "conversions"
    RETURN = "return"


class Goal(Struct, frozen=True, kw_only=True):
    """What the money is to buy, and what one of it may cost on average. Raises :class:`ConfigError`.

    ``worth_micros`` of the account currency: reach: of a thousand people's first impression; clicks: of a click;
    conversions: of a conversion (target CPA); return: what an order brings on average before any was seen.
    ``target_return``: order value for one unit of spend (return). ``repeat``: what a person's next impression is worth of
    the one before, in [0, 1] (reach). ``window_s``: an order later after its click is not its doing, at most 30 days.
    """

    buys: Buys
    worth_micros: float
    target_return: float = 1.0
    repeat: float = 0.5
    window_s: float = 7 * 86_400.0

    def __post_init__(self) -> None:
        if not isinstance(self.buys, Buys):
            raise ConfigError(f"a goal's buys is {self.buys!r}; it is one of {', '.join(map(str, Buys))}")
        numbers = (self.worth_micros, self.target_return)
        if not all(math.isfinite(x) and x > 0.0 for x in numbers):
            raise ConfigError("a goal's worth_micros and target_return are finite and above 0")
        if not (0.0 <= self.repeat <= 1.0 and 0.0 < self.window_s <= WINDOW_S):
            raise ConfigError("a goal's repeat is in 0..1, its window above 0 and at most 30 days")


class _Kept(Struct):
    buys: Buys
    outcomes: OutcomesState
    rates: RatesState
    priors: dict[str, float]
    campaigns: list[str]
    delays: Delays
    seen: tuple[bytes, bytes]
    early: dict[str, int]
    now_ns: int
    decayed_at_ns: int


def _rates(priors: dict[str, float]) -> tuple[Rates, dict[str, float]]:
    """``priors`` of line items, which may still grow."""
    rates = Rates(RATES_HALF_LIFE_S)
    rates.set_priors(priors)
    return rates, priors


class GoalLearner:
    """One goal, up to NAMES_MAX campaigns and line items. Feeds ``cost``, the target cost of its budget.

    What is not learned is counted in ``refused``, beside what ``contained`` counts. What is handed in has passed
    :mod:`told`."""

    def __init__(self, goal: Goal, refused: Refused) -> None:
        self.goal = goal
        self.refused = refused
        self._campaigns: dict[str, None] = {}
        self._rates, self._priors = _rates({})
        self._outcomes = Outcomes(self._rates)
        self._delays = Delays()
        self._seen = SeenIds()
        self._early: dict[str, int] = {}
        self._now_ns = self._decayed_at_ns = 0

    @property
    def contained(self) -> Counts:
        return self._outcomes.state.counts

    def values(self, shown: Sequence[Shown]) -> F64:
        """Worth of each in micros CPM, [n]; 0 where a chance that was handed in is none."""
        goal = self.goal
        if goal.buys is Buys.REACH:
            exposed = np.array([_exposed(one) for one in shown], dtype=np.float64)
            return np.asarray(goal.worth_micros * goal.repeat**exposed)
        click, conversion = self._outcomes.model.predict(self._impressions(shown))
        if goal.buys is Buys.CLICKS:
            worth = click * goal.worth_micros
        else:
            campaigns = {one.campaign for one in shown}
            orders = {name: self._order_micros(name) for name in campaigns}
            worth = click * conversion * np.array([orders[one.campaign] for one in shown], dtype=np.float64)
        return np.asarray(np.minimum(worth * 1e3, PRICE_MICROS_MAX))

    def _impressions(self, shown: Sequence[Shown]) -> Impressions:
        """The rate of orders per click is what is known of the line item by now."""
        rates = [
            self._rates.conversion_rate(one.line_item, one.campaign, one.conversion_rate)
            if 0.0 < one.conversion_rate < 1.0
            else 0.0
            for one in shown
        ]
        return msgspec.structs.replace(
            Impressions.of(shown), conversion_rates=np.array(rates, dtype=np.float64)
        )

    def _order_micros(self, campaign: str) -> float:
        """What an order of the campaign may cost."""
        goal = self.goal
        if goal.buys is not Buys.RETURN:
            return goal.worth_micros
        return self._rates.order_value_micros(campaign, round(goal.worth_micros)) / goal.target_return

    # ---- what came of it

    def won(
        self,
        cost: TargetCost,
        ids: Sequence[str],
        shown: Sequence[Shown],
        values: F64,
        paid_nanos: NDArray[np.int64],
    ) -> None:
        """Impressions won at the time of the last :meth:`pass_to`; ``values`` as they were priced. A click that was heard
        first is learned now."""
        for name, one, value, paid in zip(ids, shown, values.tolist(), paid_nanos.tolist(), strict=True):
            if not 0.0 < value <= PRICE_MICROS_MAX:
                self.refused.impressions += 1
                continue
            cost.won(float(paid), value)
            if not self._teaches(one):
                self.refused.impressions += 1
                continue
            if not self._knows(one):
                self.refused.names += 1
                continue
            self._outcomes.shown(
                name,
                Impression(
                    self._now_ns,
                    f"{one.exchange}/{one.media}",  # as it was predicted
                    one.exchange,
                    one.campaign,
                    one.line_item,
                    one.click_rate,
                    one.context(),
                    _exposed(one),
                ),
            )
            if self.goal.buys is Buys.CLICKS:
                cost.waits(value, self.goal.worth_micros * 1e3, None)
            elif self.goal.buys is not Buys.REACH:
                cost.waits(value, self._order_micros(one.campaign) * 1e3, self._delays)
            early_ns = self._early.pop(name, None)
            if early_ns is not None:
                self._click(cost, name, early_ns)

    def _teaches(self, one: Shown) -> bool:
        """Whether the rates that the goal uses are chances: of a line item that is known, orders per click are."""
        if self.goal.buys is Buys.REACH:
            return True
        known = (
            self.goal.buys is Buys.CLICKS or one.line_item in self._priors or 0.0 < one.conversion_rate < 1.0
        )
        return known and 0.0 < one.click_rate < 1.0

    def _knows(self, one: Shown) -> bool:
        """The owner's rate is the prior of a line item that is new."""
        new_item, new_campaign = one.line_item not in self._priors, one.campaign not in self._campaigns
        if (new_item and len(self._priors) >= NAMES_MAX) or (
            new_campaign and len(self._campaigns) >= NAMES_MAX
        ):
            return False
        if new_item:
            said = one.conversion_rate
            self._priors[one.line_item] = said if 0.0 < said < 1.0 else RATE_GUESS
        self._campaigns[one.campaign] = None
        return True

    def clicked(self, cost: TargetCost, name: str, at_ns: int) -> None:
        at_ns = min(at_ns, self._now_ns)
        if not self._seen.add(f"click/{name}"):
            self.refused.clicks += 1
        elif self._is_known(name):
            self._click(cost, name, at_ns)
        else:
            if len(self._early) >= EARLY_MAX:
                self._early.pop(next(iter(self._early)))
                self.contained.clicks_without_impression += 1
            self._early[name] = at_ns

    def _is_known(self, name: str) -> bool:
        state = self._outcomes.state
        return name in state.waiting or name in state.told

    def _click(self, cost: TargetCost, name: str, at_ns: int) -> None:
        state = self._outcomes.state
        shown = state.waiting[name] if name in state.waiting else state.told[name]
        self._outcomes.clicked(name, at_ns, shown.campaign_id, int(self.goal.window_s), shown)
        if self.goal.buys is Buys.CLICKS:
            cost.told(self.goal.worth_micros * 1e3)

    def converted(self, cost: TargetCost, name: str, at_ns: int, order_micros: float) -> bool:
        """True where the order counted. ``order_micros``: what it brought; 0 unless the goal is a return."""
        at_ns = min(at_ns, self._now_ns)
        click = self._outcomes.state.clicks.get(name)
        if not (0.0 <= order_micros < ORDER_MICROS_MAX):
            self.refused.orders += 1
            return False
        if not self._outcomes.converted(name, at_ns) or click is None:
            return False
        self._delays.told((at_ns - click.shown.at_ns) / NS_PER_S)
        if self.goal.buys is Buys.CONVERSIONS:
            cost.told(self.goal.worth_micros * 1e3)
        elif self.goal.buys is Buys.RETURN:
            self._rates.order(click.shown.campaign_id, round(order_micros))
            cost.told(order_micros * 1e3 / self.goal.target_return)
        return True

    def pass_to(self, cost: TargetCost, now_ns: int) -> None:
        """Time has come to ``now_ns``; never back."""
        self._now_ns = max(self._now_ns, now_ns)
        cost.pass_to(self._now_ns)
        elapsed_ns = self._now_ns - self._decayed_at_ns
        if elapsed_ns >= DECAY_EVERY_NS:
            before_ns, self._decayed_at_ns = self._decayed_at_ns, self._now_ns
            if before_ns > 0:
                self._rates.decay(elapsed_ns / NS_PER_S)
                self._outcomes.decay(elapsed_ns / NS_PER_S)
        self._outcomes.tick(self._now_ns)

    # ---- kept

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(
            _Kept(
                self.goal.buys,
                self._outcomes.dump(),
                self._rates.state,
                self._priors,
                list(self._campaigns),
                self._delays,
                self._seen.dump(),
                self._early,
                self._now_ns,
                self._decayed_at_ns,
            )
        )

    def load(self, raw: bytes) -> None:
        """Raises ``msgspec.DecodeError`` or ``ValueError`` where it is none of ours; then nothing has changed."""
        kept = msgspec.msgpack.decode(raw, type=_Kept)
        if kept.buys is not self.goal.buys:
            raise ValueError(f"it was learned for {kept.buys}, and this goal buys {self.goal.buys}")
        seen = SeenIds()
        rates, priors = _rates(kept.priors)
        outcomes = Outcomes(rates)
        outcomes.load(kept.outcomes)
        seen.load(kept.seen)
        rates.state = kept.rates
        self._rates, self._priors, self._outcomes, self._seen = rates, priors, outcomes, seen
        self._campaigns = dict.fromkeys(kept.campaigns)
        self._delays, self._early = kept.delays, kept.early
        self._now_ns, self._decayed_at_ns = kept.now_ns, kept.decayed_at_ns


def _exposed(one: Shown) -> int:
    """Without consent nobody may know."""
    return 0 if one.person_shown is None else one.exposed
