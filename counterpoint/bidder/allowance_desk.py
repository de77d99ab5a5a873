"""The bidder's dealings with the ledger: asks for allowances, takes them in, lets time end them, gives back the rest."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from counterpoint.base.clock import NS_PER_S, Clock
from counterpoint.base.errors import BusUnavailable
from counterpoint.bidder.allowances import AllowanceBook, Expired
from counterpoint.bidder.arm_budgets import ArmBudgets
from counterpoint.bidder.commit import BidContext
from counterpoint.bus.bus import Bus, Delivery
from counterpoint.events import subjects
from counterpoint.events.event import Event
from counterpoint.events.money import AllowanceGranted, AllowanceRefused, BalanceReported

TICK_S: Final = 0.05
CAPS_EVERY_NS: Final = 1 * NS_PER_S
AWAY_PAUSE_S: Final = 0.2
COMMANDS_WAITING_MAX: Final = 20_000  # not yet on the bus; past that no more is asked or returned
BATCH_MAX: Final = 100


class AllowanceDesk:
    """``take`` hears the ledger; ``tend`` (turns of ``pass_time``) and ``send`` belong in a task group. ``on_silence`` is told of each bid that
    heard nothing until the end of its reservation."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        book: AllowanceBook,
        arm_budgets: ArmBudgets,
        on_silence: Callable[[BidContext, int], None],
    ) -> None:
        self.book = book
        self.arm_budgets = arm_budgets
        self.ledger_answered = False
        self._bus = bus
        self._clock = clock
        self._on_silence = on_silence
        self._commands: deque[Event] = deque([book.started(clock.now_ns())])
        self._capped_at_ns = clock.now_ns()
        self._caps = arm_budgets.caps(self._capped_at_ns)

    @property
    def subjects(self) -> tuple[str, str]:
        """What :meth:`take` wants to hear."""
        return subjects.grants(self.book.bidder_id), "money.ledger.balance.>"

    def take(self, delivery: Delivery) -> None:
        now_ns = self._clock.now_ns()
        for event in delivery.events:
            if isinstance(event, AllowanceGranted):
                if self.book.grant(event, now_ns):
                    self.arm_budgets.granted(event)
                    self.ledger_answered = True
            elif isinstance(event, AllowanceRefused):
                self.book.refuse(event, now_ns)
                self.ledger_answered = self.ledger_answered or event.incarnation == self.book.incarnation
            elif isinstance(event, BalanceReported):
                self.book.balance(event, now_ns)
                self.arm_budgets.balance(event)

    def pass_time(self, now_ns: int, connected: bool) -> None:
        """One turn: what is over ends, its rest is to be returned, and what is needed to be asked for."""
        for expired in self.book.expire(now_ns):
            self._silent(expired, now_ns)
        if len(self._commands) >= COMMANDS_WAITING_MAX:
            return
        for returned in self.book.returns_due(now_ns):
            self.arm_budgets.returned(returned)
            self._commands.append(returned)
        due = not 0 <= now_ns - self._capped_at_ns < CAPS_EVERY_NS
        if due or len(self._caps) != len(self.book.left):
            self._capped_at_ns, self._caps = now_ns, self.arm_budgets.caps(now_ns)
        if len(self._caps) == len(self.book.left) and connected:
            self._commands.extend(self.book.requests_due(now_ns, self._caps))

    def waiting(self) -> list[Event]:
        """The next batch for the ledger; say :meth:`sent` when the bus has it."""
        return [self._commands[at] for at in range(min(len(self._commands), BATCH_MAX))]

    def sent(self, commands: int) -> None:
        for _ in range(commands):
            self._commands.popleft()

    async def tend(self) -> None:
        while True:
            self.pass_time(self._clock.now_ns(), self._bus.connected())
            await asyncio.sleep(TICK_S)

    def _silent(self, expired: Expired, now_ns: int) -> None:
        if isinstance(expired.context, BidContext):
            self._on_silence(expired.context, now_ns)

    async def send(self) -> None:
        """In order, each until the bus has it: a return was deducted here already."""
        subject = subjects.money_command(self.book.bidder_id)
        while True:
            if not self._commands:
                await asyncio.sleep(TICK_S)
                continue
            batch = self.waiting()
            try:
                await self._bus.publish(subject, batch)
            except BusUnavailable:
                await asyncio.sleep(AWAY_PAUSE_S)
                continue
            self.sent(len(batch))
