"""Processes of a benchmark: started on a core, spoken to in JSON lines, looked at through /proc."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from counterpoint.base.errors import CounterpointError

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
START_WAIT_S: Final = 300.0  # compiling the kernels for the first time takes a minute on a slow machine


class BenchFailed(CounterpointError):
    """A part of the benchmark did not start or ended early; the message has the end of what it said."""


def cores() -> tuple[int, int]:
    """(core of the server, core of everything else); the same one where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def cpu_s(pid: int) -> float:
    """CPU seconds of all threads of a process so far, to a hundredth; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def move(pid: int, core: int) -> None:
    """Pin every thread of a process to a core; threads it starts later follow."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # ended meanwhile
            os.sched_setaffinity(int(task.name), {core})


class Part:
    """``python -m module`` on a core. Takes a JSON line on stdin, answers each with one on stdout."""

    def __init__(self, module: str, config: Any, core: int | None) -> None:
        self._log = (
            Path(os.environ.get("TMPDIR", "/tmp")) / f"counterpoint-bench-{os.getpid()}-{id(self)}.log"
        )
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
            )
        self.module = module
        self.pid = self._process.pid
        self.ready: dict[str, Any] = {}
        self.ready = self.ask(config)

    def ask(self, question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(msgspec.json.encode(question) + b"\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            said = self._log.read_text("utf-8", "replace")[-2_000:]
            raise BenchFailed(f"{self.module} ended with {self._process.wait()}: {said}")
        answer = msgspec.json.decode(line)
        assert isinstance(answer, dict)
        return answer

    def stop(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.unlink(missing_ok=True)

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def settle(seconds: float = 0.2) -> None:
    """Let what was started before come to rest."""
    time.sleep(seconds)
