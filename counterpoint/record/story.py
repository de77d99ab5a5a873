"""What is told of one bid: a frozen tree that goes to JSON as it is, and to a terminal as plain text.

Prices are nanos per impression of the account currency, which is micros CPM; the text shows them as CPM.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from counterpoint.bidding.policy import Dual, PriceSteps

LABEL_WIDTH: Final = 11
FEATURES_SHOWN: Final = 4


class LoggedBid(Struct, frozen=True, kw_only=True):
    """A row of the decision log without its input; the columns are those of ``schema.py``."""

    bid_id: str
    kept: str = ""
    kept_rate: float = 0.0
    paid_nanos: int | None = None
    happened_at_ns: int = 0
    recorded_at_ns: int = 0
    auction_id: str = ""
    exchange: str = ""
    media: str = ""
    segment: str = ""
    campaign_id: str = ""
    line_item_id: str = ""
    creative_id: str = ""
    price_nanos: int = 0
    value_nanos: int = 0
    paced_nanos: int = 0
    floor_nanos: int = 0
    click_rate: float = 0.0
    conversion_rate: float = 0.0
    win_rate: float = 0.0
    auction_type: int = 1
    explored: bool = False
    experiment: str = ""
    arm: str = ""
    bucket: int = 0
    unit: str = ""
    creative_propensity: float = 0.0
    price_propensity: float = 0.0
    bidding_version: int = 0
    creative_version: int = 0
    budget_version: int = 0
    feedback_version: int = 0
    view_digest: str = ""
    user_key: str = ""
    allowance_id: str = ""
    click_chance: float = -1.0  # -1: logged by an older bidder
    context: bytes = b""
    exposed: int = 0


class Difference(Struct, frozen=True):
    """Where the decision run again is not what was logged."""

    field: str
    logged: str
    again: str


class Missing(Struct, frozen=True):
    """The input without which it cannot be run again. ``what``: "input" | "manifest" | "catalog" | "policy"; ``agent``
    whose policy; ``damaged``: there, but not what it was."""

    what: str
    why: str
    agent: str = ""
    damaged: bool = False


class AskedImp(Struct, frozen=True):
    id: str
    offers: tuple[str, ...]  # "banner 300x250 728x90", "video 5-30 s"
    floor: str  # as the exchange wrote it: "0.5 USD"


class Asked(Struct, frozen=True, kw_only=True):
    """The request without anything that names a person."""

    imps: tuple[AskedImp, ...]
    place: str  # "site news.example", "app com.example.game"
    country: str
    region: str
    os: str
    device_type: int
    user_key: str  # pseudonym; empty: nobody could or might be known
    user_records: int  # impressions and open bids on record for the frequency caps


class PolicyUsed(Struct, frozen=True):
    """``version`` 0: the stated fallback, and ``fallback`` says why."""

    agent: str
    version: int
    checksum: str
    fallback: str


class LineItemFate(Struct, frozen=True, kw_only=True):
    """What became of one line item that matched the request."""

    line_item_id: str
    campaign_id: str
    fate: str
    rank: int = 0  # 1: the best; 0: not among the candidates
    creative_id: str = ""
    price_nanos: int = 0
    value_nanos: int = 0
    paced_nanos: int = 0
    win_rate: float = 0.0
    expected_surplus_nanos: float = 0.0


class CreativeShown(Struct, frozen=True):
    creative_id: str
    weight: float
    propensity: float
    click_rate: float  # expected
    drawn: bool


class CurvePoint(Struct, frozen=True, array_like=True):
    bid_nanos: int
    win_rate: float


class Pricing(Struct, frozen=True, kw_only=True):
    segment: str
    curve_rows: float  # effective auctions behind the curve
    curve: tuple[CurvePoint, ...]  # knots around the price
    goal: str
    impression_value_nanos: float  # worth of the impression itself (goal reach; any goal under the fallback)
    click_value_nanos: float  # worth of a click
    click_rate: float
    click_rate_factor: float
    conversion_rate: float
    floor_nanos: int
    ceiling_nanos: int  # resolved
    owner_ceiling_nanos: int
    steps: PriceSteps
    dual: Dual | None = (
        None  # what made the multiplier; None: the fallback, or a policy of before it was told
    )
    exploration_rate: float = 0.0
    exploration_span: float = 0.0


class Rerun(Struct, frozen=True, kw_only=True):
    imp_id: str
    imp: int  # position in the request
    matched: int
    scored: int  # pairs of line item and creative that fitted, over all imps
    fates: dict[str, int]
    line_items: tuple[LineItemFate, ...]  # the best, then some of the others
    money_left_nanos: int | None  # of the campaign in its arm; None: more than its ceiling
    creatives: tuple[CreativeShown, ...]
    creative_epsilon: float
    exploration_ppm: int
    pricing: Pricing | None
    bid_currency: str
    rate_micros: int  # one unit of it in micros of the account currency
    bid_price_micros: int  # CPM, as the exchange was told


class Booked(Struct, frozen=True, kw_only=True):
    """What the ledger holds for the bid id."""

    on_time_nanos: int
    late_nanos: int
    overspend_nanos: int
    booked_at_ns: int


class Story(Struct, frozen=True, kw_only=True):
    """``agrees``: run again on the archived View, every compared number came out the same."""

    bid_id: str
    agrees: bool
    currency: str  # of the account; empty where the catalog is gone
    logged: LoggedBid
    missing: Missing | None = None
    differences: tuple[Difference, ...] = ()
    asked: Asked | None = None
    policies: tuple[PolicyUsed, ...] = ()
    again: Rerun | None = None
    booked: Booked | None = None

    def text(self) -> str:
        """For a terminal. What came with the request is cut to printable characters."""
        return "\n".join(_printable(line) for line in _lines(self))


def cpm(nanos: int) -> str:
    """Nanos per impression as a CPM, exactly.

    >>> cpm(1_234_567), cpm(-5)
    ('1.234567', '-0.000005')
    """
    sign, size = "-" if nanos < 0 else "", abs(nanos)
    return f"{sign}{size // 1_000_000}.{size % 1_000_000:06d}"


def when(ns: int) -> str:
    """
    >>> when(1_700_000_000_123_456_789)
    '2023-11-14 22:13:20.123456 UTC'
    """
    second, rest = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S}.{rest // 1_000:06d} UTC"


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in line)


def _row(label: str, text: str) -> str:
    return f"{label:<{LABEL_WIDTH}} {text}"


def _lines(story: Story) -> Iterator[str]:
    bid = story.logged
    yield _row("bid", story.bid_id)
    yield _row("verdict", _verdict(story))
    if story.missing is not None:
        state = "damaged" if story.missing.damaged else "gone"
        whose = f" ({story.missing.agent})" if story.missing.agent else ""
        yield _row(state, f"{story.missing.what}{whose}: {story.missing.why}")
    for found in story.differences:
        yield _row("differs", f"{found.field}: logged {found.logged}, again {found.again}")
    yield ""
    yield _row("when", f"{when(bid.happened_at_ns)}, exchange {bid.exchange}, auction {bid.auction_id}")
    if story.asked is not None:
        yield from _asked(story.asked, story.again)
    yield _row(
        "experiment",
        f"{bid.experiment}: arm {bid.arm}, bucket {bid.bucket} of 10000, randomised by {bid.unit}",
    )
    yield from _policies(story)
    if story.again is not None:
        yield from _rerun(story, story.again)
    else:
        yield ""
        yield _row("logged", f"{bid.line_item_id} with {bid.creative_id} at {_money(story, bid.price_nanos)}")
        yield _row(
            "",
            f"value {cpm(bid.value_nanos)}, v_eff {cpm(bid.paced_nanos)}, floor {cpm(bid.floor_nanos)}, "
            f"win rate {bid.win_rate:.4f}",
        )
    yield ""
    yield from _after(story)


def _verdict(story: Story) -> str:
    if story.missing is not None:
        return "cannot be run again; what follows is what was logged"
    if story.agrees:
        return "run again on the archived View, the decision comes out the same to the last digit"
    return "run again, it does NOT come out as logged: the row, its input or the code of the decision has changed"


def _money(story: Story, nanos: int) -> str:
    return f"{cpm(nanos)} {story.currency or 'of the account currency'} CPM"


def _asked(asked: Asked, again: Rerun | None) -> Iterator[str]:
    for at, imp in enumerate(asked.imps):
        this = " (this bid)" if again is not None and again.imp == at and len(asked.imps) > 1 else ""
        offers = "; ".join(imp.offers) or "nothing we answer"
        yield _row("asked" if at == 0 else "", f"imp {imp.id}{this}: {offers}; floor {imp.floor}")
    about = [
        asked.place,
        " ".join(part for part in (asked.country, asked.region) if part),
        asked.os,
        f"device type {asked.device_type}" if asked.device_type else "",
    ]
    yield _row("", ", ".join(part for part in about if part) or "nothing said about the place")
    if asked.user_key:
        yield _row("person", f"pseudonym {asked.user_key}, {asked.user_records} counts on record")
    else:
        yield _row("person", "nobody: no id, or none that may be used")


def _policies(story: Story) -> Iterator[str]:
    yield _row("view", story.logged.view_digest)
    bid = story.logged
    if not story.policies:
        yield _row(
            "policies",
            f"bidding {bid.bidding_version}, creative {bid.creative_version}, budget {bid.budget_version}, "
            f"feedback {bid.feedback_version} (0: the stated fallback)",
        )
    for at, used in enumerate(story.policies):
        said = (
            f"{used.agent} {used.version}, checksum {used.checksum}"
            if used.version
            else f"{used.agent}: the stated fallback, {used.fallback}"
        )
        yield _row("policies" if at == 0 else "", said)


def _rerun(story: Story, again: Rerun) -> Iterator[str]:
    bid = story.logged
    yield ""
    fates = ", ".join(f"{fate} {count}" for fate, count in again.fates.items())
    yield _row("eligible", f"{again.matched} line items matched: {fates or 'none'}")
    for item in again.line_items:
        mark = ">" if item.line_item_id == bid.line_item_id else " "
        if item.price_nanos:
            rank = f"#{item.rank}" if item.rank else "  "
            yield _row(
                "",
                f"{mark} {rank} {item.line_item_id} with {item.creative_id}: price {cpm(item.price_nanos)}, win rate "
                f"{item.win_rate:.4f}, expected surplus {item.expected_surplus_nanos / 1e6:.6f} ({item.fate})",
            )
        else:
            yield _row("", f"{mark}    {item.line_item_id}: {item.fate}")
    shown = len(again.line_items)
    if shown < again.matched:
        yield _row("", f"     and {again.matched - shown} more")
    left = "more than its ceiling" if again.money_left_nanos is None else cpm(again.money_left_nanos)
    yield _row("money", f"left to campaign {bid.campaign_id} in its arm: {left} (CPM of one impression)")
    yield ""
    yield _row(
        "creatives",
        f"of line item {bid.line_item_id} that fit (exploration {again.exploration_ppm / 1e6:g}, "
        f"uniform share {again.creative_epsilon:g}):",
    )
    for creative in again.creatives:
        mark = ">" if creative.drawn else " "
        yield _row(
            "",
            f"{mark} {creative.creative_id}: weight {creative.weight:.6g}, drawn with probability "
            f"{creative.propensity:.6f}, expected click rate {creative.click_rate:.6f}",
        )
    if again.pricing is not None:
        yield ""
        yield from _pricing(story, again, again.pricing)


def _pricing(story: Story, again: Rerun, pricing: Pricing) -> Iterator[str]:
    steps = pricing.steps
    worth = f"goal {pricing.goal}: an impression by itself {pricing.impression_value_nanos / 1e6:.6f} CPM"
    if pricing.click_value_nanos:
        worth += (
            f", a click {pricing.click_value_nanos / 1e9:.6f} x its chance {steps.click:.6f}, by click rate "
            f"{pricing.click_rate:.6f} x factor {pricing.click_rate_factor:.4f}, of it by plain counts "
            f"{steps.calibration[2]:.4f}, by calibrated features {steps.calibration[0]:.4f} "
            f"(conversions per click {pricing.conversion_rate:.6f})"
        )
    yield _row("value", f"{steps.value / 1e6:.6f} CPM; {worth}")
    said = sorted(steps.features.items(), key=lambda item: -abs(math.log(item[1][0])))
    if said:
        odds = ", ".join(f"{name} x {click:.3f}" for name, (click, _) in said[:FEATURES_SHOWN])
        yield _row("", f"what features do most to the odds of a click: {odds}")
    yield _row("pacing", f"divided by the multiplier {steps.multiplier:.6f}: v_eff {steps.paced / 1e6:.6f}")
    if pricing.dual is not None:
        yield _row("", _dual(story, pricing.dual, steps.multiplier))
    whose = (
        ", this place's own"
        if "/@" in steps.curve
        else ", of its class of click rate"
        if "/~" in steps.curve
        else ""
    )
    source = (
        f"win curve {steps.curve!r}{whose}, {pricing.curve_rows:.0f} rows" if steps.curve else "no win curve"
    )
    _, _, kind = steps.curve.partition("/~")
    if kind:
        source += f" (class {kind} by its chance of a click over the line item's mean)"
    yield _row(
        "shading", f"segment {pricing.segment}, {source}: best expected surplus at {steps.shaded / 1e6:.6f}"
    )
    if pricing.curve:
        points = "  ".join(f"{cpm(point.bid_nanos)}: {point.win_rate:.4f}" for point in pricing.curve)
        yield _row("", f"chance to win near the price  {points}")
    yield _row(
        "bounds",
        f"{cpm(steps.low)} (floor {cpm(pricing.floor_nanos)}) to {cpm(steps.high)} (ceiling "
        f"{cpm(pricing.ceiling_nanos)}, its owner's {cpm(pricing.owner_ceiling_nanos)}); {steps.clip or 'not clipped'}",
    )
    explored = "explored: a jittered price" if steps.explored else "not explored"
    if pricing.exploration_rate > 0.0:
        explored += f" ({pricing.exploration_rate:.1%} of prices, within {pricing.exploration_span:.0%})"
    yield _row(
        "price",
        f"{_money(story, steps.price)}; {explored}, probability of this price {steps.propensity:.6f}; win rate "
        f"{steps.win_rate:.4f}, expected surplus {steps.score / 1e6:.6f}",
    )
    yield _row("sent", f"{cpm(again.bid_price_micros)} {again.bid_currency} CPM")


def _dual(story: Story, dual: Dual, multiplier: float) -> str:
    said = (
        f"budget asks for {dual.budget:.6f}, target cost for {dual.cost:.6f}; {dual.binds(multiplier)} binds"
    )
    if dual.rest < 0.0:
        return f"{said}; as soon as possible, no plan"
    left = f"{dual.left_nanos / 1e9:.6f} {story.currency}".strip()
    return f"{said}; plan: {left} left for {dual.rest:.4f} of a day"


def _after(story: Story) -> Iterator[str]:
    bid = story.logged
    if bid.kept == "won":
        paid = (
            "price not known yet" if bid.paid_nanos is None else f"cleared at {_money(story, bid.paid_nanos)}"
        )
        yield _row("after", f"won, {paid}")
    else:
        yield _row("after", f"no win was heard of; kept as one of a sample of {bid.kept_rate:g} of such bids")
    booked = story.booked
    if booked is not None:
        total = booked.on_time_nanos + booked.late_nanos + booked.overspend_nanos
        late = f", of it {cpm(booked.late_nanos)} late" if booked.late_nanos else ""
        over = f", {cpm(booked.overspend_nanos)} above the budget" if booked.overspend_nanos else ""
        yield _row("ledger", f"booked {_money(story, total)}{late}{over}, {when(booked.booked_at_ns)}")
    if bid.allowance_id:
        yield _row("", f"money from allowance {bid.allowance_id}")
