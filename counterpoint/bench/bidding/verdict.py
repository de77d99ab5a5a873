"""What a part of the benchmark hands back: verdicts, tables, and what it could not run.

A verdict names its bar, what was measured with its interval, and says whether the bar is met and else by how much not.
It never says "met" of a quick run, or of a figure without seeds behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

RESAMPLES: Final = 10_000
# 97.5 % points of Student's t at 1, 2, ... degrees of freedom; beyond the last, the last (wider than needed)
STUDENT: Final = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
)


class Bar(StrEnum):
    """Which side of the target is good."""

    AT_LEAST = "at least"
    AT_MOST = "at most"
    ABOVE = "interval above"  # only the whole interval beyond the target counts
    REPORTED = "reported"  # an honest figure without a bar


class Measured(Struct, frozen=True, kw_only=True):
    """``low`` and ``high`` are the 95 % interval; None where one run has none (``Verdict.behind`` says so)."""

    value: float
    low: float | None = None
    high: float | None = None


class Verdict(Struct, frozen=True, kw_only=True):
    bar: str  # in words: what, against whom, where
    kind: Bar
    target: float | None  # None: reported only
    measured: Measured | None  # None: could not be measured; ``note`` says why
    behind: str  # seeds, blocks or draws behind the interval
    unit: str = ""  # "", "us", "s", "events/s"; ratios and shares have none
    note: str = ""

    @property
    def met(self) -> bool:
        """At the point; for :attr:`Bar.ABOVE` with the whole interval."""
        if self.target is None or self.measured is None or not math.isfinite(self.measured.value):
            return False
        if self.kind is Bar.ABOVE:
            return self.measured.low is not None and self.measured.low > self.target
        if self.kind is Bar.AT_MOST:
            return self.measured.value <= self.target
        return self.measured.value >= self.target

    def line(self, quick: bool = False) -> str:
        """``met``, ``met at the point, the interval is not``, or by how much it is missed."""
        if self.measured is None:
            return f"not measured: {self.note}"
        if quick:
            return "quick run: no verdict"
        if self.target is None:
            return "reported"
        m = self.measured
        if self.met:
            spans = m.low is not None and m.high is not None and not (m.low >= self.target)
            if self.kind is Bar.AT_MOST:
                spans = m.high is not None and m.high > self.target
            return "met at the point, the interval spans the bar" if spans else "met"
        if self.kind is Bar.ABOVE:
            reached = m.value if m.low is None else m.low
            return f"not met: the interval starts {self.target - reached:.4g}{self._unit} below"
        return f"not met by {abs(m.value - self.target):.4g}{self._unit}"

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    def figure(self) -> str:
        if self.measured is None:
            return "-"
        m = self.measured
        interval = "" if m.low is None or m.high is None else f" [{m.low:.4g}, {m.high:.4g}]"
        return f"{m.value:.4g}{self._unit}{interval}"


class Table(Struct, frozen=True, kw_only=True):
    """First column names, the others are figures, already as text."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class PartResult(Struct, frozen=True, kw_only=True):
    """``timed``: its figures are wall-clock times and go beside the JSON, not into it. ``series`` is what plots show."""

    part: str
    verdicts: tuple[Verdict, ...] = ()
    tables: tuple[Table, ...] = ()
    series: dict[str, list[float]] = {}
    notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()  # what was not run, and what it would take
    timed: bool = False


class Context(Struct, frozen=True, kw_only=True):
    """What a part is run with. Equal settings give equal results, but for ``timed`` parts."""

    seeds: tuple[int, ...]
    data: Path | None = None  # folder of the real logs; None: parts that need it skip, saying so
    plots: Path | None = None  # folder for PNGs; None: none are drawn
    quick: bool = False  # small sizes, to see that it runs: no verdict
    report: Callable[[str, float], None] = lambda label, share: (
        None
    )  # what is done now, share of the part done


def over_seeds(values: Sequence[float]) -> Measured:
    """Mean, and 95 % by bootstrap of the seeds (:data:`RESAMPLES` draws, always the same): below ten or so it is too narrow.

    >>> over_seeds([1.0, 1.0, 1.0])
    Measured(value=1.0, low=1.0, high=1.0)
    """
    sample: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if sample.size < 2:
        return Measured(value=mean)
    generator = np.random.Generator(np.random.Philox(key=[0, 0x7365_6564_73]))
    means = sample[generator.integers(0, sample.size, (RESAMPLES, sample.size))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Measured(value=mean, low=float(low), high=float(high))


def over_few_seeds(values: Sequence[float]) -> Measured:
    """Mean, and 95 % by Student's t: of a handful of seeds the bootstrap is too narrow.

    >>> over_few_seeds([1.0, 1.0, 1.0])
    Measured(value=1.0, low=1.0, high=1.0)
    """
    sample: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if sample.size < 2:
        return Measured(value=mean)
    point = STUDENT[min(sample.size - 1, len(STUDENT)) - 1]
    half = float(point * sample.std(ddof=1) / math.sqrt(sample.size))
    return Measured(value=mean, low=mean - half, high=mean + half)
