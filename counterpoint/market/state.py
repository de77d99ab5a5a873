"""What our own actions leave behind in the market: exposures, advertising stock, and what rivals know of us.

The runner of an arm keeps these, one set per arm; the world's draws never depend on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoint.market.kernels import show_each
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS, Scenario


class Exposures:
    """Decayed impressions per (person, campaign): sum of exp(-age / fatigue_days). float32, people x campaigns."""

    def __init__(self, scenario: Scenario) -> None:
        shape = (scenario.users.count, len(scenario.campaign))
        self._count = np.zeros(shape, dtype=np.float32)
        self._at_ns = np.full(shape, STARTS_AT_NS, dtype=np.int64)
        self._tau_ns = scenario.click.fatigue_days * DAY_NS

    def of(
        self,
        users: NDArray[np.integer[Any]],
        campaigns: NDArray[np.integer[Any]],
        t_ns: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Before the auction at ``t_ns``; parallel arrays."""
        age = np.maximum(t_ns - self._at_ns[users, campaigns], 0)
        return np.asarray(self._count[users, campaigns] * np.exp(-age / self._tau_ns), dtype=np.float64)

    @property
    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.int64], float]:
        """What a compiled driver may change: decayed counts, when each was last brought up, the time constant in ns."""
        return self._count, self._at_ns, float(self._tau_ns)

    def show(self, user: int, campaign: int, t_ns: int) -> None:
        """One impression. Times of one person and campaign must not run backwards."""
        self.show_all(np.array([user]), np.array([campaign]), np.array([t_ns]))

    def show_all(
        self,
        users: NDArray[np.integer[Any]],
        campaigns: NDArray[np.integer[Any]],
        t_ns: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Impressions in order; what each person had seen before each."""
        before = np.empty(users.shape[0])
        show_each(
            self._count,
            self._at_ns,
            users.astype(np.int64),
            campaigns.astype(np.int64),
            t_ns,
            float(self._tau_ns),
            before,
        )
        return before


class Stock:
    """Advertising stock per (campaign, supply path): impressions in shares of a day's auctions, fading by half-life."""

    def __init__(self, scenario: Scenario) -> None:
        self._stock = np.zeros((len(scenario.campaign), len(scenario.supply)))
        self._at_ns = STARTS_AT_NS
        self._half_life_ns = scenario.carry_over.half_life_days * DAY_NS
        self._per_impression = scenario.days / scenario.auctions

    def at(self, t_ns: int) -> NDArray[np.float64]:
        """[campaign, supply path]."""
        fade: float = 0.5 ** (max(t_ns - self._at_ns, 0) / self._half_life_ns)
        return self._stock * fade

    def add(self, campaigns: NDArray[np.integer[Any]], supply: NDArray[np.integer[Any]], t_ns: int) -> None:
        """Impressions won up to ``t_ns``; one campaign and supply path each."""
        self._stock = self.at(t_ns)
        self._at_ns = max(t_ns, self._at_ns)
        np.add.at(self._stock, (campaigns, supply), self._per_impression)


class Pressure:
    """What rivals and sellers have seen of us, per window of auctions and supply path.

    ``record`` every auction of a window (in any number of calls) before the world is asked for the next one: what they
    do in window w depends on windows before w alone, so that batches may be cut anywhere.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.window = scenario.adversary.window
        self._memory = scenario.adversary.memory
        self._supply = len(scenario.supply)
        count = -(-scenario.auctions // self.window) + 1
        self._seen = np.zeros((count, self._supply))
        self._won = np.zeros((count, self._supply))
        self._bid_sum = np.zeros((count, self._supply))
        self._bids = np.zeros((count, self._supply))

    def record(
        self,
        index: NDArray[np.int64],
        supply: NDArray[np.integer[Any]],
        bid_micros: NDArray[np.integer[Any]],
        won: NDArray[np.bool_],
    ) -> None:
        """Bids of 0: we did not bid."""
        window = index // self.window
        np.add.at(self._seen, (window, supply), 1.0)
        np.add.at(self._won, (window, supply), won.astype(np.float64))
        np.add.at(self._bid_sum, (window, supply), bid_micros.astype(np.float64))
        np.add.at(self._bids, (window, supply), (bid_micros > 0).astype(np.float64))

    def known(self, window: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Our win rate and mean bid (micros, 0: none yet) by supply path, as known when ``window`` begins."""
        rate, bid = np.zeros(self._supply), np.zeros(self._supply)
        first = max(0, window - 40)  # memory**40 is nothing
        for w in range(first, window):
            seen = self._seen[w] > 0
            latest = self._won[w] / np.maximum(self._seen[w], 1.0)
            rate = np.where(seen, self._memory * rate + (1.0 - self._memory) * latest, rate)
            any_bid = self._bids[w] > 0
            mean = self._bid_sum[w] / np.maximum(self._bids[w], 1.0)
            blended = np.where(bid > 0, self._memory * bid + (1.0 - self._memory) * mean, mean)
            bid = np.where(any_bid, blended, bid)
        return rate, bid
