"""What the console knows: balances, beats, resolutions and alarms heard on the bus, counters asked of the bidder.

Only listens; everything shown here can be had without it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import msgspec

from counterpoint.base.clock import NS_PER_S, Clock
from counterpoint.base.errors import BusUnavailable
from counterpoint.base.http_client import HttpClient, HttpUnavailable
from counterpoint.bus.bus import Bus
from counterpoint.events import subjects
from counterpoint.events.decisions import AgentBeat, AlarmRaised, Proposal, Resolution
from counterpoint.events.event import Event
from counterpoint.events.money import AllowanceGranted, AllowanceRefused, BalanceReported, BudgetMoved

ALIVE_NS = 3 * NS_PER_S  # no beat for this long: not alive
RATE_WINDOW_S = 5.0
NEWS_KEPT = 200
RESOLUTIONS_KEPT = 500
POLL_S = 0.5
LEDGER_SAYS = ("money.ledger.balance.>", "money.ledger.moved.>", "money.ledger.grant.>")
NO_BID = "no bid: "  # before a reason, among the counts


def spent_nanos(balance: BalanceReported) -> int:
    """All that was booked: on time, late, and what no budget covered."""
    return balance.spent_on_time_nanos + balance.late_spend_nanos + balance.overspend_nanos


class Watch:
    def __init__(self, bus: Bus, client: HttpClient, clock: Clock) -> None:
        self.bus = bus
        self.client = client
        self.clock = clock
        self.balances: dict[str, BalanceReported] = {}
        self.beats: dict[str, AgentBeat] = {}
        self.resolutions: dict[str, Resolution] = {}
        self.clash: Resolution | None = None  # the latest that had a loser
        self.spent: set[str] = set()  # campaigns to which the ledger grants nothing more, for want of money
        self.moves: deque[BudgetMoved] = deque(maxlen=NEWS_KEPT)
        self.alarms: deque[AlarmRaised] = deque(maxlen=NEWS_KEPT)
        self.proposals: dict[tuple[str, str], Proposal] = {}
        self.status: dict[str, Any] = {}
        self.bus_alive = False
        self.bidder_alive = False
        self.totals: dict[str, int] = {}  # over restarts of the bidder, whose own counters start anew
        self._last_counts: dict[str, int] = {}
        self._incarnation = ""
        self._history: deque[tuple[float, dict[str, int]]] = deque(maxlen=64)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(subjects.MONEY, LEDGER_SAYS))
            tasks.create_task(self._hear(subjects.DECISIONS, ("decisions.>",)))
            tasks.create_task(self._ask())

    async def _hear(self, stream: str, wanted: tuple[str, ...]) -> None:
        known = 0
        subscription = None
        while True:
            try:
                if subscription is None:
                    if stream == subjects.MONEY:
                        for delivery in await self.bus.last_all("money.ledger.balance.>"):
                            self.take(delivery.events)
                    since_ns = self.clock.now_ns() - 60 * NS_PER_S
                    subscription = await self.bus.subscribe(
                        stream, wanted, after=known, since_ns=None if known else since_ns
                    )
                for delivery in await subscription.fetch(messages_max=256, wait_s=1.0):
                    known = delivery.sequence
                    self.take(delivery.events)
                self.bus_alive = self.bus.connected()
            except BusUnavailable:
                self.bus_alive = False
                await asyncio.sleep(0.3)

    def take(self, events: tuple[Event, ...]) -> None:
        for event in events:
            match event:
                case BalanceReported():
                    held = self.balances.get(event.campaign_id)
                    if held is None or event.recorded_at_ns >= held.recorded_at_ns:
                        self.balances[event.campaign_id] = event
                case AllowanceGranted():
                    self.spent.discard(event.campaign_id)
                case AllowanceRefused(reason="budget_spent"):
                    self.spent.add(event.campaign_id)
                case AgentBeat():
                    self.beats[event.agent] = event
                case Resolution():
                    self.resolutions[event.target] = event
                    if event.losers:
                        self.clash = event
                    while len(self.resolutions) > RESOLUTIONS_KEPT:
                        self.resolutions.pop(next(iter(self.resolutions)))
                case Proposal():
                    self.proposals[(event.author, event.target)] = event
                    while len(self.proposals) > RESOLUTIONS_KEPT:
                        self.proposals.pop(next(iter(self.proposals)))
                case BudgetMoved():
                    self.moves.append(event)
                case AlarmRaised():
                    self.alarms.append(event)
                case _:
                    pass

    async def _ask(self) -> None:
        while True:
            try:
                answer = await self.client.get("/control/status")
                self.status = msgspec.json.decode(answer.body)
                self.bidder_alive = answer.status == 200
                self.count()
            except (HttpUnavailable, msgspec.DecodeError):
                self.bidder_alive = False
            await asyncio.sleep(POLL_S)

    def count(self) -> None:
        counts = {key: int(value) for key, value in self.status.get("counts", {}).items()}
        counts |= {NO_BID + reason: int(n) for reason, n in self.status.get("no_bids", {}).items()}
        if self.status.get("incarnation", "") != self._incarnation:
            self._incarnation = self.status.get("incarnation", "")
            self._last_counts = {}
        for key, value in counts.items():
            self.totals[key] = self.totals.get(key, 0) + max(value - self._last_counts.get(key, 0), 0)
        self._last_counts = counts
        self._history.append((asyncio.get_running_loop().time(), dict(self.totals)))

    def rate(self, key: str) -> float:
        """Per second, over the last few seconds; 0 while the bidder does not answer."""
        if len(self._history) < 2 or not self.bidder_alive:
            return 0.0
        now, latest = self._history[-1]
        for then, counts in self._history:
            if now - then <= RATE_WINDOW_S:
                return (latest.get(key, 0) - counts.get(key, 0)) / max(now - then, 1e-9)
        return 0.0

    def no_bid_rates(self) -> dict[str, float]:
        """Requests a second that got no bid, by reason, the most frequent first."""
        rates = {key.removeprefix(NO_BID): self.rate(key) for key in self.totals if key.startswith(NO_BID)}
        return dict(sorted(((k, v) for k, v in rates.items() if v > 0), key=lambda item: -item[1]))

    def stops(self) -> frozenset[str]:
        """Targets that people stopped, as the bidder obeys them now."""
        return frozenset(self.status.get("view", {}).get("stops", ()))

    def alive(self, agent: str) -> bool:
        beat = self.beats.get(agent)
        return (
            beat is not None
            and self.clock.now_ns() - beat.happened_at_ns < ALIVE_NS
            and beat.state != "stopping"
        )
