"""The newest View, and how it comes about: changes are gathered, compiled on a thread beside the loop, swapped whole.

One compilation at a time; what changes meanwhile goes into the next, so a storm of changes costs one View. A policy
that fails validation, or makes a View that prices golden requests insanely, is refused: the last good one stays, and
the refusal is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
from msgspec import Struct

from counterpoint.base.errors import ConfigError, PolicyRefused
from counterpoint.bidder.experiment import Experiment
from counterpoint.bidder.golden import check_view
from counterpoint.bidder.view import View, ViewInputs, compile_view, read_policy
from counterpoint.catalog.model import Catalog
from counterpoint.events.decisions import PolicyPublished

REASON_CHARS_MAX = 500  # a refused policy may name itself in megabytes


class Refusal(Struct, frozen=True):
    """What is not used, and why; the one before it stays. ``agent``: also "catalog" or "experiment"."""

    agent: str
    policy_version: int
    reason: str


class Changes(Struct):
    """What is to be different in the next View. ``None``: as it is."""

    catalog: Catalog | None = None
    experiment: Experiment | None = None
    policies: dict[str, PolicyPublished] = {}
    settings: dict[str, int] = {}
    stops: frozenset[str] | None = None
    quarantined: frozenset[str] = frozenset()  # to be added

    def any(self) -> bool:
        return self != Changes()


class ViewHolder:
    """``latest()`` is always usable. ``on_swap`` is called on the loop with each new View (Engine.swap),
    ``on_refused`` with each policy that was refused."""

    def __init__(
        self,
        first: View,
        on_swap: Callable[[View], None],
        on_refused: Callable[[Refusal], None],
        clock: Callable[[], int],
    ) -> None:
        self._view = first
        self._on_swap = on_swap
        self._on_refused = on_refused
        self._clock = clock
        self._changes = Changes()
        self._changed = asyncio.Event()
        self.refused = 0

    def latest(self) -> View:
        return self._view

    def swap(self, view: View) -> None:
        """Use this View from now on."""
        self._view = view
        self._on_swap(view)

    # ---- what changed; each returns at once

    def policy(self, event: PolicyPublished) -> None:
        """A newer policy of the same agent replaces one that still waits."""
        waiting = self._changes.policies.get(event.agent)
        if waiting is None or waiting.policy_version <= event.policy_version:
            self._changes.policies[event.agent] = event
        self._changed.set()

    def setting(self, target: str, value: int) -> None:
        """A resolution: ``campaign/42/bid_ceiling`` ..."""
        if self._view.inputs.settings.get(target) != value or target in self._changes.settings:
            self._changes.settings[target] = value
            self._changed.set()

    def stops(self, stops: frozenset[str]) -> None:
        """All that is stopped now."""
        self._changes.stops = stops
        self._changed.set()

    def catalog(self, catalog: Catalog) -> None:
        self._changes.catalog = catalog
        self._changed.set()

    def experiment(self, experiment: Experiment) -> None:
        self._changes.experiment = experiment
        self._changed.set()

    def quarantine(self, line_item_id: str) -> None:
        """A line item that fails assertions is left out, until the catalog changes or a restart."""
        self._changes.quarantined |= {line_item_id}
        self._changed.set()

    # ---- compiling

    async def run(self) -> None:
        """Belongs in a task group beside the server; ends when cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "view", initializer=_beside_the_loop) as compiling:
            while True:
                await self._changed.wait()
                self._changed.clear()
                changes = self._take()
                if changes.any():
                    self._use(
                        *await loop.run_in_executor(compiling, apply, self._view, changes, self._clock())
                    )

    def compile_now(self) -> None:
        """What changed, compiled here and now: for those who have no loop to keep free."""
        changes = self._take()
        if changes.any():
            self._use(*apply(self._view, changes, self._clock()))

    def _take(self) -> Changes:
        changes, self._changes = self._changes, Changes()
        return changes

    def _use(self, view: View, refusals: list[Refusal]) -> None:
        for refusal in refusals:
            self.refused += 1
            self._on_refused(refusal)
        if view is not self._view:
            self.swap(view)


def apply(last: View, changes: Changes, now_ns: int) -> tuple[View, list[Refusal]]:
    """The View with these changes, less what was refused. The ``last`` itself where nothing is left."""
    refusals: list[Refusal] = []
    view = last
    if changes.experiment is not None:
        view = _try(
            "experiment", msgspec.structs.replace(view.inputs, experiment=changes.experiment), view, refusals
        )
    if changes.catalog is not None:
        inputs = msgspec.structs.replace(view.inputs, catalog=changes.catalog, quarantined=frozenset())
        view = _try("catalog", inputs, view, refusals, now_ns)
    quarantined = view.inputs.quarantined | changes.quarantined
    stops = view.inputs.stops if changes.stops is None else changes.stops
    if changes.settings or stops != view.inputs.stops or quarantined != view.inputs.quarantined:
        inputs = msgspec.structs.replace(
            view.inputs,
            settings={**view.inputs.settings, **changes.settings},
            stops=stops,
            quarantined=quarantined,
        )
        view = compile_view(inputs, view)
    for event in changes.policies.values():
        try:
            held = read_policy(event, view.inputs.catalog)
        except PolicyRefused as error:
            refusals.append(Refusal(event.agent, event.policy_version, str(error)[:REASON_CHARS_MAX]))
            continue
        inputs = msgspec.structs.replace(view.inputs, policies={**view.inputs.policies, held.agent: held})
        view = _try(event.agent, inputs, view, refusals, now_ns, event.policy_version)
    return view, refusals


def _try(
    what: str,
    inputs: ViewInputs,
    last: View,
    refusals: list[Refusal],
    now_ns: int | None = None,
    version: int = 0,
) -> View:
    """The View of these inputs, or the last one and a refusal. With a time, golden requests are priced at it."""
    try:
        view = compile_view(inputs, last)
        if now_ns is not None:
            check_view(view, now_ns)
    except (ConfigError, PolicyRefused) as error:
        refusals.append(Refusal(what, version, str(error)[:REASON_CHARS_MAX]))
        return last
    return view


def _beside_the_loop() -> None:
    """Off the core the loop is pinned to, where the system lets us."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
