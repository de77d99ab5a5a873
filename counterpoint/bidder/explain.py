"""The story of a bid, told by running the decision again on its archived input and the same View.

No second implementation: :func:`retell` runs ``decide`` itself and looks at the arrays between its steps; the prices
are then taken apart by the policies' own plain-Python twins (``explain_price``, ``propensities``), which their tests hold
equal to the kernels to the bit.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from counterpoint.bidder import kernels
from counterpoint.bidder.decide import Candidate, Candidates, NoBid, decide, left_of
from counterpoint.bidder.experiment import ARMS
from counterpoint.bidder.outgoing import DecisionInput
from counterpoint.bidder.scratch import Scratch
from counterpoint.bidder.view import View
from counterpoint.bidding.policy import PriceSteps, explain_price
from counterpoint.creative.policy import propensities
from counterpoint.openrtb.identity import restore_request

LISTED_MAX: Final = 50  # line items told one by one for each step; counts are always complete
VERDICT_NAMES: Final = {
    kernels.ADMITTED: "admitted",
    kernels.NO_MONEY: "no allowance left",
    kernels.CAPPED: "frequency cap reached",
    kernels.UNKNOWN: "capped, and the person cannot be counted",
}


class CreativeChance(Struct, frozen=True):
    creative_id: str
    propensity: float
    click_rate: float


class PricedLine(Struct, frozen=True):
    """One line item of one imp: what it could show, what was drawn, how its price came about."""

    line_item_id: str
    campaign_id: str
    drawn: str  # creative id
    chances: tuple[CreativeChance, ...]
    price: PriceSteps


class ImpStory(Struct, frozen=True):
    imp_id: str
    media: tuple[str, ...]
    floor_nanos: int
    fitting: int  # pairs of line item and creative
    lines: tuple[PricedLine, ...]  # by score, best first, at most LISTED_MAX
    candidates: tuple[Candidate, ...]


class Story(Struct, frozen=True):
    """``outcome``: the candidates of the decision, or its no-bid. ``refused``: line item id and why, those not admitted."""

    request_id: str
    exchange: str
    arm: str
    bucket: int
    unit: str
    view_digest: str
    versions: dict[str, int]
    eligible: int
    eligible_ids: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    imps: tuple[ImpStory, ...]
    outcome: Candidates | NoBid


class _Watch:
    """A Trace that copies what it sees."""

    def __init__(self, view: View, key_of_imp: dict[int, int]) -> None:
        self.view = view
        self.eligible_now: list[int] = []
        self.verdicts: list[int] = []
        self.pairs: dict[int, list[tuple[int, int]]] = {}
        self.drawn: dict[int, list[tuple[int, int, float]]] = {}
        self.floors: dict[int, int] = {}
        self.media: dict[int, int] = {}
        self.keys = key_of_imp

    def eligible(self, n: int, scratch: Scratch) -> None:
        self.eligible_now = scratch.index.eligible[:n].tolist()

    def admitted(self, n: int, kept: int, scratch: Scratch) -> None:
        self.verdicts = scratch.verdicts[:n].tolist()

    def fitting(self, imp: int, m: int, scratch: Scratch) -> None:
        both = scratch.index.candidates[:, :m].tolist()
        self.pairs[imp] = list(zip(both[0], both[1], strict=True))

    def priced(self, imp: int, n: int, floor: int, key: int, media: int, scratch: Scratch) -> None:
        lines = len({item for item, _ in self.pairs[imp]})
        self.drawn[imp] = list(
            zip(
                scratch.chosen_li[:lines].tolist(),
                scratch.chosen_cr[:lines].tolist(),
                scratch.chosen_ctr[:lines].tolist(),
                strict=True,
            )
        )
        self.floors[imp] = floor
        self.media[imp] = media
        self.keys[imp] = key


def explain_decision(archived: DecisionInput, view: View) -> Story:
    """Run the decision again and tell it step by step.

    ``view`` must be the one it was made on: asserted by digest. Raises ``msgspec.DecodeError`` for a broken request.
    """
    assert view.digest == archived.view_digest, "the story needs the View that the decision was made on"
    request = restore_request(archived.request)
    watch = _Watch(view, {})
    outcome = decide(
        request,
        archived.exchange,
        view,
        archived.user,
        left_of(view, archived.arm, archived.limited),
        archived.now_ns,
        archived.rng_key,
        trace=watch,
    )
    part = view.part
    imps: list[ImpStory] = []
    if isinstance(outcome, Candidates):
        found = {choice.imp: choice for choice in outcome.imps}
        for at, drawn in watch.drawn.items():
            choice = found.get(at)
            lines = [_line(view, archived, outcome, watch, at, *one) for one in drawn]
            lines.sort(key=lambda line: -line.price.score)
            imps.append(
                ImpStory(
                    imp_id=request.imp[at].id,
                    media=tuple(
                        name
                        for bit, name in enumerate(("banner", "video", "audio", "native"))
                        if watch.media[at] >> bit & 1
                    ),
                    floor_nanos=watch.floors[at],
                    fitting=len(watch.pairs[at]),
                    lines=tuple(lines[:LISTED_MAX]),
                    candidates=choice.candidates if choice is not None else (),
                )
            )
    named = [part.line_items[item].id for item in watch.eligible_now]
    made = outcome if isinstance(outcome, Candidates) else None
    return Story(
        request_id=request.id,
        exchange=archived.exchange,
        arm=ARMS[archived.arm],
        bucket=made.bucket if made is not None else -1,
        unit=made.unit if made is not None else "",
        view_digest=view.digest,
        versions={
            "bidding": made.bidding_version,
            "creative": made.creative_version,
            "budget": made.budget_version,
            "feedback": made.feedback_version,
        }
        if made is not None
        else {},
        eligible=len(named),
        eligible_ids=tuple(named[:LISTED_MAX]),
        refused=tuple(
            (name, VERDICT_NAMES[verdict])
            for name, verdict in zip(named, watch.verdicts, strict=True)
            if verdict != kernels.ADMITTED
        )[:LISTED_MAX],
        imps=tuple(imps),
        outcome=outcome,
    )


def _line(
    view: View,
    archived: DecisionInput,
    made: Candidates,
    watch: _Watch,
    imp: int,
    item: int,
    drawn: int,
    ctr: float,
) -> PricedLine:
    part = view.part
    tables = (view.arms if archived.now_ns <= view.feedback_until_ns else view.arms_trusting)[made.arm]
    bidding = tables.bidding if made.bidding_version == tables.bidding.version else view.bidding_fallback
    creative = tables.creative if made.creative_version == tables.creative.version else view.creative_fallback
    campaign = part.frame.money.item(item, 0)
    group = [cr for li, cr in watch.pairs[imp] if li == item]
    chances = propensities(
        [float(creative.weight[cr]) for cr in group],
        creative.epsilon,
        tables.exploration.item(campaign),
        uniform_flag=creative.fallback,
    )
    place = part.exchanges[archived.exchange]
    segment = bidding.segments.get(place.segment_names[part.creative_mtype.item(drawn)], 0)
    return PricedLine(
        line_item_id=part.line_items[item].id,
        campaign_id=part.campaign_ids[campaign],
        drawn=part.creatives[drawn].id,
        chances=tuple(
            CreativeChance(part.creatives[cr].id, chance, float(creative.click_rate[cr]))
            for cr, chance in zip(group, chances, strict=True)
        ),
        price=explain_price(
            bidding,
            item,
            ctr,
            ceiling=tables.ceilings.item(campaign),
            segment=segment,
            auction_type=made.auction_type,
            floor=watch.floors[imp],
            key=watch.keys[imp],
        ),
    )
