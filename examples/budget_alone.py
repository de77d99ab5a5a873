"""The Budget agent without the platform: three channels, six weeks of history, next week's money.

    python examples/budget_alone.py

What the channels truly bring is made up below and not told to the allocator; it sees spend and value, day by day.
"""

from __future__ import annotations

import math
import random

from counterpoint.budget.alone import Allocator, Arm

TRUTH = {"audio": (260.0, 150.0), "video": (900.0, 400.0), "banner": (150.0, 60.0)}  # a, c of a ln(1 + x / c)
DAYS = 42


def brought(name: str, spend: float, rng: random.Random) -> float:
    a, c = TRUTH[name]
    return a * math.log1p(spend / c) * rng.gammavariate(20.0, 1 / 20.0)


def main() -> None:
    rng = random.Random(7)
    allocator = Allocator(
        [Arm(name="audio", least=20.0), Arm(name="video"), Arm(name="banner", most=400.0)],
        budget=1_000.0,
        currency="EUR",
    )
    spend = allocator.allocate().amounts
    total = 0.0
    for day in range(DAYS):
        value = {name: brought(name, x, rng) for name, x in spend.items()}
        total += sum(value.values())
        allocator.observe(spend, value)
        allocation = allocator.allocate()
        if allocation.moved:
            print(f"day {day + 1:2}: {allocation.why}")
        spend = allocation.amounts
    print(f"\n{DAYS} days brought {total:,.0f}. Next day:")
    for name, amount in spend.items():
        print(f"  {name:8} {amount:8.2f} EUR, marginal return {allocation.marginal[name]:.2f}")


if __name__ == "__main__":
    main()
