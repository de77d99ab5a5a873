"""The ladder: the named combinations, and which constants each has for tuning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from counterpoint.bench.market.baselines.chest import Chest
from counterpoint.bench.market.baselines.classic import Classic
from counterpoint.bench.market.baselines.parts import (
    AsSoonAsPossible,
    Best,
    BetaThompson,
    ByConversions,
    ByReturn,
    CreativeRule,
    DiscountedGreedy,
    Equal,
    Even,
    Fixed,
    PaceRule,
    Pid,
    SplitRule,
    Uniform,
)
from counterpoint.bench.market.facts import Floats

Parts = dict[str, float]


def _classic(
    name: str,
    bid: str = "value",
    creative: Callable[[Parts], CreativeRule] = lambda p: Best(),
    split: SplitRule | None = None,
    pace: Callable[[Parts], PaceRule] = lambda p: Even(),
) -> Callable[[Parts | None], Classic]:
    def make(parameters: Parts | None) -> Classic:
        return Classic(name, bid, creative, split or ByConversions(), pace, parameters)

    return make


# all but the first two and the last: B1 with the named part replaced
LADDER: Final[dict[str, Callable[[Parts | None], Classic]]] = {
    "naive": _classic("naive", "flat", lambda p: Uniform(), Equal(), lambda p: AsSoonAsPossible()),
    "manual": _classic("manual"),
    "shade": _classic("shade", "factor"),
    "linear": _classic("linear", "linear"),
    "pid": _classic("pid", "value", pace=lambda p: Pid(p["gain"], p["top"])),
    "roas": _classic("roas", split=ByReturn()),
    "greedy": _classic("greedy", creative=lambda p: DiscountedGreedy(p["memory"], p["strength"])),
    "thompson": _classic("thompson", creative=lambda p: BetaThompson(p["memory"], p["strength"])),
    "tools": lambda parameters: Chest("tools", parameters),
}


def constant_split(shares: Floats, parameters: Parts) -> Classic:
    """``pid`` with the same shares on every day."""
    return _classic("pid", split=Fixed(shares), pace=lambda p: Pid(p["gain"], p["top"]))(
        {**parameters, "trust": 1.0}
    )
