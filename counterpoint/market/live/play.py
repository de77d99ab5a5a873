"""Plays a live system through a market in this process: auctions in, bids out, fates back as notices.

A step of the system ends every ``tempo.step_s``, at midnight UTC and where a creative's life begins or ends. A win is
told by its billing notice at the moment of the auction, a loss by a loss notice where the exchange sends them and by
silence elsewhere; what people do is told at the end of the step in which it happened.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct

from counterpoint.base.ids import IdSource
from counterpoint.bidder.attribution import Order
from counterpoint.bidder.heap import collect_young
from counterpoint.bidder.signing import NoticeKind, SignedBid
from counterpoint.catalog.local_time import day_at
from counterpoint.ledger.books import Ledger
from counterpoint.market.auctions import Rows
from counterpoint.market.catalogue import Requests, catalogue
from counterpoint.market.house import CLICK, CONVERSION, IMPRESSION, SKIP, Happening, House
from counterpoint.market.live.system import LEDGER_IN_MEMORY, Given, LiveSystem
from counterpoint.market.live.tempo import Tempo
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS, Scenario
from counterpoint.market.tally import Tally
from counterpoint.market.world import World
from counterpoint.openrtb.macros import Code, Missing, NoticeValues, Price
from counterpoint.openrtb.nobid import NoBidReason

BATCH: Final = 2_000  # auctions drawn at once
LOST_ON_PRICE: Final = 102  # OpenRTB loss reason: a higher bid won
COLLECT_STEPS: Final = 16
AFTER_NS: Final = 3_600 * 1_000_000_000  # after the last auction: what is on its way is still told and booked

_NONE: Final = Missing()
_NOTHING: Final = NoticeValues(_NONE, _NONE, _NONE, _NONE)
_NOTICES: Final = {IMPRESSION: NoticeKind.IMPRESSION, SKIP: NoticeKind.SKIP, CLICK: NoticeKind.CLICK}


class Line(Struct, frozen=True, array_like=True, gc=False):
    """One auction in the decision log. Without a bid: empty texts and zeros."""

    index: int
    creative_id: str
    bid_micros: int  # CPM
    won: bool
    paid_nanos: int
    bid_id: str


class Played(Struct, frozen=True, kw_only=True):
    """One run. Judged is expected value; money in nanos of the account currency."""

    scenario: str
    digest: str
    seed: int
    auctions: int
    agents: tuple[str, ...]
    step_s: int
    steps: int
    bids: int
    no_bids: dict[str, int]
    wins: int
    tally: Tally  # the scoreboard's; ``budget`` as the ledger has it
    reach: int
    reach_by_campaign: Rows
    unfit: int
    house_paid_nanos: int
    booked_nanos: int | None  # by the ledger; None: a frozen run has none
    overspend_nanos: int | None
    problems: tuple[str, ...]  # what the ledger's audit found
    policies: int  # in use by the end, all agents' together
    refused: int  # policies that the bidder did not take
    cpu_s: float
    seconds: float

    @property
    def value(self) -> float:
        """Expected, in units of the account currency."""
        return float(self.tally.value.sum()) / 1e9

    @property
    def spend(self) -> float:
        return self.house_paid_nanos / 1e9

    @property
    def cpa(self) -> float | None:
        conversions = float(self.tally.conversions.sum())
        return self.spend / conversions if conversions > 0 else None

    @property
    def ctr(self) -> float | None:
        return float(self.tally.clicks.sum()) / self.wins if self.wins else None


class Game:
    """One live system in one market. ``log`` takes a line an auction, in order. ``system``: made with the arguments of
    :class:`LiveSystem`, and one of them to its last method. People met on ``warm_up_days`` do not count as reached;
    ``world``: that of scenario and seed, where there is one already."""

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        *,
        agents: Sequence[str] = (),
        tempo: Tempo | None = None,
        given: Given | None = None,
        ids: IdSource | None = None,
        ledger_url: str = LEDGER_IN_MEMORY,
        log: Callable[[Line], None] | None = None,
        system: Callable[..., LiveSystem] = LiveSystem,
        warm_up_days: int = 0,
        world: World | None = None,
    ) -> None:
        self.house = House(World(scenario, seed) if world is None else world, warm_up_days)
        self.scenario = scenario
        self.system = system(
            catalogue(scenario, STARTS_AT_NS),
            now_ns=STARTS_AT_NS,
            seed=seed,
            agents=agents,
            tempo=tempo,
            given=given,
            ids=ids,
            ledger_url=ledger_url,
        )
        self._agents = tuple(agents)
        self._requests = Requests(self.house.world)
        self._log = log
        self._venues = [v.id for v in scenario.venue]
        self._tells = [v.minimum_bid_to_win for v in scenario.venue]
        design = self.house.world.design
        self._position = design.position
        self._advertiser = [scenario.campaign[c].advertiser for c in design.campaign.tolist()]
        edges = {int(t) for t in np.concatenate([design.from_ns, design.to_ns])} - {STARTS_AT_NS}
        self._lives = sorted(t for t in edges if STARTS_AT_NS < t < STARTS_AT_NS + scenario.days * DAY_NS)
        self._steps = 0
        self._bids = self._wins = 0
        self._step_at = self._after(STARTS_AT_NS)

    # ---- time

    def _after(self, now_ns: int) -> int:
        """When the step that begins now ends."""
        ends = [now_ns + self.system.tempo.step_ns, now_ns - (now_ns - STARTS_AT_NS) % DAY_NS + DAY_NS]
        return min([*ends, *self._lives[:1]])

    def _end_step(self, now_ns: int, row: int) -> None:
        """Auctions before ``row`` of the batch are over."""
        system = self.system
        self.house.close(row)
        system.clock.move_to(now_ns)
        for happening in self.house.due(now_ns):
            self._tell(happening)
        while self._lives and self._lives[0] <= now_ns:
            del self._lives[0]
            if not self._lives or self._lives[0] > now_ns:
                system.set_catalog(catalogue(self.scenario, now_ns), now_ns)
        system.pass_time(now_ns)
        self._steps += 1
        if self._steps % COLLECT_STEPS == 0:
            collect_young()

    def _tell(self, happening: Happening) -> None:
        signed: SignedBid = happening.mark
        if happening.kind != CONVERSION:
            self.system.notice(_NOTICES[happening.kind], signed, _NOTHING)
            return
        self.system.conversion(
            Order(
                advertiser_id=self._advertiser[happening.creative],
                order_id=f"order-{happening.index}",
                value_micros=happening.order_value_micros,
                happened_at_ns=happening.at_ns,
                click=signed,
            )
        )

    # ---- auctions

    def play(self, progress: Callable[[int], None] | None = None, auctions: int | None = None) -> Played:
        """``auctions``: stop after so many. ``progress`` is told auctions done."""
        began, began_cpu = time.perf_counter(), time.process_time()
        total = self.scenario.auctions if auctions is None else min(auctions, self.scenario.auctions)
        done = 0
        with _own_heap():
            while done < total:
                n = self._batch(done, min(BATCH, total - done))
                done += n
                if progress is not None:
                    progress(n)
            self._finish()
        return self._played(done, time.process_time() - began_cpu, time.perf_counter() - began)

    def _batch(self, start: int, most: int) -> int:
        auctions = self.house.batch(start, most)
        move_to = self.system.clock.move_to
        t_ns, venues = auctions.t_ns.tolist(), auctions.venue.tolist()
        for row, request in enumerate(self._requests.of(auctions)):
            now_ns = t_ns[row]
            while now_ns >= self._step_at:
                self._end_step(self._step_at, row)
                self._step_at = self._after(self._step_at)
            move_to(now_ns)
            bids = self.system.place(request, self._venues[venues[row]])
            if isinstance(bids, NoBidReason):
                if self._log is not None:
                    self._log(Line(start + row, "", 0, False, 0, ""))
                continue
            self._hold(start + row, row, venues[row], bids[0][1], bids[0][0])
        return len(auctions)

    def _hold(self, index: int, row: int, venue: int, signed: SignedBid, micros: int) -> None:
        fate = self.house.hold(row, [(self._position[signed.creative_id], micros, signed)])
        self._bids += 1
        notice = self.system.notice
        if fate.won:
            self._wins += 1
            minimum = Price(fate.minimum_micros) if fate.minimum_micros is not None else _NONE
            notice(NoticeKind.BILLING, signed, NoticeValues(Price(fate.paid_micros), _NONE, minimum, _NONE))
        elif fate.minimum_micros is not None and self._tells[venue]:
            values = NoticeValues(_NONE, _NONE, Price(fate.minimum_micros), Code(LOST_ON_PRICE))
            notice(NoticeKind.LOSS, signed, values)
        if self._log is not None:
            self._log(Line(index, signed.creative_id, micros, fate.won, fate.paid_micros, signed.bid_id))

    def _finish(self) -> None:
        """The last step, and what is still on its way within the hour."""
        self.house.close()
        end_ns = self.system.clock.now_ns()
        for now_ns in (end_ns, end_ns + AFTER_NS):
            self.system.clock.move_to(now_ns)
            for happening in self.house.due(now_ns):
                self._tell(happening)
            self.system.pass_time(now_ns)

    def _played(self, auctions: int, cpu_s: float, seconds: float) -> Played:
        system, house = self.system, self.house
        if system.ledger is not None:
            self._keep_budgets(system.ledger)
        found = system.ledger.verify() if system.ledger is not None else None
        tally = house.tally()
        return Played(
            scenario=self.scenario.name,
            digest=self.scenario.digest,
            seed=house.world.seed,
            auctions=auctions,
            agents=self._agents,
            step_s=system.tempo.step_s,
            steps=self._steps,
            bids=self._bids,
            no_bids=dict(sorted(system.engine.no_bids().items())),
            wins=self._wins,
            tally=tally,
            reach=house.reach,
            reach_by_campaign=house.reach_by_campaign,
            unfit=house.unfit,
            house_paid_nanos=int(tally.spend.sum()),
            booked_nanos=found.spent_nanos if found is not None else None,
            overspend_nanos=found.overspend_nanos if found is not None else None,
            problems=found.problems if found is not None else (),
            policies=len(system.engine.view.inputs.policies),
            refused=len(system.refusals),
            cpu_s=cpu_s,
            seconds=seconds,
        )

    def _keep_budgets(self, ledger: Ledger) -> None:
        """How money was split, day by day, is what the ledger says; one pool's moves are in it."""
        first = date.fromisoformat(day_at(STARTS_AT_NS, 0)).toordinal()
        campaigns = {c.id: n for n, c in enumerate(self.scenario.campaign)}
        for account in ledger.accounts():
            day = date.fromisoformat(account.day).toordinal() - first
            if 0 <= day < self.scenario.days and account.campaign_id in campaigns:
                self.house.sums["budget"][day, campaigns[account.campaign_id]] = account.budget


@contextmanager
def _own_heap() -> Iterator[None]:
    """What lives by now is not walked by the collector; nearly all that a run makes is freed by its counts."""
    before = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if before:
            gc.enable()


def encode_lines(lines: Sequence[Line]) -> bytes:
    """The decision log as JSON lines: equal decisions, equal bytes."""
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
