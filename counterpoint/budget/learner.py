"""The Budget agent's learner: measures what each campaign's money brings, moves money inside pools, plans the day.

Consumes ``SpendBooked``, ``BalanceReported``, ``BudgetMoved``, outcomes, ``TrafficCounted`` and ``Resolution``; gives
``PolicyPublished`` (the spend plan) and ``Proposal`` on ``budget_share`` and ``bid_ceiling``. Keeps one curve, one
tally and one short window per campaign.

Return is measured in the experiment arm ``agents`` only, since the others price and pick differently; that arm's share
of the campaign's spend scales it up. An outcome counts in the period in which it is heard: with a stable delay the
steady state is right, and a change is seen late by that delay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from counterpoint.base.clock import NS_PER_S
from counterpoint.budget import explain
from counterpoint.budget import policy as artefact
from counterpoint.budget.delivery import PPM, Delivery, Tally, ceiling_wish, judge
from counterpoint.budget.hear import AHEAD_NS, NAME, PERIODS_AT_ONCE_MAX, Ears
from counterpoint.budget.policy import HOUR_NS, BudgetPolicy, CampaignPlan, elapsed_ppm, local_day_ns
from counterpoint.budget.pool_curves import PoolCurves
from counterpoint.budget.shapes import Array
from counterpoint.budget.state import BudgetConfig, State
from counterpoint.budget.wish import Wishes
from counterpoint.catalog.local_time import offset_minutes
from counterpoint.catalog.model import Campaign, Catalog
from counterpoint.coordination.clock import HybridClock
from counterpoint.coordination.targets import split_ppm
from counterpoint.events.agent import Decision, publish_policy
from counterpoint.events.event import Event

DAY_S = 86_400
HELD_PPM = 10  # further from what it has, a wish for who does not run is not rounding
SHARE_RATE = 0.1  # of the newest period in the average arm share
_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(State)


class BudgetLearner:
    def __init__(
        self, catalog: Catalog, node: str = NAME, seed: int = 0, config: BudgetConfig | None = None
    ) -> None:
        """``seed`` is kept for the learners' common shape: this one draws nothing."""
        self.name = NAME
        self.seed = seed
        self.config = config if config is not None else BudgetConfig()
        self._state = State()
        self._ears = Ears(self.config)
        self._wishes = Wishes(HybridClock(node))
        self._curves = PoolCurves(self.config)
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
        self._ears.follow(s, self._campaigns)
        self._wishes.follow(s, self._pools, self._campaigns)
        kept: list[dict[str, Any]] = [*s.open.values(), s.curves, s.agents_share, s.balances, s.budgets]
        for held in [*kept, s.marginal, s.deliveries, s.ceilings, s.lambdas, s.lags]:
            for name in [n for n in held if n not in self._campaigns]:
                del held[name]
        for of_pool in (s.accounts, s.units):
            for name in [n for n in of_pool if n not in self._pools]:
                del of_pool[name]
        self._curves.follow(self._state, self._pools)

    # ---- hearing

    def on(self, events: Sequence[Event], now_ns: int) -> list[Decision]:
        self._hourly_cache.clear()  # traffic may be among them
        for event in events:
            self._ears.hear(event, now_ns)
        return []

    # ---- deciding

    def tick(self, now_ns: int) -> list[Decision]:
        s, config = self._state, self.config
        period_ns = config.period_s * NS_PER_S
        self._keep_time(now_ns)
        if config.shadow:
            self._wishes.drop_all()
        decisions = self._wishes.take_back(now_ns)
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
            s.renewed_at_ns = now_ns
            decisions += self._wishes.say_shares(now_ns)
        if s.version == 0 or now_ns - s.policy_at_ns >= config.policy_s * NS_PER_S:
            decisions.append(self._publish(now_ns))
        return decisions

    def _keep_time(self, now_ns: int) -> None:
        """A clock that ran ahead and came back left marks that lie ahead now; nothing may wait until it is there again."""
        s, period_ns = self._state, self.config.period_s * NS_PER_S
        newest = (now_ns + AHEAD_NS) // period_ns
        if (
            s.period > now_ns // period_ns + 1
        ):  # one ahead is a small step back, just after a period was closed
            s.period = now_ns // period_ns
        for ahead in [name for name in s.open if int(name) > newest]:
            del s.open[ahead]
        s.heard_ns = min(s.heard_ns, now_ns + AHEAD_NS)
        s.renewed_at_ns, s.policy_at_ns = min(s.renewed_at_ns, now_ns), min(s.policy_at_ns, now_ns)
        s.traffic.forget_after((now_ns + AHEAD_NS) // HOUR_NS)
        self._wishes.keep_time(now_ns)

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
        s.lags = {name: [x * self.config.keep() for x in of] for name, of in s.lags.items()}
        for name, pool in self._pools.items():
            time = [self._planned(c, start_ns) * s.agents_share.get(c.id, 1.0) for c in pool]
            self._curves.observe(name, [tallies.get(c.id, Tally()) for c in pool], time, start_ns)

    def _planned(self, campaign: Campaign, start_ns: int) -> float:
        """The share of a day's budget that the plan puts into the period from ``start_ns``."""
        if self.config.period_s >= DAY_S:
            return self.config.period_s / DAY_S
        hourly = self._hourly(campaign, start_ns)
        hour = local_day_ns(start_ns, offset_minutes(campaign, start_ns)) // HOUR_NS
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
        now = np.array([max(0.0, float(self._budget(c))) for c in pool])
        frozen = [not self._runs(c, now_ns) for c in pool]  # that money is its owner's business
        proposed = self._curves.propose(name, now, frozen, now_ns)
        if proposed is None:
            self._hold_frozen(name, pool, now, frozen)
            return
        total = float(now.sum())
        for campaign, slope in zip(pool, proposed.marginal, strict=True):
            s.marginal[campaign.id] = float(slope)
        if not bool(proposed.moved):
            self._hold_frozen(name, pool, now, frozen)
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
        self._wishes.share(
            name, split_ppm({n: round(x * unit) for n, x in zip(names, proposed.x, strict=True)})
        )
        s.moves += 1
        s.decided, s.why = f"pool {name}: {said.partition(':')[0]}", said

    def _hold_frozen(self, name: str, pool: list[Campaign], now: Array, frozen: list[bool]) -> None:
        """A wish on its way, which the resolver takes in steps, stops where it is for whoever does not run any more."""
        wished = self._state.wished
        holds = split_ppm({c.id: int(x) for c, x in zip(pool, now, strict=True)})
        away = (
            abs(wished.get(c.id, holds[c.id]) - holds[c.id])
            for c, still in zip(pool, frozen, strict=True)
            if still
        )
        if max(away, default=0) > HELD_PPM:
            self._wishes.share(name, holds)

    def _runs(self, campaign: Campaign, now_ns: int) -> bool:
        balance = self._state.balances.get(campaign.id)
        over = campaign.ends_at_ns is not None and now_ns >= campaign.ends_at_ns
        stopped = balance is not None and balance.stopped  # by the ledger, for overspend
        return not (campaign.paused or over or now_ns < campaign.starts_at_ns or stopped)

    def _watch_delivery(self, now_ns: int) -> list[Decision]:
        """Wish a higher bid ceiling where the price keeps a campaign from its plan; take the wish back when it is over."""
        s, config = self._state, self.config
        said: list[Decision] = []
        if config.shadow:
            return said
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
            holds = s.ceilings.get(campaign_id, campaign.bid_ceiling_micros)
            if (verdict.behind or delivery.wished) and not verdict.recovered and self._runs(campaign, now_ns):
                delivery.wished = max(
                    delivery.wished, ceiling_wish(delivery.prices, holds, campaign.bid_ceiling_micros)
                )
                said.append(self._wishes.ceiling(campaign_id, delivery.wished, verdict, now_ns))
                s.decided = f"{campaign_id}: wishes a bid ceiling of {delivery.wished / PPM:.2f} CPM"
                s.why = verdict.reason
            elif delivery.wished:
                delivery.wished = 0
                said.append(self._wishes.no_ceiling(campaign_id, verdict, now_ns))
        return said

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
        s.clock_physical_ns, s.clock_logical = self._wishes.clock.physical_ns, self._wishes.clock.logical
        seen, counted = self._ears.dump()
        return _ENCODER.encode(msgspec.structs.replace(s, seen=seen, seen_counted=counted))

    def restore(self, raw: bytes) -> None:
        state = _DECODER.decode(raw)
        self._ears.load(state.seen, state.seen_counted)
        state.seen = state.seen_counted = (b"", b"")
        self._state = state
        self._curves.forget()
        clock = self._wishes.clock
        clock.physical_ns, clock.logical = state.clock_physical_ns, state.clock_logical
        self.set_catalog(self._catalog)
