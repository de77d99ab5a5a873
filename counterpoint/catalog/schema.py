"""The tables of a catalog file: which keys each has, how a value is read, which field of the struct it becomes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from counterpoint.base.money import MICROS_PER_UNIT
from counterpoint.catalog import fields as f
from counterpoint.catalog.fields import BUDGET_MICROS_MAX, Bad, Reader
from counterpoint.catalog.lines import Path
from counterpoint.catalog.model import Goal, Media, NoBidForm, Pacing, Settles, UnknownUser

DAY_S: Final = 86_400
LIST_MAX: Final = 20_000  # values of one list: above this a list belongs into another system

_CODES_AV: Final = f.code(16, "creative subtypes (audio, video)")


class Problem(Struct, frozen=True):
    path: Path
    text: str  # what is wrong, and the cure


class Field(Struct, frozen=True):
    read: Reader
    attribute: str = ""  # of the struct; empty: as the key
    required: bool = False
    many: bool = False  # a list of such values
    table: str = ""  # a nested table instead, or with ``many`` a list of them
    example: str = ""  # shown when it is missing


def _need(read: Reader, example: str, attribute: str = "", *, many: bool = False) -> Field:
    return Field(read, attribute, required=True, many=many, example=example)


def _unread(value: Any) -> Any:
    return value


_BUDGET = "account currency per local day"
FIELDS: Final[Mapping[str, Mapping[str, Field]]] = {
    "advertiser": {
        "id": _need(f.name_id, '"acme"'),
        "name": _need(f.text(200), '"Acme Shoes"'),
        "domain": _need(f.host, '"acme.example.com"'),
        "conversion_token": Field(f.text(200)),
    },
    "pool": {
        "id": _need(f.name_id, '"acme-pool"'),
        "advertiser": _need(f.name_id, '"acme"', "advertiser_id"),
    },
    "campaign": {
        "id": _need(f.name_id, '"acme-spring"'),
        "advertiser": _need(f.name_id, '"acme"', "advertiser_id"),
        "name": _need(f.text(200), '"Spring sale"'),
        "daily_budget": _need(
            f.money(BUDGET_MICROS_MAX, _BUDGET, positive=True), '"100.00"', "daily_budget_micros"
        ),
        "pool": Field(f.name_id, "pool_id"),
        "budget_min": Field(f.money(BUDGET_MICROS_MAX, _BUDGET), "budget_min_micros"),
        "budget_max": Field(f.money(BUDGET_MICROS_MAX, _BUDGET, positive=True), "budget_max_micros"),
        "starts_at": Field(f.moment, "starts_at_ns"),
        "ends_at": Field(f.moment, "ends_at_ns"),
        "lifetime_budget": Field(
            f.money(BUDGET_MICROS_MAX, "account currency in all", positive=True), "lifetime_budget_micros"
        ),
        "utc_offset_minutes": Field(f.integer(-14 * 60, 14 * 60, "minutes")),
        "time_zone": Field(f.time_zone),
        "pacing": Field(f.choice(Pacing)),
        "goal": _need(f.choice(Goal), '"clicks"'),
        "target_cpm": Field(f.cpm(positive=True)),
        "target_cpc": Field(f.money(10_000 * MICROS_PER_UNIT, "account currency per click", positive=True)),
        "target_cpa": Field(
            f.money(1_000_000 * MICROS_PER_UNIT, "account currency per conversion", positive=True)
        ),
        "target_roas": Field(f.ppm(1, 1_000 * f.PPM)),
        "expected_order_value": Field(
            f.money(1_000_000 * MICROS_PER_UNIT, "account currency per order", positive=True),
            "expected_order_value_micros",
        ),
        "repeat_value": Field(f.ppm(), "repeat_value_ppm"),
        "reach_weight": Field(f.ppm(), "reach_weight_ppm"),
        "cost_weight": Field(f.ppm(), "cost_weight_ppm"),
        "bid_ceiling_cpm": Field(f.cpm(positive=True), "bid_ceiling_micros"),
        "click_window_s": Field(f.integer(1, 90 * DAY_S, "seconds")),
        "view_window_s": Field(f.integer(1, 90 * DAY_S, "seconds")),
        "paused": Field(f.boolean),
    },
    "frequency_cap": {
        "impressions": _need(f.integer(1, 100_000), "3"),
        "window_s": _need(f.integer(1, 90 * DAY_S, "seconds"), "86400"),
    },
    "targeting": {
        "exchanges": Field(f.name_id, many=True),
        "media": Field(f.choice(Media), many=True),
        "sizes": Field(f.size_text, many=True),
        "countries": Field(f.country, many=True),
        "regions": Field(f.region, many=True),
        "device_types": Field(f.integer(1, 8), many=True),
        "os": Field(f.text(40), many=True),
        "channels": Field(f.one_of("site", "app"), many=True),
        "domains": Field(f.site_or_bundle, many=True),
        "domains_blocked": Field(f.site_or_bundle, many=True),
        "categories": Field(f.category, many=True),
        "categories_blocked": Field(f.category, many=True),
        "hours_utc": Field(f.integer(0, 167), many=True),
        "languages": Field(f.language, many=True),
    },
    "line_item": {
        "id": _need(f.name_id, '"acme-spring-banner"'),
        "campaign": _need(f.name_id, '"acme-spring"', "campaign_id"),
        "name": Field(f.text(200)),
        "creatives": _need(f.name_id, '["acme-red-300x250"]', "creative_ids", many=True),
        "bid_min_cpm": Field(f.cpm(), "bid_min_micros"),
        "bid_max_cpm": Field(f.cpm(positive=True), "bid_max_micros"),
        "daily_cap": Field(f.money(BUDGET_MICROS_MAX, _BUDGET, positive=True), "daily_cap_micros"),
        "lifetime_cap": Field(
            f.money(BUDGET_MICROS_MAX, "account currency in all", positive=True), "lifetime_cap_micros"
        ),
        "frequency_cap": Field(_unread, table="frequency_cap"),
        "unknown_user": Field(f.choice(UnknownUser)),
        "expected_click_rate": Field(f.rate),
        "expected_conversion_rate": Field(f.rate),
        "paused": Field(f.boolean),
        "targeting": Field(_unread, table="targeting"),
    },
    "file": {
        "url": _need(f.url(), '"https://cdn.example.com/spot.mp4"'),
        "mime": _need(f.mime, '"video/mp4"'),
        "w": Field(f.integer(1, 99_999, "pixels")),
        "h": Field(f.integer(1, 99_999, "pixels")),
        "bitrate_kbps": Field(f.integer(1, 1_000_000, "kilobits per second")),
    },
    "native": {
        "title": _need(f.text(500), '"Shoes that last"'),
        "main_url": Field(f.url()),
        "main_size": Field(f.size),
        "icon_url": Field(f.url()),
        "icon_size": Field(f.size),
        "video_vast_url": Field(f.url()),
        **{
            key: Field(f.text(2_000))
            for key in (
                "sponsored",
                "description",
                "rating",
                "likes",
                "downloads",
                "price",
                "sale_price",
                "phone",
                "address",
                "description2",
                "display_url",
                "cta",
            )
        },
    },
    "creative": {
        "id": _need(f.name_id, '"acme-red-300x250"'),
        "advertiser": _need(f.name_id, '"acme"', "advertiser_id"),
        "media": _need(f.choice(Media), '"banner"'),
        "click_url": _need(f.url(https_only=True), '"https://acme.example.com/"'),
        "size": Field(f.size),
        "duration_s": Field(f.integer(1, 3_600, "seconds")),
        "mimes": Field(f.mime, many=True),
        "files": Field(_unread, table="file", many=True),
        "html": Field(f.text(100_000)),
        "image_url": Field(f.url()),
        "native": Field(_unread, table="native"),
        "categories": Field(f.category, many=True),
        "attributes": Field(f.code(23, "creative attributes"), many=True),
        "apis": Field(f.code(9, "API frameworks"), many=True),
        "protocols": Field(_CODES_AV, many=True),
        "language": Field(f.language),
        "skippable": Field(f.boolean),
        "features": Field(f.texts),
        "paused": Field(f.boolean),
    },
    "exchange": {
        "id": _need(f.name_id, '"northstar"'),
        "name": Field(f.text(200)),
        "seat": _need(f.text(200), '"seat-1"'),
        "currency": Field(f.currency),
        "auction_type": Field(f.one_of(1, 2)),
        "price_encoding": Field(f.one_of("plain")),
        "settles": Field(_unread, table="settles"),
        "win_notice_delay_p999_ms": Field(f.integer(1, DAY_S * 1_000, "milliseconds")),
        "billing_delay_max_ms": Field(f.integer(1, 7 * DAY_S * 1_000, "milliseconds")),
        "notice_life_ms": Field(f.integer(1, 30 * DAY_S * 1_000, "milliseconds")),
        "sends_loss_notices": Field(f.boolean),
        "no_bid": Field(f.choice(NoBidForm)),
        "deadline_ms_max": Field(f.integer(1, 10_000, "milliseconds")),
        "round_trip_ms": Field(f.integer(0, 10_000, "milliseconds")),
        "gzip_responses": Field(f.boolean),
        "secure_only": Field(f.boolean),
        "markup_on_win": Field(f.boolean),
        "paused": Field(f.boolean),
    },
    "settles": {medium.value: Field(f.choice(Settles)) for medium in Media},
}
TABLES: Final = ("advertiser", "pool", "campaign", "line_item", "creative", "exchange")
TOP: Final = ("account_currency", "rates", *TABLES)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The cure for a misspelt name."""
    options = sorted(known)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    some = ", ".join(options[:30])
    return f"known: {some}{', ...' if len(options) > 30 else ''}" if options else "none is declared"


def read_table(kind: str, raw: Any, path: Path, problems: list[Problem]) -> dict[str, Any]:
    """Values by struct field; what is wrong goes to ``problems`` and stays out of the result."""
    known = FIELDS[kind]
    if not isinstance(raw, dict):
        problems.append(Problem(path, f"is {f.shown(raw)}, not a table of keys; see docs/catalog.md, {kind}"))
        return {}
    values: dict[str, Any] = {}
    for key, value in raw.items():
        field = known.get(key)
        if field is None:
            cure = did_you_mean(key, known)
            problems.append(Problem((*path, key), f"{key}: no such key of {kind}; {cure}"))
            continue
        found = _read_field(field, key, value, (*path, key), problems)
        if found is not _BROKEN:
            values[field.attribute or key] = found
    for key, field in known.items():
        if field.required and key not in raw:
            problems.append(Problem(path, f"{key} is missing; add {key} = {field.example}"))
    return values


_BROKEN: Final = object()


def _read_field(field: Field, key: str, value: Any, path: Path, problems: list[Problem]) -> Any:
    if field.many:
        if not isinstance(value, list):
            problems.append(Problem(path, f"{key}: is {f.shown(value)}, not a list; write {key} = [...]"))
            return _BROKEN
        if len(value) > LIST_MAX:
            problems.append(Problem(path, f"{key}: has {len(value)} values; at most {LIST_MAX} are kept"))
            return _BROKEN
        found = [_read_one(field, key, v, (*path, at), problems) for at, v in enumerate(value)]
        return _BROKEN if any(v is _BROKEN for v in found) else tuple(found)
    return _read_one(field, key, value, path, problems)


def _read_one(field: Field, key: str, value: Any, path: Path, problems: list[Problem]) -> Any:
    if field.table:
        before = len(problems)
        values = read_table(field.table, value, path, problems)
        return values if len(problems) == before else _BROKEN
    try:
        return field.read(value)
    except Bad as bad:
        problems.append(Problem(path, f"{key}: {bad}"))
        return _BROKEN
