"""A catalog as a file that :func:`~counterpoint.catalog.load.load_catalog` reads back as the same catalog."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import Enum
from typing import Any, Final

import msgspec
from msgspec import Struct

from counterpoint.base.clock import NS_PER_S
from counterpoint.catalog.build import GOAL_KEYS
from counterpoint.catalog.model import Catalog
from counterpoint.catalog.schema import FIELDS

# keys whose value is two fields of the struct
_SIZES: Final = {
    ("creative", "size"): ("w", "h"),
    ("native", "main_size"): ("main_w", "main_h"),
    ("native", "icon_size"): ("icon_w", "icon_h"),
}
_TABLES: Final = {
    "advertiser": "advertisers",
    "pool": "pools",
    "campaign": "campaigns",
    "line_item": "line_items",
    "creative": "creatives",
    "exchange": "exchanges",
}


def catalog_json(catalog: Catalog) -> bytes:
    """The text of a ``.json`` catalog file. What stands at its default is left out."""
    whole: dict[str, Any] = {"account_currency": catalog.account_currency}
    if catalog.rates:
        whole["rates"] = {rate.currency: _units(rate.micros) for rate in catalog.rates}
    for kind, attribute in _TABLES.items():
        whole[kind] = [_table(kind, it) for it in getattr(catalog, attribute)]
    return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"


def _table(kind: str, it: Struct) -> dict[str, Any]:
    defaults = {field.name: field.default for field in msgspec.structs.fields(it)}
    row: dict[str, Any] = {}
    for key, field in FIELDS[kind].items():
        if (kind, key) in _SIZES:
            w, h = (getattr(it, name) for name in _SIZES[kind, key])
            if w:
                row[key] = f"{w}x{h}"
            continue
        if kind == "campaign" and key in {key for key, _ in GOAL_KEYS.values()}:
            continue
        name = field.attribute or key
        value = getattr(it, name)
        if value is None or (value == defaults[name] and not field.required):
            continue
        if field.table and field.many:
            row[key] = [_table(field.table, each) for each in value]
        elif isinstance(value, Struct):
            row[key] = _table(field.table, value)
        else:
            row[key] = _value(name, value)
    if kind == "campaign":
        wanted, _ = GOAL_KEYS[it.goal]  # type: ignore[attr-defined]  # a Campaign
        row[wanted] = _units(it.goal_value_micros)  # type: ignore[attr-defined]
    return row


def _value(name: str, value: Any) -> Any:
    if name.endswith(("_micros", "_ppm")):
        return _units(value)
    if name.endswith("_at_ns"):
        return dt.datetime.fromtimestamp(value / NS_PER_S, dt.UTC).isoformat()
    if isinstance(value, Enum):
        return value.value
    return value


def _units(millionths: int) -> str:
    return f"{Decimal(millionths).scaleb(-6).normalize():f}"
