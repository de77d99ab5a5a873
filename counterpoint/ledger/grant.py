"""Allowances: requested, granted or refused, returned, orphaned, closed."""

from __future__ import annotations

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.ids import digest
from counterpoint.catalog.local_time import day_bounds_ns
from counterpoint.events import subjects
from counterpoint.events.money import (
    AllowanceGranted,
    AllowanceRefused,
    AllowanceRequested,
    AllowanceReturned,
    BidderStarted,
)
from counterpoint.ledger.rows import CLOSED, FINAL, OPEN, ORPHAN, Account, Allowance
from counterpoint.ledger.work import SOURCE, Work

KEPT_BUCKET_NS = 3_600 * NS_PER_S  # kept headroom of finished allowances is pooled by the hour it closes in


def bidder_started(work: Work, event: BidderStarted) -> None:
    """A new incarnation: open allowances of earlier ones become orphans, closed by time alone."""
    if work.first_time(event):
        _begin_incarnation(work, event.bidder_id, event.incarnation)


def _begin_incarnation(work: Work, bidder_id: str, incarnation: str) -> None:
    if work.incarnation_known(bidder_id, incarnation):
        return  # current already, or superseded: it never comes back
    work.make_current(bidder_id, incarnation)
    for allowance in work.allowances_of_bidder(bidder_id):
        if allowance.incarnation != incarnation and allowance.state == OPEN:
            allowance.state = ORPHAN
            work.change_allowance(allowance)
            work.count("orphans")


def request(work: Work, event: AllowanceRequested) -> None:
    """Grant or refuse, once per command."""
    if not work.first_time(event):
        work.count("commands_repeated")
        return
    answer = _grant(work, event)
    if isinstance(answer, AllowanceGranted):
        work.say(subjects.grants(event.bidder_id), answer)
        return
    reason, retry_after_ns = answer
    work.count(f"refused_{reason}")
    work.say(
        subjects.grants(event.bidder_id),
        AllowanceRefused(
            event_id=f"refused-{event.event_id}",
            happened_at_ns=work.now_ns,
            recorded_at_ns=work.now_ns,
            source=SOURCE,
            request_id=event.request_id,
            bidder_id=event.bidder_id,
            incarnation=event.incarnation,
            campaign_id=event.campaign_id,
            arm=event.arm,
            reason=reason,
            retry_after_ns=retry_after_ns,
            line_item_id=event.line_item_id,
        ),
    )


def _grant(work: Work, event: AllowanceRequested) -> AllowanceGranted | tuple[str, int]:
    """The grant, or (reason, retry_after_ns)."""
    now_ns, config = work.now_ns, work.config
    if now_ns - event.recorded_at_ns > config.request_life_ns:
        return (
            "too_old",
            config.retry_after_ns,
        )  # heard after an outage: who asked has asked again, or is gone
    if not work.incarnation_known(event.bidder_id, event.incarnation):
        _begin_incarnation(work, event.bidder_id, event.incarnation)  # its start was not heard: this is it
    if work.current_incarnation(event.bidder_id) != event.incarnation:
        return "stale_incarnation", 0
    campaign = work.catalog.campaigns.get(event.campaign_id)
    if campaign is None:
        return "unknown_campaign", 0
    if event.amount_nanos <= 0:
        return "bad_amount", 0
    if event.currency and event.currency != work.catalog.currency:
        return "currency_mismatch", 0
    if event.line_item_id:
        item = work.catalog.line_items.get(event.line_item_id)
        if item is None or item.campaign_id != campaign.id:
            return "unknown_line_item", 0
    if campaign.paused:
        return "paused", 0
    if now_ns < campaign.starts_at_ns:
        return "not_started", campaign.starts_at_ns - now_ns
    if campaign.ends_at_ns is not None and now_ns >= campaign.ends_at_ns:
        return "flight_over", 0
    day_begins_ns, day_ends_ns = day_bounds_ns(campaign, now_ns)
    expires_at_ns = min(now_ns + config.allowance_life_ns, day_ends_ns)
    if campaign.ends_at_ns is not None:
        expires_at_ns = min(expires_at_ns, campaign.ends_at_ns)
    if expires_at_ns - now_ns < config.allowance_life_min_ns:
        return "day_ending", expires_at_ns - now_ns
    account = work.account(campaign.id, work.day_of(campaign, now_ns))
    if account.stopped:
        return "stopped", 0
    if account.budget > account.target:
        return "budget_spent", config.retry_after_ns  # a cut waits for this money
    granted, refusal = _size(work, account, event)
    if not refusal and event.line_item_id:
        granted, refusal = _within_caps(work, account, event, granted)
    if refusal:
        return refusal, config.retry_after_ns if account.reserved > 0 else 0
    headroom = -(-granted * work.headroom_ppm(campaign.id) // 1_000_000)
    allowance = Allowance(
        allowance_id=digest(event.event_id, event.bidder_id, event.incarnation, size=10),
        bidder_id=event.bidder_id,
        incarnation=event.incarnation,
        campaign_id=campaign.id,
        day=account.day,
        arm=event.arm,
        granted=granted,
        out=granted - headroom,
        headroom=headroom,
        expires_at_ns=expires_at_ns,
        closes_at_ns=expires_at_ns + work.catalog.notice_life_ns,
        line_item_id=event.line_item_id,
        new=True,
    )
    work.add_allowance(allowance)
    account.reserved += granted
    work.move("grant", account, "free", "reserved", granted, target_ref=allowance.allowance_id)
    work.count("grants")
    return AllowanceGranted(
        event_id=f"granted-{event.event_id}",
        happened_at_ns=now_ns,
        recorded_at_ns=now_ns,
        source=SOURCE,
        allowance_id=allowance.allowance_id,
        request_id=event.request_id,
        bidder_id=event.bidder_id,
        incarnation=event.incarnation,
        campaign_id=campaign.id,
        arm=event.arm,
        day=account.day,
        granted_nanos=granted,
        usable_nanos=allowance.out,
        expires_at_ns=expires_at_ns,
        starts_at_ns=max(day_begins_ns, campaign.starts_at_ns),
        line_item_id=event.line_item_id,
    )


def _size(work: Work, account: Account, event: AllowanceRequested) -> tuple[int, str]:
    """min(requested, fair part of what is free, what one bidder may hold), or why it is not worth an allowance.

    The fair part is what is free divided by the holders there are: whoever bids on the campaign now, and the one
    who asks. A request is for usable money, so the headroom comes on top."""
    config = work.config
    mine = 0
    holders = {(event.bidder_id, event.arm)}
    for allowance in work.allowances_of(account):
        if allowance.state == OPEN:
            if allowance.bidder_id == event.bidder_id:
                mine += allowance.rest
            if allowance.expires_at_ns > work.now_ns:
                holders.add((allowance.bidder_id, allowance.arm))
    ppm = 1_000_000 - work.headroom_ppm(account.campaign_id)
    wanted = -(-min(event.amount_nanos, account.budget) * 1_000_000 // ppm)
    worth_it = max(min(wanted, account.budget * config.grant_min_ppm // 1_000_000), 1)
    may_hold = max(account.budget * config.bidder_share_max_ppm // 1_000_000 - mine, 0)
    # The largest g with free - g >= (reserved + g) * unpromised: see Work.unpromised_ppm.
    unpromised = work.unpromised_ppm(account.campaign_id)
    grantable = (account.free * 1_000_000 - account.reserved * unpromised) // (1_000_000 + unpromised)
    if grantable < worth_it:
        return 0, "budget_spent"
    if may_hold < worth_it:
        return 0, "holds_enough"
    fair = max(grantable // len(holders), worth_it)
    return min(wanted, fair, may_hold), ""


def _within_caps(work: Work, account: Account, event: AllowanceRequested, granted: int) -> tuple[int, str]:
    """No more than the line item's caps leave, shared among the bidders that hold money of it; what it reserves is
    in ``used`` with its headroom, so a cap is never promised twice."""
    daily, lifetime = work.catalog.line_caps_nanos(event.line_item_id)
    line = work.line(event.line_item_id, account.day, account.campaign_id)
    rooms = [] if daily is None else [(daily, daily - line.used)]
    if lifetime is not None:
        rooms.append((lifetime, lifetime - work.line_used(event.line_item_id)))
    holders = {(event.bidder_id, event.arm)}
    mine = 0
    for allowance in work.allowances_of(account):
        if allowance.state == OPEN and allowance.line_item_id == event.line_item_id:
            holders.add((allowance.bidder_id, allowance.arm))
            mine += allowance.rest if allowance.bidder_id == event.bidder_id else 0
    for cap, room in rooms:
        worth_it = min(granted, max(cap * work.config.grant_min_ppm // 1_000_000, 1))
        may_hold = max(cap * work.config.bidder_share_max_ppm // 1_000_000 - mine, 0)
        if room < worth_it:
            return 0, "line_item_cap"
        if may_hold < worth_it:
            return 0, "holds_enough"
        granted = min(granted, max(room // len(holders), worth_it), may_hold)
    return granted, ""


def returned(work: Work, event: AllowanceReturned) -> None:
    """Money comes back from the bidder that holds it, once per command; never more than it still holds.

    Headroom shrinks with what it is for: the share of late spend, of what was spent and is still out. When the bidder
    is done (``final``) the rest of the headroom is kept with that of other finished allowances until the notice life
    is over; what it spent and is not booked yet (notices on their way) stays reserved as well.
    """
    if not work.first_time(event):
        work.count("commands_repeated")
        return
    allowance = work.allowance(event.allowance_id)
    if (
        allowance is None
        or (allowance.bidder_id, allowance.incarnation) != (event.bidder_id, event.incarnation)
        or allowance.state in (FINAL, CLOSED)
    ):
        work.count("returns_ignored")
        return
    account = work.account(allowance.campaign_id, allowance.day)
    amount = min(max(event.amount_nanos, 0), allowance.out)
    allowance.out -= amount
    basis = allowance.spent + allowance.late + allowance.out
    keep = -(-basis * work.headroom_ppm(allowance.campaign_id) // 1_000_000)
    trimmed = max(allowance.headroom - keep, 0)
    allowance.headroom -= trimmed
    _release(work, account, allowance, "return", amount + trimmed)
    if event.final:
        allowance.state = FINAL
        _keep_headroom(work, account, allowance)
        if allowance.rest == 0:
            allowance.state = CLOSED
        work.change_allowance(allowance)
    work.freed(account)


def _release(work: Work, account: Account, allowance: Allowance, kind: str, nanos: int) -> None:
    allowance.returned += nanos
    work.change_allowance(allowance)
    account.reserved -= nanos
    work.move(kind, account, "reserved", "free", nanos, source_ref=allowance.allowance_id)


def _keep_headroom(work: Work, account: Account, allowance: Allowance) -> None:
    """Hand the headroom of a finished allowance to the pool of its account and closing hour, so that late spend of
    any allowance finds it and no row per allowance stays behind."""
    if allowance.headroom == 0:
        return
    closes_at_ns = -(-allowance.closes_at_ns // KEPT_BUCKET_NS) * KEPT_BUCKET_NS
    names = [account.campaign_id, account.day, str(closes_at_ns)]
    if allowance.line_item_id:
        names.append(allowance.line_item_id)  # what its caps count stays its own
    kept_id = f"kept-{digest(*names, size=10)}"
    kept = work.allowance(kept_id)
    if kept is None:
        kept = Allowance(
            allowance_id=kept_id,
            bidder_id="",
            incarnation="",
            campaign_id=account.campaign_id,
            day=account.day,
            arm="",
            granted=0,
            out=0,
            headroom=0,
            state=FINAL,
            expires_at_ns=allowance.expires_at_ns,
            closes_at_ns=closes_at_ns,
            line_item_id=allowance.line_item_id,
            new=True,
        )
        work.add_allowance(kept)
    if kept.state == CLOSED:  # its hour is over: so is the notice life of this one
        nanos, allowance.headroom = allowance.headroom, 0
        _release(work, account, allowance, "close", nanos)
        return
    nanos, allowance.headroom = allowance.headroom, 0
    allowance.returned += nanos
    kept.granted += nanos
    kept.headroom += nanos
    work.change_allowance(allowance)
    work.change_allowance(kept)
    work.move(
        "keep",
        account,
        "reserved",
        "reserved",
        nanos,
        source_ref=allowance.allowance_id,
        target_ref=kept_id,
    )


def close_due(work: Work) -> int:
    """Close what is past its expiry and the longest notice life: no notice can settle on it any more (one that still
    comes is late spend). Returns how many; call before anything else changed in this work."""
    due = work.allowances_to_close()
    for allowance in due:
        account = work.account(allowance.campaign_id, allowance.day)
        rest = allowance.rest
        allowance.out = allowance.headroom = 0
        allowance.state = CLOSED
        _release(work, account, allowance, "close", rest)
        work.freed(account)
    work.count("closed", len(due))
    return len(due)
