"""The ledger's process on the bus: it answers, survives being cut off and cancelled, and splits pools by resolution."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from counterpoint.base.clock import NS_PER_MS, ManualClock, SystemClock
from counterpoint.bus.bus import Delivery
from counterpoint.bus.memory import MemoryBus
from counterpoint.catalog.model import Catalog
from counterpoint.events import subjects
from counterpoint.events.decisions import AgentBeat, CatalogChanged, HybridTime, Proposal, Resolution
from counterpoint.events.event import Event
from counterpoint.events.money import AllowanceGranted, BalanceReported, BudgetMoved, SpendBooked
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.outbox import Outgoing
from counterpoint.ledger.people import Order
from counterpoint.ledger.service import run_ledger
from tests.bus.worlds import Embedded
from tests.ledger.build import DAY, NOW, UNIT, S, campaign, catalog, notice, request, started

PATIENCE_S = 20.0


async def until(condition: Callable[[], bool]) -> None:
    """The service runs in real time over simulated time: wait for what it does, not for how long it takes."""
    for _ in range(int(PATIENCE_S / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("waited in vain")


class Outside:
    """The bus as everybody else sees it."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.bus = MemoryBus(self.clock, wire=True)

    def heard(self, kind: type[Event]) -> list[Event]:
        deliveries: Sequence[Delivery] = [
            *self.bus.read_now(subjects.MONEY, ["money.>"], messages_max=100_000),
            *self.bus.read_now(subjects.DECISIONS, ["decisions.>"], messages_max=100_000),
        ]
        return [e for d in deliveries for e in d.events if isinstance(e, kind)]

    def tell(self, subject: str, *events: Event) -> None:
        self.clock.advance(NS_PER_MS)
        self.bus.publish_now(subject, events)

    @asynccontextmanager
    async def running(
        self, url: str, declared: Catalog, load: Callable[[], Catalog] | None = None
    ) -> AsyncIterator[asyncio.Task[None]]:
        stop = asyncio.Event()
        task = asyncio.create_task(
            run_ledger(
                bus=self.bus,
                engine_url=url,
                catalog=declared,
                clock=self.clock,
                stop=stop,
                incarnation="one",
                load_catalog=load,
            )
        )
        try:
            yield task
        finally:
            stop.set()
            if not task.cancelled():
                await task


COMMANDS = subjects.money_command("b1")
NOTICES = subjects.notice("x")


async def test_it_grants_books_and_tells(sqlite: str) -> None:
    outside = Outside()
    outside.tell(COMMANDS, started(), request(1))
    async with outside.running(sqlite, catalog()):
        await until(lambda: bool(outside.heard(AllowanceGranted)))
        (granted,) = outside.heard(AllowanceGranted)
        assert isinstance(granted, AllowanceGranted)
        outside.tell(NOTICES, notice("bid1", granted.allowance_id), notice("bid2", granted.allowance_id))
        await until(lambda: len(outside.heard(SpendBooked)) == 2)
        beats = outside.heard(AgentBeat)
        assert {b.agent for b in beats if isinstance(b, AgentBeat)} == {"ledger"}
    balances = [e for e in outside.heard(BalanceReported) if isinstance(e, BalanceReported)]
    assert balances[-1].spent_on_time_nanos == 2 * UNIT
    assert [b.version for b in balances] == sorted(b.version for b in balances)
    ledger = Ledger(sqlite, catalog())
    assert ledger.outbox_size() == 0


async def test_cut_off_and_started_again_it_books_once_and_forgets_nothing(sqlite: str) -> None:
    outside = Outside()
    outside.tell(COMMANDS, started(), request(1))
    async with outside.running(sqlite, catalog()):
        await until(lambda: bool(outside.heard(AllowanceGranted)))
        (granted,) = outside.heard(AllowanceGranted)
        assert isinstance(granted, AllowanceGranted)
        outside.tell(NOTICES, *(notice(f"bid{i}", granted.allowance_id, paid=UNIT // 10) for i in range(20)))
        outside.bus.go_away()
        await asyncio.sleep(0.3)
        outside.bus.come_back()
        await until(lambda: len(outside.heard(SpendBooked)) == 20)
    outside.tell(NOTICES, notice("bid99", granted.allowance_id), notice("bid3", granted.allowance_id, copy=2))
    async with outside.running(sqlite, catalog()):
        await until(lambda: len(outside.heard(SpendBooked)) == 21)
    ledger = Ledger(sqlite, catalog())
    account = ledger.account("c1", DAY)
    assert account is not None
    assert account.spent_on_time == 3 * UNIT
    assert ledger.verify().problems == ()


async def test_what_was_committed_and_not_said_is_said_at_the_next_start(
    sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Outside()
    outside.tell(COMMANDS, started(), request(1))
    refused = asyncio.Event()
    publish = outside.bus.publish

    async def dies(subject: str, events: Sequence[Event], *, batch_id: str | None = None) -> int:
        if subject.startswith("money.ledger.grant"):
            refused.set()
            raise RuntimeError("killed between commit and publish")
        return await publish(subject, events, batch_id=batch_id)

    monkeypatch.setattr(outside.bus, "publish", dies)
    with pytest.raises(ExceptionGroup):
        async with outside.running(sqlite, catalog()):
            await refused.wait()
    monkeypatch.undo()
    assert outside.heard(AllowanceGranted) == []
    async with outside.running(sqlite, catalog()):
        await until(lambda: bool(outside.heard(AllowanceGranted)))
    assert len(outside.heard(AllowanceGranted)) == 1


async def test_money_that_does_not_add_up_ends_the_process(
    sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Ledger, deliveries: Sequence[Delivery], now_ns: int) -> list[Outgoing]:
        raise AssertionError("promised twice")

    monkeypatch.setattr(Ledger, "apply", broken)
    outside = Outside()
    outside.tell(COMMANDS, started())
    with pytest.raises(ExceptionGroup) as failure:
        async with outside.running(sqlite, catalog()) as task:
            await asyncio.wait([task], timeout=PATIENCE_S)
    assert failure.group_contains(AssertionError, match="promised twice")


async def test_a_new_catalog_changes_budgets_without_a_restart(sqlite: str) -> None:
    outside = Outside()
    newer = catalog(campaign(units=7))
    async with outside.running(sqlite, catalog(), lambda: newer):
        await until(lambda: bool(outside.heard(BalanceReported)))
        changed = CatalogChanged(
            event_id="cat2", happened_at_ns=NOW, recorded_at_ns=NOW, source="cli", digest=newer.digest
        )
        outside.tell(subjects.CATALOG, changed)
        await until(
            lambda: any(
                isinstance(e, BalanceReported) and e.budget_nanos == 7 * UNIT
                for e in outside.heard(BalanceReported)
            )
        )


def wish(campaign_id: str, value: int, number: int, at: int) -> Proposal:
    return Proposal(
        event_id=f"wish-{campaign_id}-{number}",
        happened_at_ns=at,
        recorded_at_ns=at,
        source="agent/budget",
        author="budget",
        target=f"campaign/{campaign_id}/budget_share",
        intent="budget",
        stamp=HybridTime(at, 0, "budget"),
        expires_at_ns=at + 300 * S,
        value=value,
        reason="returns",
    )


async def test_a_resolved_split_moves_the_pools_money_and_survives_a_restart(sqlite: str) -> None:
    pooled = catalog(campaign("c1", pool="p"), campaign("c2", pool="p"))
    outside = Outside()
    # the epochs of more than one proposal life: only then does a fresh replica resolve by itself
    for _ in range(3):
        outside.clock.advance(601 * S)
        outside.tell(subjects.beat("other"), beat(outside.clock.now_ns()))
    async with outside.running(sqlite, pooled):
        number = 0
        while not outside.heard(BudgetMoved):
            number += 1
            now_ns = outside.clock.advance(S)
            outside.tell(
                subjects.proposal("budget"),
                wish("c1", 800_000, number, now_ns),
                wish("c2", 200_000, number, now_ns),
            )
            await asyncio.sleep(0.02)
            assert number < 500
    moved = outside.heard(BudgetMoved)[-1]
    assert isinstance(moved, BudgetMoved)
    assert sum(moved.budgets_nanos.values()) == 200 * UNIT
    assert moved.budgets_nanos["c1"] > 100 * UNIT
    assert any(isinstance(r, Resolution) and "budget_share" in r.target for r in outside.heard(Resolution))
    moves = len(outside.heard(BudgetMoved))
    async with outside.running(sqlite, pooled):
        await asyncio.sleep(0.5)
    assert len(outside.heard(BudgetMoved)) == moves
    ledger = Ledger(sqlite, pooled)
    assert sum(a.budget for a in ledger.accounts(DAY) if a.campaign_id in ("c1", "c2")) == 200 * UNIT
    assert ledger.verify().problems == ()


def beat(at: int) -> AgentBeat:
    return AgentBeat(
        event_id=f"beat-{at}",
        happened_at_ns=at,
        recorded_at_ns=at,
        source="other",
        agent="other",
        incarnation="o",
        state="running",
    )


async def test_over_a_real_bus_that_is_killed_in_between(tmp_path: Path, sqlite: str) -> None:
    world = Embedded(tmp_path / "nats", small=False)
    await world.restart()
    stop = asyncio.Event()
    try:
        ours, bidder = await world.bus("ledger"), await world.bus("bidder")
        clock = SystemClock()
        now_ns = clock.now_ns()
        service = asyncio.create_task(
            run_ledger(
                bus=ours, engine_url=sqlite, catalog=catalog(), clock=clock, stop=stop, incarnation="one"
            )
        )
        await bidder.publish(COMMANDS, [started(at=now_ns), request(1, at=now_ns)])
        granted = None
        while granted is None:
            last = await bidder.last(subjects.grants("b1"))
            granted = last.events[0] if last is not None else None
            await asyncio.sleep(0.02)
        assert isinstance(granted, AllowanceGranted)

        def settling(bid_id: str) -> Event:
            return notice(
                bid_id,
                granted.allowance_id,
                paid=UNIT // 100,
                bid_at=now_ns,
                until=now_ns + 60 * S,
                at=now_ns + S,
            )

        for number in range(30):
            await bidder.publish(NOTICES, [settling(f"bid{number}"), settling(f"bid{number + 30}")])
            if number == 10:
                await world.crash()
                await world.restart()
        await bidder.publish(NOTICES, [settling(f"bid{n}") for n in range(60)], batch_id="again")
        reader = Ledger(sqlite, catalog())
        for _ in range(500):
            if reader.verify().settlements == 60:
                break
            await asyncio.sleep(0.02)
        stop.set()
        await service
        verification = reader.verify()
        assert verification.problems == ()
        assert (verification.settlements, verification.spent_nanos) == (60, 60 * (UNIT // 100))
        assert reader.outbox_size() == 0
        spends = [e for d in await bidder.last_all("money.ledger.balance.>") for e in d.events]
        assert spends[-1].spent_on_time_nanos == 60 * (UNIT // 100)  # type: ignore[attr-defined]
    finally:
        stop.set()
        await world.close()


async def test_it_says_what_a_person_ordered_beside_it(sqlite: str) -> None:
    outside = Outside()
    async with outside.running(sqlite, catalog()):
        await until(lambda: bool(outside.heard(BalanceReported)))
        beside = Ledger(sqlite, catalog())
        order = Order(
            key="k1",
            kind="credit",
            campaign_id="c1",
            day=DAY,
            amount_nanos=UNIT,
            author="ann",
            reason="because",
        )
        assert beside.adjust(order, NOW).done
        beside.close()

        def told() -> bool:
            outside.clock.advance(1_000 * NS_PER_MS)
            newest = outside.heard(BalanceReported)[-1]
            return isinstance(newest, BalanceReported) and newest.budget_nanos == 101 * UNIT

        await until(told)
    ledger = Ledger(sqlite, catalog())
    assert ledger.outbox_size() == 0
    ledger.close()


async def test_a_catalog_in_another_currency_is_not_taken_up(sqlite: str) -> None:
    outside = Outside()
    euros = catalog(campaign(units=7), currency="EUR")
    async with outside.running(sqlite, catalog(), lambda: euros) as task:
        await until(lambda: bool(outside.heard(BalanceReported)))
        outside.tell(
            subjects.CATALOG,
            CatalogChanged(
                event_id="c", happened_at_ns=NOW, recorded_at_ns=NOW, source="person", digest=euros.digest
            ),
        )
        await until(
            lambda: any("not taken up" in b.why for b in outside.heard(AgentBeat) if isinstance(b, AgentBeat))
        )
        assert not task.done()
    ledger = Ledger(sqlite, catalog())
    account = ledger.account("c1", DAY)
    assert account is not None
    assert account.budget == 100 * UNIT
    ledger.close()
