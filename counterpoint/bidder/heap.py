"""The heap, made fit for serving: the collector off the request path, and large pages under what is read all the time.

The default collector walks the whole heap every so often: with a catalog in memory that is a pause of 100 ms. Nearly
everything a request makes is freed by its reference count; cycles come from rare errors and from old Views. So the
collector is switched off, what lives long is put out of its sight, and the young are collected when there is time.

A request touches a thousand small objects all over a heap of hundreds of megabytes; with pages of 4 kB most of them miss
the address cache too. Where the system offers large pages they are asked for: a tenth off the CPU of a decision, measured.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SWITCH_INTERVAL_S: Final = 0.0001  # how long a compiling thread may hold the interpreter while the loop waits

_HUGE: Final = 2 << 20
_MADV_HUGEPAGE: Final = 14  # Linux: use large pages here from now on
_MADV_COLLAPSE: Final = 25  # Linux 6.1: and bring together what is here already


def freeze_heap() -> None:
    """Once before serving, and after each swap of a catalog: no automatic collection, what lives now is not walked."""
    gc.disable()
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    use_large_pages()


def collect_young() -> int:
    """From a timer, about every 100 ms: cycles made since the last call. The pause grows with what was made since and
    is still alive (about 0.1 us an object), so often is better. Returns how many objects were unreachable."""
    return gc.collect(1)


def use_large_pages() -> int:
    """Ask for large pages under the heap (not under files or stacks); returns how many there are now, 0 where the
    system has none to give. Takes about 0.2 ms a page."""
    if not sys.platform.startswith("linux"):
        return 0
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    madvise.restype = ctypes.c_int
    got = 0
    for start, end in _heap_ranges():
        first, last = -(-start // _HUGE) * _HUGE, end // _HUGE * _HUGE
        if first >= last or madvise(first, last - first, _MADV_HUGEPAGE) != 0:
            continue
        got += sum(madvise(at, _HUGE, _MADV_COLLAPSE) == 0 for at in range(first, last, _HUGE))
    return got


def _heap_ranges() -> Iterator[tuple[int, int]]:
    """Private writable memory that belongs to no file: arenas, large arrays, the C heap."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            fields = line.split(maxsplit=5)
            name = fields[5] if len(fields) > 5 else ""
            if fields[1] == "rw-p" and fields[4] == "0" and name in ("", "[heap]"):
                start, _, end = fields[0].partition("-")
                yield int(start, 16), int(end, 16)
