"""``EpochBook``: one replica of everything that was proposed and resolved, fed from the stream DECISIONS.

Time is cut on a fixed grid of the stream's own timestamps. An epoch closes when any message of a later one is seen,
so every replica closes the same sets, without asking anybody; signs of life keep the stream moving. No I/O here.

Memory is bounded by the catalog: one resolution a target, at most ``AUTHORS_MAX`` proposals a target, and nothing
about targets that the catalog does not know.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable

import msgspec

from counterpoint.base.ids import digest
from counterpoint.bus.bus import Delivery
from counterpoint.catalog.model import Catalog
from counterpoint.coordination.admit import PROPOSAL_LIFE_NS_MAX, Refusal, refusal_on_stream
from counterpoint.coordination.resolve import EPOCH_NS, epoch_end_ns, epoch_of, genesis, resolve
from counterpoint.coordination.targets import AGENTS, Kind, Target, Targets, agent_enabled, enabled_of
from counterpoint.events import subjects
from counterpoint.events.decisions import Proposal, Resolution, StopChanged

SUBJECTS = ("decisions.proposal.>", "decisions.beat.>", subjects.STOPS, "decisions.resolution.>")
RESOLUTIONS = "decisions.resolution.>"  # for Bus.last_all, at the start of a replica
HISTORY_NS = 2 * PROPOSAL_LIFE_NS_MAX  # how far back a fresh replica must read
AUTHORS_MAX = 64  # per target; one more is refused until another's wish has faded
UNREAD_MAX = 200_000  # resolutions not yet taken by ``closed()``; beyond, the oldest go (and are counted)


def history_since_ns(now_ns: int) -> int:
    """Where a fresh replica begins to read the stream (``Bus.subscribe(since_ns=...)``)."""
    return max(0, now_ns - HISTORY_NS)


class _Held(msgspec.Struct):
    proposal: Proposal
    forget_epoch: int  # kept as long as an older one could still come, even when expired or withdrawn


class EpochBook:
    """Feed it every delivery in stream order; ask it what holds.

    A replica that reads the stream from its beginning needs nothing else. One that starts later is given the last
    published resolutions (``Bus.last_all(RESOLUTIONS)``, read first) and the time ``since_ns`` from which it is fed;
    until it has heard one proposal life of history it takes resolutions from the stream instead of making them, since
    it cannot know every wish that was alive. From then on it agrees with the others on every closed epoch.
    """

    def __init__(
        self, catalog: Catalog, *, resolutions: Iterable[Resolution] = (), since_ns: int | None = None
    ) -> None:
        self._targets = Targets(catalog)
        self._resolved: dict[str, Resolution] = {}
        self._held: dict[str, dict[str, _Held]] = {}
        self._pending: dict[str, dict[str, _Held]] = {}
        self._pending_stops: dict[str, list[StopChanged]] = {}
        self._early_stops: dict[str, list[StopChanged]] = {}  # heard before we resolve by ourselves
        self._wake: list[tuple[int, str]] = []
        self._woken: dict[str, int] = {}  # the earliest epoch each target stands in the heap for
        self._closed: deque[Resolution] = deque()
        self._silenced: frozenset[str] = frozenset()
        self.open_epoch = -1  # -1: nothing heard yet
        self.complete_from_epoch = -1 if since_ns is None else epoch_of(since_ns + PROPOSAL_LIFE_NS_MAX) + 1
        self.last_sequence = 0
        self.refused: Counter[str] = Counter()  # by Refusal
        self.disagreements = 0  # published resolutions that differ from ours for the same target and epoch
        self.repeated = 0
        self.unread_dropped = 0
        for published in resolutions:
            self._adopt(published)

    # ---- hearing

    def feed(self, delivery: Delivery) -> None:
        """Hear one message. A repeat changes nothing."""
        epoch = epoch_of(delivery.stored_at_ns)
        if self.open_epoch < 0:
            self.open_epoch = epoch
            for name in self._resolved:
                self._call(name, epoch)
        elif epoch > self.open_epoch:
            self._close_until(epoch)
        if delivery.sequence <= self.last_sequence:
            # Bus and subscription promise stream order; whatever still comes twice or late joins the open epoch, where
            # a repeat is the same proposal again.
            self.repeated += 1
        self.last_sequence = max(self.last_sequence, delivery.sequence)
        for event in delivery.events:
            if isinstance(event, Proposal):
                self._hear(event, delivery)
            elif isinstance(event, StopChanged):
                self._hear_stop(event, delivery)
            elif isinstance(event, Resolution) and delivery.subject == subjects.resolution(event.target):
                self._hear_resolution(event)

    def set_catalog(self, catalog: Catalog) -> None:
        """Use another catalog from the next close on. Targets that are gone are forgotten with their wishes."""
        self._targets = Targets(catalog)
        for name in [n for n in self._resolved if n not in self._targets]:
            del self._resolved[name]
        for held in (self._held, self._pending):
            for name in [n for n in held if n not in self._targets]:
                del held[name]
        for name in sorted({*self._resolved, *self._held}):
            self._call(name, max(self.open_epoch, 0))

    def _hear(self, proposal: Proposal, delivery: Delivery) -> None:
        target = self._targets.get(proposal.target)
        refused = refusal_on_stream(target, proposal, delivery.subject, delivery.stored_at_ns)
        if refused is not None:
            self.refused[refused] += 1
            return
        waiting = self._pending.setdefault(proposal.target, {})
        if proposal.author not in waiting and len(waiting) >= AUTHORS_MAX:
            self.refused[Refusal.TOO_MANY_AUTHORS] += 1
            return
        forget = epoch_of(delivery.stored_at_ns + PROPOSAL_LIFE_NS_MAX) + 1
        _keep(waiting, _Held(proposal, forget))
        self._call(proposal.target, self.open_epoch)

    def _hear_stop(self, stop: StopChanged, delivery: Delivery) -> None:
        name = enabled_of(stop.target)
        if delivery.subject != subjects.STOPS or name not in self._targets:
            self.refused[Refusal.UNKNOWN_TARGET] += 1
            return
        said = min(
            stop.happened_at_ns, delivery.stored_at_ns
        )  # a stop from the future would outlive every resume
        latest = self._pending_stops.setdefault(name, [])
        latest.append(msgspec.structs.replace(stop, happened_at_ns=said))
        newest = max(latest, key=lambda s: (s.happened_at_ns, s.stopped, s.person))
        latest[:] = [newest]
        self._call(name, self.open_epoch)

    def _hear_resolution(self, published: Resolution) -> None:
        ours = self._resolved.get(published.target)
        if published.epoch < self.complete_from_epoch:
            self._adopt(published)
        elif ours is not None and ours.epoch == published.epoch and ours.digest != published.digest:
            self.disagreements += 1

    def _adopt(self, published: Resolution) -> None:
        ours = self._resolved.get(published.target)
        if published.provisional or published.target not in self._targets:
            return
        if ours is None or published.epoch > ours.epoch:
            self._resolved[published.target] = published
            if self.open_epoch >= 0:
                self._call(published.target, self.open_epoch)

    # ---- closing

    def _call(self, name: str, epoch: int) -> None:
        """Look at this target when ``epoch`` closes."""
        if self._woken.get(name, epoch + 1) > epoch:
            self._woken[name] = epoch
            heapq.heappush(self._wake, (epoch, name))

    def _close_until(self, epoch: int) -> None:
        """Close every epoch before ``epoch``. Epochs in which nothing can happen are passed over at once."""
        while True:
            self._drop_stale_calls()
            due = self._wake[0][0] if self._wake else epoch
            if self._pending or self._pending_stops:
                due = min(due, self.open_epoch)
            if due >= epoch:
                break
            self._close(max(due, self.open_epoch))
        self.open_epoch = epoch

    def _drop_stale_calls(self) -> None:
        while self._wake and self._woken.get(self._wake[0][1]) != self._wake[0][0]:
            heapq.heappop(self._wake)

    def _close(self, epoch: int) -> None:
        pending, self._pending = self._pending, {}
        stops, self._pending_stops = self._pending_stops, {}
        for name, entries in pending.items():
            held = self._held.setdefault(name, {})
            for author in sorted(entries):
                if author in held and held[author].forget_epoch <= epoch:
                    del held[author]
                if author not in held and len(held) >= AUTHORS_MAX:
                    self.refused[Refusal.TOO_MANY_AUTHORS] += 1
                    continue
                _keep(held, entries[author])
        due: set[str] = set()
        while self._wake and self._wake[0][0] <= epoch:
            at, name = heapq.heappop(self._wake)
            if self._woken.get(name) == at:
                del self._woken[name]
                due.add(name)
        switches = sorted(name for name in due if name.endswith(f"/{Kind.ENABLED}"))
        for name in switches:  # first: a stopped agent's wishes do not count in this very epoch
            self._close_target(name, epoch, stops.get(name, []))
        silenced = self._silenced_at(epoch)
        changed = silenced ^ self._silenced
        self._silenced = silenced
        if changed:
            due.update(name for name, held in self._held.items() if changed & held.keys())
        for name in sorted(due.difference(switches)):
            self._close_target(name, epoch, [])
        self.open_epoch = epoch + 1

    def _close_target(self, name: str, epoch: int, stops: list[StopChanged]) -> None:
        target = self._targets.get(name)
        if target is None:
            return
        held = self._held.get(name, {})
        for author in [a for a, entry in held.items() if entry.forget_epoch <= epoch]:
            del held[author]
        if not held:
            self._held.pop(name, None)
        incumbent = self._resolved.get(name) or genesis(target)
        if epoch < self.complete_from_epoch or epoch <= incumbent.epoch:
            if stops:
                self._early_stops.setdefault(name, []).extend(stops)
            again = incumbent.epoch if epoch < incumbent.epoch else epoch + 1
            self._call(name, max(self.complete_from_epoch, again))
            return
        outcome = self._resolve(target, held, incumbent, epoch, [*self._early_stops.pop(name, ()), *stops])
        if outcome is not incumbent:
            self._resolved[name] = outcome
            self._closed.append(outcome)
            if len(self._closed) > UNREAD_MAX:
                self._closed.popleft()
                self.unread_dropped += 1
        self._call_again(target, held, outcome, epoch)

    def _resolve(
        self,
        target: Target,
        held: dict[str, _Held],
        incumbent: Resolution,
        epoch: int,
        stops: list[StopChanged],
    ) -> Resolution:
        return resolve(
            target,
            [entry.proposal for entry in held.values()],
            target.trade_off,
            incumbent,
            epoch_end_ns(epoch),
            silenced=self._silenced,
            stops=stops,
        )

    def _call_again(self, target: Target, held: dict[str, _Held], now: Resolution, epoch: int) -> None:
        """When this target must be looked at next, if nobody says anything more."""
        times: list[int] = []
        for entry in held.values():
            times.append(entry.forget_epoch)
            expires = entry.proposal.expires_at_ns
            if expires > epoch_end_ns(epoch):
                times.append(max(epoch + 1, -(-expires // EPOCH_NS) - 1))
        if target.kind is not Kind.ENABLED and (now.epoch == epoch or now.direction):
            dwell_ends = now.moved_epoch + max(3, now.dwell_epochs)
            if dwell_ends > epoch:
                times.append(dwell_ends)
            elif now.epoch == epoch:
                times.append(epoch + 1)
        if times:
            self._call(target.name, max(epoch + 1, min(times)))

    def _silenced_at(self, epoch: int) -> frozenset[str]:
        """The agents that people had stopped when ``epoch`` closed. A resolution may have been given to us from after
        it; then what was before is what it names as its incumbent."""
        stopped = set()
        for agent in AGENTS:
            switch = self._resolved.get(agent_enabled(agent))
            if switch is not None and (switch.incumbent if epoch < switch.epoch else switch.value) == 0:
                stopped.add(agent)
        return frozenset(stopped)

    # ---- telling

    def closed(self) -> list[Resolution]:
        """What changed in epochs closed since the last call, in order: to be published, by whoever likes. The event
        ids are the same on every replica, so the bus keeps one."""
        taken = list(self._closed)
        self._closed.clear()
        return taken

    def current(self, name: str) -> Resolution:
        """What holds for a target, by the closed epochs. Raises ``KeyError`` for a target the catalog does not know."""
        target = self._targets.get(name)
        if target is None:
            raise KeyError(name)
        return self._resolved.get(name) or genesis(target)

    def value(self, name: str) -> int:
        return self.current(name).value

    def provisional(self, name: str) -> Resolution:
        """What would hold if the open epoch closed now. May still change; money never hangs on it."""
        incumbent = self.current(name)
        target = self._targets.get(name)
        if target is None or self.open_epoch < 0 or self.open_epoch <= incumbent.epoch:
            return incumbent
        held = dict(self._held.get(name, {}))
        for entry in self._pending.get(name, {}).values():
            _keep(held, entry)
        outcome = self._resolve(target, held, incumbent, self.open_epoch, self._pending_stops.get(name, []))
        return incumbent if outcome is incumbent else msgspec.structs.replace(outcome, provisional=True)

    def wishes(self, name: str) -> list[Proposal]:
        """The newest proposal of each author about a target, closed epochs only, expired ones too while remembered."""
        return [entry.proposal for _, entry in sorted(self._held.get(name, {}).items())]

    def settings(self) -> dict[str, int]:
        """Every target that was ever resolved, and its value. The others stand at their default."""
        return {name: held.value for name, held in sorted(self._resolved.items())}

    def target(self, name: str) -> Target | None:
        return self._targets.get(name)

    @property
    def complete(self) -> bool:
        """Whether it resolves by itself already (see the class)."""
        return self.open_epoch >= self.complete_from_epoch

    def digest(self) -> str:
        """One name for all that was resolved: two replicas with the same agree on every target."""
        return digest(
            *(part for name, held in sorted(self._resolved.items()) for part in (name, held.digest))
        )


def _keep(entries: dict[str, _Held], entry: _Held) -> None:
    """The newest per author, whatever came first."""
    author = entry.proposal.author
    held = entries.get(author)
    key = (entry.proposal.stamp, entry.proposal.event_id)
    if held is None or key > (held.proposal.stamp, held.proposal.event_id):
        entries[author] = entry
