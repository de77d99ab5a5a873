"""What can be set by proposal: the kinds of targets, their units and ranges, and who may say what about them.

Everything here comes from the catalog or is fixed in this file; no proposal can widen it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from counterpoint.catalog.model import Campaign, Catalog

PPM = 1_000_000
AGENTS = ("bidding", "budget", "creative", "feedback")
INTENTS = frozenset({"safety", "law", "budget", "reach", "cost", "relevance"})


class Kind(StrEnum):
    BID_CEILING = "bid_ceiling"
    BUDGET_SHARE = "budget_share"
    EXPLORATION = "exploration"
    ENABLED = "enabled"


class TradeOff(Struct, frozen=True):
    """What the owner declared: how much reach counts against cost. Parts per million, each 0..1,000,000."""

    reach_ppm: int = 500_000
    cost_ppm: int = 500_000


class Target(Struct, frozen=True, kw_only=True):
    """One setting. ``low``..``high`` is what it can ever be; ``default`` holds while nobody wishes anything;
    ``stop_value`` is what it becomes when law, people and money contradict each other."""

    name: str
    kind: Kind
    unit: str
    low: int
    high: int
    default: int
    stop_value: int = 0
    step_relative: bool = True  # a move is at most a factor e^0.18 ...
    step_min: int = 1  # ... or this much, whichever is more
    trade_off: TradeOff = TradeOff()


class Grant(Struct, frozen=True, kw_only=True):
    """What one kind of author may say about one kind of target."""

    wish: bool = False
    low: bool = False  # a lower bound
    high: bool = False  # an upper bound
    intents: frozenset[str] = INTENTS
    floor_ppm: int = 0  # of the target's range: no wish or bound of theirs reaches below
    roof_ppm: int = PPM


_LAW = Grant(low=True, high=True)
_PEOPLE = Grant(wish=True, low=True, high=True)
_LEDGER = Grant(low=True, high=True)
_SWITCH = Grant(wish=True, low=True, high=True)

AUTHORITY: dict[tuple[Kind, str], Grant] = {
    (Kind.BID_CEILING, "law"): _LAW,
    (Kind.BID_CEILING, "people"): _PEOPLE,
    (Kind.BID_CEILING, "ledger"): _LEDGER,
    (Kind.BID_CEILING, "budget"): Grant(wish=True, intents=frozenset({"reach", "budget"})),
    (Kind.BID_CEILING, "bidding"): Grant(
        wish=True, high=True, intents=frozenset({"cost", "reach"}), floor_ppm=50_000
    ),
    (Kind.BUDGET_SHARE, "law"): _LAW,
    (Kind.BUDGET_SHARE, "people"): _PEOPLE,
    (Kind.BUDGET_SHARE, "ledger"): _LEDGER,
    (Kind.BUDGET_SHARE, "budget"): Grant(wish=True, intents=frozenset({"budget", "reach", "cost"})),
    (Kind.EXPLORATION, "law"): _LAW,
    (Kind.EXPLORATION, "people"): _PEOPLE,
    (Kind.EXPLORATION, "creative"): Grant(wish=True, intents=frozenset({"relevance"})),
    (Kind.EXPLORATION, "feedback"): Grant(
        wish=True, high=True, intents=frozenset({"relevance", "safety"}), floor_ppm=125_000, roof_ppm=750_000
    ),
    (Kind.ENABLED, "law"): _SWITCH,
    (Kind.ENABLED, "people"): _SWITCH,
}


def author_kind(author: str) -> str:
    """Who is speaking: an agent's own name, "people", "ledger", "law", or "" for nobody we know.

    >>> author_kind("person:ann"), author_kind("budget"), author_kind("mallory")
    ('people', 'budget', '')
    """
    if author.startswith("person:") and len(author) > len("person:"):
        return "people"
    return author if author in AGENTS or author in ("ledger", "law") else ""


def level(kind_of_author: str) -> int:
    """Whose bound yields: the higher number yields to the lower."""
    return {"law": 0, "people": 1, "ledger": 2}.get(kind_of_author, 3)


def bid_ceiling(campaign_id: str) -> str:
    return f"campaign/{campaign_id}/{Kind.BID_CEILING}"


def budget_share(campaign_id: str) -> str:
    return f"campaign/{campaign_id}/{Kind.BUDGET_SHARE}"


def exploration(campaign_id: str) -> str:
    return f"campaign/{campaign_id}/{Kind.EXPLORATION}"


def agent_enabled(agent: str) -> str:
    return enabled_of(f"agent/{agent}")


ALL_ENABLED = "all/enabled"


def enabled_of(subject: str) -> str:
    """The switch of what a person can stop: "campaign/42", "agent/bidding" or "all"."""
    return f"{subject}/{Kind.ENABLED}"


def _switch(subject: str) -> Target:
    return Target(
        name=enabled_of(subject), kind=Kind.ENABLED, unit="0|1", low=0, high=1, default=1, step_relative=False
    )


def split_ppm(weights: dict[str, int]) -> dict[str, int]:
    """Shares of a whole in ppm that sum to exactly 1,000,000: largest remainder, ties to the smaller id.

    >>> split_ppm({"a": 1, "b": 1, "c": 1})
    {'a': 333334, 'b': 333333, 'c': 333333}
    """
    if not weights:
        return {}
    assert min(weights.values()) >= 0
    total = sum(weights.values())
    if total == 0:
        return split_ppm(dict.fromkeys(weights, 1))
    shares = {name: PPM * weight // total for name, weight in weights.items()}
    missing = PPM - sum(shares.values())
    for name in sorted(weights, key=lambda n: (-(PPM * weights[n] % total), n))[:missing]:
        shares[name] += 1
    return shares


def _of_campaign(campaign: Campaign) -> Iterable[Target]:
    trade_off = TradeOff(campaign.reach_weight_ppm, campaign.cost_weight_ppm)
    ceiling = campaign.bid_ceiling_micros
    yield Target(
        name=bid_ceiling(campaign.id),
        kind=Kind.BID_CEILING,
        unit="micros CPM",
        low=0,
        high=ceiling,
        default=ceiling,
        step_min=max(1, ceiling // 100),
        trade_off=trade_off,
    )
    yield Target(
        name=exploration(campaign.id),
        kind=Kind.EXPLORATION,
        unit="ppm",
        low=0,
        high=2 * PPM,
        default=PPM,
        step_min=50_000,
        trade_off=trade_off,
    )
    yield _switch(f"campaign/{campaign.id}")


def _of_pool(campaigns: list[Campaign]) -> Iterable[Target]:
    shares = split_ppm({c.id: c.daily_budget_micros for c in campaigns})
    total = max(1, sum(c.daily_budget_micros for c in campaigns))
    for campaign in campaigns:
        low = min(PPM, -(-PPM * campaign.budget_min_micros // total))
        most = campaign.budget_max_micros
        high = PPM if most is None else min(PPM, PPM * most // total)
        high = max(low, high)
        yield Target(
            name=budget_share(campaign.id),
            kind=Kind.BUDGET_SHARE,
            unit="ppm of its pool",
            low=low,
            high=high,
            default=min(max(shares[campaign.id], low), high),
            stop_value=low,
            step_relative=False,
            step_min=50_000,
            trade_off=TradeOff(campaign.reach_weight_ppm, campaign.cost_weight_ppm),
        )


class Targets:
    """Every target of one catalog, by name. Proposals about anything else are refused."""

    def __init__(self, catalog: Catalog) -> None:
        found = [_switch("all")]
        found += [_switch(f"agent/{agent}") for agent in AGENTS]
        pools: dict[str, list[Campaign]] = {}
        for campaign in catalog.campaigns:
            found += _of_campaign(campaign)
            if campaign.pool_id is not None:
                pools.setdefault(campaign.pool_id, []).append(campaign)
        for pool in sorted(pools):
            found += _of_pool(pools[pool])
        self._by_name = {target.name: target for target in found}

    def get(self, name: str) -> Target | None:
        return self._by_name.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __len__(self) -> int:
        return len(self._by_name)

    def names(self) -> list[str]:
        return sorted(self._by_name)
