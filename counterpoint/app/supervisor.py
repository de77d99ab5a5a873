"""Starts the parts as processes, notices when one ends, starts it again, stops them all.

The supervisor is a convenience, not an authority: it passes no message between the parts, and they go on without it
until the terminal that holds them goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from counterpoint.base.clock import NS_PER_S, Clock

BACKOFF_S = (
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
)  # then every 5 s, for ever: a part that cannot start says why in its log
HEALTHY_S = 20.0  # up this long, and the back-off starts over
STOP_WAIT_S = 8.0  # then SIGKILL: every part is crash-safe
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Linux: no part outlives a supervisor that was killed. Elsewhere the parts are left to their own stop."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Part:
    """One process: its command, its state, and how often it was started again."""

    def __init__(self, name: str, command: Sequence[str], log: Path, cpu: int | None = None) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.cpu = cpu
        self.process: asyncio.subprocess.Process | None = None
        self.restarts = 0
        self.state = "stopped"  # stopped | running | restarting
        self.last_exit: int | None = None
        self.started_at_ns = 0

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.returncode is None else None

    async def start(self, clock: Clock) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then stops the parts in order
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        if self.cpu is not None and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(self.process.pid, {self.cpu})
        self.state = "running"
        self.started_at_ns = clock.now_ns()

    async def stop(self) -> None:
        process = self.process
        if process is None or process.returncode is not None:
            self.state = "stopped"
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_WAIT_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        self.last_exit = process.returncode
        self.state = "stopped"


class Supervisor:
    """Keeps parts alive. ``on_change(part, what)`` hears "started", "ended", "restarted"."""

    def __init__(self, clock: Clock, on_change: Callable[[Part, str], None]) -> None:
        self.clock = clock
        self.on_change = on_change
        self.parts: dict[str, Part] = {}
        self._stopping = asyncio.Event()
        self._retired: set[str] = set()

    async def keep(self, part: Part) -> None:
        """Run one part until :meth:`stop_all`; start it again whenever it ends."""
        self.parts[part.name] = part
        attempt = 0
        await part.start(self.clock)
        self.on_change(part, "started")
        while not self._stopping.is_set():
            assert part.process is not None
            part.last_exit = await part.process.wait()
            if self._stopping.is_set() or part.name in self._retired:
                break
            part.state = "restarting"
            self.on_change(part, "ended")
            if self.clock.now_ns() - part.started_at_ns > HEALTHY_S * NS_PER_S:
                attempt = 0
            await asyncio.sleep(BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)])
            attempt += 1
            if self._stopping.is_set():
                break
            part.restarts += 1
            await part.start(self.clock)
            self.on_change(part, "restarted")

    async def retire(self, name: str) -> None:
        """Stop one part and leave it stopped."""
        self._retired.add(name)
        await self.parts[name].stop()

    async def stop_all(self, order: Sequence[Sequence[str]]) -> None:
        """Stop one group after the other (then whatever is left), the parts of a group together: traffic first, the bus
        last, so that what is known is written."""
        self._stopping.set()
        named = {name for group in order for name in group}
        for group in (*order, [name for name in self.parts if name not in named]):
            await asyncio.gather(*(self.parts[name].stop() for name in group if name in self.parts))


def python_part(name: str, arguments: Sequence[str], log: Path, cpu: int | None = None) -> Part:
    return Part(name, [sys.executable, "-m", "counterpoint.app.cli", *arguments], log, cpu)
