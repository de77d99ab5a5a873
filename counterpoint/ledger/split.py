"""Moving money inside a pool: shares that were resolved become budgets, to the nano, or nothing moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from counterpoint.base.money import micros_to_nanos
from counterpoint.events import subjects
from counterpoint.events.money import BudgetMoved
from counterpoint.ledger.rows import Account
from counterpoint.ledger.work import SOURCE, Work


class Bounds(Struct, frozen=True):
    """One member of a pool, nanos: ``low <= budget <= high`` after the move."""

    share: int  # weight >= 0, ppm of the pool by convention
    low: int
    high: int


class SplitApplied(Struct, frozen=True):
    pool_id: str
    budgets_nanos: dict[str, int]
    moved: bool  # False: every budget was there already


class SplitRefused(Struct, frozen=True):
    """Nothing moved. ``reason``: repeated_epoch | unknown_pool | no_shares | days_differ | cut_pending |
    minima_exceed_sum |
    maxima_below_sum."""

    pool_id: str
    reason: str


def project(total: int, members: Sequence[Bounds]) -> list[int] | str:
    """Share ``total`` by weight within bounds, in integers, the sum exactly kept; or the reason why it cannot be.

    Members that would leave their bounds are fixed there and the others share what remains by weight (at most one
    round per member); the last nanos go by largest remainder, ties to the earlier member.

    >>> project(100, [Bounds(1, 0, 100), Bounds(1, 0, 100), Bounds(1, 0, 100)])
    [34, 33, 33]
    >>> project(100, [Bounds(9, 0, 50), Bounds(1, 0, 100), Bounds(0, 20, 100)])
    [50, 30, 20]
    >>> project(100, [Bounds(1, 60, 100), Bounds(1, 60, 100)])
    'minima_exceed_sum'
    """
    assert all(0 <= m.low <= m.high and m.share >= 0 for m in members)
    if sum(m.low for m in members) > total:
        return "minima_exceed_sum"
    if sum(m.high for m in members) < total:
        return "maxima_below_sum"
    fixed: dict[int, int] = {}
    while True:
        loose = [i for i in range(len(members)) if i not in fixed]
        rest = total - sum(fixed.values())
        weights = {i: members[i].share for i in loose}
        if sum(weights.values()) == 0:
            weights = dict.fromkeys(loose, 1)  # nobody wants it: what is left goes evenly
        weight = sum(weights.values())
        # exact comparison, no division: rest * w < bound * weight
        short = {i: members[i].low for i in loose if rest * weights[i] < members[i].low * weight}
        over = {i: members[i].high for i in loose if rest * weights[i] > members[i].high * weight}
        if not short and not over:
            break
        lacking = sum(low * weight - rest * weights[i] for i, low in short.items())
        exceeding = sum(rest * weights[i] - high * weight for i, high in over.items())
        if lacking >= exceeding:
            fixed.update(short)
        if exceeding >= lacking:
            fixed.update(over)
    result = [fixed.get(i, 0) for i in range(len(members))]
    for i in loose:
        result[i] = rest * weights[i] // weight
    by_remainder = sorted(loose, key=lambda i: (-(rest * weights[i] % weight), i))
    for i in by_remainder[: total - sum(result)]:
        result[i] += 1
    assert sum(result) == total, "the sum of a pool is kept"
    assert all(m.low <= r <= m.high for m, r in zip(members, result, strict=True))
    return result


def take_back(work: Work) -> None:
    """Before the targets of a new catalog: a member whose budget was cut below what it gave away today takes the
    difference back, else the pool would hold more than its owner gave.

    Taken from members that were given some, first from those with free money; it is a pool move of the owner's money,
    so what they have spent or promised follows as it returns, as any other cut does."""
    for pool_id, campaigns in sorted(work.catalog.pools.items()):
        for campaign in campaigns:
            giver = work.account_if_open(campaign.id, work.day_of(campaign, work.now_ns))
            if giver is None or giver.moved >= 0:
                continue
            kept = work.catalog.budget_nanos(campaign) + giver.adjusted + giver.moved
            lacking = min(-kept, -giver.moved)
            others = [work.account_if_open(c.id, giver.day) for c in campaigns]
            receivers = [a for a in others if a is not None and a.moved > 0]
            receivers.sort(key=lambda a: (-a.free, a.campaign_id))
            for free_only in (True, False):
                for receiver in receivers:
                    back = min(lacking, receiver.moved, receiver.free if free_only else receiver.moved)
                    if back > 0:
                        lacking -= back
                        _move_back(work, pool_id, receiver, giver, back)


def _move_back(work: Work, pool_id: str, receiver: Account, giver: Account, nanos: int) -> None:
    """Both budgets stay for now: of the receiver's the owner gave that much more, and wants it back by its target."""
    receiver.moved -= nanos
    giver.moved += nanos
    receiver.target = work.target_of(receiver)
    work.move("pool", receiver, "owner", "pool", nanos, target_ref=pool_id)
    work.move("pool", giver, "pool", "owner", nanos, source_ref=pool_id)
    work.freed(receiver)
    if work.last_split(pool_id) is None:  # its members moved it in a pool of another name
        work.keep_split(pool_id, 0, "")


def apply_split(
    work: Work, pool_id: str, epoch: int, shares_ppm: Mapping[str, int], reason: str
) -> SplitApplied | SplitRefused:
    """Move budgets of today inside one pool towards ``shares_ppm``; members that are not named keep their share.

    Refused as a whole when the sum cannot be kept within every member's minimum, maximum and what it has spent and
    promised already. A move lasts for its local day; the same epoch may be applied again on a later day, and otherwise
    an epoch that is not newer than the last applied one changes nothing.
    """
    campaigns = work.catalog.pools.get(pool_id)
    if not campaigns:
        return SplitRefused(pool_id, "unknown_pool")
    if not any(shares_ppm.get(c.id, 0) > 0 for c in campaigns):
        return SplitRefused(pool_id, "no_shares")
    days = {work.day_of(c, work.now_ns) for c in campaigns}
    if len(days) != 1:
        return SplitRefused(pool_id, "days_differ")
    day = days.pop()
    last = work.last_split(pool_id)
    if last is not None and (epoch < last[0] or (epoch == last[0] and day <= last[1])):
        return SplitRefused(pool_id, "repeated_epoch")
    accounts = [work.account(c.id, day) for c in campaigns]
    if any(a.budget != a.target for a in accounts):
        return SplitRefused(pool_id, "cut_pending")
    total = sum(a.budget for a in accounts)
    members = []
    for campaign, account in zip(campaigns, accounts, strict=True):
        low = max(micros_to_nanos(campaign.budget_min_micros), account.committed)
        most = campaign.budget_max_micros
        high = min(micros_to_nanos(most), total) if most is not None else total
        if work.catalog.lifetime_nanos(campaign.id) is not None:
            high = min(high, work.budget_most(account))
        share = shares_ppm.get(campaign.id)
        if share is None:
            share = account.budget * 1_000_000 // total if total else 0
        members.append(Bounds(max(share, 0), low, max(low, high)))
    budgets = project(total, members)
    if isinstance(budgets, str):
        return SplitRefused(pool_id, budgets)
    work.keep_split(pool_id, epoch, day)
    after = {c.id: b for c, b in zip(campaigns, budgets, strict=True)}
    changes = [(a, b - a.budget) for a, b in zip(accounts, budgets, strict=True) if b != a.budget]
    for account, change in sorted(changes, key=lambda c: c[1]):  # givers first: the pool is never below zero
        account.budget += change
        account.target += change
        account.moved += change
        if change < 0:
            work.move("pool", account, "free", "pool", -change, target_ref=pool_id)
        else:
            work.move("pool", account, "pool", "free", change, source_ref=pool_id)
            work.freed(account)  # it pays first what was overspent
    assert sum(a.budget for a in accounts) == total, "the sum of a pool is kept"
    if changes:
        work.count("splits")
        work.say(
            subjects.moved(pool_id),
            BudgetMoved(
                event_id=f"moved-{pool_id}-{day}-{epoch}",
                happened_at_ns=work.now_ns,
                recorded_at_ns=work.now_ns,
                source=SOURCE,
                pool_id=pool_id,
                day=day,
                epoch=epoch,
                budgets_nanos=after,
                reason=reason,
            ),
        )
    return SplitApplied(pool_id, after, bool(changes))
