"""The Feedback agent's learner: who is well, what has left its usual range, and one adjustment made by itself.

Consumes every fact, signs of life, policies and refusals of policies; gives ``AlarmRaised``, ``PolicyPublished`` (health
and distrust) and ``Proposal`` on ``campaign/{id}/exploration``. Keeps one short window per series, bounded.

Campaign metrics are taken from the experiment arm ``agents``: another arm's share must not look like a change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.ids import digest
from counterpoint.base.seen import SeenIds
from counterpoint.catalog.model import Catalog
from counterpoint.coordination.clock import HybridClock
from counterpoint.coordination.proposals import ProposalDesk
from counterpoint.coordination.targets import exploration
from counterpoint.events import subjects
from counterpoint.events.agent import Decision, publish_policy
from counterpoint.events.decisions import AgentBeat, AlarmRaised, PolicyPublished, PolicyRejected
from counterpoint.events.event import Event
from counterpoint.events.facts import (
    AuctionWon,
    BidPlaced,
    ClickSeen,
    ConversionAttributed,
    ImpressionSeen,
    TrafficCounted,
)
from counterpoint.events.money import SpendBooked
from counterpoint.feedback import policy as artefact
from counterpoint.feedback.health import GRACE_NS, PARTS_MAX, Part, distrusted
from counterpoint.feedback.policy import GUARDED_AGENTS, FeedbackPolicy, Health
from counterpoint.feedback.robust import UNKNOWN, Judged, LevelWatch, RatioWatch
from counterpoint.feedback.state import Adjustment, CampaignTally, ExchangeTally, FeedbackConfig, State

NAME = "feedback"
AGENTS_ARM = "agents"
SEEN_MAX = 20_000  # event ids remembered; the bus itself drops what is published twice within its window
WATCHED = (*GUARDED_AGENTS, "ledger", "bidder")  # missed even when never heard of
NO_BID_REASONS_MAX = 128
BIDDERS_MAX = 256
LEVEL_TRIALS_MIN = 30  # booked impressions behind a CPM
_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(State)


class FeedbackLearner:
    def __init__(
        self, catalog: Catalog, node: str = NAME, seed: int = 0, config: FeedbackConfig | None = None
    ) -> None:
        """``seed`` is kept for the learners' common shape: this one draws nothing."""
        self.name = NAME
        self.seed = seed
        self.config = config if config is not None else FeedbackConfig()
        self._state = State(parts={name: Part() for name in WATCHED})
        self._seen = SeenIds(SEEN_MAX)
        self._desk = ProposalDesk(NAME, HybridClock(node))
        self._found: list[AlarmRaised] = []
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            AgentBeat: self._beat,
            PolicyPublished: self._policy_published,
            PolicyRejected: self._policy_rejected,
            BidPlaced: self._bid,
            AuctionWon: self._won,
            ImpressionSeen: self._impression,
            ClickSeen: self._click,
            ConversionAttributed: self._conversion,
            SpendBooked: self._booked,
            TrafficCounted: self._traffic,
        }
        self.set_catalog(catalog)

    def set_catalog(self, catalog: Catalog) -> None:
        """What is gone from the catalog is forgotten with its series."""
        self._catalog = catalog
        self._campaigns = {c.id for c in catalog.campaigns}
        self._exchanges = {e.id for e in catalog.exchanges}
        s = self._state
        kept: dict[str, Any]
        for kept in (s.levels, s.ratios, s.rates):
            for key in [k for k in kept if not self._known(k.partition("|")[2])]:
                del kept[key]
        for kept in (s.campaigns, s.adjustments):
            for name in [n for n in kept if n not in self._campaigns]:
                del kept[name]
        for name in [n for n in s.exchanges if n not in self._exchanges]:
            del s.exchanges[name]

    def _known(self, subject: str) -> bool:
        kind, _, name = subject.partition("/")
        if kind == "campaign":
            return name in self._campaigns
        return kind != "exchange" or name in self._exchanges

    # ---- hearing

    def on(self, events: Sequence[Event], now_ns: int) -> list[Decision]:
        for event in events:
            handler = self._handlers.get(type(event))
            if handler is not None and self._seen.add(event.event_id):
                handler(event)
        return []

    def _part(self, name: str) -> Part | None:
        parts = self._state.parts
        if name not in parts and len(parts) >= PARTS_MAX:
            return None
        return parts.setdefault(name, Part())

    def _beat(self, event: AgentBeat) -> None:
        part = self._part(event.agent)
        if part is not None:
            part.hear_beat(event)

    def _policy_published(self, event: PolicyPublished) -> None:
        if event.agent == NAME:  # after a lost snapshot: go on counting where the bus left off
            self._state.version = max(self._state.version, event.policy_version)
        part = self._part(event.agent)
        if part is not None:
            part.hear_policy(event)

    def _policy_rejected(self, event: PolicyRejected) -> None:
        part = self._part(event.agent)
        if part is not None:
            part.hear_rejection(event)

    def _campaign(
        self, event: BidPlaced | AuctionWon | ImpressionSeen | ClickSeen | ConversionAttributed | SpendBooked
    ) -> CampaignTally | None:
        s = self._state
        s.heard_ns = max(s.heard_ns, event.recorded_at_ns)
        if event.arm != AGENTS_ARM or event.campaign_id not in self._campaigns:
            return None
        return s.campaigns.setdefault(event.campaign_id, CampaignTally())

    def _exchange(self, name: str) -> ExchangeTally | None:
        if name not in self._exchanges:
            return None
        return self._state.exchanges.setdefault(name, ExchangeTally())

    def _bid(self, event: BidPlaced) -> None:
        if event.test:
            return
        campaign, exchange = self._campaign(event), self._exchange(event.exchange)
        if campaign is not None:
            campaign.bids += 1
            campaign.predicted += _predicted(event)
        if exchange is not None:
            exchange.bids += 1

    def _won(self, event: AuctionWon) -> None:
        campaign, exchange = self._campaign(event), self._exchange(event.exchange)
        if campaign is not None:
            campaign.won += 1
        if exchange is not None:
            exchange.won += 1

    def _impression(self, event: ImpressionSeen) -> None:
        campaign = self._campaign(event)
        if campaign is not None:
            campaign.impressions += 1

    def _click(self, event: ClickSeen) -> None:
        campaign = self._campaign(event)
        if campaign is not None:
            campaign.clicks += 1

    def _conversion(self, event: ConversionAttributed) -> None:
        campaign = self._campaign(event)
        if campaign is not None:
            campaign.conversions += 1

    def _booked(self, event: SpendBooked) -> None:
        campaign, exchange = self._campaign(event), self._exchange(event.exchange)
        for tally in (campaign, exchange):
            if tally is not None:
                tally.booked += 1
                tally.paid_nanos += event.paid_nanos

    def _traffic(self, event: TrafficCounted) -> None:
        s = self._state
        s.heard_ns = max(s.heard_ns, event.recorded_at_ns)
        for name, count in event.requests.items():
            s.requests += count
            exchange = self._exchange(name)
            if exchange is not None:
                exchange.requests += count
        for reason, count in event.no_bids.items():
            if reason in s.no_bids or len(s.no_bids) < NO_BID_REASONS_MAX:
                s.no_bids[reason] = s.no_bids.get(reason, 0) + count
        p99 = event.latency_us.get("p99", 0.0)
        if event.bidder_id in s.p99_us or len(s.p99_us) < BIDDERS_MAX:
            s.p99_us[event.bidder_id] = max(p99, s.p99_us.get(event.bidder_id, 0.0))

    # ---- deciding

    def tick(self, now_ns: int) -> list[Decision]:
        s, config = self._state, self.config
        self._desk.clock.keep_time(now_ns)
        if now_ns - s.last_tick_ns > GRACE_NS:
            s.listening_since_ns = now_ns  # we slept, or have just begun: what is silent may only be unheard
        interval_ns = config.interval_s * NS_PER_S
        if s.last_tick_ns and now_ns - s.last_tick_ns > 2 * interval_ns:
            self._begin_again(now_ns // interval_ns)
        s.last_tick_ns = now_ns
        if s.interval < 0:
            s.interval = now_ns // interval_ns
        self._found = []
        while self._may_close(now_ns):
            self._close_interval(now_ns)
            s.interval += 1
        self._judge_health(now_ns)
        decisions = self._alarms()
        decisions += self._adjust(now_ns)
        reasons = distrusted(s.parts, now_ns)
        changed = list(reasons) != s.told_distrust
        if changed or s.version == 0 or now_ns - s.policy_at_ns >= config.policy_s * NS_PER_S:
            if changed:
                s.told_distrust = list(reasons)
                s.decided = f"distrusts {', '.join(reasons)}" if reasons else "trusts every agent"
                s.why = "; ".join(reasons.values()) or "their policies are valid again"
            decisions.append(self._publish(now_ns))
        return decisions

    def _may_close(self, now_ns: int) -> bool:
        end_ns = (self._state.interval + 1) * self.config.interval_s * NS_PER_S
        if now_ns < end_ns + self.config.late_s * NS_PER_S:
            return False
        return self._state.heard_ns >= end_ns or now_ns >= end_ns + self.config.quiet_s * NS_PER_S

    def _begin_again(self, interval: int) -> None:
        """After a sleep: the intervals that were missed, and the one we woke in, are not judged. What is caught up with
        in a burst would look like a surge."""
        s = self._state
        s.interval = s.skip_interval = interval
        self._clear()

    def _clear(self) -> None:
        s = self._state
        s.campaigns, s.exchanges, s.requests, s.p99_us = {}, {}, 0, {}
        s.no_bids = dict.fromkeys(s.no_bids, 0)  # a reason that falls to zero is news too

    def _close_interval(self, now_ns: int) -> None:
        s = self._state
        if s.interval == s.skip_interval:
            self._clear()
            return
        for name in sorted(s.campaigns):
            self._judge_campaign(name, s.campaigns[name], now_ns)
        for name in sorted(s.exchanges):
            tally, subject = s.exchanges[name], f"exchange/{name}"
            self._ratio("win_rate", subject, tally.won, tally.bids, now_ns)
            self._ratio("bid_rate", subject, tally.bids, tally.requests, now_ns)
            self._level("requests_per_s", subject, tally.requests / self.config.interval_s, now_ns)
            if tally.booked >= LEVEL_TRIALS_MIN:
                self._level("cpm", subject, tally.paid_nanos / tally.booked / 1e6, now_ns)
        for reason in sorted(s.no_bids):
            self._ratio("no_bid_share", f"no_bid/{reason}", s.no_bids[reason], s.requests, now_ns)
        for bidder, p99 in sorted(s.p99_us.items()):
            self._level("latency_p99_us", f"bidder/{bidder}", p99, now_ns)
        self._clear()

    def _judge_campaign(self, name: str, tally: CampaignTally, now_ns: int) -> None:
        subject = f"campaign/{name}"
        self._ratio("win_rate", subject, tally.won, tally.bids, now_ns)
        clicked = self._ratio("ctr", subject, tally.clicks, tally.impressions, now_ns)
        self._ratio("cvr", subject, tally.conversions, tally.clicks, now_ns)
        if tally.booked >= LEVEL_TRIALS_MIN:
            self._level("cpm", subject, tally.paid_nanos / tally.booked / 1e6, now_ns)
        until_ns = now_ns + self.config.exploration_life_s * NS_PER_S
        if clicked.alarm and clicked.z < 0:
            reason = (
                f"click rate fell from {clicked.expected:.4f} to {clicked.observed:.4f} (z {clicked.z:+.1f})"
            )
            self._wish_exploration(name, self.config.exploration_low, until_ns, reason)
            return
        off = self._calibration(name, tally, now_ns)
        if off.alarm:
            reason = f"clicks are {off.observed:.2f} of what was predicted (usual {off.expected:.2f})"
            self._wish_exploration(name, self.config.exploration_low, until_ns, reason)
            return
        creative = self._state.parts["creative"]
        age_ns = now_ns - creative.policy_ns
        stale = creative.policy_ns >= 0 and age_ns > self.config.stale_policy_s * NS_PER_S
        if stale and tally.impressions >= LEVEL_TRIALS_MIN:
            reason = f"the click model is {age_ns / NS_PER_S:.0f} s old"
            self._wish_exploration(name, self.config.exploration_high, until_ns, reason)

    def _calibration(self, name: str, tally: CampaignTally, now_ns: int) -> Judged:
        """Clicks over predicted clicks, as a share of (clicks + predicted): a ratio of counts of like size."""
        if not tally.bids or not tally.impressions:
            return UNKNOWN
        predicted = tally.predicted / tally.bids * tally.impressions
        judged = self._ratio(
            "calibration", f"campaign/{name}", tally.clicks, tally.clicks + predicted, now_ns
        )
        if math.isnan(judged.z):
            return UNKNOWN
        return Judged(_odds(judged.observed), _odds(judged.expected), judged.z, judged.alarm)

    def _ratio(self, metric: str, subject: str, successes: float, trials: float, now_ns: int) -> Judged:
        s, key = self._state, f"{metric}|{subject}"
        watch = s.ratios.get(key)
        if watch is None:
            if len(s.ratios) >= self.config.ratios_max:
                s.unfollowed += 1
                return UNKNOWN
            watch = s.ratios[key] = RatioWatch()
        return self._judged(
            metric,
            subject,
            watch.judge(successes, trials, self.config.ratio),
            now_ns,
            self.config.ratio.threshold,
        )

    def _level(self, metric: str, subject: str, value: float, now_ns: int) -> Judged:
        s, key = self._state, f"{metric}|{subject}"
        watch = s.levels.get(key)
        if watch is None:
            if len(s.levels) >= self.config.levels_max:
                s.unfollowed += 1
                return UNKNOWN
            watch = s.levels[key] = LevelWatch()
        return self._judged(
            metric, subject, watch.judge(value, self.config.level), now_ns, self.config.level.threshold
        )

    def _judged(self, metric: str, subject: str, judged: Judged, now_ns: int, threshold: float) -> Judged:
        s = self._state
        if not math.isnan(judged.observed):
            s.rates[f"{metric}|{subject}"] = judged.observed
        if not math.isnan(judged.z):
            s.judged += 1
        if judged.alarm:
            self._found.append(
                self._alarm(metric, subject, judged.observed, judged.expected, judged.z, threshold, now_ns)
            )
        return judged

    def _alarm(
        self,
        metric: str,
        subject: str,
        observed: float,
        expected: float,
        z: float,
        threshold: float,
        now_ns: int,
        action: str = "",
    ) -> AlarmRaised:
        return AlarmRaised(
            event_id=f"alarm-{digest(metric, subject, str(now_ns))}",
            happened_at_ns=now_ns,
            recorded_at_ns=now_ns,
            source=f"agent/{NAME}",
            metric=metric,
            subject=subject,
            observed=observed,
            expected=expected,
            z=z,
            threshold=threshold,
            action=action,
        )

    def _judge_health(self, now_ns: int) -> None:
        """One alarm when a part falls silent; it must come back before the next."""
        s = self._state
        for name in sorted(s.parts):
            health = s.parts[name].health(now_ns, s.listening_since_ns)
            before = s.told_health.get(name)
            if health.state is Health.DEAD and before != Health.DEAD and name != NAME:
                age_s = max(0.0, health.beat_age_ms / 1_000)
                self._found.append(
                    self._alarm("beat_age_s", f"agent/{name}", age_s, 0.5, age_s / 0.5, 10.0, now_ns)
                )
            if health.state is not Health.UNKNOWN:
                s.told_health[name] = health.state

    def _alarms(self) -> list[Decision]:
        """The largest first; what is beyond the bound is counted, and will come again if it stays."""
        s = self._state
        ordered = sorted(self._found, key=lambda a: (-abs(a.z), a.metric, a.subject))
        s.alarm_count += len(ordered)
        told: list[Decision] = []
        for alarm in ordered[: self.config.alarms_max]:
            campaign = alarm.subject.removeprefix("campaign/")
            lowers = alarm.metric in ("ctr", "calibration") and campaign in s.adjustments
            action = "lowers exploration" if lowers else ""
            told.append(
                Decision(subject=subjects.alarm(NAME), event=msgspec.structs.replace(alarm, action=action))
            )
        if ordered:
            first = ordered[0]
            s.decided = f"alarm: {first.metric} of {first.subject}"
            s.why = f"{first.observed:.4g} where {first.expected:.4g} is usual (z {first.z:+.1f})"
        return told

    def _wish_exploration(self, campaign_id: str, value: int, until_ns: int, reason: str) -> None:
        """The one adjustment made without asking: bounded by its configuration and by the resolver's authority."""
        s = self._state
        held = s.adjustments.get(campaign_id)
        if held is None and len(s.adjustments) >= self.config.adjusted_max:
            s.unfollowed += 1
            return
        if held is not None and held.value < value:
            return  # caution wins over curiosity while it lasts
        s.adjustments[campaign_id] = Adjustment(value, until_ns, reason)
        s.renewed_at_ns = 0

    def _adjust(self, now_ns: int) -> list[Decision]:
        s = self._state
        if now_ns - s.renewed_at_ns < self.config.renew_s * NS_PER_S:
            return []
        s.renewed_at_ns = now_ns
        said: list[Decision] = []
        for name in sorted(s.adjustments):
            held = s.adjustments[name]
            target = exploration(name)
            if now_ns >= held.until_ns:
                del s.adjustments[name]
                said.append(self._desk.withdraw(target, held.intent, now_ns, reason="long enough"))
                continue
            said.append(
                self._desk.wish(
                    target, held.value, held.intent, now_ns, reason=held.reason, version=s.version
                )
            )
            s.decided = f"{name}: wishes exploration at {held.value / 1_000_000:.2f}"
            s.why = held.reason
        return said

    # ---- telling

    def _publish(self, now_ns: int) -> Decision:
        s = self._state
        s.version += 1
        s.policy_at_ns = now_ns
        made = self.policy(now_ns)
        artefact.validate(made)
        payload = artefact.encode(made)
        valid_until_ns = made.valid_until_ns
        return publish_policy(NAME, made.version, payload, now_ns, valid_until_ns, s.decided)

    def policy(self, now_ns: int) -> FeedbackPolicy:
        s = self._state
        reasons = distrusted(s.parts, now_ns)
        return FeedbackPolicy(
            version=max(1, s.version),
            made_at_ns=now_ns,
            valid_until_ns=now_ns + self.config.policy_life_s * NS_PER_S,
            health={name: part.health(now_ns, s.listening_since_ns) for name, part in s.parts.items()},
            distrusted=tuple(reasons),
            why=reasons,
        )

    def rates(self) -> dict[str, float]:
        """The last measured value of every series, by "metric|subject"."""
        return dict(self._state.rates)

    def explain(self) -> tuple[str, str]:
        return self._state.decided, self._state.why

    def snapshot(self) -> bytes:
        s = self._state
        s.clock_physical_ns, s.clock_logical = self._desk.clock.physical_ns, self._desk.clock.logical
        return _ENCODER.encode(msgspec.structs.replace(s, seen=self._seen.dump()))

    def restore(self, raw: bytes) -> None:
        state = _DECODER.decode(raw)
        self._seen.load(state.seen)
        state.seen = (b"", b"")
        self._state = state
        clock = self._desk.clock
        clock.physical_ns, clock.logical = state.clock_physical_ns, state.clock_logical
        self.set_catalog(self._catalog)


def _predicted(bid: BidPlaced) -> float:
    """The chance of a click that it was priced by; of an older bidder's bid the creative's click rate."""
    return bid.click_chance if 0.0 <= bid.click_chance <= 1.0 else bid.click_rate


def _odds(share: float) -> float:
    return share / (1 - share) if share < 1 else math.inf
