"""The bidding learner: hears auctions, spend and outcomes; publishes a :class:`BiddingPolicy` and wishes about ceilings.

Consumes BidPlaced, AuctionWon, AuctionLost, ImpressionSeen, ClickSeen, ConversionAttributed, TrafficCounted; SpendBooked,
BalanceReported, BudgetMoved; PolicyPublished of the Budget agent (its spend plan), Resolution, StopChanged; AlarmRaised
of the Feedback agent (an exchange's win rate).
Publishes PolicyPublished (about every second when something changed) and Proposal (``campaign/{id}/bid_ceiling``).

Which arms teach what. Whether a price won is the same fact whoever set the price: all arms teach the win curve.
Clicks against predicted clicks: only arms where the creative policy predicted. Pacing and cost: only arms where this
agent priced; their share of bids is taken for their share of each budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from counterpoint.base.clock import NS_PER_MS, NS_PER_S
from counterpoint.base.errors import PolicyRefused
from counterpoint.base.money import NANOS_PER_MICRO
from counterpoint.base.seen import SeenIds
from counterpoint.bidding import books
from counterpoint.bidding.calibration import Reliability
from counterpoint.bidding.check import check_bounds
from counterpoint.bidding.cost_watch import Cost
from counterpoint.bidding.outcomes import Counts, Impression, Outcomes, OutcomesState
from counterpoint.bidding.pacing import Pace
from counterpoint.bidding.policy import AGENT, BiddingPolicy, encode
from counterpoint.bidding.price import VALUE_NANOS_MAX
from counterpoint.bidding.rates import Rates
from counterpoint.bidding.state import (
    BiddingConfig,
    MeanRate,
    Money,
    OpenBid,
    Refused,
    Snapshot,
    State,
)
from counterpoint.bidding.steering import (
    awaits,
    click_told,
    clock_set_back,
    least_lambda,
    marginal_values,
    money_today,
    order_told,
    pace_campaigns,
)
from counterpoint.bidding.win_curve import WinCurves
from counterpoint.bidding.win_rows import kind_of, learn_lost, learn_won
from counterpoint.bidding.wishes import wishes
from counterpoint.catalog.model import Campaign, Catalog, LineItem
from counterpoint.coordination.clock import HybridClock
from counterpoint.coordination.proposals import ProposalDesk
from counterpoint.events.agent import Decision, publish_policy
from counterpoint.events.decisions import AlarmRaised, PolicyPublished, Resolution, StopChanged
from counterpoint.events.event import Event
from counterpoint.events.facts import (
    AuctionLost,
    AuctionWon,
    BidPlaced,
    ClickSeen,
    ConversionAttributed,
    ImpressionSeen,
    TrafficCounted,
)
from counterpoint.events.money import BalanceReported, BudgetMoved, SpendBooked

OPEN_BIDS_MAX = 65_536  # waiting for their outcome; past that the oldest are forgotten, and teach no clicks
ARMS_WITHOUT_OUR_PRICES = frozenset({"no_agents", "no_bidding"})
ARMS_WITHOUT_PREDICTED_CLICKS = frozenset({"no_agents", "no_creative"})
ALARMS_FROM = "agent/feedback"
DOUBT_SHARE = 0.1  # what was learned of an exchange counts for, when its win rate left what was expected
DOUBT_EVERY_NS = 600 * NS_PER_S  # by exchange
DECAY_EVERY_NS, JUDGE_EVERY_NS = 60 * NS_PER_S, NS_PER_S
SHARE_HALF_LIFE_S = 3_600.0
ORDER_MICROS_MAX = 10**13  # ten million units: an order above it is an error of whoever told it


_ENCODER = msgspec.msgpack.Encoder()


class BiddingLearner:
    """Implements :class:`counterpoint.events.agent.Learner`. No I/O; equal events and times give equal bytes."""

    name = AGENT

    def __init__(self, catalog: Catalog | None = None, config: BiddingConfig | None = None) -> None:
        self.config = config if config is not None else BiddingConfig()
        self._curves = WinCurves(self.config.curve_half_life_s)
        self._rates = Rates(self.config.rates_half_life_s)
        self._outcomes = Outcomes(self._rates)
        self._state = State(rates=self._rates.state)
        self._seen = SeenIds()
        self._desk = ProposalDesk(AGENT)
        self._campaigns: dict[str, Campaign] = {}
        self._items: dict[str, LineItem] = {}
        self._conversion_priors: dict[str, float] = {}
        self._handlers: dict[type[Event], Callable[[Any, int], None]] = {
            BidPlaced: self._on_bid,
            AuctionWon: self._on_won,
            AuctionLost: self._on_lost,
            ImpressionSeen: self._on_impression,
            ClickSeen: self._on_click,
            ConversionAttributed: self._on_conversion,
            TrafficCounted: self._on_traffic,
            SpendBooked: self._on_spend,
            BalanceReported: self._told(books.on_balance),
            BudgetMoved: self._told(books.on_moved),
            PolicyPublished: self._told(books.on_policy),
            Resolution: self._told(books.on_resolution),
            StopChanged: self._told(books.on_stop),
            AlarmRaised: self._on_alarm,
        }
        if catalog is not None:
            self.set_catalog(catalog)

    def set_catalog(self, catalog: Catalog) -> None:
        """Take up a new catalog; what is known of campaigns and line items no longer in it is forgotten. A budget that
        the ledger has moved stays moved unless the owner changed it."""
        before = self._campaigns
        self._campaigns = {campaign.id: campaign for campaign in catalog.campaigns}
        self._items = {item.id: item for item in catalog.line_items if item.campaign_id in self._campaigns}
        priors: dict[str, list[float]] = {}
        for item in self._items.values():
            priors.setdefault(item.campaign_id, []).append(item.expected_conversion_rate)
        self._conversion_priors = {name: sum(rates) / len(rates) for name, rates in priors.items()}
        for campaign in catalog.campaigns:
            old = before.get(campaign.id)
            if old is not None and old.daily_budget_micros != campaign.daily_budget_micros:
                self._state.money[campaign.id].budget = campaign.daily_budget_micros * NANOS_PER_MICRO
        self._fit_to_catalog()
        self._state.dirty = True

    def _fit_to_catalog(self) -> None:
        """Exactly the catalog's campaigns have money, pace and cost."""
        state = self._state
        for name in [name for name in state.mean_rates if name not in self._items]:
            del state.mean_rates[name]
        gone = [name for name in state.money if name not in self._campaigns]
        for kept in (state.money, state.paces, state.costs, state.wished_at_ns, state.ceilings):
            for name in gone:
                kept.pop(name, None)
        for campaign_id, campaign in self._campaigns.items():
            budget = campaign.daily_budget_micros * NANOS_PER_MICRO
            state.money.setdefault(campaign_id, Money(budget=budget))
            state.paces.setdefault(campaign_id, Pace())
            state.costs.setdefault(campaign_id, Cost())
        self._rates.set_priors({name: item.expected_conversion_rate for name, item in self._items.items()})
        self._rates.forget(set(self._items), set(self._campaigns))
        self._outcomes.forget(set(self._items), set(self._campaigns))

    # ---- the verbs

    def on(self, events: Sequence[Event], now_ns: int) -> list[Decision]:
        """Learn; decisions follow in :meth:`tick`."""
        self._age(now_ns)
        handlers, seen = self._handlers, self._seen
        for event in events:
            handler = handlers.get(type(event))
            if handler is not None and seen.add(event.event_id):
                handler(event, now_ns)
        return []

    def tick(self, now_ns: int) -> list[Decision]:
        state, config = self._state, self.config
        self._age(now_ns)
        state.dirty |= self._outcomes.tick(now_ns)
        if state.money_moved or now_ns - state.stepped_at_ns >= config.pacing_step_ms * NS_PER_MS:
            pace_campaigns(state, self._campaigns, now_ns)
        decisions: list[Decision] = []
        if now_ns - state.judged_at_ns >= JUDGE_EVERY_NS:
            state.judged_at_ns = now_ns
            decisions += wishes(
                state, self._campaigns, self._rates, self._conversion_priors, self._desk, config, now_ns
            )
        since_ns = now_ns - state.published_at_ns
        due = since_ns >= config.publish_every_ms * NS_PER_MS
        if due:
            state.dirty |= self._curves.refresh()
        if due and (state.dirty or since_ns >= config.renew_every_ms * NS_PER_MS):
            decisions += self._publish(now_ns)
        return decisions

    def explain(self) -> tuple[str, str]:
        return self._state.last, self._state.why

    def contained(self) -> Counts:
        """Outcomes that could not be, since the start."""
        return self._outcomes.state.counts

    def refused(self) -> Refused:
        """What was heard and not believed, since the start."""
        return self._state.refused

    def reliability(self) -> tuple[Reliability, Reliability]:
        """Whether predicted clicks and conversions came true on what was won."""
        return self._outcomes.model.reliability()

    def snapshot(self) -> bytes:
        clock = self._desk.clock
        self._state.clock_physical_ns, self._state.clock_logical = clock.physical_ns, clock.logical
        curves = msgspec.Raw(_ENCODER.encode(self._curves.dump()))
        outcomes = msgspec.Raw(_ENCODER.encode(self._outcomes.dump()))
        return _ENCODER.encode(Snapshot(self._state, curves, outcomes, self._seen.dump()))

    def restore(self, raw: bytes) -> None:
        """Raises ``msgspec.DecodeError`` or ``ValueError`` on a snapshot that is not one of ours."""
        snapshot = msgspec.msgpack.decode(raw, type=Snapshot)
        curves = WinCurves(self.config.curve_half_life_s)
        curves.load(snapshot.curves)
        outcomes = Outcomes(self._rates)
        outcomes.load(msgspec.msgpack.decode(snapshot.outcomes, type=OutcomesState))
        self._seen.load(snapshot.seen)
        self._curves, self._state = curves, snapshot.state
        self._rates.state = snapshot.state.rates
        self._outcomes = outcomes
        clock = HybridClock(AGENT, self._state.clock_physical_ns, self._state.clock_logical)
        self._desk = ProposalDesk(AGENT, clock)
        self._fit_to_catalog()

    # ---- what is heard

    def _told(
        self, of: Callable[[State, Mapping[str, Campaign], Any, int], None]
    ) -> Callable[[Any, int], None]:
        return lambda event, now_ns: of(self._state, self._campaigns, event, now_ns)

    def _on_bid(self, bid: BidPlaced, now_ns: int) -> None:
        if bid.test:
            return
        open_bids = self._state.open_bids
        if len(open_bids) >= OPEN_BIDS_MAX:
            for forgotten in list(islice(open_bids, OPEN_BIDS_MAX // 16)):
                del open_bids[forgotten]
            self._state.bids_forgotten += OPEN_BIDS_MAX // 16
        click_rate = bid.click_rate if 0.0 <= bid.click_rate <= 1.0 else 0.0
        chance = bid.click_chance if 0.0 <= bid.click_chance <= 1.0 else click_rate
        value_nanos = bid.value_nanos if 0 <= bid.value_nanos < VALUE_NANOS_MAX else 0
        if click_rate != bid.click_rate or value_nanos != bid.value_nanos:
            self._state.refused.predictions += 1
        mean = self._state.mean_rates.get(bid.line_item_id)
        if mean is None and bid.line_item_id in self._items:
            mean = self._state.mean_rates[bid.line_item_id] = MeanRate()
        open_bids[bid.event_id] = OpenBid(
            click_rate,
            value_nanos,
            kind=kind_of(mean, chance),
            auction_type=bid.auction_type,
            floor_nanos=bid.floor_nanos,
            context=bid.context,
            exposed=max(bid.exposed, 0),
        )
        if mean is not None:
            mean.add(chance)
        self._state.bids_all += 1.0
        if bid.arm not in ARMS_WITHOUT_OUR_PRICES:
            self._state.bids_governed += 1.0
            pace = self._state.paces.get(bid.campaign_id)
            if pace is not None:
                pace.bids += 1

    def _on_won(self, won: AuctionWon, now_ns: int) -> None:
        bid = self._state.open_bids.get(won.bid_id)
        if bid is not None and bid.won:
            self._state.refused.wins_repeated += 1
            return
        learn_won(self._curves, won, bid)
        if bid is not None:
            self._state.open_bids[won.bid_id] = msgspec.structs.replace(bid, won=True)
        if won.arm in ARMS_WITHOUT_OUR_PRICES:
            return
        paid = won.bid_nanos if won.price_nanos is None else won.price_nanos
        if not 0 <= paid <= won.bid_nanos:
            paid = won.bid_nanos
            self._state.refused.prices += 1
        pace = self._state.paces.get(won.campaign_id)
        if pace is not None:
            pace.wins += 1
            if bid is not None and bid.value_nanos > 0:
                pace.cost.pass_to(now_ns)
                pace.cost.won(paid, bid.value_nanos)
                awaits(self._state, self._campaigns[won.campaign_id], bid.value_nanos)
        cost = self._cost(won.campaign_id, now_ns)
        if cost is not None:
            cost.bids_won += 1.0
            cost.bids_won_nanos += won.bid_nanos

    def _on_lost(self, lost: AuctionLost, now_ns: int) -> None:
        bid = self._state.open_bids.get(lost.bid_id)
        if (bid is not None and bid.won) or self._outcomes.knows(lost.bid_id):
            self._state.refused.losses_after_win += 1
            return
        self._state.open_bids.pop(lost.bid_id, None)
        learn_lost(self._curves, lost, bid)

    def _on_alarm(self, alarm: AlarmRaised, now_ns: int) -> None:
        kind, _, exchange = alarm.subject.partition("/")
        if alarm.metric != "win_rate" or kind != "exchange" or alarm.source != ALARMS_FROM:
            return
        last_ns = self._state.doubted_at_ns.get(exchange, -DOUBT_EVERY_NS)
        if now_ns - last_ns >= DOUBT_EVERY_NS and self._curves.doubt(exchange, DOUBT_SHARE):
            self._state.doubted_at_ns[exchange] = now_ns

    def _on_impression(self, seen: ImpressionSeen, now_ns: int) -> None:
        if seen.line_item_id in self._items:
            self._outcomes.shown(seen.bid_id, self._impression(seen, now_ns))
        self._state.open_bids.pop(seen.bid_id, None)

    def _impression(self, seen: ImpressionSeen | ClickSeen, now_ns: int) -> Impression:
        """Of a bid that is forgotten, what the event itself tells; its click rate then teaches nothing."""
        bid = self._state.open_bids.get(seen.bid_id)
        predicted = seen.arm not in ARMS_WITHOUT_PREDICTED_CLICKS
        return Impression(
            min(seen.happened_at_ns, now_ns),
            seen.segment,
            seen.exchange,
            self._items[seen.line_item_id].campaign_id,
            seen.line_item_id,
            bid.click_rate if bid is not None else 0.0,
            bid.context if bid is not None else b"",
            bid.exposed if bid is not None else 0,
            predicted and bid is not None,
        )

    def _on_click(self, click: ClickSeen, now_ns: int) -> None:
        if click.line_item_id in self._items:
            shown = self._impression(click, now_ns)
            if click.bid_id in self._state.open_bids:  # the click overtook its impression
                self._outcomes.shown(click.bid_id, shown)
                self._state.open_bids.pop(click.bid_id)
            campaign = self._campaigns[shown.campaign_id]
            self._outcomes.clicked(
                click.bid_id,
                min(click.happened_at_ns, now_ns),
                campaign.advertiser_id,
                campaign.click_window_s,
                shown,
            )
        if click.arm not in ARMS_WITHOUT_OUR_PRICES:
            cost = self._cost(click.campaign_id, now_ns)
            if cost is not None:
                cost.clicks += 1.0
            click_told(self._state, self._campaigns.get(click.campaign_id))
        self._state.dirty = True

    def _on_conversion(self, order: ConversionAttributed, now_ns: int) -> None:
        if order.by != "click" or order.line_item_id not in self._items:
            return
        if not 0 <= order.value_micros <= ORDER_MICROS_MAX:
            self._state.refused.orders += 1
            return
        if self._outcomes.converted(order.bid_id, min(order.happened_at_ns, now_ns)):
            campaign_id = self._items[order.line_item_id].campaign_id
            bought_at_ns = min(order.bid_at_ns or order.happened_at_ns, now_ns)
            if order.arm not in ARMS_WITHOUT_OUR_PRICES:
                delay_ns = now_ns - bought_at_ns
                order_told(self._state, self._campaigns[campaign_id], order.value_micros, delay_ns)
            self._rates.order(campaign_id, order.value_micros)
            self._state.dirty = True

    def _on_traffic(self, counted: TrafficCounted, now_ns: int) -> None:
        requests = sum(n for n in counted.requests.values() if n > 0)
        self._state.supply |= requests > 0
        self._state.forecast.count(requests, min(counted.happened_at_ns, now_ns))

    def _on_spend(self, spend: SpendBooked, now_ns: int) -> None:
        if spend.paid_nanos < 0:
            self._state.refused.spends += 1
            return
        money = money_today(self._state, self._campaigns.get(spend.campaign_id), spend.day, now_ns)
        if money is not None:
            money.spent_all += spend.paid_nanos
        if spend.arm in ARMS_WITHOUT_OUR_PRICES:
            return
        if money is not None:
            money.spent_governed += spend.paid_nanos
            self._state.paces[spend.campaign_id].spent += spend.paid_nanos
        cost = self._cost(spend.campaign_id, now_ns)
        if cost is not None:
            cost.paid_nanos += spend.paid_nanos

    def _cost(self, campaign_id: str, now_ns: int) -> Cost | None:
        cost = self._state.costs.get(campaign_id)
        if cost is not None:
            cost.decay_to(now_ns, self.config.cost_half_life_s)
        return cost

    # ---- what follows

    def _age(self, now_ns: int) -> None:
        """Before anything new is counted, so that a long silence ages only what came before it."""
        state = self._state
        if clock_set_back(state, self._campaigns, now_ns):
            state.refused.clocks += 1
            self._desk.clock.keep_time(now_ns)
        elapsed_ns = now_ns - state.decayed_at_ns
        if elapsed_ns < DECAY_EVERY_NS:
            return
        if state.decayed_at_ns > 0:
            elapsed_s = elapsed_ns / NS_PER_S
            self._curves.decay(elapsed_s)
            self._rates.decay(elapsed_s)
            self._outcomes.decay(elapsed_s)
            factor = 0.5 ** (elapsed_s / SHARE_HALF_LIFE_S)
            state.bids_all *= factor
            state.bids_governed *= factor
        state.decayed_at_ns = now_ns

    def policy(self, now_ns: int) -> BiddingPolicy:
        """The artefact as it would be published now."""
        state, rates = self._state, self._rates
        items = {name: self._items[name] for name in sorted(rates.state.items)}
        return BiddingPolicy(
            version=max(state.version + 1, now_ns // NS_PER_MS, 1),
            made_at_ns=now_ns,
            valid_until_ns=now_ns + self.config.valid_ms * NS_PER_MS,
            curves=self._curves.published(),
            multipliers={
                name: state.paces[name].multiplier(least_lambda(campaign))
                for name, campaign in self._campaigns.items()
            },
            duals={name: state.paces[name].dual() for name in self._campaigns},
            conversion_rates={
                name: rates.conversion_rate(name, item.campaign_id, item.expected_conversion_rate)
                for name, item in items.items()
            },
            marginal_values=marginal_values(state, self._campaigns, self._items),
            order_values_micros={
                name: rates.order_value_micros(name, self._campaigns[name].expected_order_value_micros)
                for name in rates.state.orders
            },
            mean_click_rates={
                name: mean.known for name, mean in state.mean_rates.items() if 1e-9 <= mean.known <= 1.0
            },
            ctr_factors=self._outcomes.model.segment_factors(),
            exploration_rate=self.config.exploration_rate,
            exploration_span=self.config.exploration_span,
            value=self._outcomes.model.weights(),
        )

    def _publish(self, now_ns: int) -> list[Decision]:
        state = self._state
        policy = self.policy(now_ns)
        try:
            check_bounds(policy)  # golden requests are the bidder's to try
        except (
            PolicyRefused
        ) as error:  # the last good one stays until it expires, and a bidder's fallback is stated
            state.refused.policies += 1
            state.published_at_ns, state.last = now_ns, f"made a policy that is not valid: {error}"
            return []
        state.version, state.published_at_ns, state.dirty = policy.version, now_ns, False
        payload = encode(policy)
        lambdas = sorted(policy.multipliers.values()) or [1.0]
        state.last = f"{len(policy.curves)} win curves, lambda {lambdas[0]:.2f} to {lambdas[-1]:.2f}"
        rows = policy.curves["*"].rows if "*" in policy.curves else 0.0
        if not state.why.startswith("campaign"):
            state.why = f"{rows:.0f} auctions behind the curves"
        return [publish_policy(AGENT, policy.version, payload, now_ns, policy.valid_until_ns, state.why)]
