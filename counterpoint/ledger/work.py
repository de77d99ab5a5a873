"""A unit of work: rows loaded under the writer's lock, changed as plain integers, written back at once.

The rules (settle.py, grant.py, split.py, people.py) change accounts only through the movements here, so every change
has its two legs in the journal and is checked where it is made.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, update
from sqlalchemy.engine import Connection

from counterpoint.base.ids import digest
from counterpoint.base.money import NANOS_PER_UNIT, nanos_to_micros_up
from counterpoint.events import subjects
from counterpoint.events.codec import encode_batch
from counterpoint.events.event import Event
from counterpoint.events.money import BalanceReported
from counterpoint.ledger.config import LedgerConfig
from counterpoint.ledger.known import KnownCatalog
from counterpoint.ledger.loaded import Loaded
from counterpoint.ledger.outbox import Outgoing
from counterpoint.ledger.rows import Account, Allowance, Line
from counterpoint.ledger.storage import account_row, allowance_row, line_row, write_rows
from counterpoint.ledger.tables import (
    ACCOUNTS,
    ADJUSTMENTS,
    ALLOWANCES,
    COMMANDS,
    FINDINGS,
    JOURNAL,
    LATENESS,
    LINES,
    OUTBOX,
    SETTLEMENTS,
    WRITER,
)

SOURCE = "ledger"
_INT64_MAX = 2**63 - 1


class Work(Loaded):
    """Everything one transaction reads and changes. Discard it with the transaction."""

    def __init__(
        self, connection: Connection, catalog: KnownCatalog, config: LedgerConfig, now_ns: int
    ) -> None:
        super().__init__(connection, catalog, config, now_ns)
        self._entry_next: int = self._writer.entry_next
        self._outbox_next: int = self._writer.outbox_next
        self._finding_next: int = self._writer.finding_next
        self._changed_accounts: dict[tuple[str, str], Account] = {}
        self._changed_allowances: dict[str, Allowance] = {}
        self._changed_lines: dict[tuple[str, str], Line] = {}
        self._settlements: list[dict[str, Any]] = []
        self._adjustments: list[dict[str, Any]] = []
        self._movements: dict[tuple[str, str, str, str, str, str, str], int] = {}
        self._findings: list[dict[str, Any]] = []
        self._events: dict[str, list[Event]] = {}

    # ---- opening

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
                self.close_earlier_days(found)
                found.target = self.target_of(found)
                self.fund(found, found.target)
        return found

    # ---- lifetime budgets: what the days of a campaign hold together is never more than it may spend in all

    def room(self, campaign_id: str) -> int:
        """What no day of the campaign holds yet of its lifetime budget; below 0 after a cut or overspend."""
        lifetime = self.catalog.lifetime_nanos(campaign_id)
        assert lifetime is not None
        given, overspend, adjusted = self.days_sum(campaign_id)
        return lifetime + adjusted - given - overspend

    def target_of(self, account: Account) -> int:
        """What the account's budget should be: the catalog's, with a person's credits and the pool's moves, within
        what the lifetime budget leaves. A past day keeps what it spent and no more."""
        campaign = self.catalog.campaigns.get(account.campaign_id)
        if campaign is None:
            return max(account.target, 0)
        wanted = self.catalog.budget_nanos(campaign) + account.adjusted
        if self.catalog.lifetime_nanos(campaign.id) is None:
            return max(wanted + account.moved, 0)
        if account.day < self.day_of(campaign, self.now_ns):
            return max(account.adjusted, 0)
        most = self.budget_most(account)
        return max(min(min(wanted, most) + account.moved, most), 0)

    def budget_most(self, account: Account) -> int:
        """With a lifetime budget: what no other day holds. Its own overspend counts already, and is covered by it."""
        return max(self.room(account.campaign_id) + account.budget + account.overspend, 0)

    def retarget(self, account: Account) -> None:
        """Its day is today, and it may be new to its owner's wishes: the budget follows the catalog."""
        self.close_earlier_days(account)
        target = self.target_of(account)
        if target == account.target and not account.suspense:
            return
        account.target = target
        self.change(account)
        self.freed(account)
        self._leave_suspense(account)

    def enter(self, account: Account) -> None:
        """Another day that was held in suspense: now that the campaign is known, its budget of that day pays what was
        won, and no more than that."""
        campaign = self.catalog.campaigns[account.campaign_id]
        covers = min(account.overspend, self.catalog.budget_nanos(campaign))
        lifetime = self.catalog.lifetime_nanos(campaign.id)
        if lifetime is not None:
            given, _, adjusted = self.days_sum(campaign.id)
            covers = min(covers, max(lifetime + adjusted - given, 0))
        self.fund(account, covers)
        self.freed(account)
        self._leave_suspense(account)

    def _leave_suspense(self, account: Account) -> None:
        if account.suspense:
            account.suspense = account.stopped = False
            account.stop_reason = ""
            if account.overspend > 0:
                self.stop(account, "overspend: booked before the campaign was in the catalog")

    def close_earlier_days(self, account: Account) -> None:
        """A new day begins: with a lifetime budget, the days before it give back what they did not need."""
        campaign = self.catalog.campaigns[account.campaign_id]
        today = self.day_of(campaign, self.now_ns)
        if self.catalog.lifetime_nanos(campaign.id) is None or account.day != today:
            return
        for earlier in self.earlier_days(campaign.id, today):
            earlier.target = self.target_of(earlier)
            self.change(earlier)
            self.freed(earlier)

    def lend(self, account: Account, wanted: int) -> None:
        """Fund late spend of a past day from what the lifetime budget still has, today's free money last; never above
        that day's own budget."""
        campaign = self.catalog.campaigns.get(account.campaign_id)
        if campaign is None or self.catalog.lifetime_nanos(campaign.id) is None:
            return
        today = self.day_of(campaign, self.now_ns)
        if account.day >= today:
            return
        daily = self.catalog.budget_nanos(campaign) + account.moved + account.adjusted
        wanted = min(wanted, daily - account.budget)
        from_room = min(wanted, self.room(campaign.id))
        if from_room > 0:
            self.fund(account, from_room, "lend")
            wanted -= from_room
        now = self.account_if_open(campaign.id, today)
        from_today = min(wanted, now.free) if now is not None else 0
        if now is not None and from_today > 0:
            now.target -= from_today
            self.fund(now, -from_today, "lend")
            self.fund(account, from_today, "lend")

    def _retarget_lifetimes(self) -> None:
        """What other days gave back or took belongs to today."""
        changed = {campaign_id for campaign_id, _ in self._changed_accounts}
        for campaign_id in sorted(changed):
            campaign = self.catalog.campaigns.get(campaign_id)
            if campaign is None or self.catalog.lifetime_nanos(campaign_id) is None:
                continue
            account = self.account_if_open(campaign_id, self.day_of(campaign, self.now_ns))
            if account is None:
                continue
            target = self.target_of(account)
            if target != account.target:
                account.target = target
                self.change(account)
                self.freed(account)

    # ---- changing

    def change(self, account: Account) -> None:
        self._changed_accounts[(account.campaign_id, account.day)] = account

    def change_line(self, line: Line) -> None:
        assert min(line.reserved, line.spent) >= 0, f"negative: {line}"
        self._changed_lines[(line.line_item_id, line.day)] = line

    def change_allowance(self, allowance: Allowance) -> None:
        allowance.check()
        if allowance.line_item_id and allowance.counted != allowance.rest:
            line = self.line(allowance.line_item_id, allowance.day, allowance.campaign_id)
            line.reserved += allowance.rest - allowance.counted
            allowance.counted = allowance.rest
            self.change_line(line)
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

    def fund(self, account: Account, nanos: int, kind: str = "budget", ref: str = "") -> None:
        """Raise (or with a negative amount cut) the budget by free money."""
        account.budget += nanos
        if nanos >= 0:
            self.move(kind, account, "owner", "free", nanos, target_ref=ref)
        else:
            self.move(kind, account, "free", "owner", -nanos, source_ref=ref)

    def freed(self, account: Account) -> None:
        """Money became free, or the target changed: a raise comes first, what there is covers what was overspent, and
        a cut takes what is left. The budget is max(target, committed): a cut waits for the allowances that hold the
        money."""
        if account.target > account.budget:
            self.fund(account, account.target - account.budget)
        self._cover(account)
        wanted = max(account.target, account.committed)
        if wanted != account.budget:
            self.fund(account, wanted - account.budget)

    def _cover(self, account: Account) -> None:
        covered = min(account.free, account.overspend)
        if covered > 0:
            account.overspend -= covered
            account.late += covered
            self.move("uncover", account, "overspend", "uncovered", covered)
            self.move("cover", account, "free", "late", covered)

    def stop(self, account: Account, reason: str) -> None:
        if not account.stopped:
            account.stopped = True
            account.stop_reason = reason
        self.change(account)

    def record_settlement(self, row: dict[str, Any]) -> None:
        assert not self._settled.get(row["bid_id"], False), "booked twice"
        self._settled[row["bid_id"]] = True
        self._settlements.append(row)

    def record_adjustment(self, row: dict[str, Any]) -> None:
        self._adjustments.append({**row, "at_ns": self.now_ns})

    def find(
        self, kind: str, ref: str, campaign_id: str, nanos: int, note: str, about: Event | None = None
    ) -> None:
        """Something a person must look at (``counterpoint ledger findings``). Nothing is dropped because of it."""
        self.count(f"finding_{kind}")
        self._findings.append(
            {
                "id": self._finding_next,
                "kind": kind,
                "ref": ref,
                "campaign_id": campaign_id,
                "amount_nanos": min(max(nanos, -_INT64_MAX), _INT64_MAX),
                "note": note[:500],
                "at_ns": self.now_ns,
                "state": "open",
                "payload": encode_batch([about]) if about is not None else None,
            }
        )
        self._finding_next += 1

    def say(self, subject: str, event: Event) -> None:
        self._events.setdefault(subject, []).append(event)

    # ---- writing back

    def flush(self) -> list[Outgoing]:
        """Write everything and return what is to be published once the transaction is committed."""
        self._retarget_lifetimes()
        for account in self._changed_accounts.values():
            account.check()
            assert account.overspend == 0 or account.free == 0, f"free money beside overspend: {account}"
            account.version += 1
            self.say(subjects.balance(account.campaign_id), self._report(account))
        self._write_rows()
        self._write_journal()
        if self._settlements:
            self.connection.execute(insert(SETTLEMENTS), self._settlements)
        if self._adjustments:
            self.connection.execute(insert(ADJUSTMENTS), self._adjustments)
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
            held_nanos=account.held,
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
        lines = self._changed_lines.values()
        write_rows(
            self.connection,
            LINES,
            ("line_item_id", "day"),
            [line_row(line) for line in lines if line.new],
            [line_row(line) for line in lines if not line.new],
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


def units_text(nanos: int) -> str:
    """Units of the account currency, exact, at least two decimals.

    >>> units_text(1_500_000_000), units_text(-1), units_text(2_000_000)
    ('1.50', '-0.000000001', '0.002')
    """
    units, rest = divmod(abs(nanos), NANOS_PER_UNIT)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nanos < 0 else ''}{units}.{decimals}"
