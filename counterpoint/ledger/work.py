"""A unit of work: rows loaded under the writer's lock, changed as plain integers, written back at once.

The rules (settle.py, grant.py, split.py) change accounts only through the movements here, so every change has its
two legs in the journal and is checked where it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from counterpoint.base.ids import digest
from counterpoint.base.money import nanos_to_micros_up
from counterpoint.catalog.model import Campaign
from counterpoint.events import subjects
from counterpoint.events.codec import encode_batch
from counterpoint.events.event import Event
from counterpoint.events.money import BalanceReported
from counterpoint.ledger.config import LedgerConfig
from counterpoint.ledger.days import local_day
from counterpoint.ledger.known import KnownCatalog
from counterpoint.ledger.outbox import Outgoing
from counterpoint.ledger.rows import CLOSED, OPEN, Account, Allowance
from counterpoint.ledger.storage import account_of, account_row, allowance_of, allowance_row, write_rows
from counterpoint.ledger.tables import (
    ACCOUNTS,
    ALLOWANCES,
    COMMANDS,
    FINDINGS,
    INCARNATIONS,
    JOURNAL,
    LATENESS,
    OUTBOX,
    SETTLEMENTS,
    SPLITS,
    WRITER,
)

_KEYS_PER_QUERY = 500
SOURCE = "ledger"


class Work:
    """Everything one transaction reads and changes. Discard it with the transaction."""

    def __init__(
        self, connection: Connection, catalog: KnownCatalog, config: LedgerConfig, now_ns: int
    ) -> None:
        self.connection = connection
        self.catalog = catalog
        self.config = config
        self.now_ns = now_ns
        self.counts: dict[str, int] = {}
        writer = connection.execute(select(WRITER).with_for_update()).one()
        self._entry_next: int = writer.entry_next
        self._outbox_next: int = writer.outbox_next
        self._finding_next: int = writer.finding_next
        self._accounts: dict[tuple[str, str], Account] = {}
        self._changed_accounts: dict[tuple[str, str], Account] = {}
        self._allowances: dict[str, Allowance | None] = {}
        self._changed_allowances: dict[str, Allowance] = {}
        self._by_account: dict[tuple[str, str], list[Allowance]] = {}
        self._account_loaded: set[tuple[str, str]] = set()
        self._settled: dict[str, bool] = {}
        self._settlements: list[dict[str, Any]] = []
        self._movements: dict[tuple[str, str, str, str, str, str, str], int] = {}
        self._findings: list[dict[str, Any]] = []
        self._commands_known: set[str] = set()
        self._commands: list[dict[str, Any]] = []
        self._lateness: dict[str, list[int]] = {}
        self._lateness_new: set[str] = set()
        self._lateness_changed: set[str] = set()
        self._events: dict[str, list[Event]] = {}

    # ---- reading

    def count(self, what: str, by: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + by

    def day_of(self, campaign: Campaign | None, at_ns: int) -> str:
        return local_day(at_ns, campaign.utc_offset_minutes if campaign is not None else 0)

    def account(self, campaign_id: str, day: str) -> Account:
        """The account, opened with the catalog's budget where there is none yet (0, in suspense, for a campaign that
        nobody knows)."""
        key = (campaign_id, day)
        found = self._accounts.get(key)
        if found is None:
            found = self.account_if_open(campaign_id, day)
        if found is None:
            campaign = self.catalog.campaigns.get(campaign_id)
            found = Account(campaign_id, day, suspense=campaign is None, new=True)
            self._accounts[key] = found
            self.change(found)
            if campaign is not None:
                found.target = self.catalog.budget_nanos(campaign)
                self.fund(found, found.target)
        return found

    def account_if_open(self, campaign_id: str, day: str) -> Account | None:
        key = (campaign_id, day)
        if key not in self._accounts:
            row = self.connection.execute(
                select(ACCOUNTS).where(ACCOUNTS.c.campaign_id == campaign_id, ACCOUNTS.c.day == day)
            ).one_or_none()
            if row is None:
                return None
            self._accounts[key] = account_of(row)
        return self._accounts[key]

    def allowance(self, allowance_id: str) -> Allowance | None:
        if allowance_id not in self._allowances:
            self.load_allowances([allowance_id])
        return self._allowances[allowance_id]

    def load_allowances(self, allowance_ids: Iterable[str]) -> None:
        missing = [i for i in dict.fromkeys(allowance_ids) if i not in self._allowances]
        for start in range(0, len(missing), _KEYS_PER_QUERY):
            chunk = missing[start : start + _KEYS_PER_QUERY]
            self._take(select(ALLOWANCES).where(ALLOWANCES.c.allowance_id.in_(chunk)))
        for allowance_id in missing:
            self._allowances.setdefault(allowance_id, None)

    def allowances_of(self, account: Account) -> list[Allowance]:
        """All that still hold money of this account, the first to close first."""
        key = (account.campaign_id, account.day)
        if key not in self._account_loaded:
            self._account_loaded.add(key)
            self._take(
                select(ALLOWANCES).where(
                    ALLOWANCES.c.campaign_id == account.campaign_id,
                    ALLOWANCES.c.day == account.day,
                    ALLOWANCES.c.state != CLOSED,
                )
            )
        found = self._by_account.get(key, [])
        return sorted((a for a in found if a.state != CLOSED), key=lambda a: (a.closes_at_ns, a.allowance_id))

    def allowances_of_bidder(self, bidder_id: str) -> list[Allowance]:
        """All of one bidder that were open before this work, and those it granted."""
        self._take(select(ALLOWANCES).where(ALLOWANCES.c.bidder_id == bidder_id, ALLOWANCES.c.state == OPEN))
        return [a for a in self._allowances.values() if a is not None and a.bidder_id == bidder_id]

    def allowances_to_close(self) -> list[Allowance]:
        """Use before anything of this work has changed: it looks at the stored rows."""
        return self._take(
            select(ALLOWANCES)
            .where(ALLOWANCES.c.state != CLOSED, ALLOWANCES.c.closes_at_ns <= self.now_ns)
            .order_by(ALLOWANCES.c.allowance_id)
            .limit(self.config.closings_per_tick)
        )

    def _take(self, query: Any) -> list[Allowance]:
        taken = []
        for row in self.connection.execute(query):
            found = self._allowances.get(row.allowance_id)
            if found is None:
                found = allowance_of(row)
                self._index(found)
            taken.append(found)
        return taken

    def _index(self, allowance: Allowance) -> None:
        self._allowances[allowance.allowance_id] = allowance
        self._by_account.setdefault((allowance.campaign_id, allowance.day), []).append(allowance)

    def load_settlement_keys(self, bid_ids: Sequence[str]) -> None:
        missing = [i for i in dict.fromkeys(bid_ids) if i not in self._settled]
        for start in range(0, len(missing), _KEYS_PER_QUERY):
            chunk = missing[start : start + _KEYS_PER_QUERY]
            rows = self.connection.execute(
                select(SETTLEMENTS.c.bid_id).where(SETTLEMENTS.c.bid_id.in_(chunk))
            )
            self._settled.update(dict.fromkeys(rows.scalars(), True))
        for bid_id in missing:
            self._settled.setdefault(bid_id, False)

    def settled(self, bid_id: str) -> bool:
        if bid_id not in self._settled:
            self.load_settlement_keys([bid_id])
        return self._settled[bid_id]

    def first_time(self, event: Event) -> bool:
        """True once per command event id, over all time: the key is kept with what the command did."""
        if event.event_id in self._commands_known:
            return False
        self._commands_known.add(event.event_id)
        if self.connection.execute(
            select(COMMANDS.c.event_id).where(COMMANDS.c.event_id == event.event_id)
        ).first():
            return False
        self._commands.append({"event_id": event.event_id, "at_ns": self.now_ns})
        return True

    # ---- incarnations and splits: few, written through

    def current_incarnation(self, bidder_id: str) -> str | None:
        return self.connection.execute(
            select(INCARNATIONS.c.incarnation).where(
                INCARNATIONS.c.bidder_id == bidder_id, INCARNATIONS.c.current.is_(True)
            )
        ).scalar()

    def incarnation_known(self, bidder_id: str, incarnation: str) -> bool:
        return (
            self.connection.execute(
                select(INCARNATIONS.c.current).where(
                    INCARNATIONS.c.bidder_id == bidder_id, INCARNATIONS.c.incarnation == incarnation
                )
            ).first()
            is not None
        )

    def make_current(self, bidder_id: str, incarnation: str) -> None:
        self.connection.execute(
            update(INCARNATIONS).where(INCARNATIONS.c.bidder_id == bidder_id).values(current=False)
        )
        self.connection.execute(
            insert(INCARNATIONS).values(
                bidder_id=bidder_id, incarnation=incarnation, current=True, started_at_ns=self.now_ns
            )
        )

    def last_split(self, pool_id: str) -> tuple[int, str] | None:
        """(epoch, day) of the last split that was applied."""
        row = self.connection.execute(select(SPLITS).where(SPLITS.c.pool_id == pool_id)).one_or_none()
        return (row.epoch, row.day) if row is not None else None

    def keep_split(self, pool_id: str, epoch: int, day: str) -> None:
        values = {"epoch": epoch, "day": day, "at_ns": self.now_ns}
        if self.last_split(pool_id) is None:
            self.connection.execute(insert(SPLITS).values(pool_id=pool_id, **values))
        else:
            self.connection.execute(update(SPLITS).where(SPLITS.c.pool_id == pool_id).values(**values))

    # ---- lateness

    def lateness(self, campaign_id: str) -> list[int]:
        """[settled nanos, late nanos, since_ns] of the decayed window."""
        found = self._lateness.get(campaign_id)
        if found is None:
            row = self.connection.execute(
                select(LATENESS).where(LATENESS.c.campaign_id == campaign_id)
            ).one_or_none()
            if row is None:
                found = [0, 0, self.now_ns]
                self._lateness_new.add(campaign_id)
            else:
                found = [row.settled_nanos, row.late_nanos, row.since_ns]
            self._lateness[campaign_id] = found
        halvings = (self.now_ns - found[2]) // self.config.lateness_half_life_ns
        if halvings > 0:
            found[0] >>= min(halvings, 62)
            found[1] >>= min(halvings, 62)
            found[2] += halvings * self.config.lateness_half_life_ns
        return found

    def measure(self, campaign_id: str, settled: int, late: int) -> None:
        window = self.lateness(campaign_id)
        window[0] += settled
        window[1] += late
        self._lateness_changed.add(campaign_id)

    def late_ppm(self, campaign_id: str) -> int:
        """The measured share of late spend times the margin, rounded up; 0 while nothing was measured."""
        settled, late, _ = self.lateness(campaign_id)
        return -(-late * 1_000_000 * self.config.headroom_margin // settled) if settled > 0 else 0

    def headroom_ppm(self, campaign_id: str) -> int:
        """The share withheld from each allowance."""
        return min(
            max(self.late_ppm(campaign_id), self.config.headroom_min_ppm), self.config.headroom_max_ppm
        )

    def unpromised_ppm(self, campaign_id: str) -> int:
        """Lateness beyond what headroom may hold: this much of what is reserved stays free, so that it can pay."""
        beyond = self.late_ppm(campaign_id) - self.config.headroom_max_ppm
        return min(max(beyond, 0), 1_000_000)

    # ---- changing

    def change(self, account: Account) -> None:
        self._changed_accounts[(account.campaign_id, account.day)] = account

    def change_allowance(self, allowance: Allowance) -> None:
        allowance.check()
        self._changed_allowances[allowance.allowance_id] = allowance

    def add_allowance(self, allowance: Allowance) -> None:
        assert self.allowance(allowance.allowance_id) is None
        self._index(allowance)
        self.change_allowance(allowance)

    def move(
        self,
        kind: str,
        account: Account,
        source: str,
        target: str,
        nanos: int,
        *,
        source_ref: str = "",
        target_ref: str = "",
    ) -> None:
        """One movement between two buckets of an account: two legs, and the account checked right after."""
        assert nanos >= 0
        account.check()
        self.change(account)
        if nanos:
            key = (kind, account.campaign_id, account.day, source, source_ref, target, target_ref)
            self._movements[key] = self._movements.get(key, 0) + nanos

    def fund(self, account: Account, nanos: int) -> None:
        """Raise (or with a negative amount cut) the budget by free money."""
        account.budget += nanos
        if nanos >= 0:
            self.move("budget", account, "owner", "free", nanos)
        else:
            self.move("budget", account, "free", "owner", -nanos)

    def freed(self, account: Account) -> None:
        """Money became free: first it covers what was overspent, then a cut that was waiting takes its part."""
        covered = min(account.free, account.overspend)
        if covered > 0:
            account.overspend -= covered
            account.late += covered
            self.move("uncover", account, "overspend", "uncovered", covered)
            self.move("cover", account, "free", "late", covered)
        self.follow_target(account)

    def follow_target(self, account: Account) -> None:
        """The budget is max(target, committed): a cut waits for the allowances that hold the money."""
        wanted = max(account.target, account.committed)
        if wanted != account.budget:
            self.fund(account, wanted - account.budget)

    def stop(self, account: Account, reason: str) -> None:
        if not account.stopped:
            account.stopped = True
            account.stop_reason = reason
        self.change(account)

    def record_settlement(self, row: dict[str, Any]) -> None:
        assert not self._settled.get(row["bid_id"], False), "booked twice"
        self._settled[row["bid_id"]] = True
        self._settlements.append(row)

    def find(self, kind: str, ref: str, campaign_id: str, nanos: int, note: str) -> None:
        """Something a person must look at. Nothing is dropped because of it."""
        self.count(f"finding_{kind}")
        self._findings.append(
            {
                "id": self._finding_next,
                "kind": kind,
                "ref": ref,
                "campaign_id": campaign_id,
                "amount_nanos": nanos,
                "note": note[:500],
                "at_ns": self.now_ns,
            }
        )
        self._finding_next += 1

    def say(self, subject: str, event: Event) -> None:
        self._events.setdefault(subject, []).append(event)

    # ---- writing back

    def flush(self) -> list[Outgoing]:
        """Write everything and return what is to be published once the transaction is committed."""
        for account in self._changed_accounts.values():
            account.check()
            account.version += 1
            self.say(subjects.balance(account.campaign_id), self._report(account))
        self._write_rows()
        self._write_journal()
        if self._settlements:
            self.connection.execute(insert(SETTLEMENTS), self._settlements)
        if self._commands:
            self.connection.execute(insert(COMMANDS), self._commands)
        if self._findings:
            self.connection.execute(insert(FINDINGS), self._findings)
        outgoing = self._write_outbox()
        self.connection.execute(
            update(WRITER).values(
                entry_next=self._entry_next,
                outbox_next=self._outbox_next,
                finding_next=self._finding_next,
            )
        )
        return outgoing

    def _report(self, account: Account) -> BalanceReported:
        return BalanceReported(
            event_id=f"balance-{account.campaign_id}-{account.day}-{account.version}",
            happened_at_ns=self.now_ns,
            recorded_at_ns=self.now_ns,
            source=SOURCE,
            campaign_id=account.campaign_id,
            day=account.day,
            budget_nanos=account.budget,
            spent_on_time_nanos=account.spent_on_time,
            late_spend_nanos=account.late,
            reserved_nanos=account.reserved,
            overspend_nanos=account.overspend,
            stopped=account.stopped,
            stop_reason=account.stop_reason,
            budget_target_nanos=account.target,
            version=account.version,
        )

    def _write_rows(self) -> None:
        accounts = self._changed_accounts.values()
        write_rows(
            self.connection,
            ACCOUNTS,
            ("campaign_id", "day"),
            [account_row(a) for a in accounts if a.new],
            [account_row(a) for a in accounts if not a.new],
        )
        allowances = self._changed_allowances.values()
        write_rows(
            self.connection,
            ALLOWANCES,
            ("allowance_id",),
            [allowance_row(a) for a in allowances if a.new],
            [allowance_row(a) for a in allowances if not a.new],
        )
        windows = [
            dict(zip(("campaign_id", "settled_nanos", "late_nanos", "since_ns"), (c, *w), strict=True))
            for c, w in self._lateness.items()
            if c in self._lateness_changed
        ]
        write_rows(
            self.connection,
            LATENESS,
            ("campaign_id",),
            [w for w in windows if w["campaign_id"] in self._lateness_new],
            [w for w in windows if w["campaign_id"] not in self._lateness_new],
        )

    def _write_journal(self) -> None:
        legs = []
        for (
            kind,
            campaign_id,
            day,
            source,
            source_ref,
            target,
            target_ref,
        ), nanos in self._movements.items():
            legs += [
                {
                    "entry": self._entry_next,
                    "leg": leg,
                    "kind": kind,
                    "campaign_id": campaign_id,
                    "day": day,
                    "bucket": bucket,
                    "ref": ref,
                    "amount_nanos": amount,
                    "at_ns": self.now_ns,
                }
                for leg, (bucket, ref, amount) in enumerate(
                    ((source, source_ref, -nanos), (target, target_ref, nanos))
                )
            ]
            self._entry_next += 1
        if legs:
            self.connection.execute(insert(JOURNAL), legs)

    def _write_outbox(self) -> list[Outgoing]:
        outgoing = []
        for subject, events in self._events.items():
            for start in range(0, len(events), self.config.events_per_batch):
                batch = events[start : start + self.config.events_per_batch]
                batch_id = digest(*(e.event_id for e in batch))
                outgoing.append(Outgoing(self._outbox_next, batch_id, subject, tuple(batch)))
                self._outbox_next += 1
        if outgoing:
            self.connection.execute(
                insert(OUTBOX),
                [
                    {
                        "sequence": o.sequence,
                        "batch_id": o.batch_id,
                        "subject": o.subject,
                        "payload": encode_batch(o.events),
                    }
                    for o in outgoing
                ],
            )
        return outgoing


def micros_text(nanos: int) -> str:
    """For reasons a person reads."""
    return f"{nanos_to_micros_up(nanos)} micros"
