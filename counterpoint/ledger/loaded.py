"""What one transaction has read: rows under the writer's lock, each loaded once, and what was measured.

Queries go by the key where they can; the caches end with the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.engine import Connection

from counterpoint.base.clock import NS_PER_S
from counterpoint.catalog.local_time import day_at, local_day
from counterpoint.catalog.model import Campaign
from counterpoint.events.event import Event
from counterpoint.events.money import SettlementNoticed
from counterpoint.ledger.config import LedgerConfig
from counterpoint.ledger.known import KnownCatalog
from counterpoint.ledger.rows import CLOSED, OPEN, Account, Allowance, Line
from counterpoint.ledger.storage import account_of, allowance_of, line_of
from counterpoint.ledger.tables import (
    ACCOUNTS,
    ALLOWANCES,
    COMMANDS,
    INCARNATIONS,
    LATENESS,
    LINES,
    SETTLEMENTS,
    SPLITS,
    WRITER,
)

_KEYS_PER_QUERY = 500


class Loaded:
    """The reading half of :class:`counterpoint.ledger.work.Work`."""

    def __init__(
        self, connection: Connection, catalog: KnownCatalog, config: LedgerConfig, now_ns: int
    ) -> None:
        self.connection = connection
        self.catalog = catalog
        self.config = config
        self.now_ns = now_ns
        self.counts: dict[str, int] = {}
        self._writer = connection.execute(select(WRITER).with_for_update()).one()
        self._accounts: dict[tuple[str, str], Account] = {}
        self._allowances: dict[str, Allowance | None] = {}
        self._by_account: dict[tuple[str, str], list[Allowance]] = {}
        self._account_loaded: set[tuple[str, str]] = set()
        self._lines: dict[tuple[str, str], Line] = {}
        self._days: dict[tuple[str, int], str] = {}
        self._settled: dict[str, bool] = {}
        self._commands_known: set[str] = set()
        self._commands: list[dict[str, Any]] = []
        self._lateness: dict[str, list[int]] = {}
        self._lateness_new: set[str] = set()
        self._lateness_changed: set[str] = set()

    def count(self, what: str, by: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + by

    def day_of(self, campaign: Campaign | None, at_ns: int) -> str:
        if campaign is None:
            return day_at(at_ns, 0)
        key = (campaign.id, at_ns // (60 * NS_PER_S))  # no day begins inside a minute
        found = self._days.get(key)
        if found is None:
            found = self._days[key] = local_day(campaign, at_ns)
        return found

    def day_of_bid(self, event: SettlementNoticed) -> str:
        """The day that pays: that of its allowance, where the bid was made in its life, whatever the catalog says of
        the campaign and its zone by now; else the campaign's local day of the bid, UTC's if nobody knows it."""
        at_ns = event.bid_at_ns if event.bid_at_ns > 0 else event.recorded_at_ns
        allowance = self.allowance(event.allowance_id)
        if allowance is not None and allowance.campaign_id == event.campaign_id:
            left_ns = allowance.expires_at_ns - at_ns
            if event.bid_at_ns <= 0 or 0 < left_ns <= self.config.allowance_life_ns:
                return allowance.day
        return self.day_of(self.catalog.campaigns.get(event.campaign_id), at_ns)

    def load_days(self, notices: Sequence[SettlementNoticed]) -> None:
        """The accounts and lines that these settlements will ask for, by two queries instead of one for each."""
        days = [self.day_of_bid(event) for event in notices]
        for names, table, take in (
            ([e.campaign_id for e in notices], ACCOUNTS, self._take_account),
            ([e.line_item_id for e in notices if e.line_item_id], LINES, self._take_line),
        ):
            missing = list(dict.fromkeys(names))
            for start in range(0, len(missing), _KEYS_PER_QUERY):
                chunk = missing[start : start + _KEYS_PER_QUERY]
                owner = table.c.campaign_id if table is ACCOUNTS else table.c.line_item_id
                query = select(table).where(owner.in_(chunk), table.c.day.in_(list(dict.fromkeys(days))))
                for row in self.connection.execute(query):
                    take(row)

    def _take_account(self, row: Any) -> None:
        self._accounts.setdefault((row.campaign_id, row.day), account_of(row))

    def _take_line(self, row: Any) -> None:
        self._lines.setdefault((row.line_item_id, row.day), line_of(row))

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

    def days_sum(self, campaign_id: str) -> tuple[int, int, int]:
        """(budgets, overspend, adjustments) of all days of a campaign, with what this work changed so far."""
        here = {day: account for (owner, day), account in self._accounts.items() if owner == campaign_id}
        row = self.connection.execute(
            select(
                func.coalesce(func.sum(ACCOUNTS.c.budget_nanos), 0),
                func.coalesce(func.sum(ACCOUNTS.c.overspend_nanos), 0),
                func.coalesce(func.sum(ACCOUNTS.c.adjusted_nanos), 0),
            ).where(ACCOUNTS.c.campaign_id == campaign_id, ACCOUNTS.c.day.not_in(list(here)))
        ).one()
        return (
            int(row[0]) + sum(a.budget for a in here.values()),
            int(row[1]) + sum(a.overspend for a in here.values()),
            int(row[2]) + sum(a.adjusted for a in here.values()),
        )

    def earlier_days(self, campaign_id: str, day: str) -> list[Account]:
        """Accounts of days before this one that would still take their full budget."""
        days = self.connection.execute(
            select(ACCOUNTS.c.day).where(
                ACCOUNTS.c.campaign_id == campaign_id,
                ACCOUNTS.c.day < day,
                ACCOUNTS.c.target_nanos > 0,
                ACCOUNTS.c.target_nanos > ACCOUNTS.c.adjusted_nanos,
            )
        ).scalars()
        found = [self.account_if_open(campaign_id, day) for day in days]
        return [a for a in found if a is not None]

    def badly_covered(self) -> list[Account]:
        """Accounts with overspend beside free money, as earlier versions could leave them."""
        a = ACCOUNTS.c
        covered = a.spent_on_time_nanos + a.late_nanos + a.reserved_nanos + a.held_nanos
        return self._accounts_where(a.overspend_nanos > 0, a.budget_nanos > covered)

    def in_suspense(self) -> list[Account]:
        return self._accounts_where(ACCOUNTS.c.suspense.is_(True))

    def _accounts_where(self, *conditions: Any) -> list[Account]:
        keys = self.connection.execute(select(ACCOUNTS.c.campaign_id, ACCOUNTS.c.day).where(*conditions))
        found = [self.account_if_open(campaign_id, day) for campaign_id, day in keys.all()]
        return [account for account in found if account is not None]

    def line(self, line_item_id: str, day: str, campaign_id: str) -> Line:
        """What a line item spent and has in allowances of its own, on one day."""
        key = (line_item_id, day)
        found = self._lines.get(key)
        if found is None:
            row = self.connection.execute(
                select(LINES).where(LINES.c.line_item_id == line_item_id, LINES.c.day == day)
            ).one_or_none()
            found = Line(line_item_id, day, campaign_id, new=True) if row is None else line_of(row)
            self._lines[key] = found
        return found

    def line_used(self, line_item_id: str) -> int:
        """What a line item spent and reserves, over all days, with what this work changed so far."""
        here = {day: line for (owner, day), line in self._lines.items() if owner == line_item_id}
        elsewhere = self.connection.execute(
            select(func.coalesce(func.sum(LINES.c.spent_nanos + LINES.c.reserved_nanos), 0)).where(
                LINES.c.line_item_id == line_item_id, LINES.c.day.not_in(list(here))
            )
        ).scalar_one()
        return int(elsewhere) + sum(line.used for line in here.values())

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
