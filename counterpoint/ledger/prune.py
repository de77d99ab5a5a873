"""What the books forget: keys after nothing can repeat them, and the journal of old days, carried to one entry."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, select

from counterpoint.base.clock import NS_PER_S
from counterpoint.catalog.local_time import DAY_NS, day_at
from counterpoint.ledger.rows import Account
from counterpoint.ledger.tables import ACCOUNTS, ALLOWANCES, COMMANDS, JOURNAL, SETTLEMENTS
from counterpoint.ledger.work import Work

INTERVAL_NS = 60 * NS_PER_S
JUMP_NS_MAX = DAY_NS  # a clock further than this beyond all that is known prunes nothing
ACCOUNTS_PER_RUN = 20  # a minute: enough for 28,000 campaigns


def prune(work: Work) -> None:
    """Drop old command keys, and what the accounts no longer need whose day is more than ``keep_days`` past and that
    reserve nothing any more: settlement keys and closed allowances go, the journal is carried (the legs become one
    entry with the balance of each bucket), the account stays. A notice for one from now on is a finding."""
    connection, config = work.connection, work.config
    connection.execute(delete(COMMANDS).where(COMMANDS.c.at_ns < work.now_ns - config.commands_kept_ns))
    before = day_at(work.now_ns - config.keep_days * DAY_NS, 0)
    stale = connection.execute(
        select(ACCOUNTS.c.campaign_id, ACCOUNTS.c.day)
        .where(ACCOUNTS.c.day < before, ACCOUNTS.c.pruned.is_(False), ACCOUNTS.c.reserved_nanos == 0)
        .order_by(ACCOUNTS.c.day, ACCOUNTS.c.campaign_id)
        .limit(ACCOUNTS_PER_RUN)
    ).all()
    for campaign_id, day in stale:
        account = work.account_if_open(campaign_id, day)
        assert account is not None
        if account.reserved == 0:
            _prune_account(work, account)


def _prune_account(work: Work, account: Account) -> None:
    connection = work.connection
    of_settlement = (SETTLEMENTS.c.campaign_id == account.campaign_id, SETTLEMENTS.c.day == account.day)
    of_allowance = (ALLOWANCES.c.campaign_id == account.campaign_id, ALLOWANCES.c.day == account.day)
    of_journal = (JOURNAL.c.campaign_id == account.campaign_id, JOURNAL.c.day == account.day)
    balances = connection.execute(
        select(
            JOURNAL.c.bucket,
            JOURNAL.c.ref,
            func.sum(JOURNAL.c.amount_nanos).label("amount"),
            func.min(JOURNAL.c.entry).label("entry"),
        )
        .where(*of_journal)
        .group_by(JOURNAL.c.bucket, JOURNAL.c.ref)
    ).all()
    connection.execute(delete(SETTLEMENTS).where(*of_settlement))
    connection.execute(delete(ALLOWANCES).where(*of_allowance))
    connection.execute(delete(JOURNAL).where(*of_journal))
    carried = [b for b in balances if b.amount != 0]
    if carried:
        entry = min(b.entry for b in balances)
        connection.execute(
            insert(JOURNAL),
            [
                {
                    "entry": entry,
                    "leg": leg,
                    "kind": "carried",
                    "campaign_id": account.campaign_id,
                    "day": account.day,
                    "bucket": b.bucket,
                    "ref": b.ref,
                    "amount_nanos": int(b.amount),
                    "at_ns": work.now_ns,
                }
                for leg, b in enumerate(carried)
            ],
        )
    account.pruned = True
    work.change(account)
    work.count("pruned")
