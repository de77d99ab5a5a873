"""What can only be seen across tables: references, pools, flights, currencies, and creatives that do what they say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from counterpoint.catalog.build import Parts, Placed, tables
from counterpoint.catalog.compile import is_secure, serves
from counterpoint.catalog.fields import BUDGET_MICROS_MAX
from counterpoint.catalog.lines import Path
from counterpoint.catalog.model import Campaign, Creative, Goal, LineItem, Media
from counterpoint.catalog.schema import TABLES, Problem, did_you_mean

# kind -> key, nested keys as a path -> kind it names
REFERENCES: Final[Mapping[str, Mapping[tuple[str, ...], str]]] = {
    "pool": {("advertiser",): "advertiser"},
    "campaign": {("advertiser",): "advertiser", ("pool",): "pool"},
    "creative": {("advertiser",): "advertiser"},
    "line_item": {
        ("campaign",): "campaign",
        ("creatives",): "creative",
        ("targeting", "exchanges"): "exchange",
    },
}


class _Check:
    def __init__(
        self,
        parts: Parts,
        raw: Mapping[str, Any],
        problems: list[Problem],
        warnings: list[Problem],
        now_ns: int,
    ):
        self.now_ns = now_ns
        self.parts = parts
        self.problems = problems
        self.warnings = warnings
        self.ids: dict[str, dict[str, int]] = {kind: self._ids(kind, raw) for kind in TABLES}
        self.creative = {p.it.id: p.it for p in parts.creatives}
        self.campaign = {p.it.id: p.it for p in parts.campaigns}

    def _ids(self, kind: str, raw: Mapping[str, Any]) -> dict[str, int]:
        first: dict[str, int] = {}
        for at, table in enumerate(tables(raw, kind)):
            name = table.get("id") if isinstance(table, dict) else None
            if isinstance(name, str) and first.setdefault(name, at) != at:
                self.problems.append(
                    Problem(
                        (kind, at, "id"),
                        f"id: there is a {kind} of this id already (number {first[name] + 1}); rename one",
                    )
                )
        return first

    def wrong(self, kind: str, at: int, key: str, text: str) -> None:
        self.problems.append(
            Problem((kind, at, key) if key else (kind, at), f"{key}: {text}" if key else text)
        )

    def warn(self, kind: str, at: int, key: str, text: str) -> None:
        self.warnings.append(
            Problem((kind, at, key) if key else (kind, at), f"{key}: {text}" if key else text)
        )

    def references(self, raw: Mapping[str, Any]) -> None:
        """Over the raw tables, so that a table with another mistake has its references checked too."""
        for kind, keys in REFERENCES.items():
            for at, table in enumerate(tables(raw, kind)):
                for path, target in keys.items():
                    found: Any = table
                    for key in path:
                        found = found.get(key) if isinstance(found, dict) else None
                    if isinstance(found, str):
                        self._refers((kind, at, *path), path, target, found)
                    elif isinstance(found, list):
                        for n, name in enumerate(found):
                            if isinstance(name, str):
                                self._refers((kind, at, *path, n), path, target, name)

    def _refers(self, at: Path, path: tuple[str, ...], target: str, name: str) -> None:
        known = self.ids[target]
        if name not in known:
            text = f'{".".join(path)}: there is no {target} "{name}"; {did_you_mean(name, known)}'
            self.problems.append(Problem(at, text))

    # -- money and people -------------------------------------------------------------------------------------

    def campaigns(self) -> None:
        owner_of_pool = {p.it.id: p.it.advertiser_id for p in self.parts.pools}
        tokens = {p.it.id: p.it.conversion_token for p in self.parts.advertisers}
        for placed in self.parts.campaigns:
            at, it = placed.at, placed.it
            if it.ends_at_ns is not None and it.ends_at_ns <= it.starts_at_ns:
                self.wrong("campaign", at, "ends_at", "is not after starts_at; swap or mend them")
            if it.time_zone and it.utc_offset_minutes:
                self.wrong("campaign", at, "utc_offset_minutes", "and time_zone are both given; keep one")
            if it.ends_at_ns is not None and it.ends_at_ns <= self.now_ns and not it.paused:
                self.warn("campaign", at, "ends_at", "is in the past, so it never bids; move it or pause it")
            if it.lifetime_budget_micros is not None and it.lifetime_budget_micros < it.daily_budget_micros:
                self.warn(
                    "campaign", at, "lifetime_budget", "is below daily_budget, so it is gone on the first day"
                )
            if it.reach_weight_ppm + it.cost_weight_ppm == 0:
                self.wrong(
                    "campaign", at, "reach_weight", "and cost_weight are both 0; give one of them weight"
                )
            if it.goal in (Goal.CONVERSIONS, Goal.VALUE) and tokens.get(it.advertiser_id) == "":
                self.warn(
                    "campaign",
                    at,
                    "goal",
                    f"advertiser {it.advertiser_id} has no conversion_token, so conversions are refused",
                )
            if it.pool_id is None:
                for key, given in (
                    ("budget_min", it.budget_min_micros),
                    ("budget_max", it.budget_max_micros),
                ):
                    if given:
                        self.wrong(
                            "campaign",
                            at,
                            key,
                            "has a meaning only inside a pool; name a pool or leave it out",
                        )
                continue
            owner = owner_of_pool.get(it.pool_id, it.advertiser_id)
            if owner != it.advertiser_id:
                text = (
                    f'"{it.pool_id}" belongs to advertiser "{owner}"; money never moves between advertisers'
                )
                self.wrong("campaign", at, "pool", text)
            if it.budget_min_micros > it.daily_budget_micros:
                self.wrong("campaign", at, "budget_min", "is above daily_budget; lower it")
            if it.budget_max_micros is not None and it.budget_max_micros < it.daily_budget_micros:
                self.wrong("campaign", at, "budget_max", "is below daily_budget; raise it")

    def repeats(self) -> None:
        """Who saw an ad how often is kept only where a cap asks for it."""
        worth_less = {p.it.id for p in self.parts.campaigns if p.it.repeat_value_ppm < 1_000_000}
        for placed in self.parts.campaigns:
            if placed.it.id in worth_less and placed.it.goal is not Goal.REACH:
                self.wrong("campaign", placed.at, "repeat_value", 'goes with goal = "reach"; leave it out')
        for item in self.parts.line_items:
            if item.it.campaign_id in worth_less and item.it.frequency_cap is None:
                text = f'add one, however high: campaign "{item.it.campaign_id}" has a repeat_value, and people are counted only where a cap asks for it'
                self.wrong("line_item", item.at, "frequency_cap", text)

    def idle(self) -> None:
        """Campaigns whose money nothing can spend."""
        used = {placed.it.campaign_id for placed in self.parts.line_items}
        for placed in self.parts.campaigns:
            if placed.it.id not in used and not placed.it.paused:
                self.warn(
                    "campaign", placed.at, "", "has no line item, so it never bids; add one or pause it"
                )

    def pools(self) -> None:
        members: dict[str, list[Placed[Campaign]]] = {}
        for placed in self.parts.campaigns:
            if placed.it.pool_id is not None:
                members.setdefault(placed.it.pool_id, []).append(placed)
        for pool in self.parts.pools:
            inside = members.get(pool.it.id, [])
            if len(inside) < 2:
                self.warn(
                    "pool",
                    pool.at,
                    "",
                    f"has {len(inside)} campaigns, so no money can move; add campaigns or drop it",
                )
            if sum(p.it.daily_budget_micros for p in inside) > BUDGET_MICROS_MAX:
                self.wrong(
                    "pool",
                    pool.at,
                    "",
                    "its campaigns' daily budgets sum to more than 1,000,000,000; split the pool",
                )
            for other in inside[1:]:
                for key in ("utc_offset_minutes", "time_zone"):
                    if getattr(other.it, key) != getattr(inside[0].it, key):
                        cure = f'use that of campaign "{inside[0].it.id}": a pool\'s day has one beginning'
                        self.wrong("campaign", other.at, key, f"differs inside the pool; {cure}")

    def exchanges(self) -> None:
        known = {*self.parts.rates, self.parts.account_currency}
        for placed in self.parts.exchanges:
            it = placed.it
            if it.currency not in known:
                self.wrong(
                    "exchange",
                    placed.at,
                    "currency",
                    f'there is no rate for {it.currency}; add {it.currency} = "..." under [rates]',
                )
            if it.round_trip_ms >= it.deadline_ms_max:
                self.wrong(
                    "exchange",
                    placed.at,
                    "round_trip_ms",
                    "is not below deadline_ms_max, so no time is left to bid",
                )
            if it.notice_life_ms < it.billing_delay_max_ms:
                self.wrong("exchange", placed.at, "notice_life_ms", "is below billing_delay_max_ms; raise it")
        if not self.ids["exchange"]:
            self.warnings.append(
                Problem((), "no exchange is declared, so every bid request is refused; add [[exchange]]")
            )

    # -- line items -------------------------------------------------------------------------------------------

    def line_items(self) -> None:
        for placed in self.parts.line_items:
            at, it = placed.at, placed.it
            campaign = self.campaign.get(it.campaign_id)
            if campaign is not None:
                self._prices(at, it, campaign)
            self._creatives_of(at, it, campaign)
            self._targeting(at, it)

    def _prices(self, at: int, it: LineItem, campaign: Campaign) -> None:
        ceiling = campaign.bid_ceiling_micros
        if it.bid_max_micros is not None and it.bid_min_micros > it.bid_max_micros:
            self.wrong("line_item", at, "bid_min_cpm", "is above bid_max_cpm; swap or mend them")
        elif it.bid_min_micros > ceiling:
            self.wrong(
                "line_item",
                at,
                "bid_min_cpm",
                f'is above bid_ceiling_cpm of campaign "{campaign.id}"; it could never bid',
            )
        if it.bid_max_micros is not None and it.bid_max_micros > ceiling:
            self.warn(
                "line_item",
                at,
                "bid_max_cpm",
                f'is above bid_ceiling_cpm of campaign "{campaign.id}", which wins',
            )

    def _creatives_of(self, at: int, it: LineItem, campaign: Campaign | None) -> None:
        if not it.creative_ids:
            self.warn(
                "line_item", at, "creatives", "is empty, so the line item never bids; list creative ids"
            )
            return
        if len(set(it.creative_ids)) != len(it.creative_ids):
            twice = next(c for n, c in enumerate(it.creative_ids) if c in it.creative_ids[:n])
            self.wrong("line_item", at, "creatives", f'names "{twice}" twice; keep one')
        usable = True
        for name in it.creative_ids:
            creative = self.creative.get(name)
            if creative is None:
                usable = False
            elif campaign is not None and creative.advertiser_id != campaign.advertiser_id:
                cure = f'it belongs to "{creative.advertiser_id}", the campaign to "{campaign.advertiser_id}"'
                self.wrong("line_item", at, "creatives", f'"{name}" is not this advertiser\'s: {cure}')
        if usable and not any(serves(it, self.creative[name]) for name in it.creative_ids):
            self.warn(
                "line_item",
                at,
                "",
                "its targeting (media, sizes) and pauses leave none of its creatives; it never bids",
            )

    def _targeting(self, at: int, it: LineItem) -> None:
        target = it.targeting
        for key, wanted, blocked in (
            ("domains", target.domains, target.domains_blocked),
            ("categories", target.categories, target.categories_blocked),
        ):
            both = sorted({v.lower() for v in wanted} & {v.lower() for v in blocked})
            if both:
                text = f'targeting.{key}: "{both[0]}" is wanted and blocked; the block wins'
                self.warnings.append(Problem(("line_item", at, "targeting", key), text))

    # -- creatives --------------------------------------------------------------------------------------------

    def creatives(self) -> None:
        for placed in self.parts.creatives:
            at, it = placed.at, placed.it
            self._only(at, it)
            if it.media is Media.BANNER:
                self._banner(at, it)
            elif it.media is Media.NATIVE:
                self._native(at, it)
            else:
                self._av(at, it)
            if not is_secure(it):
                self.warn(
                    "creative", at, "", "has an http: address, so it is not shown where secure=1; use https"
                )
            if not it.categories:
                self.warn(
                    "creative",
                    at,
                    "categories",
                    "is empty, so it is not shown where a request blocks categories",
                )
            if it.attributes is None:
                self.warn(
                    "creative",
                    at,
                    "attributes",
                    "is not declared, so it is not shown where a request blocks attributes; write [] for none",
                )

    def _only(self, at: int, it: Creative) -> None:
        """Keys of another medium are a mistake, not a decoration."""
        av = it.media in (Media.VIDEO, Media.AUDIO)
        given = {
            "size": (bool(it.w), it.media is Media.BANNER),
            "html": (bool(it.html), it.media is Media.BANNER),
            "image_url": (bool(it.image_url), it.media is Media.BANNER),
            "files": (bool(it.files), av),
            "duration_s": (bool(it.duration_s), av or it.media is Media.NATIVE),
            "protocols": (bool(it.protocols), av or it.media is Media.NATIVE),
            "native": (it.native is not None, it.media is Media.NATIVE),
            "skippable": (it.skippable, it.media is Media.VIDEO),
        }
        for key, (present, belongs) in given.items():
            if present and not belongs:
                self.wrong("creative", at, key, f"does not belong to a {it.media} creative; leave it out")

    def _needs(self, at: int, media: str, wanted: Iterable[tuple[str, bool, str]]) -> None:
        for key, present, example in wanted:
            if not present:
                self.wrong("creative", at, "", f"a {media} creative needs {key}; add {key} = {example}")

    def _banner(self, at: int, it: Creative) -> None:
        self._needs(at, "banner", [("size", it.w > 0, '"300x250"')])
        if bool(it.html) == bool(it.image_url):
            self.wrong("creative", at, "html", "give either html or image_url, and not both")
        if it.html and "{click_url}" not in it.html:
            self.warn("creative", at, "html", "has no {click_url}, so clicks are not seen")

    def _av(self, at: int, it: Creative) -> None:
        self._needs(
            at,
            it.media.value,
            [
                ("files", bool(it.files), '[{ url = "https://...", mime = "video/mp4", w = 640, h = 360 }]'),
                ("duration_s", it.duration_s > 0, "15"),
                ("protocols", bool(it.protocols), "[2, 3]"),
            ],
        )
        offered = {each.mime for each in it.files}
        for mime in it.mimes:
            if it.files and mime not in offered:
                self.wrong(
                    "creative",
                    at,
                    "mimes",
                    f'"{mime}" is of none of its files; add such a file or leave it out',
                )
        for each in it.files:
            if it.media is Media.VIDEO and (each.w == 0 or each.h == 0):
                self.wrong("creative", at, "files", f"{each.url} needs w and h in pixels")

    def _native(self, at: int, it: Creative) -> None:
        assets = it.native
        if assets is None:
            self._needs(at, "native", [("native", False, '{ title = "..." }')])
            return
        for key, url, w in (
            ("main", assets.main_url, assets.main_w),
            ("icon", assets.icon_url, assets.icon_w),
        ):
            if bool(url) != (w > 0):
                self.wrong(
                    "creative",
                    at,
                    "native",
                    f'{key}_url and {key}_size go together; add {key}_size = "1200x627"',
                )
        if assets.video_vast_url:
            self._needs(
                at,
                "native video",
                [
                    ("duration_s", it.duration_s > 0, "15"),
                    ("protocols", bool(it.protocols), "[5, 6]"),
                    ("mimes", bool(it.mimes), '["video/mp4"]'),
                ],
            )


def check(
    parts: Parts,
    raw: Mapping[str, Any],
    problems: list[Problem],
    warnings: list[Problem],
    now_ns: int = 0,
) -> None:
    """Add every mistake to ``problems`` and every doubtful thing to ``warnings``; ``now_ns`` 0: no flight is past."""
    each = _Check(parts, raw, problems, warnings, now_ns)
    each.references(raw)
    each.campaigns()
    each.repeats()
    each.idle()
    each.pools()
    each.exchanges()
    each.line_items()
    each.creatives()
