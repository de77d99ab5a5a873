"""The Budget agent's learner: measures what each campaign's money brings, moves money inside pools, plans the day.

Consumes ``SpendBooked``, ``BalanceReported``, ``BudgetMoved``, outcomes, ``TrafficCounted`` and ``Resolution``; gives
``PolicyPublished`` (the spend plan) and ``Proposal`` on ``budget_share`` and ``bid_ceiling``. Keeps one curve, one
tally and one short window per campaign.

Return is measured in the experiment arm ``agents`` only, since the others price and pick differently; that arm's share
of the campaign's spend scales it up. An outcome counts in the period in which it is heard: with a stable delay the
steady state is right, and a change is seen late by that delay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.seen import SeenIds
from counterpoint.budget import explain
from counterpoint.budget import policy as artefact
from counterpoint.budget.delivery import PPM, Delivery, Tally, ceiling_wish, judge
from counterpoint.budget.policy import BudgetPolicy, CampaignPlan, elapsed_ppm, local_day_ns
from counterpoint.budget.pool_curves import PoolCurves
from counterpoint.budget.response import LAGS
from counterpoint.budget.state import Arm, Balance, BudgetConfig, State
from counterpoint.catalog.local_time import offset_minutes
from counterpoint.catalog.model import Campaign, Catalog, Goal
from counterpoint.coordination.clock import HybridClock
from counterpoint.coordination.proposals import ProposalDesk
from counterpoint.coordination.targets import bid_ceiling, budget_share, split_ppm
from counterpoint.events.agent import Decision, publish_policy
from counterpoint.events.decisions import PolicyPublished, Resolution
from counterpoint.events.event import Event
from counterpoint.events.facts import (
    FACTS_PRICE_LOSS_CODES,
    AuctionLost,
    AuctionWon,
    ClickSeen,
    ConversionAttributed,
    ImpressionSeen,
    TrafficCounted,
)
from counterpoint.events.money import BalanceReported, BudgetMoved, SpendBooked

NAME = "budget"
BIDDING = "bidding"
AGENTS_ARM = "agents"
LAMBDA_TRUST_MAX = 200.0
ARMS_MAX = 16
SEEN_MAX = 20_000  # event ids remembered; the bus itself drops what is published twice within its window
PERIODS_AT_ONCE_MAX = 40  # after a longer sleep, older evidence fades and what was missed is not gone through
LATE_PERIODS_MAX = 4  # a fact that comes later than this after its period does not count
DAY_S = 86_400
REASON_MAX = 280
SHARE_RATE = 0.1  # of the newest period in the average arm share
PACED_ABOVE = 1.02  # a lambda at its floor of 1 says that money is not what is short
_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(State)


class _Paced(msgspec.Struct, frozen=True):
    """Of the bidding policy, as it is published: what Budget reads of it."""

    multipliers: dict[str, float] = {}


_PACED = msgspec.msgpack.Decoder(_Paced)


class BudgetLearner:
    def __init__(
        self, catalog: Catalog, node: str = NAME, seed: int = 0, config: BudgetConfig | None = None
    ) -> None:
        """``seed`` is kept for the learners' common shape: this one draws nothing."""
        self.name = NAME
        self.seed = seed
        self.config = config if config is not None else BudgetConfig()
        self._state = State()
        self._seen = SeenIds(SEEN_MAX)
        self._desk = ProposalDesk(NAME, HybridClock(node))
        self._curves = PoolCurves(self.config)
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            SpendBooked: self._spent,
            BalanceReported: self._balance,
            BudgetMoved: self._moved,
            ImpressionSeen: self._impression,
            ClickSeen: self._click,
            ConversionAttributed: self._conversion,
            AuctionWon: self._won,
            AuctionLost: self._lost,
            TrafficCounted: self._traffic,
            Resolution: self._resolved,
            PolicyPublished: self._policy_published,
        }
        self.set_catalog(catalog)

    def set_catalog(self, catalog: Catalog) -> None:
        """Campaigns that are gone are forgotten; new ones begin with the catalog's budget."""
        self._catalog = catalog
        self._hourly_cache: dict[int, tuple[int, ...]] = {}
        self._campaigns: dict[str, Campaign] = {c.id: c for c in catalog.campaigns}
        pools: dict[str, list[Campaign]] = {}
        for campaign in catalog.campaigns:
            if campaign.pool_id is not None:
                pools.setdefault(campaign.pool_id, []).append(campaign)
        self._curves.keep(self._state)
        self._pools = {name: pools[name] for name in sorted(pools)}
        s = self._state
        kept: list[dict[str, Any]] = [*s.open.values(), s.curves, s.agents_share, s.balances, s.budgets]
        for held in [*kept, s.wished, s.marginal, s.deliveries, s.ceilings, s.lambdas, s.late]:
            for name in [n for n in held if n not in self._campaigns]:
                del held[name]
        for of_pool in (s.accounts, s.units):
            for name in [n for n in of_pool if n not in self._pools]:
                del of_pool[name]
        self._curves.follow(self._state, self._pools)

    # ---- hearing

    def on(self, events: Sequence[Event], now_ns: int) -> list[Decision]:
        for event in events:
            handler = self._handlers.get(type(event))
            if handler is not None and self._seen.add(event.event_id):
                handler(event)
        return []

    def _tally(self, campaign_id: str, recorded_at_ns: int) -> Tally:
        """Where a fact counts: in the period in which it was recorded, so that a learner that catches up sees the same
        periods as one that never slept; in the open one where that is closed; nowhere where that was long ago."""
        s = self._state
        s.heard_ns = max(s.heard_ns, recorded_at_ns)
        period = recorded_at_ns // (self.config.period_s * NS_PER_S)
        if s.period >= 0:
            if not s.period - LATE_PERIODS_MAX <= period <= s.period + PERIODS_AT_ONCE_MAX:
                s.too_late += 1
                return Tally()
            period = max(period, s.period)
        elif str(period) not in s.open and len(s.open) > PERIODS_AT_ONCE_MAX:
            del s.open[min(s.open, key=int)]
        return s.open.setdefault(str(period), {}).setdefault(campaign_id, Tally())

    def _spent(self, event: SpendBooked) -> None:
        if event.campaign_id not in self._campaigns:
            return
        tally = self._tally(event.campaign_id, event.recorded_at_ns)
        tally.spend += event.paid_nanos
        if event.arm == AGENTS_ARM:
            tally.spend_agents += event.paid_nanos
        self._arm(event.arm).spend += event.paid_nanos

    def _balance(self, event: BalanceReported) -> None:
        if event.campaign_id not in self._campaigns:
            return
        held = self._state.balances.get(event.campaign_id)
        if held is not None and (event.day, event.version) < (held.day, held.version):
            return
        budget = event.budget_target_nanos or event.budget_nanos
        spent = event.spent_on_time_nanos + event.late_spend_nanos + event.overspend_nanos
        self._state.balances[event.campaign_id] = Balance(
            event.day, event.version, budget, spent, event.stopped
        )
        self._state.budgets[event.campaign_id] = budget

    def _moved(self, event: BudgetMoved) -> None:
        for campaign_id, budget in event.budgets_nanos.items():
            if campaign_id in self._campaigns:
                self._state.budgets[campaign_id] = budget

    def _impression(self, event: ImpressionSeen) -> None:
        campaign = self._campaigns.get(event.campaign_id)
        if campaign is not None and campaign.goal is Goal.REACH:
            self._earned(event, float(campaign.goal_value_micros))  # micros CPM are nanos an impression

    def _click(self, event: ClickSeen) -> None:
        campaign = self._campaigns.get(event.campaign_id)
        if campaign is not None and campaign.goal is Goal.CLICKS:
            self._earned(event, campaign.goal_value_micros * 1_000.0)

    def _conversion(self, event: ConversionAttributed) -> None:
        campaign = self._campaigns.get(event.campaign_id)
        if campaign is None:
            return
        if campaign.goal is Goal.CONVERSIONS:
            self._earned(event, campaign.goal_value_micros * 1_000.0)
        elif campaign.goal is Goal.VALUE:
            target_roas = (campaign.goal_value_micros or PPM) / PPM
            self._earned(event, event.value_micros * 1_000.0 / target_roas)

    def _earned(self, event: ImpressionSeen | ClickSeen | ConversionAttributed, nanos: float) -> None:
        self._arm(event.arm).value += nanos
        if event.bid_at_ns > 0:
            period_ns = self.config.period_s * NS_PER_S
            lag = max(0, event.recorded_at_ns // period_ns - event.bid_at_ns // period_ns)
            late = self._state.late.setdefault(event.campaign_id, [0.0] * (LAGS + 1))
            late[min(lag, LAGS)] += nanos
        tally = self._tally(event.campaign_id, event.recorded_at_ns)
        if event.arm == AGENTS_ARM:
            tally.value_agents += nanos

    def _arm(self, name: str) -> Arm:
        if name not in self._state.arms and len(self._state.arms) >= ARMS_MAX:
            name = "other"
        return self._state.arms.setdefault(name, Arm())

    def _won(self, event: AuctionWon) -> None:
        if event.campaign_id in self._campaigns:
            self._tally(event.campaign_id, event.recorded_at_ns).won += 1

    def _lost(self, event: AuctionLost) -> None:
        if event.campaign_id not in self._campaigns or event.loss_code not in FACTS_PRICE_LOSS_CODES:
            return
        self._tally(event.campaign_id, event.recorded_at_ns).lost_on_price += 1
        if event.min_to_win_nanos is not None and event.min_to_win_nanos > 0:
            self._state.deliveries.setdefault(event.campaign_id, Delivery()).remember_price(
                event.min_to_win_nanos
            )

    def _traffic(self, event: TrafficCounted) -> None:
        self._state.heard_ns = max(self._state.heard_ns, event.recorded_at_ns)
        self._state.traffic.hear(event)
        self._state.requests += sum(event.requests.values())
        self._hourly_cache.clear()

    def _resolved(self, event: Resolution) -> None:
        parts = event.target.split("/")
        if parts[0] == "campaign" and parts[-1] == "bid_ceiling" and not event.provisional:
            campaign_id = "/".join(parts[1:-1])
            if campaign_id in self._campaigns:
                self._state.ceilings[campaign_id] = event.value

    def _policy_published(self, event: PolicyPublished) -> None:
        if event.agent == NAME:  # after a lost snapshot: go on counting where the bus left off
            self._state.version = max(self._state.version, event.policy_version)
        elif event.agent == BIDDING and self.config.hear_margins:
            try:
                told = _PACED.decode(event.payload).multipliers
            except msgspec.DecodeError:
                return  # the bidder refuses it, and says so
            self._state.lambdas = {
                name: value
                for name, value in told.items()
                if name in self._campaigns and PACED_ABOVE < value < LAMBDA_TRUST_MAX
            }

    # ---- deciding

    def tick(self, now_ns: int) -> list[Decision]:
        s, config = self._state, self.config
        decisions: list[Decision] = []
        period_ns = config.period_s * NS_PER_S
        if s.period < 0:
            s.period = max(
                now_ns // period_ns - PERIODS_AT_ONCE_MAX, min(map(int, s.open), default=now_ns // period_ns)
            )
        closed = False
        behind = now_ns // period_ns - s.period
        if behind > PERIODS_AT_ONCE_MAX:
            self._fade_all(behind - PERIODS_AT_ONCE_MAX)
            s.period = now_ns // period_ns - PERIODS_AT_ONCE_MAX
        while self._may_close(now_ns):
            self._close_period()
            s.period += 1
            closed = True
        if closed:
            self._split(now_ns)
            decisions += self._watch_delivery(now_ns)
        if closed or now_ns - s.renewed_at_ns >= config.renew_s * NS_PER_S:
            decisions += self._say_wishes(now_ns)
        if s.version == 0 or now_ns - s.policy_at_ns >= config.policy_s * NS_PER_S:
            decisions.append(self._publish(now_ns))
        return decisions

    def _may_close(self, now_ns: int) -> bool:
        end_ns = (self._state.period + 1) * self.config.period_s * NS_PER_S
        if now_ns < end_ns + self.config.late_s * NS_PER_S:
            return False
        return self._state.heard_ns >= end_ns or now_ns >= end_ns + self.config.quiet_s * NS_PER_S

    def _fade_all(self, periods: int) -> None:
        self._curves.fade(periods)

    def _close_period(self) -> None:
        s = self._state
        config_s = self.config.period_s
        start_ns = s.period * config_s * NS_PER_S
        tallies = s.open.pop(str(s.period), {})
        for late in [name for name in s.open if int(name) < s.period]:
            del s.open[late]
        for campaign_id, tally in tallies.items():
            delivery = s.deliveries.setdefault(campaign_id, Delivery())
            delivery.close(tally, self.config.window_periods)
            if tally.spend > 0:
                made = tally.spend_agents / tally.spend
                held = s.agents_share.get(campaign_id, made)
                s.agents_share[campaign_id] = held + SHARE_RATE * (made - held)
        for campaign_id, delivery in s.deliveries.items():
            if campaign_id not in tallies:
                delivery.close(Tally(), self.config.window_periods)
        s.requests_a_day += 0.02 * (s.requests * DAY_S / config_s - s.requests_a_day)
        s.requests = 0
        s.late = {name: [x * self.config.keep() for x in of] for name, of in s.late.items()}
        for name, pool in self._pools.items():
            time = [self._planned(c, start_ns) * s.agents_share.get(c.id, 1.0) for c in pool]
            self._curves.observe(name, [tallies.get(c.id, Tally()) for c in pool], time, start_ns)

    def _planned(self, campaign: Campaign, start_ns: int) -> float:
        """The share of a day's budget that the plan puts into the period from ``start_ns``."""
        if self.config.period_s >= DAY_S:
            return self.config.period_s / DAY_S
        hourly = self._hourly(campaign, start_ns)
        hour = local_day_ns(start_ns, offset_minutes(campaign, start_ns)) // artefact.HOUR_NS
        return hourly[hour] / PPM * self.config.period_s / 3_600

    def _hourly(self, campaign: Campaign, at_ns: int) -> tuple[int, ...]:
        """Campaigns of one time zone share their plan."""
        offset = offset_minutes(campaign, at_ns)
        if offset not in self._hourly_cache:
            self._hourly_cache[offset] = self._state.traffic.hourly_ppm(offset)
        return self._hourly_cache[offset]

    def _budget(self, campaign: Campaign) -> int:
        return self._state.budgets.get(campaign.id, campaign.daily_budget_micros * 1_000)

    def _split(self, now_ns: int) -> None:
        for name, pool in self._pools.items():
            if len(pool) > 1:
                self._split_pool(name, pool, now_ns)

    def _split_pool(self, name: str, pool: list[Campaign], now_ns: int) -> None:
        s, config, unit = self._state, self.config, self._state.units[name]
        now = np.array([float(self._budget(c)) for c in pool])
        frozen = [not self._runs(c, now_ns) for c in pool]  # that money is its owner's business
        proposed = self._curves.propose(name, now, frozen, now_ns)
        if proposed is None:
            return
        total = float(now.sum())
        for campaign, slope in zip(pool, proposed.marginal, strict=True):
            s.marginal[campaign.id] = float(slope)
        if not bool(proposed.moved):
            if any(c.id in s.wished for c in pool):
                share = float(proposed.gain) * unit / total
                s.why = f"pool {name}: moving would bring {share:+.2%} of its budget, not worth it yet"
            return
        names = [c.id for c in pool]
        said = explain.move(
            names, now, proposed.x * unit, proposed.marginal, proposed, unit, self._catalog.account_currency
        )
        if config.shadow:
            s.shadow_moves += 1
            s.decided, s.why = f"pool {name}: shadow, nothing moved", f"would have {said}"
            return
        s.wished.update(split_ppm({n: round(x * unit) for n, x in zip(names, proposed.x, strict=True)}))
        s.moves += 1
        s.decided, s.why = f"pool {name}: {said.partition(':')[0]}", said

    def _runs(self, campaign: Campaign, now_ns: int) -> bool:
        balance = self._state.balances.get(campaign.id)
        over = campaign.ends_at_ns is not None and now_ns >= campaign.ends_at_ns
        stopped = balance is not None and balance.stopped and balance.spent < balance.budget
        return not (campaign.paused or over or now_ns < campaign.starts_at_ns or stopped)

    def _watch_delivery(self, now_ns: int) -> list[Decision]:
        """Wish a higher bid ceiling where the price keeps a campaign from its plan; take the wish back when it is over."""
        s, config = self._state, self.config
        said: list[Decision] = []
        for campaign_id in sorted(s.deliveries):
            campaign, delivery = self._campaigns[campaign_id], s.deliveries[campaign_id]
            balance = s.balances.get(campaign_id)
            window_ns = len(delivery.window) * config.period_s * NS_PER_S
            day_ns = local_day_ns(now_ns, offset_minutes(campaign, now_ns))
            if balance is None or day_ns < window_ns or len(delivery.window) < config.window_periods:
                continue
            hourly = self._hourly(campaign, now_ns)
            verdict = judge(
                delivery,
                balance.budget,
                balance.spent,
                elapsed_ppm(hourly, day_ns - window_ns),
                elapsed_ppm(hourly, day_ns),
            )
            target = bid_ceiling(campaign_id)
            holds = s.ceilings.get(campaign_id, campaign.bid_ceiling_micros)
            if (verdict.behind or delivery.wished) and not verdict.recovered and self._runs(campaign, now_ns):
                delivery.wished = max(
                    delivery.wished, ceiling_wish(delivery.prices, holds, campaign.bid_ceiling_micros)
                )
                said.append(
                    self._desk.wish(
                        target,
                        delivery.wished,
                        "reach",
                        now_ns,
                        reason=verdict.reason,
                        strength=round(PPM * min(1.0, max(0.1, 1.0 - verdict.share))),
                        version=s.version,
                    )
                )
                s.decided = f"{campaign_id}: wishes a bid ceiling of {delivery.wished / PPM:.2f} CPM"
                s.why = verdict.reason
            elif delivery.wished:
                delivery.wished = 0
                said.append(
                    self._desk.withdraw(target, "reach", now_ns, reason=f"no longer: {verdict.reason}")
                )
        return said

    def _say_wishes(self, now_ns: int) -> list[Decision]:
        """Say the wished splits again, so that they hold as long as we live, and not much longer."""
        s = self._state
        s.renewed_at_ns = now_ns
        return [
            self._desk.wish(
                budget_share(campaign_id),
                s.wished[campaign_id],
                "budget",
                now_ns,
                reason=f"marginal return {s.marginal.get(campaign_id, 0.0):.2f}; {s.why}"[:REASON_MAX],
                version=s.version,
            )
            for campaign_id in sorted(s.wished)
        ]

    # ---- telling

    def _publish(self, now_ns: int) -> Decision:
        s, config = self._state, self.config
        s.version += 1
        s.policy_at_ns = now_ns
        made = self.policy(now_ns)
        artefact.validate(made, self._campaigns.keys())
        payload = artefact.encode(made)
        valid_until_ns = now_ns + config.policy_life_s * NS_PER_S
        reason = f"{s.decided}: {s.why}" if config.shadow else s.decided
        return publish_policy(NAME, made.version, payload, now_ns, valid_until_ns, reason)

    def policy(self, now_ns: int) -> BudgetPolicy:
        s = self._state
        plans = {
            c.id: CampaignPlan(
                hourly_ppm=self._hourly(c, now_ns),
                share_ppm=s.wished.get(c.id, PPM) if c.pool_id is not None else PPM,
                marginal_return=s.marginal.get(c.id, 0.0),
            )
            for c in self._campaigns.values()
        }
        return BudgetPolicy(
            version=max(1, s.version),
            made_at_ns=now_ns,
            valid_until_ns=now_ns + self.config.policy_life_s * NS_PER_S,
            plans=plans,
        )

    def explain(self) -> tuple[str, str]:
        return self._state.decided, self._state.why

    def returns_by_arm(self) -> dict[str, float]:
        """Value per unit of money, by experiment arm, over all that was heard. No claim without an interval."""
        return {name: arm.value / arm.spend for name, arm in sorted(self._state.arms.items()) if arm.spend}

    def snapshot(self) -> bytes:
        s = self._state
        self._curves.keep(s)
        s.clock_physical_ns, s.clock_logical = self._desk.clock.physical_ns, self._desk.clock.logical
        return _ENCODER.encode(msgspec.structs.replace(s, seen=self._seen.dump()))

    def restore(self, raw: bytes) -> None:
        state = _DECODER.decode(raw)
        self._seen.load(state.seen)
        state.seen = (b"", b"")
        self._state = state
        self._curves.forget()
        clock = self._desk.clock
        clock.physical_ns, clock.logical = state.clock_physical_ns, state.clock_logical
        self.set_catalog(self._catalog)
