"""From a request to the hashed context of the value model: once per request, then the little that differs by imp."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.bidding.policy import EXPOSED_MAX, FIELDS, exposure_level, feature
from counterpoint.openrtb.objects import Imp

MEMO_MAX: Final = 8_192  # values remembered by field; past that the memo starts anew
_PERSON: Final = tuple(feature("person", str(level)) for level in range(EXPOSED_MAX + 1))
_HOUR: Final = tuple(feature("hour", str(hour)) for hour in range(24))
_WEEK: Final = tuple(feature("hour_of_week", str(hour)) for hour in range(168))
NO_SIZE: Final = (0, 0)
_PACK: Final = struct.Struct(f"<{len(FIELDS)}I")
_AT_SIZE: Final = 4 * FIELDS.index("size")
_IMP: Final = struct.Struct("<2I")  # size and position stand together
_PERSON_AT: Final = FIELDS.index("person")
assert FIELDS.index("position") == FIELDS.index("size") + 1


class Contexts:
    """``array`` is what the price reads; belongs to one thread."""

    __slots__ = ("_buffer", "_categories", "_countries", "_devices", "_places", "_slots", "array")

    def __init__(self) -> None:
        self.array: NDArray[np.uint32] = np.zeros(len(FIELDS), np.uint32)
        self._buffer = self.array.data.cast("B")
        # memos by field, of the values as the request has them
        self._places: dict[object, int] = {}
        self._categories: dict[object, int] = {}
        self._devices: dict[object, int] = {}
        self._countries: dict[object, int] = {}
        self._slots: dict[object, tuple[int, int]] = {}  # size and position

    def request(
        self, place: str, category: str, device_type: int, os: str, country: str, week_hour: int
    ) -> None:
        """All that imps share, and nothing of a person (:meth:`person`). ``week_hour`` 0..167."""
        device = (device_type, os)
        places, categories, devices, countries = (
            self._places,
            self._categories,
            self._devices,
            self._countries,
        )
        _PACK.pack_into(
            self._buffer,
            0,
            places[place] if place in places else _new(places, place, "place", place),
            categories[category]
            if category in categories
            else _new(categories, category, "category", category),
            0,
            0,
            _HOUR[week_hour % 24],
            _WEEK[week_hour],
            devices[device] if device in devices else _new(devices, device, "device", *device),
            countries[country] if country in countries else _new(countries, country, "country", country),
            0,
        )

    def person(self, shown: int) -> None:
        """Of a person who may be known: how often anything with a cap was shown to them."""
        self.array[_PERSON_AT] = _PERSON[exposure_level(shown)]

    def imp(self, imp: Imp, sizes: tuple[tuple[int, int], ...]) -> None:
        """What differs by imp. Of several media the banner's size and position stand for all."""
        size = sizes[0] if sizes else NO_SIZE
        banner, video = imp.banner, imp.video
        key: tuple[object, ...]
        if banner is not None:
            key = (size, banner.pos, 0, imp.instl)
        elif video is not None:
            key = ((video.w, video.h), video.pos, video.plcmt, imp.instl)
        else:
            key = (size, 0, 0, imp.instl)
        found = self._slots.get(key)
        if found is None:
            (width, height), *where = key
            if len(self._slots) >= MEMO_MAX:
                self._slots.clear()
            found = self._slots[key] = (_hashed("size", width, height), _hashed("position", *where))
        _IMP.pack_into(self._buffer, _AT_SIZE, *found)

    def packed(self) -> bytes:
        return self.array.tobytes()


def _hashed(field: str, *values: object) -> int:
    return feature(field, "/".join(map(str, values))) if any(values) else 0


def _new(memo: dict[object, int], key: object, field: str, *values: object) -> int:
    if len(memo) >= MEMO_MAX:
        memo.clear()
    found = memo[key] = _hashed(field, *values)
    return found
