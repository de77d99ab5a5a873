"""Values of a catalog file: each reader takes what the parser gave and returns what the struct holds, or says the cure."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from counterpoint.base.money import MICROS_PER_UNIT, PRICE_MICROS_MAX
from counterpoint.catalog import normal

Reader = Callable[[Any], Any]
E = TypeVar("E", bound=StrEnum)

BUDGET_MICROS_MAX: Final = 1_000_000_000 * MICROS_PER_UNIT  # 10^18 nano-units: still a 64-bit integer
PPM: Final = 1_000_000
_MICRO: Final = Decimal("0.000001")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_HOST: Final = re.compile(r"(?=.{4,253}$)([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")
_SIZE: Final = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_MIME: Final = re.compile(r"[a-z]+/[a-z0-9.+-]+")


class Bad(Exception):
    """A value that cannot be used; the message is the cure."""


def shown(value: object) -> str:
    """A value as in the file, cut short."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def text(limit: int = 1_000) -> Reader:
    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise Bad(f"is {shown(value)}, not text; put it in quotes")
        if len(value) > limit:
            raise Bad(f"has {len(value)} characters; at most {limit} are allowed")
        return value

    return read


def name_id(value: Any) -> str:
    """Identifiers travel in subjects, URLs and targets such as ``campaign/ID/bid_ceiling``."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise Bad(
            f'is {shown(value)}; use 1 to 64 letters, digits, ".", "_", ":" or "-", such as "shoes-2026"'
        )
    return value


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Bad(f"is {shown(value)}; write true or false")
    return value


def integer(low: int, high: int, unit: str = "") -> Reader:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Bad(f"is {shown(value)}; write a whole number from {low} to {high}{unit and ' ' + unit}")
        return value

    return read


def _decimal(value: Any, example: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise Bad(f'is {shown(value)}, not a number; write for example "{example}"')
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise Bad(f'is {shown(value)}, not a number; write for example "{example}"') from None
    if not number.is_finite():
        raise Bad(f'is {shown(value)}; write a finite number, for example "{example}"')
    return number


def money(limit_micros: int, unit: str, *, positive: bool = False, example: str = "100.00") -> Reader:
    """A decimal in units of the account currency -> micros, exactly."""

    def read(value: Any) -> int:
        number = _decimal(value, example)
        if number < 0 or (positive and number == 0):
            raise Bad(
                f"is {shown(value)}; money must be {'more than 0' if positive else '0 or more'} ({unit})"
            )
        if number > Decimal(limit_micros) / MICROS_PER_UNIT:
            raise Bad(f"is {shown(value)}; at most {limit_micros // MICROS_PER_UNIT} is believed ({unit})")
        exact = number.quantize(_MICRO)
        if exact != number:
            raise Bad(f"is {shown(value)}; at most six decimals, a millionth is the smallest amount ({unit})")
        return int(exact * MICROS_PER_UNIT)

    return read


def cpm(*, positive: bool = False) -> Reader:
    return money(
        PRICE_MICROS_MAX, "account currency per 1,000 impressions", positive=positive, example="2.50"
    )


def ppm(low: int = 0, high: int = PPM) -> Reader:
    """A ratio -> parts per million."""

    def read(value: Any) -> int:
        number = _decimal(value, "0.5")
        if not low <= number * PPM <= high or number.quantize(_MICRO) != number:
            raise Bad(
                f"is {shown(value)}; write a number from {Decimal(low) / PPM} to {Decimal(high) / PPM}"
                " with at most six decimals"
            )
        return int(number.quantize(_MICRO) * PPM)

    return read


def rate(value: Any) -> float:
    number = _decimal(value, "0.002")
    if not 0 < number < 1:
        raise Bad(f"is {shown(value)}; a rate lies between 0 and 1, both excluded, for example 0.002")
    return float(number)


def moment(value: Any) -> int:
    """A date-time with offset -> ns since the epoch."""
    found = value
    if isinstance(value, str):
        try:
            found = dt.datetime.fromisoformat(value)
        except ValueError:
            found = None
    if not isinstance(found, dt.datetime) or found.tzinfo is None:
        raise Bad(f"is {shown(value)}; write date, time and offset, such as 2026-03-01T00:00:00Z")
    span = found - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    if not 0 <= span.days <= 80_000:
        raise Bad(f"is {shown(value)}; write a time between 1970 and 2189")
    return (span.days * 86_400 + span.seconds) * 1_000_000_000 + span.microseconds * 1_000


def choice(kind: type[E]) -> Reader:
    def read(value: Any) -> E:
        try:
            return kind(value)
        except ValueError:
            raise Bad(f"is {shown(value)}; choose one of {', '.join(kind)}") from None

    return read


def one_of(*values: Any) -> Reader:
    def read(value: Any) -> Any:
        if isinstance(value, bool) or value not in values:
            raise Bad(f"is {shown(value)}; choose one of {', '.join(map(str, values))}")
        return value

    return read


def url(*, https_only: bool = False) -> Reader:
    def read(value: Any) -> str:
        schemes = ("https",) if https_only else ("https", "http")
        try:
            parts = urlsplit(value) if isinstance(value, str) else None
            host = parts.hostname if parts else None
        except ValueError:
            parts, host = None, None
        if parts is None or parts.scheme not in schemes or not host or parts.username is not None:
            raise Bad(
                f'is {shown(value)}; write a full {schemes[0]} address, such as "https://shop.example.com/"'
            )
        # only what a Location header may hold: a click on any other would end in an error
        if len(value) > 2_000 or any(not "!" <= c <= "~" or c in '<>"' for c in value):
            raise Bad(
                "has blanks, quotes, other than ASCII or more than 2,000 characters; percent-encode (the host: "
                "as xn--) or shorten it"
            )
        return str(value)

    return read


def host(value: Any) -> str:
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise Bad(
            f'is {shown(value)}; write a bare lower-case domain such as "example.com", no scheme or path'
        )
    return value


def site_or_bundle(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", value):
        raise Bad(
            f'is {shown(value)}; write a domain such as "example.com" or an app bundle, no scheme or path'
        )
    return value


def size(value: Any) -> tuple[int, int]:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Bad(f'is {shown(value)}; write width x height in pixels, such as "300x250"')
    return int(match[1]), int(match[2])


def size_text(value: Any) -> str:
    w, h = size(value)
    return f"{w}x{h}"


def country(value: Any) -> str:
    if value not in normal.COUNTRIES:
        better = normal.ALPHA3_OF.get(value.upper()) if isinstance(value, str) else None
        raise Bad(f'is {shown(value)}; write the ISO 3166-1 alpha-3 code, such as "{better or "USA"}"')
    return str(value)


def region(value: Any) -> str:
    head, _, tail = value.partition("-") if isinstance(value, str) else ("", "", "")
    if head not in normal.COUNTRIES or not re.fullmatch(r"[A-Z0-9]{1,3}", tail):
        raise Bad(f'is {shown(value)}; write alpha-3 country, "-" and the ISO 3166-2 part, such as "USA-CA"')
    return str(value)


def category(value: Any) -> str:
    if value not in normal.CATEGORIES:
        raise Bad(f'is {shown(value)}; write an IAB Content Taxonomy 1.0 id, such as "IAB1" or "IAB1-6"')
    return str(value)


def language(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", value):
        raise Bad(f'is {shown(value)}; write an ISO 639 code, such as "en"')
    return value


def mime(value: Any) -> str:
    if not isinstance(value, str) or not _MIME.fullmatch(value):
        raise Bad(f'is {shown(value)}; write a media type, such as "video/mp4"')
    return value


def time_zone(value: Any) -> str:
    known = available_timezones()
    if value not in known:
        cure = 'write an IANA name, such as "Europe/Berlin"'
        if not known:
            cure = "this machine has no time zones: install the package tzdata, or use utc_offset_minutes"
        raise Bad(f"is {shown(value)}; {cure}")
    return str(value)


def currency(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z]{3}", value):
        raise Bad(f'is {shown(value)}; write an ISO 4217 code, such as "USD"')
    return value


def code(last: int, what: str) -> Reader:
    """An AdCOM enumeration: 1..last, or a vendor's own from 500."""

    def read(value: Any) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or not (1 <= value <= last or 500 <= value < 2**31)
        ):
            raise Bad(
                f"is {shown(value)}; write an AdCOM number of {what}, 1 to {last} (or a vendor's, from 500)"
            )
        return value

    return read


def texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise Bad('must be a table of texts, such as { colour = "red", message = "discount" }')
    if len(value) > 32:
        raise Bad(f"has {len(value)} entries; at most 32 are kept")
    return dict(value)
