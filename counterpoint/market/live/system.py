"""A live system in one process: the very parts that :mod:`counterpoint.app` joins by processes, sockets and threads,
joined by the memory bus and driven one after the other at simulated time.

Real: engine (decide, commit), View compilation, allowances and their desk, frequency book, notices, attribution,
ledger (SQLite), epochs and resolver (one replica in the bidder, one at the ledger), learners and their desks. Left out:
bytes, signatures, sockets, the spool, the archive, snapshots; a person's stop switch. One step of :meth:`pass_time` is
what the services do between two ticks, in this fixed order, so that a run depends on its seed alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from counterpoint.base.clock import ManualClock
from counterpoint.base.errors import ConfigError
from counterpoint.base.ids import IdSource, digest
from counterpoint.base.rng import mix64
from counterpoint.bidder.allowance_desk import AllowanceDesk
from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.bidder.arm_budgets import ArmBudgets
from counterpoint.bidder.attribution import Attribution, Order
from counterpoint.bidder.commit import BidContext
from counterpoint.bidder.directory import Directory
from counterpoint.bidder.engine import Engine
from counterpoint.bidder.experiment import ARMS, Experiment
from counterpoint.bidder.frequency import FrequencyBook, bid_key
from counterpoint.bidder.hearing import POLICY_SUBJECTS, Hearing
from counterpoint.bidder.holder import Refusal, ViewHolder
from counterpoint.bidder.keys import KeyRing
from counterpoint.bidder.notice_desk import NoticeDesk
from counterpoint.bidder.notices import NoticeOutcome, settles
from counterpoint.bidder.outgoing import presumed_lost
from counterpoint.bidder.reports import TrafficCounter, subject_of
from counterpoint.bidder.signing import NoticeKind, SignedBid, Signer
from counterpoint.bidder.view import View, ViewInputs, compile_view
from counterpoint.bus.bus import Delivery
from counterpoint.bus.memory import MemoryBus, MemorySubscription
from counterpoint.catalog.model import Catalog
from counterpoint.coordination.epochs import SUBJECTS, EpochBook
from counterpoint.events import subjects
from counterpoint.events.decisions import AgentBeat, PolicyPublished, Resolution
from counterpoint.events.money import AllowanceGranted
from counterpoint.ledger.books import Ledger
from counterpoint.ledger.outbox import Outgoing
from counterpoint.ledger.service import MONEY_SUBJECTS
from counterpoint.ledger.shares import PoolShares
from counterpoint.market.live.agents import FETCH_MAX, make_agents
from counterpoint.market.live.post import Post
from counterpoint.market.live.tempo import STEP_S_WISHES_MAX, Tempo
from counterpoint.openrtb.macros import NoticeValues
from counterpoint.openrtb.nobid import NoBidReason
from counterpoint.openrtb.objects import BidRequest

BIDDER_ID: Final = "sim"
MESSAGES_KEPT: Final = 1_000  # per stream: everybody reads in every step, which makes far fewer
LEDGER_IN_MEMORY: Final = "sqlite://"


def engine_seed(seed: int) -> int:
    """The chance of decisions, for a bidder elsewhere that is to decide the same."""
    return mix64(seed)


def ids_of(seed: int) -> IdSource:
    """The names of bids, likewise."""
    return IdSource(f"{mix64(seed ^ 0x1D5) >> 24:010x}")


def people_secret(seed: int) -> bytes:
    """The key of the hash of ids, likewise."""
    return digest(f"simulated people {seed}", size=32).encode()


class Given(Struct, frozen=True):
    """What a frozen run decides by. ``allowances``: None, asked of the ledger; else these alone are spent, and no
    ledger books. They name the bidder :data:`BIDDER_ID` and ``LiveSystem.incarnation``."""

    policies: tuple[PolicyPublished, ...] = ()
    allowances: tuple[AllowanceGranted, ...] | None = None


class LiveSystem:
    """``agents``: which learners take part; without any, the bidder prices by its stated fallback, or by ``given``.

    ``ids`` names bids, ``seed`` is the chance of decisions; both have a default that depends on ``seed`` alone.
    ``tells``: bids and their outcomes are told on the bus; None: where an agent listens. Untold, no event of them is
    made: nobody decides otherwise. Raises ConfigError for a tempo that the agents' wishes would not live through.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        now_ns: int,
        seed: int,
        agents: Sequence[str] = (),
        tempo: Tempo | None = None,
        given: Given | None = None,
        experiment: Experiment | None = None,
        ids: IdSource | None = None,
        ledger_url: str = LEDGER_IN_MEMORY,
        keeps_inputs: bool = False,
        tells: bool | None = None,
    ) -> None:
        tempo = tempo if tempo is not None else Tempo()
        given = given if given is not None else Given()
        if agents and tempo.step_s > STEP_S_WISHES_MAX:
            raise ConfigError(
                f"a step of {tempo.step_s} s outlives the agents' wishes; at most {STEP_S_WISHES_MAX} s with agents"
            )
        self.catalog = catalog
        self.tempo = tempo
        self.clock = ManualClock(now_ns)
        self.bus = MemoryBus(self.clock, messages_max=MESSAGES_KEPT)
        self.incarnation = f"sim-{seed}"
        view = compile_view(
            ViewInputs(catalog=catalog, experiment=experiment if experiment is not None else Experiment())
        )
        secret = people_secret(seed)
        self.book = AllowanceBook(
            BIDDER_ID,
            self.incarnation,
            view.part.campaign_ids,
            ARMS,
            tempo.allowances(),
            view.part.lines_capped,
        )
        self.frequency = FrequencyBook(secret, started_at_ns=now_ns)
        self.post = Post(self.bus, subject_of(BIDDER_ID), f"{self.incarnation}-post")
        self.attribution = Attribution()
        told = self.post if tells or (tells is None and agents) else None
        self.engine = Engine(
            view,
            self.book,
            self.frequency,
            Signer(KeyRing(1, {1: secret[:32]})),
            public_url="https://simulated.example",
            bidder_id=BIDDER_ID,
            seed=engine_seed(seed),
            ids=ids if ids is not None else ids_of(seed),
            outbox=told,
            clock=self.clock.now_ns,
            keeps_inputs=keeps_inputs,
        )
        self.notices = NoticeDesk(
            facts=told,
            directory=Directory.build(catalog),
            allowances=self.book,
            frequency=self.frequency,
            attribution=self.attribution,
            clock=self.clock,
            source=self.engine.source,
        )
        self.refusals: list[Refusal] = []
        self.holder = ViewHolder(view, self._swap, self.refusals.append, self.clock.now_ns)
        self.hearing = Hearing(self.holder)
        self.hearing.begin(catalog, (), now_ns)
        self.desk = AllowanceDesk(
            self.bus,
            self.clock,
            self.book,
            ArmBudgets(view.part.campaigns, view.experiment.shares(), view.part.line_items),
            self._presume_lost,
        )
        self._traffic = TrafficCounter(self.engine, self.post)
        self._counted_ns = now_ns
        self._beats = 0
        self._heard = {
            name: self.bus.subscribe_now(stream, wanted)
            for name, stream, wanted in (
                ("money", subjects.MONEY, MONEY_SUBJECTS),
                ("grants", subjects.MONEY, self.desk.subjects),
                ("bidder", subjects.DECISIONS, SUBJECTS),
                ("policies", subjects.DECISIONS, POLICY_SUBJECTS),
                ("ledger", subjects.DECISIONS, SUBJECTS),
            )
        }
        self.agents = make_agents(agents, catalog, tempo, self.bus, self.incarnation)
        self.ledger: Ledger | None = None
        self.shares = PoolShares(catalog, EpochBook(catalog, since_ns=now_ns))
        if given.allowances is None:
            self.ledger = Ledger(ledger_url, catalog, tempo.ledger())
            self._say(self.ledger.set_catalog(catalog, now_ns))
        for grant in given.allowances or ():
            assert self.book.grant(grant, now_ns), f"{grant.allowance_id} is this bidder's, new and not over"
        for policy in given.policies:
            self.holder.policy(policy)
        self.holder.compile_now()
        self.pass_time(now_ns)

    # ---- one request, one notice

    def place(self, request: BidRequest, exchange: str) -> list[tuple[int, SignedBid]] | NoBidReason:
        """What the bidder answers now: bids with their prices, micros CPM."""
        bids = self.engine.place(request, exchange, self.clock.now_ns())
        if isinstance(bids, NoBidReason):
            return bids
        return [(bid.price_micros, signed) for bid, signed in bids]

    def notice(self, kind: NoticeKind, bid: SignedBid, values: NoticeValues) -> NoticeOutcome:
        """As the tracker takes a verified notice; the batch it travels in leaves with the step at the latest."""
        if not settles(kind, bid):
            return self.notices.inform(kind, bid, values)
        judgement, settlement = self.notices.settling(kind, bid, values)
        if settlement is None:
            return judgement.outcome
        self.post.settle(bid.exchange, settlement)
        self.notices.settled(kind, bid, settlement, judgement)
        return judgement.outcome

    def conversion(self, order: Order) -> None:
        """As an advertiser reports it; a repeat changes nothing."""
        if self.attribution.is_known(order):
            return
        directory = self.notices.directory
        now_ns = self.clock.now_ns()
        self.post.offer(self.attribution.attribute(order, directory.campaigns, now_ns, self.engine.source))
        self.attribution.remember(order)

    def _presume_lost(self, bid: BidContext, now_ns: int) -> None:
        if bid.user_key:
            self.frequency.release(bid.user_key, bid_key(bid.bid_id))
        if self.notices.facts is not None:
            self.notices.facts.offer(presumed_lost(bid, now_ns, self.engine.source))

    # ---- a step

    def pass_time(self, now_ns: int) -> None:
        """Everything that services do beside the requests, up to ``now_ns``."""
        self.clock.move_to(now_ns)
        self._spend(now_ns)
        self._count_traffic(now_ns)
        self.post.flush()
        if self.agents:
            self._beat(now_ns)
            for agent in self.agents:
                agent.live(now_ns)
            self._decide(now_ns)

    def _spend(self, now_ns: int) -> None:
        """Settlements and commands to the ledger, what it books and grants back."""
        self.desk.pass_time(now_ns, self.ledger is not None)
        self.post.flush()
        ledger = self.ledger
        if ledger is None:
            return
        while commands := self.desk.waiting():
            self.bus.publish_now(
                subjects.money_command(BIDDER_ID),
                commands,
                batch_id=f"{commands[0].event_id}-{len(commands)}",
            )
            self.desk.sent(len(commands))
        while deliveries := self._heard["money"].fetch_now(FETCH_MAX):
            self._say(ledger.apply(deliveries, now_ns))
        self._say(ledger.tick(now_ns))
        for delivery in self._all(self._heard["grants"]):
            self.desk.take(delivery)

    def _decide(self, now_ns: int) -> None:
        """Both replicas of the resolver hear the wishes; shares go into the books, settings and policies into a View."""
        closed: deque[Resolution] = deque()
        for delivery in self._all(self._heard["bidder"]):
            closed.extend(self.hearing.resolved(delivery))
        closed.extend(self.shares.hear(self._all(self._heard["ledger"])))
        for resolution in closed:
            self.bus.publish_now(subjects.resolution(resolution.target), [resolution])
        if self.ledger is not None and self.shares.due(now_ns):
            self._say(self.shares.apply(self.ledger, now_ns))
            for delivery in self._all(self._heard["grants"]):
                self.desk.take(delivery)
        for delivery in self._all(self._heard["policies"]):
            self.hearing.policies(delivery)
        self.holder.compile_now()

    def set_catalog(self, catalog: Catalog, now_ns: int) -> None:
        """A new catalog for everybody, as when its database changed."""
        self.clock.move_to(now_ns)
        self.catalog = catalog
        self.hearing.set_catalog(catalog)
        self.holder.compile_now()
        self.shares.book.set_catalog(catalog)
        self.shares.set_catalog(catalog)
        if self.ledger is not None:
            self._say(self.ledger.set_catalog(catalog, now_ns))
        for agent in self.agents:
            agent.learner.set_catalog(catalog)

    @staticmethod
    def _all(subscription: MemorySubscription) -> list[Delivery]:
        found: list[Delivery] = []
        while deliveries := subscription.fetch_now(FETCH_MAX):
            found += deliveries
        return found

    def _swap(self, view: View) -> None:
        new_catalog = view.part is not self.engine.view.part
        self.engine.swap(view)
        if new_catalog:
            self.notices.directory = Directory.build(view.inputs.catalog, self.notices.directory)
            self.desk.arm_budgets.set_campaigns(view.inputs.catalog.campaigns)

    def _say(self, outgoing: Sequence[Outgoing]) -> None:
        assert self.ledger is not None
        for batch in outgoing:
            self.bus.publish_now(batch.subject, batch.events, batch_id=batch.batch_id)
        self.ledger.mark_sent(outgoing)

    def _count_traffic(self, now_ns: int) -> None:
        interval_ns = now_ns - self._counted_ns
        if interval_ns > 0:
            self._counted_ns = now_ns
            self.post.offer(self._traffic.count(now_ns, interval_ns, self.engine.no_bids(), {}))

    def _beat(self, now_ns: int) -> None:
        """Signs of life, before anybody is asked who lives; they also keep the epochs moving."""
        self._beats += 1
        for name, source in (("bidder", self.engine.source), ("ledger", "ledger")):
            beat = AgentBeat(
                event_id=f"beat-{name}-{self.incarnation}-{self._beats}",
                happened_at_ns=now_ns,
                recorded_at_ns=now_ns,
                source=source,
                agent=name,
                incarnation=self.incarnation,
                state="running",
            )
            self.bus.publish_now(subjects.beat(name), [beat])
        for agent in self.agents:
            agent.beat(now_ns)

    def close(self) -> None:
        if self.ledger is not None:
            self.ledger.close()
