"""Tables of a parsed file into structs, each with its place in the file, before anything is checked against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from counterpoint.base.money import MICROS_PER_UNIT
from counterpoint.catalog import fields as f
from counterpoint.catalog.fields import Bad
from counterpoint.catalog.model import (
    Advertiser,
    BudgetPool,
    Campaign,
    Catalog,
    Creative,
    CurrencyRate,
    ExchangeProfile,
    FrequencyCap,
    Goal,
    LineItem,
    MediaFile,
    NativeAssets,
    Targeting,
)
from counterpoint.catalog.schema import Problem, read_table

S = TypeVar("S", bound=Struct)

RATE_MICROS_MAX: Final = 1_000_000 * MICROS_PER_UNIT
# which key holds a goal's value, what it means, and what to write
GOAL_KEYS: Final[Mapping[Goal, tuple[str, str]]] = {
    Goal.REACH: ("target_cpm", '"2.00", what a thousand impressions are worth'),
    Goal.CLICKS: ("target_cpc", '"0.50", what a click is worth'),
    Goal.CONVERSIONS: ("target_cpa", '"20.00", what a conversion is worth'),
    Goal.VALUE: ("target_roas", '"4.0", order value wanted per unit spent'),
}


class Placed(Struct, Generic[S], frozen=True):
    at: int  # place in its list in the file
    it: S


class Parts(Struct):
    """What could be read; ``ids`` counts the broken ones too, so that a reference to one is not a second mistake."""

    account_currency: str
    rates: dict[str, int]
    advertisers: list[Placed[Advertiser]]
    pools: list[Placed[BudgetPool]]
    campaigns: list[Placed[Campaign]]
    line_items: list[Placed[LineItem]]
    creatives: list[Placed[Creative]]
    exchanges: list[Placed[ExchangeProfile]]

    def catalog(self) -> Catalog:
        return Catalog(
            account_currency=self.account_currency,
            rates=tuple(CurrencyRate(currency=c, micros=m) for c, m in sorted(self.rates.items())),
            advertisers=tuple(p.it for p in self.advertisers),
            pools=tuple(p.it for p in self.pools),
            campaigns=tuple(p.it for p in self.campaigns),
            line_items=tuple(p.it for p in self.line_items),
            creatives=tuple(p.it for p in self.creatives),
            exchanges=tuple(p.it for p in self.exchanges),
        )


def build(raw: Mapping[str, Any], problems: list[Problem]) -> Parts:
    """Read every table; mistakes go to ``problems``, the tables that have one stay out."""
    account, rates = _money(raw, problems)
    return Parts(
        account_currency=account,
        rates=rates,
        advertisers=_each(raw, "advertiser", _advertiser, problems),
        pools=_each(raw, "pool", _pool, problems),
        campaigns=_each(raw, "campaign", _campaign, problems),
        line_items=_each(raw, "line_item", _line_item, problems),
        creatives=_each(raw, "creative", _creative, problems),
        exchanges=_each(raw, "exchange", _exchange, problems),
    )


def tables(raw: Mapping[str, Any], kind: str) -> Sequence[Any]:
    found = raw.get(kind, [])
    return found if isinstance(found, list) else []


def _money(raw: Mapping[str, Any], problems: list[Problem]) -> tuple[str, dict[str, int]]:
    account = "USD"
    rates: dict[str, int] = {}
    try:
        account = f.currency(raw.get("account_currency", "USD"))
    except Bad as bad:
        problems.append(Problem(("account_currency",), f"account_currency: {bad}"))
    given = raw.get("rates", {})
    if not isinstance(given, dict):
        problems.append(Problem(("rates",), 'rates: write a table [rates] with lines such as EUR = "1.08"'))
        return account, rates
    read = f.money(RATE_MICROS_MAX, "account currency per unit", positive=True, example="1.08")
    for name, value in given.items():
        try:
            rates[f.currency(name)] = read(value)
        except Bad as bad:
            problems.append(Problem(("rates", name), f"rates.{name}: {bad}"))
    if rates.get(account, MICROS_PER_UNIT) != MICROS_PER_UNIT:
        cure = "one unit of it is one unit; leave it out"
        problems.append(Problem(("rates", account), f"rates.{account}: is the account currency; {cure}"))
    return account, rates


def _each(raw: Mapping[str, Any], kind: str, make: Any, problems: list[Problem]) -> list[Placed[Any]]:
    placed: list[Placed[Any]] = []
    for at, table in enumerate(tables(raw, kind)):
        path = (kind, at)
        before = len(problems)
        values = read_table(kind, table, path, problems)
        if len(problems) == before:
            it = make(values, path, problems)
            if it is not None:
                placed.append(Placed(at, it))
    return placed


def _advertiser(values: dict[str, Any], path: tuple[str, int], problems: list[Problem]) -> Advertiser:
    return Advertiser(**values)


def _pool(values: dict[str, Any], path: tuple[str, int], problems: list[Problem]) -> BudgetPool:
    return BudgetPool(**values)


def _exchange(values: dict[str, Any], path: tuple[str, int], problems: list[Problem]) -> ExchangeProfile:
    return ExchangeProfile(**values)


def _campaign(values: dict[str, Any], path: tuple[str, int], problems: list[Problem]) -> Campaign | None:
    goal: Goal = values["goal"]
    wanted, example = GOAL_KEYS[goal]
    found: int | None = None
    for key, _ in GOAL_KEYS.values():
        value = values.pop(key, None)
        if key == wanted:
            found = value
        elif value is not None:
            problems.append(Problem((*path, key), f'{key}: does not go with goal = "{goal}"; use {wanted}'))
            return None
    if found is None:
        problems.append(Problem(path, f'goal = "{goal}" needs {wanted}; add {wanted} = {example}'))
        return None
    return Campaign(**values, goal_value_micros=found)


def _line_item(values: dict[str, Any], path: tuple[str, int], problems: list[Problem]) -> LineItem:
    if "targeting" in values:
        values["targeting"] = Targeting(**values["targeting"])
    if "frequency_cap" in values:
        values["frequency_cap"] = FrequencyCap(**values["frequency_cap"])
    return LineItem(**values)


def _creative(values: dict[str, Any], path: tuple[str, int], problems: list[Problem]) -> Creative:
    w, h = values.pop("size", (0, 0))
    files = tuple(MediaFile(**each) for each in values.pop("files", ()))
    native = values.pop("native", None)
    assets = None
    if native is not None:
        main_w, main_h = native.pop("main_size", (0, 0))
        icon_w, icon_h = native.pop("icon_size", (0, 0))
        assets = NativeAssets(**native, main_w=main_w, main_h=main_h, icon_w=icon_w, icon_h=icon_h)
    creative = Creative(**values, w=w, h=h, files=files, native=assets)
    if files and not creative.mimes:
        creative = replace(creative, mimes=tuple(dict.fromkeys(each.mime for each in files)))
    return creative
