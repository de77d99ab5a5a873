"""Which sizes an imp takes: banner sizes (3.2.6, 3.2.10) and the player size of video (3.2.7)."""

from __future__ import annotations

from msgspec import Struct

from counterpoint.openrtb.objects import Banner, Device, Imp

FORMATS_MAX = 64  # more sizes than there are in use; the rest is not looked at


def banner_sizes(banner: Banner) -> tuple[tuple[int, int], ...]:
    """The exact sizes offered, ``(w, h)`` in device independent pixels, each once, in order of preference.

    ``format[]`` counts; only where it holds no exact size do ``w`` and ``h``. Flexible ads (``wratio``) are not
    offered by us and not listed. Empty: see :func:`size_range`.
    """
    formats = banner.format
    if len(formats) == 1 and formats[0].w > 0 and formats[0].h > 0:
        return ((formats[0].w, formats[0].h),)
    sizes = tuple(dict.fromkeys((f.w, f.h) for f in formats[:FORMATS_MAX] if f.w > 0 and f.h > 0))
    if sizes:
        return sizes
    if banner.w > 0 and banner.h > 0:
        return ((banner.w, banner.h),)
    return ()


class SizeRange(Struct, frozen=True, gc=False):
    """Both ends included."""

    w_min: int
    h_min: int
    w_max: int
    h_max: int

    def takes(self, w: int, h: int) -> bool:
        return self.w_min <= w <= self.w_max and self.h_min <= h <= self.h_max


def size_range(imp: Imp, device: Device | None = None) -> SizeRange | None:
    """Sizes taken beside the exact ones; ``None``: none.

    2.5 names ``wmax``/``hmax`` (with optional minima). An interstitial (``instl`` 1) without any size takes what fits
    the screen. A banner of unknown size that is no interstitial takes nothing: absent means unknown.
    """
    banner = imp.banner
    if banner is None:
        return None
    if banner.wmax > 0 and banner.hmax > 0:
        return SizeRange(max(1, banner.wmin), max(1, banner.hmin), banner.wmax, banner.hmax)
    if imp.instl and device is not None and device.w > 0 and device.h > 0 and not banner_sizes(banner):
        return SizeRange(1, 1, device.w, device.h)
    return None


def takes_size(imp: Imp, w: int, h: int, device: Device | None = None) -> bool:
    """Whether a banner of that size may be sent for this imp."""
    if imp.banner is None:
        return False
    if (w, h) in banner_sizes(imp.banner):
        return True
    extra = size_range(imp, device)
    return extra is not None and extra.takes(w, h)
