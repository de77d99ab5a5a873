"""Reading a bid request that the typed decoder refused: keep what can be understood, drop the rest.

Driven by the same structs, so a field is named once. The rules, by what a wrong reading would cost:

- numbers from strings, booleans and floats (cut towards zero), ids from numbers, one value where a list belongs;
- an optional object or number that can't be read is as if it were absent;
- a *protecting* flag that can't be read is taken as set (``test``, ``coppa``, ``gdpr``, ``private_auction`` ...);
- a floor or a deal object that can't be read makes its imp unsound; a media object whose block list can't be read
  is not offered;
- a block or seat list of the request that can't be read is named in ``BidRequest.unreadable``.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from counterpoint.base.errors import InvalidRequest
from counterpoint.openrtb.objects import BidRequest, Imp, Wire

INT_MAX = 2**31 - 1
IMPS_MAX = 1_000  # read of one request; the others count as unsound
INT_MIN = -(2**31)


class Unreadable(Exception):
    """A value that can't be read as what belongs here; caught where the field is optional."""


# Protecting flags: what can't be read counts as 1.
_PROTECTING = frozenset(
    {"test", "coppa", "gdpr", "gpc", "dnt", "lmt", "private_auction", "secure", "dsarequired"}
)
# Limits without which the object that carries them may not be used.
_LIMITS = frozenset(
    {"battr", "btype", "durfloors", "mincpmpersec", "rqddurs", "poddur", "maxseq", "bidfloor", "pmp"}
)
_LIMITS |= {"multiplier", "qty", "minduration", "maxduration"}
# Limits of the request as a whole.
_REQUEST_LIMITS = frozenset({"bcat", "badv", "bapp", "wseat", "bseat", "cur", "wlang", "wlangb", "acat"})

_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off", ""})


def _int(value: Any) -> int:
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _TRUE or text in _FALSE:
            return int(text in _TRUE)
        try:
            value = int(text) if text.lstrip("+-").isdigit() else float(text)
        except ValueError:
            raise Unreadable from None
    if isinstance(value, list) and value:
        return _int(value[0])
    if not isinstance(value, int | float) or value != value:  # neither a number nor NaN
        raise Unreadable
    return int(max(INT_MIN, min(INT_MAX, value)))


def _float(value: Any) -> float:
    if isinstance(value, str):
        text = value.strip()
        try:
            return float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
        except ValueError:
            raise Unreadable from None
    if isinstance(value, list) and len(value) == 1:
        return _float(value[0])
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable
    try:
        return float(value)
    except OverflowError:
        raise Unreadable from None


def _str(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable
    return str(value)


def _native_request(value: Any) -> Any:
    if isinstance(value, str | dict):
        return value
    raise Unreadable


def _many(one: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> tuple[Any, ...]:
        items = value if isinstance(value, list) else [value]
        kept = []
        for item in items:
            try:
                kept.append(one(item))
            except Unreadable:
                continue
        if items and not kept:
            raise Unreadable  # all of it: the list was meant to say something
        return tuple(kept)

    return read


def reader_of(kind: type[Wire], leave: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """A function from plain objects to ``kind``; it raises :class:`Unreadable`. Fields in ``leave`` are not read."""
    readers: dict[str, Callable[[Any], Any]] = {}  # filled at first use: some structs are defined later

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Unreadable
        if not readers:
            hints = get_type_hints(kind, include_extras=True)
            readers.update(
                {f.name: _reader(hints[f.name]) for f in msgspec.structs.fields(kind) if f.name not in leave}
            )
        found: dict[str, Any] = {}
        for name, one in readers.items():
            raw = value.get(name)
            if raw is None:
                continue
            try:
                found[name] = one(raw)
            except Unreadable:
                if name in _PROTECTING:
                    found[name] = 3 if name == "dsarequired" else 1
                elif name in _LIMITS:
                    raise
        try:
            return kind(**found)
        except TypeError:  # a required id is missing
            raise Unreadable from None

    return read


def _reader(hint: Any) -> Callable[[Any], Any]:
    origin = get_origin(hint)
    if origin is Annotated:
        return _reader(get_args(hint)[0])
    if origin is tuple:
        return _many(_reader(get_args(hint)[0]))
    if origin in (Union, types.UnionType):
        inner = [a for a in get_args(hint) if a is not type(None)]
        return _reader(inner[0]) if len(inner) == 1 else _native_request
    if isinstance(hint, type) and issubclass(hint, Wire):
        return reader_of(hint)
    return {int: _int, float: _float, str: _str}[hint]


_HINTS = get_type_hints(BidRequest, include_extras=True)
_READERS = {
    f.name: _reader(_HINTS[f.name])
    for f in msgspec.structs.fields(BidRequest)
    if f.name not in ("imp", "imps_unsound", "unreadable")
}
_read_imp = reader_of(Imp)


def read_request(plain: Any) -> BidRequest:
    """Plain objects -> a request that holds the imps that could be read, and counts the others.

    Raises :class:`InvalidRequest` when it is no object, has no id, or no imp with an id.
    """
    if not isinstance(plain, dict):
        raise InvalidRequest(f"a bid request is an object, not {_kind(plain)}")
    found: dict[str, Any] = {}
    for name, one in _READERS.items():
        raw = plain.get(name)
        if raw is None:
            continue
        try:
            found[name] = one(raw)
        except Unreadable:
            if name in _PROTECTING:
                found[name] = 1
            elif name in _REQUEST_LIMITS:
                found["unreadable"] = name
            elif name == "regs":
                found["unreadable"] = name  # what protects people can't be read at all
            elif name == "dooh":
                found[name] = None
                found["unreadable"] = name
    if not found.get("id"):
        raise InvalidRequest("the request has no id that is a string or a number")
    raw_imps = plain.get("imp")
    if isinstance(raw_imps, dict):
        raw_imps = [raw_imps]
    if not isinstance(raw_imps, list) or not raw_imps:
        raise InvalidRequest(f"imp is a list of at least one object, not {_kind(raw_imps)}")
    imps = []
    named = False
    for raw in raw_imps[:IMPS_MAX]:
        named = named or (isinstance(raw, dict) and _is_id(raw.get("id")))
        try:
            imps.append(_read_imp(raw))
        except Unreadable:
            continue
    if not named:
        raise InvalidRequest("no imp has an id")
    return BidRequest(imp=tuple(imps), imps_unsound=len(raw_imps) - len(imps), **found)


def _is_id(value: Any) -> bool:
    return (isinstance(value, str) and value != "") or (
        isinstance(value, int | float) and not isinstance(value, bool)
    )


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "a number") if value != [] else "an empty list"
