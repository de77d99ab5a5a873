"""``resolve``: what a closed set of proposals about one target comes to. Pure, and integers only.

Whoever holds the same set, the same target and the same incumbent gets the same resolution, byte for byte: no
floats, no clock, no chance, no order of arrival. The four steps are those of ``docs/coordination.md``.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from counterpoint.base.clock import NS_PER_MS
from counterpoint.base.ids import digest
from counterpoint.coordination.admit import grant_of, refusal
from counterpoint.coordination.bargain import Wishes, bargain, utility, welfare, zone_of
from counterpoint.coordination.targets import PPM, Kind, Target, TradeOff, author_kind, level
from counterpoint.events.decisions import Proposal, Resolution, StopChanged

EPOCH_NS = 500 * NS_PER_MS
DWELL_EPOCHS = 3  # after a move it stays put at least this long ...
DWELL_EPOCHS_MAX = 8 * DWELL_EPOCHS  # ... and longer where it was pushed to and fro
GAIN_MIN_Q32 = 123_926_560  # 0.02 natural log units of weighted welfare, as log2 in Q32
STEP_UP_PPM = 1_197_217  # e^0.18
STEP_DOWN_PPM = 835_270  # e^-0.18
DEADBAND_PPM = 5_000  # closer than this to the incumbent, a wish is not worth a move
OWNER = "owner"  # the winner where nobody wishes anything
_FIXED_WEIGHT_PPM = {"safety": 1_000_000, "budget": 500_000, "relevance": 500_000, "law": 0}


class _Box(Struct):
    low: int
    high: int
    low_by: str = ""
    high_by: str = ""
    contradiction: str = ""


def epoch_of(stored_at_ns: int) -> int:
    return stored_at_ns // EPOCH_NS


def epoch_end_ns(epoch: int) -> int:
    """The first instant after the epoch."""
    return (epoch + 1) * EPOCH_NS


def genesis(target: Target) -> Resolution:
    """The incumbent before anything was ever resolved: the owner's value."""
    return Resolution(
        event_id=f"genesis-{target.name}",
        happened_at_ns=0,
        recorded_at_ns=0,
        source="coordination",
        target=target.name,
        epoch=0,
        value=target.default,
        incumbent=target.default,
        winner=OWNER,
        losers=(),
        why="nobody has wished anything yet",
        proposals=(),
        previous_digest="",
        digest=digest("genesis", target.name),
    )


def newest(proposals: Iterable[Proposal]) -> list[Proposal]:
    """The newest proposal of each author, by stamp then event id; sorted by author."""
    latest: dict[str, Proposal] = {}
    for proposal in proposals:
        held = latest.get(proposal.author)
        if held is None or (proposal.stamp, proposal.event_id) > (held.stamp, held.event_id):
            latest[proposal.author] = proposal
    return [latest[author] for author in sorted(latest)]


def weight_of(proposal: Proposal, trade_off: TradeOff) -> int:
    """Declared weight of the intent x strength x confidence, 0..1,000,000. More than the most counts as the most."""
    if proposal.intent == "reach":
        base = trade_off.reach_ppm
    elif proposal.intent == "cost":
        base = trade_off.cost_ppm
    else:
        base = _FIXED_WEIGHT_PPM[proposal.intent]
    product = min(max(base, 0), PPM)
    for factor in (proposal.strength, proposal.confidence):
        clipped = min(max(factor, 0), PPM)
        product = max(1, product * clipped // PPM) if product and clipped else 0
    return product


def _clip(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def _reach_of(target: Target, author: str) -> tuple[int, int]:
    """The range in which this author may say anything."""
    grant = grant_of(target, author)
    assert grant is not None, "unauthorised proposals were dropped before"
    span = target.high - target.low
    return target.low + span * grant.floor_ppm // PPM, target.low + span * grant.roof_ppm // PPM


def _bounds(target: Target, active: list[Proposal]) -> _Box:
    """Step 2. Law, people and money must agree with each other; an agent's bound yields to the nearest feasible point."""
    box = _Box(target.low, target.high)
    bounding = [p for p in active if p.low is not None or p.high is not None]
    for p in sorted(bounding, key=lambda p: (level(author_kind(p.author)), p.author)):
        least, most = _reach_of(target, p.author)
        low = box.low if p.low is None else _clip(p.low, least, most)
        high = box.high if p.high is None else _clip(p.high, least, most)
        if low > box.high or high < box.low:
            if level(author_kind(p.author)) <= 2:
                other = box.high_by if low > box.high else box.low_by
                box.contradiction = f"{p.author} against {other or 'the range of the target'}"
                return box
            low = high = box.high if low > box.high else box.low
        if low > box.low:
            box.low, box.low_by = low, p.author
        if high < box.high:
            box.high, box.high_by = high, p.author
    return box


def _step(target: Target, start: int, goal: int) -> int:
    """As far from ``start`` towards ``goal`` as one move may go."""
    if goal > start:
        far = max(start + target.step_min, start * STEP_UP_PPM // PPM if target.step_relative else start)
        return min(goal, far)
    near = min(start - target.step_min, -(-start * STEP_DOWN_PPM // PPM) if target.step_relative else start)
    return max(goal, near)


def _inertia(incumbent: Resolution, value: int, epoch: int) -> tuple[int, int, int, int]:
    """(moved_epoch, direction, reversals, dwell) after a move to ``value``: two quick reversals double the dwell, a
    quiet time halves it."""
    direction = 1 if value > incumbent.value else -1
    dwell = max(DWELL_EPOCHS, incumbent.dwell_epochs)
    gap = epoch - incumbent.moved_epoch
    reversals = incumbent.reversals
    if gap > 8 * dwell:
        dwell, reversals = max(DWELL_EPOCHS, dwell // 2), 0
    elif incumbent.direction == -direction:
        reversals += 1
        if reversals >= 2:
            dwell, reversals = min(2 * dwell, DWELL_EPOCHS_MAX), 0
    return epoch, direction, reversals, dwell


def resolve(
    target: Target,
    closed_set: Iterable[Proposal],
    trade_off: TradeOff,
    incumbent: Resolution,
    end_ns: int,
    *,
    silenced: frozenset[str] = frozenset(),
    stops: Iterable[StopChanged] = (),
) -> Resolution:
    """Resolve one target at the end of an epoch.

    ``closed_set``: proposals stored before ``end_ns`` (repeats, losers and other targets' may be among them).
    ``incumbent``: this target's resolution of the epoch before (:func:`genesis` at first). ``silenced``: agents whom a
    person stopped; they wish nothing. ``stops``: for an ``enabled`` target, what people said in this epoch.
    Where nothing changed (value, winner, losers, stop), the incumbent itself is returned.
    """
    active = [
        p
        for p in newest(q for q in closed_set if refusal(target, q) is None)
        if not p.withdraws and p.expires_at_ns > end_ns and p.author not in silenced
    ]
    if target.kind is Kind.ENABLED:
        return _switch(target, active, incumbent, end_ns, stops)
    box = _bounds(target, active)
    epoch = end_ns // EPOCH_NS - 1
    if box.contradiction:
        authors = tuple(p.author for p in active)
        return _next(
            incumbent,
            target,
            epoch,
            active,
            target.stop_value,
            "stop",
            authors,
            f"stopped: {box.contradiction}",
        )
    weighed = [
        (
            _clip(_clip(p.value, *_reach_of(target, p.author)), box.low, box.high),
            weight_of(p, trade_off),
            p,
        )
        for p in active
        if p.value is not None
    ]
    weighed = [wish for wish in weighed if wish[1] > 0]
    wishes: Wishes = tuple(sorted((ideal, weight) for ideal, weight, _ in weighed))
    value, why = _choose(target, wishes, box, incumbent, epoch)
    winner, losers = _verdict(target, value, weighed, wishes, box, active)
    return _next(incumbent, target, epoch, active, value, winner, losers, why)


def _choose(target: Target, wishes: Wishes, box: _Box, incumbent: Resolution, epoch: int) -> tuple[int, str]:
    """Steps 3 and 4: the bargain, then inertia. A hard bound is kept at once, whatever the inertia says."""
    held = incumbent.value
    inside = _clip(held, box.low, box.high)
    if inside != held:
        who = box.low_by if inside > held else box.high_by
        return inside, f"bound of {who or 'the catalog'}"
    if wishes:
        goal = min(bargain(wishes), key=lambda x: (abs(x - held), x))
        why = "bargain" if len(wishes) > 1 else "the only wish"
    else:
        goal = _clip(target.default, box.low, box.high)
        why = "no wish holds: back to the owner's value"
    if goal == held:
        return held, why
    if epoch - incumbent.moved_epoch < max(DWELL_EPOCHS, incumbent.dwell_epochs) and incumbent.direction:
        return held, f"{why}, waits for {goal}: just moved"
    if wishes:
        if abs(goal - held) * PPM < DEADBAND_PPM * max(abs(goal), abs(held)):
            return held, f"{why}: not worth a move to {goal}"
        if len(wishes) > 1:
            gain = welfare(goal, wishes) - welfare(held, wishes)
            if gain < GAIN_MIN_Q32 * sum(weight for _, weight in wishes):
                return held, f"{why}: gain of {goal} below the threshold"
    value = _step(target, held, goal)
    return value, why if value == goal else f"{why}: a step towards {goal}"


def _verdict(
    target: Target,
    value: int,
    weighed: list[tuple[int, int, Proposal]],
    wishes: Wishes,
    box: _Box,
    active: list[Proposal],
) -> tuple[str, tuple[str, ...]]:
    """The winner is whose bound binds, else whose wish fared best (then the heavier, then the first by name); a
    loser is anyone who did not get exactly what they asked for."""
    touching = [by for edge, by in ((box.high, box.high_by), (box.low, box.low_by)) if by and value == edge]
    binding = min(touching, key=lambda by: (level(author_kind(by)), by), default="")
    if weighed:
        zone = zone_of(wishes)
        best = min(weighed, key=lambda w: (-utility(value, w[0], zone), -w[1], w[2].author))
        wished = [p.value for _, _, p in weighed]
        beyond = (binding == box.high_by and all(v is not None and v >= value for v in wished)) or (
            binding == box.low_by and all(v is not None and v <= value for v in wished)
        )
        winner = binding if binding and beyond else best[2].author
    else:
        winner = binding or OWNER
    losers = tuple(
        p.author
        for p in active
        if p.author != winner
        and (
            (p.value is not None and p.value != value)
            or (p.low is not None and value < p.low)
            or (p.high is not None and value > p.high)
        )
    )
    return winner, losers


def _switch(
    target: Target, active: list[Proposal], incumbent: Resolution, end_ns: int, stops: Iterable[StopChanged]
) -> Resolution:
    """``enabled``: off if a person's stop holds or anyone entitled asks for 0. The newest stop or resume counts; of two
    at the same instant, the stop."""
    latest = (incumbent.stop_at_ns, incumbent.stopped)
    person = incumbent.winner if incumbent.stopped else OWNER
    for stop in stops:
        said = (min(stop.happened_at_ns, end_ns), stop.stopped)  # nobody speaks from the future
        if said > latest or (said == latest and stop.stopped and stop.person < person):
            latest, person = said, stop.person if stop.stopped else OWNER
    stop_at_ns, stopped = latest
    off = [p for p in active if 0 in (p.value, p.high)]
    value = 0 if stopped or off else target.default
    winner = person if stopped else off[0].author if off else OWNER
    losers = tuple(p.author for p in active if p not in off) if value == 0 else ()
    why = f"stopped by {winner}" if value == 0 else "nobody has stopped it"
    return _next(
        incumbent,
        target,
        end_ns // EPOCH_NS - 1,
        active,
        value,
        winner,
        losers,
        why,
        stopped=stopped,
        stop_at_ns=stop_at_ns,
    )


def _next(
    incumbent: Resolution,
    target: Target,
    epoch: int,
    active: list[Proposal],
    value: int,
    winner: str,
    losers: tuple[str, ...],
    why: str,
    *,
    stopped: bool = False,
    stop_at_ns: int = 0,
) -> Resolution:
    assert target.low <= value <= target.high, (
        f"{target.name}: {value} is outside {target.low}..{target.high}"
    )
    if (value, winner, losers, stopped, stop_at_ns) == (
        incumbent.value,
        incumbent.winner,
        incumbent.losers,
        incumbent.stopped,
        incumbent.stop_at_ns,
    ):
        return incumbent
    moved_epoch, direction, reversals, dwell = (
        incumbent.moved_epoch,
        incumbent.direction,
        incumbent.reversals,
        incumbent.dwell_epochs,
    )
    if value != incumbent.value:
        moved_epoch, direction, reversals, dwell = _inertia(incumbent, value, epoch)
    names = tuple(p.event_id for p in active)
    content = "|".join(
        str(part)
        for part in (epoch, value, moved_epoch, direction, reversals, dwell, int(stopped), stop_at_ns)
    )
    chained = digest(incumbent.digest, target.name, content, winner, "\n".join(losers), "\n".join(names))
    end_ns = epoch_end_ns(epoch)
    return Resolution(
        event_id=f"res-{digest(target.name, str(epoch), chained)}",
        happened_at_ns=end_ns,
        recorded_at_ns=end_ns,
        source="coordination",
        target=target.name,
        epoch=epoch,
        value=value,
        incumbent=incumbent.value,
        winner=winner,
        losers=losers,
        why=why,
        proposals=names,
        previous_digest=incumbent.digest,
        digest=chained,
        moved_epoch=moved_epoch,
        direction=direction,
        reversals=reversals,
        dwell_epochs=dwell,
        stopped=stopped,
        stop_at_ns=stop_at_ns,
    )


__all__ = ["EPOCH_NS", "epoch_end_ns", "epoch_of", "genesis", "newest", "resolve", "weight_of"]
