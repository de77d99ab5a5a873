"""What made a campaign's multiplier, published beside it: nobody prices by it, ``explain`` tells it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct

from counterpoint.base.errors import PolicyRefused

DUAL_MAX = 1e9
NOT_PACED = -1.0  # as soon as possible


class Dual(Struct, frozen=True, array_like=True):
    """The multiplier is the larger of ``budget`` and ``cost``, and not below the owner's lowest."""

    budget: float  # lambda at which the rest of the day costs what is left
    cost: float  # lambda at which what is won costs what it is worth
    left_nanos: int = 0  # of the day's budget, of the arms we price in, when it was solved
    rest: float = NOT_PACED  # share of the day's plan that was still to come

    def binds(self, multiplier: float) -> str:
        """
        >>> Dual(2.0, 1.2).binds(2.0), Dual(1.0, 1.2).binds(1.2), Dual(0.4, 0.6).binds(1.0)
        ('the budget', 'the target cost', 'neither: the least the owner allows')
        """
        if multiplier > max(self.budget, self.cost) * (1.0 + 1e-9):
            return "neither: the least the owner allows"
        return "the budget" if self.budget > self.cost else "the target cost"


def check_duals(duals: Mapping[str, Dual]) -> None:
    """Raises :class:`PolicyRefused` for a number that cannot be."""
    for name, dual in duals.items():
        if not all(math.isfinite(x) and 0.0 <= x <= DUAL_MAX for x in (dual.budget, dual.cost)):
            raise PolicyRefused(f"bidding policy: the duals of {name!r} are {dual.budget} and {dual.cost}")
        if not (math.isfinite(dual.rest) and NOT_PACED <= dual.rest <= DUAL_MAX):
            raise PolicyRefused(f"bidding policy: the plan of {name!r} has {dual.rest} of a day to come")
