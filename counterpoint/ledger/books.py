"""The ledger: the only writer of balances. Synchronous; one database transaction per call.

Everything a call decides (settlement keys, journal, balances, outgoing events, bus position) is committed together
or not at all, so a crash at any moment leaves a state from which the same deliveries lead to the same books.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.engine import Connection

from counterpoint.bus.bus import Delivery
from counterpoint.catalog.local_time import day_at, local_day
from counterpoint.catalog.model import Campaign, Catalog
from counterpoint.events.event import Event
from counterpoint.events.money import (
    AllowanceRequested,
    AllowanceReturned,
    BidderStarted,
    SettlementNoticed,
)
from counterpoint.events.places import belongs
from counterpoint.ledger import grant, look, people, prune
from counterpoint.ledger import split as pools
from counterpoint.ledger.config import LedgerConfig
from counterpoint.ledger.door import ID_CHARS_MAX, shown, unusable_id, usable
from counterpoint.ledger.journal_sums import Progress
from counterpoint.ledger.known import KnownCatalog
from counterpoint.ledger.look import Finding
from counterpoint.ledger.migrate import open_engine
from counterpoint.ledger.outbox import Outgoing, forget, load_unsent
from counterpoint.ledger.people import Order, Outcome
from counterpoint.ledger.rows import CLOSED, Account, Allowance
from counterpoint.ledger.settle import settle
from counterpoint.ledger.split import SplitApplied, SplitRefused
from counterpoint.ledger.storage import account_of, allowance_of
from counterpoint.ledger.tables import (
    ACCOUNTS,
    ALLOWANCES,
    OUTBOX,
    POSITIONS,
    SETTLEMENTS,
    SPLITS,
    WRITER,
    LedgerDatabaseError,
)
from counterpoint.ledger.verify import Verification, verify
from counterpoint.ledger.work import Work


class Ledger:
    """Safe to open on one database from several processes: each call takes the writer's lock first.

    ``now_ns`` is wall time, nanoseconds since the Unix epoch. An AssertionError means that money would have been
    promised twice: nothing was committed, and the process must end.
    """

    def __init__(self, engine_url: str, catalog: Catalog, config: LedgerConfig | None = None) -> None:
        self.config = config or LedgerConfig()
        self.engine = open_engine(engine_url)
        self._reader = self.engine.execution_options(reads=True)
        self._catalog = KnownCatalog(catalog, self.config)
        self._own: set[int] = set()  # outbox sequences of this process that wait for the bus
        self._sent: list[int] = []
        self._opened: set[tuple[str, str]] = set()
        self._prune_at_ns = 0
        self._trusted_ns = self._stream_ns()  # the latest time that a stream told, or that passed from there
        self._covered = False  # no account has overspend beside free money
        self.counts: dict[str, int] = {}
        self._in_one_currency(self._catalog)

    # ---- changing

    def apply(self, deliveries: Sequence[Delivery], now_ns: int) -> list[Outgoing]:
        """Book a batch of deliveries in one transaction and return what to publish now that it is committed.

        What is not after the stored position is passed over. A sequence that starts again below it with a later
        stream time is a stream that was made anew: its events count, and their keys drop what is booked already.
        """

        def book(work: Work) -> None:
            notices = [
                e
                for d in deliveries
                for e in d.events
                if isinstance(e, SettlementNoticed) and not unusable_id(e)
            ]
            work.load_settlement_keys([e.bid_id for e in notices])
            work.load_allowances(e.allowance_id for e in notices)
            work.load_days(notices)
            positions = _Positions(work.connection)
            for delivery in deliveries:
                if positions.advance(delivery):
                    self._book_delivery(work, delivery)
                else:
                    work.count("deliveries_repeated")
            positions.write()

        outgoing = self._write(book, now_ns)
        self._trusted_ns = max(self._trusted_ns, *(d.stored_at_ns for d in deliveries), 0)
        return outgoing

    def tick(self, now_ns: int) -> list[Outgoing]:
        """Time has passed: close allowances, open the accounts of a new local day, drop keys past their keeping.
        Cheap when nothing is due. A clock that jumped is not believed before a stream tells the same: what is dropped
        because of it would be today's keys. Call every second or so, until it returns nothing when catching up."""
        unopened = self._unopened(now_ns)
        with self._reader.connect() as connection:
            due = connection.execute(
                select(ALLOWANCES.c.allowance_id)
                .where(ALLOWANCES.c.state != CLOSED, ALLOWANCES.c.closes_at_ns <= now_ns)
                .limit(1)
            ).first()
        believed = now_ns - self._trusted_ns <= prune.JUMP_NS_MAX
        self._trusted_ns = max(self._trusted_ns, now_ns if believed else 0)
        prunes = believed and now_ns >= self._prune_at_ns
        if not unopened and due is None and not prunes:
            return []

        def pass_time(work: Work) -> None:
            grant.close_due(work)
            for campaign_id, day in unopened:
                work.retarget(work.account(campaign_id, day))
            if prunes:
                prune.prune(work)

        outgoing = self._write(pass_time, now_ns)
        self._opened.update(unopened)
        if prunes:
            self._prune_at_ns = now_ns + prune.INTERVAL_NS
        return outgoing

    def set_catalog(self, catalog: Catalog, now_ns: int) -> list[Outgoing]:
        """New budgets from now on, for today's accounts too: a raise at once, a cut as far as money is free and the
        rest as allowances return. Moves inside pools stay for their day. Also call once after opening.

        Raises :class:`LedgerDatabaseError`, changing nothing, when its account currency is not that of the books."""
        known = KnownCatalog(catalog, self.config)
        self._in_one_currency(known)
        self._catalog = known
        self._opened.clear()

        def retarget(work: Work) -> None:
            if not self._covered:
                for account in work.badly_covered():
                    work.change(account)
                    work.freed(account)
            pools.take_back(work)
            for campaign in work.catalog.campaigns.values():
                work.retarget(work.account(campaign.id, work.day_of(campaign, now_ns)))
            for account in work.in_suspense():
                if account.campaign_id in work.catalog.campaigns:
                    work.enter(account)

        outgoing = self._write(retarget, now_ns)
        self._covered = True
        self._opened.update((c.id, local_day(c, now_ns)) for c in catalog.campaigns)
        return outgoing

    def apply_split(
        self, pool_id: str, epoch: int, shares_ppm: Mapping[str, int], now_ns: int, reason: str = ""
    ) -> tuple[SplitApplied | SplitRefused, list[Outgoing]]:
        """Move money inside one pool (see :mod:`counterpoint.ledger.split`)."""
        result: list[SplitApplied | SplitRefused] = []
        outgoing = self._write(
            lambda work: result.append(pools.apply_split(work, pool_id, epoch, shares_ppm, reason)), now_ns
        )
        return result[0], outgoing

    def adjust(self, order: Order, now_ns: int) -> Outcome:
        """Carry out what a person orders, once per key. What it says on the bus waits in the outbox for the ledger's
        process: this may be called beside a running one."""
        result: list[Outcome] = []
        self._write(lambda work: result.append(people.adjust(work, order)), now_ns)
        return result[0]

    def decide(self, finding_id: int, accept: bool, author: str, reason: str, now_ns: int) -> Outcome:
        """Accept or reject what was held for a person, once."""
        result: list[Outcome] = []
        self._write(
            lambda work: result.append(people.decide(work, finding_id, accept, author, reason)), now_ns
        )
        return result[0]

    def campaign(self, campaign_id: str) -> Campaign:
        """As the ledger knows it. Raises KeyError."""
        return self._catalog.campaigns[campaign_id]

    def lifetime_nanos(self, campaign_id: str) -> int | None:
        return self._catalog.lifetime_nanos(campaign_id)

    def line_caps_nanos(self, line_item_id: str) -> tuple[int | None, int | None]:
        """(per local day, in all); None: no such cap."""
        return self._catalog.line_caps_nanos(line_item_id)

    def today(self, campaign_id: str, now_ns: int) -> str:
        """The campaign's local day; UTC's for one that nobody knows."""
        campaign = self._catalog.campaigns.get(campaign_id)
        return local_day(campaign, now_ns) if campaign is not None else day_at(now_ns, 0)

    def split_is_applied(self, pool_id: str, epoch: int, now_ns: int) -> bool:
        """Is this epoch's split of the pool in force for today? Only reads."""
        with self._reader.connect() as connection:
            row = connection.execute(select(SPLITS).where(SPLITS.c.pool_id == pool_id)).one_or_none()
        members = self._catalog.pools.get(pool_id, ())
        day = max((local_day(c, now_ns) for c in members), default="")
        return row is not None and (epoch < row.epoch or (epoch == row.epoch and day <= row.day))

    # ---- the outbox

    def unsent(self, limit: int = 1_000) -> list[Outgoing]:
        """What was committed and not confirmed, oldest first: publish it after a start."""
        with self._reader.connect() as connection:
            confirmed = set(self._sent)
            return [o for o in load_unsent(connection, limit) if o.sequence not in confirmed]

    def unsent_of_others(self, limit: int = 1_000) -> list[Outgoing]:
        """What other processes committed and left in the outbox (people's commands): for the one that publishes."""
        with self._reader.connect() as connection:
            known = self._own | set(self._sent)
            waiting = connection.execute(select(OUTBOX.c.sequence).order_by(OUTBOX.c.sequence)).scalars()
            others = [s for s in waiting if s not in known][:limit]
            return load_unsent(connection, limit, others) if others else []

    def mark_sent(self, outgoing: Iterable[Outgoing]) -> None:
        """The bus has it. Forgotten with the next transaction: until then a crash publishes it again."""
        self._sent.extend(o.sequence for o in outgoing)

    def forget_sent(self) -> None:
        """Forget what was sent now, without waiting for the next transaction."""
        sent = list(self._sent)
        if sent:
            with self.engine.begin() as connection:
                forget(connection, sent)
            del self._sent[: len(sent)]
            self._own.difference_update(sent)

    # ---- reading

    def position(self, stream: str) -> tuple[int, int] | None:
        """(sequence, stored_at_ns) up to which the stream is in the books; None: nothing yet."""
        with self._reader.connect() as connection:
            row = connection.execute(select(POSITIONS).where(POSITIONS.c.stream == stream)).one_or_none()
            return (row.sequence, row.stored_at_ns) if row is not None else None

    def accounts(self, day: str | None = None) -> list[Account]:
        with self._reader.connect() as connection:
            query = select(ACCOUNTS).order_by(ACCOUNTS.c.campaign_id, ACCOUNTS.c.day)
            return [
                account_of(r)
                for r in connection.execute(query if day is None else query.where(ACCOUNTS.c.day == day))
            ]

    def account(self, campaign_id: str, day: str) -> Account | None:
        with self._reader.connect() as connection:
            row = connection.execute(
                select(ACCOUNTS).where(ACCOUNTS.c.campaign_id == campaign_id, ACCOUNTS.c.day == day)
            ).one_or_none()
            return account_of(row) if row is not None else None

    def allowances(self) -> list[Allowance]:
        with self._reader.connect() as connection:
            return [
                allowance_of(r)
                for r in connection.execute(select(ALLOWANCES).order_by(ALLOWANCES.c.allowance_id))
            ]

    def findings(self) -> list[Finding]:
        with self._reader.connect() as connection:
            return look.findings(connection)

    def settlement(self, bid_id: str) -> Row[tuple[object, ...]] | None:
        """The stored settlement of one bid."""
        with self._reader.connect() as connection:
            return connection.execute(select(SETTLEMENTS).where(SETTLEMENTS.c.bid_id == bid_id)).one_or_none()

    def outbox_size(self) -> int:
        with self._reader.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(OUTBOX)).scalar_one())

    def verify(self, progress: Progress | None = None) -> Verification:
        """Recompute every balance from the journal; ``progress`` is told (entries read, entries there are)."""
        with self._reader.connect() as connection, connection.begin():
            return verify(connection, progress)

    def close(self) -> None:
        self.engine.dispose()

    # ---- inside

    def _write(self, change: Callable[[Work], object], now_ns: int) -> list[Outgoing]:
        sent = list(self._sent)  # more may be marked while this runs in another thread
        with self.engine.begin() as connection:
            work = Work(connection, self._catalog, self.config, now_ns)
            change(work)
            outgoing = work.flush()
            forget(connection, sent)
        del self._sent[: len(sent)]
        self._own.difference_update(sent)
        self._own.update(o.sequence for o in outgoing)
        for what, number in work.counts.items():
            self.counts[what] = self.counts.get(what, 0) + number
        return outgoing

    def _in_one_currency(self, catalog: KnownCatalog) -> None:
        """Every amount of the books is in one currency: that of the first catalog with a campaign."""
        with self._reader.connect() as connection:
            currency: str = connection.execute(select(WRITER.c.currency)).scalar_one()
            fresh = connection.execute(select(ACCOUNTS.c.day).limit(1)).first() is None
        if catalog.currency == currency:
            return
        if currency and not fresh:
            raise LedgerDatabaseError(
                f"the books of {self.engine.url!r} are in {currency}, the catalog's account_currency is "
                f"{catalog.currency}: amounts of two currencies must not be added up. Set account_currency back to "
                f"{currency} (what is bought in {catalog.currency} is converted by [rates]), or start a new ledger database"
            )
        with self.engine.begin() as connection:
            connection.execute(update(WRITER).values(currency=catalog.currency))

    def _stream_ns(self) -> int:
        with self._reader.connect() as connection:
            return connection.execute(select(func.max(POSITIONS.c.stored_at_ns))).scalar() or 0

    def _unopened(self, now_ns: int) -> list[tuple[str, str]]:
        today = ((c.id, local_day(c, now_ns)) for c in self._catalog.campaigns.values())
        return [key for key in today if key not in self._opened]

    def _book_delivery(self, work: Work, delivery: Delivery) -> None:
        for event in delivery.events:
            bad = unusable_id(event)
            if bad:  # no database keeps it, so nothing is booked; without this it would come again for ever
                self._refuse_id(work, event, bad, delivery)
            elif belongs(event, delivery.subject):
                self._book_event(work, event)
            else:  # an author is its credential: what another wrote in its name does not count
                work.find(
                    "wrong_subject",
                    event.event_id,
                    "",
                    0,
                    f"{type(event).__name__} on {delivery.subject}",
                )
        if delivery.unreadable:
            # Not lost: it stays on the stream at this position, for a version that can read it.
            work.find(
                "unreadable",
                f"{delivery.stream} {delivery.sequence}",
                "",
                0,
                f"{delivery.unreadable} events on {delivery.subject}",
            )

    @staticmethod
    def _refuse_id(work: Work, event: Event, field: str, delivery: Delivery) -> None:
        notice = event if isinstance(event, SettlementNoticed) else None
        work.find(
            "bad_id",
            shown(notice.bid_id if notice is not None else event.event_id),
            notice.campaign_id if notice is not None and usable(notice.campaign_id) else "",
            notice.paid_nanos if notice is not None else 0,
            f"{type(event).__name__}: {field} is empty, beyond {ID_CHARS_MAX} characters or has control characters: "
            f"{shown(getattr(event, field))}; {delivery.stream} {delivery.sequence}",
        )

    def _book_event(self, work: Work, event: Event) -> None:
        if isinstance(event, SettlementNoticed):
            settle(work, event)
        elif isinstance(event, AllowanceRequested):
            grant.request(work, event)
        elif isinstance(event, AllowanceReturned):
            grant.returned(work, event)
        elif isinstance(event, BidderStarted):
            grant.bidder_started(work, event)
        else:
            work.count("events_not_ours")


class _Positions:
    """How far each stream is in the books, read and written once per transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._at: dict[str, tuple[int, int]] = {
            row.stream: (row.sequence, row.stored_at_ns) for row in connection.execute(select(POSITIONS))
        }
        self._stored = set(self._at)
        self._moved: set[str] = set()

    def advance(self, delivery: Delivery) -> bool:
        """Move to this delivery; False when it is in the books already."""
        at = self._at.get(delivery.stream)
        if at is not None and delivery.sequence <= at[0] and delivery.stored_at_ns <= at[1]:
            return False
        self._at[delivery.stream] = (delivery.sequence, delivery.stored_at_ns)
        self._moved.add(delivery.stream)
        return True

    def write(self) -> None:
        for stream in self._moved:
            sequence, stored_at_ns = self._at[stream]
            values = {"sequence": sequence, "stored_at_ns": stored_at_ns}
            if stream in self._stored:
                self._connection.execute(
                    update(POSITIONS).where(POSITIONS.c.stream == stream).values(**values)
                )
            else:
                self._connection.execute(insert(POSITIONS).values(stream=stream, **values))
