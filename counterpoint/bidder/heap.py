"""The collector, kept off the request path.

The default collector walks the whole heap every so often: with a catalog in memory that is a pause of 100 ms. Nearly
everything a request makes is freed by its reference count; cycles come from rare errors and from old Views. So the
collector is switched off, what lives long is put out of its sight, and the young are collected when there is time.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

SWITCH_INTERVAL_S: Final = 0.0001  # how long a compiling thread may hold the interpreter while the loop waits


def freeze_heap() -> None:
    """Once before serving, and after each swap of a catalog: no automatic collection, what lives now is not walked."""
    gc.disable()
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def collect_young() -> int:
    """From a timer, about every 100 ms: cycles made since the last call. The pause grows with what was made since and
    is still alive (about 0.1 us an object), so often is better. Returns how many objects were unreachable."""
    return gc.collect(1)
