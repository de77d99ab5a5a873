"""The story of a bid: its row found in the decision log, its decision run again on the archived View, and compared.

No arithmetic of its own: ``decide`` decides, its trace shows what it saw, and the policies' own ``explain_price`` and
``explain_choice`` give the steps. What cannot be run again is told as it was logged, with the input that is gone.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec
import numpy as np

from counterpoint.bidder import kernels
from counterpoint.bidder.decide import (
    AllowancesLeft,
    Candidate,
    Candidates,
    ImpCandidates,
    NoBid,
    decide,
    left_of,
    price_in_bid_currency,
    tables_of,
)
from counterpoint.bidder.experiment import AGENTS, ARMS, falls_back
from counterpoint.bidder.frequency import RECORD_BYTES
from counterpoint.bidder.outgoing import DecisionInput, unpack_input
from counterpoint.bidder.part import R_CAMPAIGN, R_KEY, R_PURSE
from counterpoint.bidder.view import View
from counterpoint.bidding.policy import BiddingPolicy, Dual, PriceSteps, explain_price, shown_before
from counterpoint.catalog.model import MTYPE
from counterpoint.creative.policy import explain_choice
from counterpoint.feedback.policy import FeedbackPolicy
from counterpoint.openrtb.identity import restore_request
from counterpoint.openrtb.objects import BidRequest
from counterpoint.record.archive import Archive, ArchiveMissing
from counterpoint.record.asked import asked_of
from counterpoint.record.find import Found
from counterpoint.record.story import (
    Asked,
    CreativeShown,
    CurvePoint,
    Difference,
    LineItemFate,
    Missing,
    PolicyUsed,
    Pricing,
    Rerun,
    Story,
    when,
)
from counterpoint.record.trace import ImpSeen, Seen

LINE_ITEMS_SHOWN: Final = 16
CURVE_POINTS_EACH_SIDE: Final = 3


def explain(found: Found, archive: Archive) -> Story:
    """Run the decision of this row again and tell it. Never raises for what is gone: the story says so."""
    bid = found.bid

    def untold(missing: Missing, asked: Asked | None = None) -> Story:
        return Story(bid_id=bid.bid_id, agrees=False, currency="", logged=bid, missing=missing, asked=asked)

    if not found.decision_input:
        return untold(Missing("input", "the row holds no input of the decision"))
    try:
        given = unpack_input(found.decision_input)
        request = restore_request(given.request)
    except msgspec.DecodeError as error:
        return untold(Missing("input", f"the input in the row cannot be read: {error}", damaged=True))
    asked = asked_of(request, given)
    try:
        view = archive.view(given.view_digest)
    except ArchiveMissing as gone:
        return untold(Missing(gone.what, str(gone), gone.agent, gone.damaged), asked)
    unsound = _unsound(given, view)
    if unsound:
        return untold(Missing("input", f"the input in the row was changed: {unsound}", damaged=True), asked)
    return _Rerun(found, given, request, view).story(asked)


def _unsound(given: DecisionInput, view: View) -> str:
    if not 0 <= given.arm < len(ARMS):
        return f"there is no arm {given.arm}"
    if any(not 0 <= purse < view.part.purses for purse, _ in given.limited):
        return "it names a campaign that its catalog does not have"
    if len(given.user.events) % RECORD_BYTES:
        return "the person's records are cut"
    return ""


class _Rerun:
    """One decision run again, and what is read off it."""

    def __init__(self, found: Found, given: DecisionInput, request: BidRequest, view: View) -> None:
        self.bid = found.bid
        self.given = given
        self.request = request
        self.view = view
        self.part = view.part
        self.seen = Seen()
        self.left: AllowancesLeft = left_of(view, given.arm, given.limited)
        self._use(given.arm)
        self.auction_type = 1

    def _use(self, arm: int) -> None:
        self.arm = arm
        self.tables, self.bidding, self.creative = tables_of(self.view, arm, self.given.now_ns)

    def story(self, asked: Asked) -> Story:
        made, failed = self._decide()
        differences: list[Difference] = []
        again: Rerun | None = None
        if made is None:
            differences.append(Difference("decision", "a bid", failed))
        else:
            self._use(made.arm)
            self.auction_type = made.auction_type
            choice, candidate = self._nearest(made)
            differences += self._conditions(made)
            if candidate is None:
                best = ", ".join(self._names(c) for c in choice.candidates)
                logged = f"{self.bid.line_item_id} with {self.bid.creative_id}"
                differences.append(Difference("candidate", logged, f"not among the best: {best}"))
            else:
                differences += self._compare(choice, candidate)
            again = self._again(made, choice)
            steps = again.pricing.steps if again.pricing is not None else None
            if candidate is not None and (steps is None or steps.price != candidate.price):
                told = "none" if steps is None else str(steps.price)
                differences.append(Difference("steps", str(candidate.price), told))
        return Story(
            bid_id=self.bid.bid_id,
            agrees=not differences,
            currency=self.view.inputs.catalog.account_currency,
            logged=self.bid,
            differences=tuple(differences),
            asked=asked,
            policies=self._policies(),
            again=again,
        )

    def _decide(self) -> tuple[Candidates | None, str]:
        given = self.given
        try:
            made = decide(
                self.request,
                given.exchange,
                self.view,
                given.user,
                self.left,
                given.now_ns,
                given.rng_key,
                trace=self.seen,
            )
        except AssertionError as error:
            return None, f"it fails an assertion: {error}"
        return (None, f"no bid: {made.reason.value}") if isinstance(made, NoBid) else (made, "")

    # ---- comparing

    def _nearest(self, made: Candidates) -> tuple[ImpCandidates, Candidate | None]:
        """The candidate of the logged line item and creative. A row does not say which imp, and one line item may stand in
        several: the one that differs least."""
        own = [
            (len(self._compare(choice, candidate)), at, choice, candidate)
            for at, choice in enumerate(made.imps)
            for candidate in choice.candidates
            if self._names(candidate) == f"{self.bid.line_item_id} with {self.bid.creative_id}"
        ]
        if not own:
            item = self.part.line_item_positions.get(self.bid.line_item_id, -1)
            with_item = [c for c in made.imps if self.seen.imps[c.imp].choice_of(item) is not None]
            return (with_item or list(made.imps))[0], None
        _, _, choice, candidate = min(own, key=lambda found: found[:2])
        return choice, candidate

    def _names(self, candidate: Candidate) -> str:
        item, creative = (
            self.part.line_items[candidate.line_item],
            self.part.creatives[candidate.creative],
        )
        return f"{item.id} with {creative.id}"

    def _conditions(self, made: Candidates) -> list[Difference]:
        found = self._differences(
            {
                "view_digest": self.given.view_digest,
                "exchange": self.given.exchange,
                "auction_id": self.request.id,
                "user_key": self.given.user.key,
                "experiment": self.view.experiment.name,
                "arm": ARMS[made.arm],
                "bucket": made.bucket,
                "unit": made.unit,
                "auction_type": made.auction_type,
                "bidding_version": made.bidding_version,
                "creative_version": made.creative_version,
                "budget_version": made.budget_version,
                "feedback_version": made.feedback_version,
            }
        )
        if made.arm != self.given.arm:
            found.append(Difference("arm of the input", ARMS[self.given.arm], ARMS[made.arm]))
        return found

    def _compare(self, choice: ImpCandidates, candidate: Candidate) -> list[Difference]:
        creative = self.part.creatives[candidate.creative]
        place = self.part.exchanges[self.given.exchange]
        return self._differences(
            {
                "campaign_id": self.part.line_items[candidate.line_item].campaign_id,
                "media": creative.media.value,
                "segment": place.segment_names[MTYPE[creative.media]],
                "price_nanos": candidate.price,
                "value_nanos": candidate.value,
                "paced_nanos": candidate.paced,
                "floor_nanos": choice.floor,
                "click_rate": candidate.click_rate,
                "conversion_rate": candidate.conversion,
                **self._value_model(choice, candidate),
                "win_rate": candidate.win_rate,
                "explored": candidate.explored != 0,
                "creative_propensity": candidate.creative_propensity,
                "price_propensity": candidate.price_propensity,
            }
        )

    def _value_model(self, choice: ImpCandidates, candidate: Candidate) -> dict[str, object]:
        """What older rows do not have is not compared."""
        if self.bid.click_chance < 0.0:
            return {}
        return {
            "click_chance": candidate.click,
            "context": choice.context,
            "exposed": self._shown(candidate.line_item),
        }

    def _shown(self, item: int) -> int:
        user = self.given.user
        return shown_before(user.events, self.part.rules.item(item, R_KEY)) if user.key else 0

    def _differences(self, again: dict[str, object]) -> list[Difference]:
        return [
            Difference(name, str(getattr(self.bid, name)), str(value))
            for name, value in again.items()
            if getattr(self.bid, name) != value
        ]

    # ---- telling

    def _again(self, made: Candidates, choice: ImpCandidates) -> Rerun:
        seen = self.seen.imps[choice.imp]
        item = self.part.line_item_positions.get(self.bid.line_item_id, -1)
        campaign = self.part.campaign_positions.get(self.bid.campaign_id, -1)
        fates = self._fates(choice, seen)
        fates.sort(key=lambda fate: (fate.rank or 99, -fate.expected_surplus_nanos, fate.price_nanos == 0))
        own = [fate for fate in fates[LINE_ITEMS_SHOWN:] if fate.line_item_id == self.bid.line_item_id]
        return Rerun(
            imp_id=self.request.imp[choice.imp].id,
            imp=choice.imp,
            matched=made.eligible,
            scored=made.scored,
            fates=dict(Counter(fate.fate for fate in fates).most_common()),
            line_items=(*fates[: LINE_ITEMS_SHOWN - len(own)], *own),
            money_left_nanos=dict(made.limited).get(self.part.rules.item(item, R_PURSE) if item >= 0 else -1),
            creatives=self._creatives(seen, item),
            creative_epsilon=self.creative.epsilon,
            exploration_ppm=int(self.tables.exploration[campaign]) if campaign >= 0 else 0,
            pricing=self._pricing(seen, item),
            bid_currency=made.currency,
            rate_micros=made.rate_micros,
            bid_price_micros=price_in_bid_currency(self.bid.price_nanos, made.rate_micros),
        )

    def _fates(self, choice: ImpCandidates, seen: ImpSeen) -> list[LineItemFate]:
        ranks = {candidate.line_item: at for at, candidate in enumerate(choice.candidates, 1)}
        fitting = set(seen.cand_li.tolist())
        fates: list[LineItemFate] = []
        for item, verdict in zip(self.seen.matched, self.seen.verdicts, strict=True):
            line_item = self.part.line_items[item]
            fate = _VERDICTS.get(verdict, "")
            if not fate and item not in fitting:
                fate = "without a creative that fits"
            if fate:
                fates.append(
                    LineItemFate(line_item_id=line_item.id, campaign_id=line_item.campaign_id, fate=fate)
                )
            else:
                fates.append(self._priced_fate(seen, item, ranks.get(item, 0)))
        return fates

    def _priced_fate(self, seen: ImpSeen, item: int, rank: int) -> LineItemFate:
        line_item = self.part.line_items[item]
        at = seen.choice_of(item)
        assert at is not None, "what fits is drawn from"
        price, value, paced = (int(x) for x in seen.money[:3, at])
        money = int(self.left[self.part.rules.item(item, R_PURSE), self.given.arm])
        if rank:
            fate = "candidate"
        elif price > money:
            fate = "dearer than the money left"
        elif price > 0:
            fate = "outranked"
        else:
            fate = self._steps(seen, item, at).clip.removeprefix("no bid: ")
        return LineItemFate(
            line_item_id=line_item.id,
            campaign_id=line_item.campaign_id,
            fate=fate,
            rank=rank,
            creative_id=self.part.creatives[int(seen.chosen_cr[at])].id,
            price_nanos=price,
            value_nanos=value,
            paced_nanos=paced,
            win_rate=float(seen.rates[0, at]),
            expected_surplus_nanos=float(seen.rates[1, at]),
        )

    def _segment_of(self, creative: int) -> str:
        place = self.part.exchanges[self.given.exchange]
        return place.segment_names[self.part.creative_mtype.item(creative)]

    def _steps(self, seen: ImpSeen, item: int, at: int) -> PriceSteps:
        return explain_price(
            self.bidding,
            item,
            float(seen.chosen_ctr[at]),
            ceiling=int(self.tables.ceilings[self.part.rules.item(item, R_CAMPAIGN)]),
            segment=self.bidding.segments.get(self._segment_of(int(seen.chosen_cr[at])), 0),
            auction_type=self.auction_type,
            floor=seen.floor,
            key=seen.key,
            context=seen.context,
            shown=self._shown(item),
        )

    def _creatives(self, seen: ImpSeen, item: int) -> tuple[CreativeShown, ...]:
        mine = seen.cand_cr[seen.cand_li == item].tolist()
        if not mine:
            return ()
        drawn, chances = explain_choice(
            mine,
            self.creative,
            item,
            exploration_ppm=int(self.tables.exploration[self.part.rules.item(item, R_CAMPAIGN)]),
            uniform_flag=self.creative.fallback,
            key=seen.key,
        )
        return tuple(
            CreativeShown(
                self.part.creatives[creative].id,
                float(self.creative.weight[creative]),
                chance,
                float(self.creative.click_rate[creative]),
                at == drawn,
            )
            for at, (creative, chance) in enumerate(zip(mine, chances, strict=True))
        )

    def _pricing(self, seen: ImpSeen, item: int) -> Pricing | None:
        at = seen.choice_of(item)
        if at is None:
            return None
        steps = self._steps(seen, item, at)
        segment = self._segment_of(int(seen.chosen_cr[at]))
        campaign = self.part.rules.item(item, R_CAMPAIGN)
        policy = self.view.policy("bidding")
        curve = policy.curves.get(steps.curve) if isinstance(policy, BiddingPolicy) and steps.curve else None
        points: tuple[CurvePoint, ...] = ()
        if curve is not None:
            near = int(np.searchsorted(curve.bids_nanos, steps.price))
            window = slice(max(0, near - CURVE_POINTS_EACH_SIDE), near + CURVE_POINTS_EACH_SIDE)
            points = tuple(map(CurvePoint, curve.bids_nanos[window], curve.win_rates[window]))
        return Pricing(
            segment=segment,
            curve_rows=curve.rows if curve is not None else 0.0,
            curve=points,
            goal=self.part.campaigns[campaign].goal.value,
            impression_value_nanos=steps.impression,
            click_value_nanos=float(
                self.bidding.values[item, 1] + self.bidding.values[item, 4] * steps.conversion
            ),
            click_rate=float(seen.chosen_ctr[at]),
            click_rate_factor=float(self.bidding.segment_values[self.bidding.segments.get(segment, 0), 0]),
            conversion_rate=steps.conversion,
            floor_nanos=seen.floor,
            ceiling_nanos=int(self.tables.ceilings[campaign]),
            owner_ceiling_nanos=int(self.part.ceilings[campaign]),
            steps=steps,
            dual=self._dual(campaign),
            exploration_rate=float(self.bidding.segment_values[0, 1]),
            exploration_span=float(self.bidding.segment_values[0, 2]),
        )

    def _dual(self, campaign: int) -> Dual | None:
        policy = self.view.policy("bidding")
        if self.bidding.fallback or not isinstance(policy, BiddingPolicy):
            return None
        return policy.duals.get(self.part.campaigns[campaign].id)

    def _policies(self) -> tuple[PolicyUsed, ...]:
        versions = {
            "budget": self.tables.budget_version,
            "bidding": self.bidding.version,
            "creative": self.creative.version,
            "feedback": self.tables.feedback_version,
        }
        held = self.view.inputs.policies
        return tuple(
            PolicyUsed(
                agent,
                versions[agent],
                held[agent].checksum if agent in held else "",
                "" if versions[agent] else self._why_fallback(agent),
            )
            for agent in AGENTS
        )

    def _why_fallback(self, agent: str) -> str:
        inputs = self.view.inputs
        policy, feedback = self.view.policy(agent), self.view.policy("feedback")
        if falls_back(ARMS[self.arm], agent):
            return f"because the arm {ARMS[self.arm]} switches the agent off"
        if policy is None:
            return "because no policy had been heard"
        if f"agent/{agent}" in inputs.stops or inputs.settings.get(f"agent/{agent}/enabled", 1) == 0:
            return "because the agent was stopped"
        if isinstance(feedback, FeedbackPolicy) and agent in feedback.distrusted:
            return f"because Feedback distrusted it: {feedback.why.get(agent, '')}"
        return f"because policy {policy.version} had expired at {when(policy.valid_until_ns)}"


_VERDICTS: Final = {
    kernels.NO_MONEY: "no money left",
    kernels.CAPPED: "frequency cap reached",
    kernels.UNKNOWN: "capped, and the person cannot be counted",
}
