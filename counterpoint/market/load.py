"""Scenario files: TOML into a checked :class:`Scenario`, or an error that names file, key and cure."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from counterpoint.base.errors import ConfigError
from counterpoint.base.money import MICROS_PER_UNIT, NANOS_PER_UNIT, PRICE_MICROS_MAX
from counterpoint.base.words import instead_of
from counterpoint.catalog.model import Media
from counterpoint.market.scenario import (
    AUCTIONS_MAX,
    AUCTIONS_MIN,
    Jump,
    Outage,
    Scenario,
    Shock,
    resized,
)

NAMES: Final = (
    "stationary-v1",
    "drift-v1",
    "weekend-v1",
    "jumps-v1",
    "thin-market-v1",
    "adversary-v1",
    "outage-v1",
    "adstock-v1",
    "delay-v1",
    "churn-v1",
    "misspecified-v1",
)
BASES_MAX: Final = 8
COUNTRIES_MAX: Final = 99
SIZES_MAX: Final = 99
PLACES_MAX: Final = 10_000
VENUES_MAX: Final = 1_000
CAMPAIGNS_MAX: Final = 10_000
CREATIVES_MAX: Final = 100_000
LIVES_DAYS_MAX: Final = 36_500.0  # of all generations of a creative: an int64 of nanoseconds
DAY_BUDGET_MAX: Final = (
    10_000_000.0  # account currency, all campaigns: a year of it is still an int64 of nanos
)
FILE_BYTES_MAX: Final = 4 * 1024 * 1024
FROZEN: Final = "frozen.toml"


class ScenarioError(ConfigError):
    """A scenario that cannot be used."""


class Frozen(Struct, frozen=True):
    scenario: str  # digest of the parameters
    world: str  # digest of what this code makes of them with seed 0


@cache
def frozen() -> dict[str, Frozen]:
    """What each permanent name was recorded to mean (``freeze.py``)."""
    text = files("counterpoint.market").joinpath("scenarios", FROZEN).read_text("utf-8")
    return {name: Frozen(**entry) for name, entry in tomllib.loads(text).items()}


@cache
def scenario_named(name: str) -> Scenario:
    """One of :data:`NAMES`. Raises :class:`ScenarioError` for another name, and where it no longer means what was recorded."""
    if name not in NAMES:
        cure = instead_of(name, NAMES)
        raise ScenarioError(
            f"no scenario is called {name!r}; {cure} (for your own, give the path of a .toml file)"
        )
    scenario = _build(_raw(name, Path(f"{name}.toml")), f"{name}.toml")
    recorded = frozen().get(name)
    if recorded is not None and recorded.scenario != scenario.digest:
        raise ScenarioError(
            f"{name}.toml: was changed: its digest is {scenario.digest}, recorded for this name is {recorded.scenario}; "
            "names are permanent: undo the change (also in its bases), or give it a new name"
        )
    return scenario


def find_scenario(name_or_path: str) -> Scenario:
    """By permanent name, or from a file: what ends in ``.toml`` or holds a slash is a path."""
    if name_or_path.endswith(".toml") or "/" in name_or_path:
        return load_scenario(Path(name_or_path))
    return scenario_named(name_or_path)


def load_scenario(path: Path) -> Scenario:
    """A user's file. Its name must not be one of the permanent ones."""
    scenario = _build(_merged(_parse(_read(path), path), path, 0), str(path))
    if scenario.name in NAMES:
        raise ScenarioError(
            f"{path}: name: {scenario.name!r} is taken for ever by a scenario of the package; choose another"
        )
    return scenario


def of_length(scenario: Scenario, auctions: int) -> Scenario:
    """:func:`resized`, checked like a file."""
    where = f"{scenario.name} with {auctions:,} auctions"
    if not AUCTIONS_MIN <= auctions <= AUCTIONS_MAX:
        raise ScenarioError(f"{where}: give between {AUCTIONS_MIN} and {AUCTIONS_MAX:,}")
    return _checked(resized(scenario, auctions), where)


def is_resized(scenario: Scenario) -> bool:
    """Bears a permanent name and is not what the name means."""
    return scenario.name in frozen() and frozen()[scenario.name].scenario != scenario.digest


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ScenarioError(f"{path}: larger than 4 MiB; a scenario is a page or two, see docs/market.md")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: is not UTF-8 at byte {error.start}; save it as UTF-8") from error


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path}: is not TOML: {error}; mend that line") from error
    except RecursionError:
        raise ScenarioError(
            f"{path}: lists or tables nested too deep to be read; no key of a scenario needs more than a few levels"
        ) from None


def _raw(name: str, path: Path, depth: int = 0) -> dict[str, Any]:
    text = files("counterpoint.market").joinpath("scenarios", f"{name}.toml").read_text("utf-8")
    return _merged(_parse(text, path), path, depth)


def _merged(raw: dict[str, Any], path: Path, depth: int) -> dict[str, Any]:
    """``base = "stationary-v1"``: that scenario, with the tables here laid over it, key by key; lists replace whole."""
    base = raw.pop("base", None)
    if base is None:
        return raw
    if base not in NAMES:
        raise ScenarioError(f"{path}: base: {base!r} is no scenario; write one of {', '.join(NAMES)}")
    if depth >= BASES_MAX:
        raise ScenarioError(f"{path}: base: a chain of more than {BASES_MAX} bases; name a nearer one")
    return _overlay(_raw(base, Path(f"{base}.toml"), depth + 1), raw)


def _overlay(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    out = dict(under)
    for key, value in over.items():
        below = out.get(key)
        out[key] = _overlay(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return out


def _build(raw: dict[str, Any], file: str) -> Scenario:
    try:
        scenario = msgspec.convert(raw, Scenario)
    except msgspec.ValidationError as error:
        raise ScenarioError(f"{file}: {_told(error)}") from error
    return _checked(scenario, file)


def _checked(scenario: Scenario, file: str) -> Scenario:
    problem = next(problems(scenario), None)
    if problem is not None:
        raise ScenarioError(f"{file}: {problem}")
    return scenario


def _told(error: msgspec.ValidationError) -> str:
    """msgspec says what and where ("... - at `$.users.count`"); we put the key first and add a cure."""
    what, _, where = str(error).partition(" - at ")
    key = where.strip("`").removeprefix("$").removeprefix(".") or "the file"
    if "unknown field" in what:
        return f"{key}: {what}; take it out or mend its spelling, docs/market.md lists every key"
    return f"{key}: {what}; mend the value, docs/market.md says what the key means"


def problems(scenario: Scenario) -> Iterator[str]:
    """What a type cannot say, each with its cure."""
    s = scenario
    yield from _twice("venue", [v.id for v in s.venue])
    yield from _twice("place", [p.id for p in s.place])
    yield from _twice("advertiser", [a.id for a in s.advertiser])
    yield from _twice("campaign", [c.id for c in s.campaign])
    yield from _twice("supply", [f"{p.venue}/{p.media}" for p in s.supply])
    venues, advertisers = {v.id for v in s.venue}, {a.id for a in s.advertiser}
    for n, path in enumerate(s.supply):
        at = f"supply[{n}] ({path.venue}/{path.media})"
        if path.venue not in venues:
            yield f"{at}.venue: no [[venue]] has the id {path.venue!r}; add it or name one of {sorted(venues)}"
        if not any(path.media in place.media for place in s.place):
            yield f"{at}.media: no [[place]] shows {path.media}; add the medium to a place"
        if path.media not in s.click.base:
            yield f"click.base: nothing for {path.media}; add {path.media} = -4.0 (the logit of a click)"
        if not sum(part.weight for part in path.prices.components) > 0:
            yield f"{at}.prices.components: no weight above 0; give at least one component a weight"
        for floor in path.prices.floors:
            if floor.at * path.prices.unit_cpm * MICROS_PER_UNIT > PRICE_MICROS_MAX:
                yield f"{at}.prices.floors: {floor.at:g} x unit_cpm is above 10,000 CPM, no price; lower one of them"
        if path.prices.floors and not sum(floor.weight for floor in path.prices.floors) > 0:
            yield f"{at}.prices.floors: no weight above 0; give one a weight or take the floors out"
    yield from _too_many(s)
    for n, campaign in enumerate(s.campaign):
        at = f"campaign[{n}] ({campaign.id})"
        if campaign.advertiser not in advertisers:
            yield f"{at}.advertiser: no [[advertiser]] has the id {campaign.advertiser!r}; add it"
        unknown = set(campaign.countries) - {c.code for c in s.users.countries}
        if unknown:
            yield f"{at}.countries: nobody lives in {sorted(unknown)}; add [[users.countries]] or take it out"
        if campaign.daily_budget * s.budget_factor * NANOS_PER_UNIT < 1.0:
            yield f"{at}.daily_budget: less than a nano a day with budget_factor {s.budget_factor:g}; raise one of them"
        if round(campaign.bid_ceiling_cpm * MICROS_PER_UNIT) < 1:
            yield f"{at}.bid_ceiling_cpm: below a micro, the least price there is; raise it to 0.000001 or more"
    pool = sum(campaign.daily_budget for campaign in s.campaign) * s.budget_factor
    if pool > DAY_BUDGET_MAX:
        yield (
            f"budget_factor: makes {pool:,.0f} a day of all campaigns, more than {DAY_BUDGET_MAX:,.0f}; "
            "lower it or the campaigns' daily_budget"
        )
    lives = s.churn.life_days * s.churn.generations
    if lives > LIVES_DAYS_MAX:
        yield (
            f"churn.life_days: {lives:g} days with {s.churn.generations} generations, more than {LIVES_DAYS_MAX:,.0f}; "
            f"the scenario has {s.days} days, lower it"
        )
    if not s.users.countries:
        yield "users.countries: empty; add at least one [[users.countries]] with code and share"
    if not sum(s.traffic.hour_of_week) > 0:
        yield "traffic.hour_of_week: all 0; give at least one hour some traffic"
    spans_of: tuple[tuple[str, tuple[Shock | Outage, ...]], ...] = (("shock", s.shock), ("outage", s.outage))
    for kind, spans in spans_of:
        for n, span in enumerate(spans):
            if not span.from_day < span.to_day:
                yield f"{kind}[{n}].to_day: not after from_day; swap or correct them"
            if span.from_day >= s.days:
                yield f"{kind}[{n}].from_day: after the scenario's {s.days} days; raise days or lower it"
    for n, jump in enumerate(s.jump):
        if jump.day >= s.days:
            yield f"jump[{n}].day: after the scenario's {s.days} days; raise days or lower it"
    parts_of: tuple[tuple[str, tuple[Jump | Shock | Outage, ...]], ...] = (("jump", s.jump), *spans_of)
    for name in sorted(set(s.adversary.venues) - venues):
        yield f"adversary.venues: no [[venue]] has the id {name!r}; name one of {sorted(venues)}"
    for kind, parts in parts_of:
        for n, part in enumerate(parts):
            for name in set(part.venues) - venues:
                yield f"{kind}[{n}].venues: no [[venue]] has the id {name!r}; name one of {sorted(venues)}"
    if not sum(c.weight for c in s.conversion.delay.components) > 0:
        yield "conversion.delay.components: no weight above 0; give at least one a weight"


def _too_many(s: Scenario) -> Iterator[str]:
    for key, count, most in (
        ("users.countries", len(s.users.countries), COUNTRIES_MAX),
        ("size", len(s.size), SIZES_MAX),
        ("place", len(s.place), PLACES_MAX),
        ("venue", len(s.venue), VENUES_MAX),
        ("campaign", len(s.campaign), CAMPAIGNS_MAX),
    ):
        if count > most:
            yield f"{key}: {count:,} of them, more than {most:,}; take some out"
    total = 0
    for n, campaign in enumerate(s.campaign):
        if len(set(campaign.media)) < len(campaign.media):
            yield f"campaign[{n}] ({campaign.id}).media: a medium is named twice; name each once"
        formats = sum(len(s.size) if media is Media.BANNER else 1 for media in campaign.media)
        total += formats * s.creatives.per_format * s.churn.generations
    if total > CREATIVES_MAX:
        yield (
            f"creatives.per_format: {total:,} creatives in all, more than {CREATIVES_MAX:,}; "
            "lower it, churn.generations or the number of campaigns"
        )


def _twice(kind: str, ids: list[str]) -> Iterator[str]:
    for name in sorted({i for i in ids if ids.count(i) > 1}):
        yield f"{kind}: {name!r} is given twice; rename one"
