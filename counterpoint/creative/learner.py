"""The creative learner: hears impressions, clicks and skips; publishes a :class:`CreativePolicy`.

Consumes ImpressionSeen, ClickSeen, AdSkipped. Publishes PolicyPublished, about every second when something changed. An
impression counts as seen by a person, not as won: what was won and not rendered could not be clicked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from counterpoint.base.clock import NS_PER_MS, NS_PER_S
from counterpoint.base.seen import SeenIds
from counterpoint.catalog.model import Catalog, Creative
from counterpoint.creative.click_model import Counts, Posterior, Shown, chances_of_best, posteriors
from counterpoint.creative.policy import AGENT, EPSILON_DEFAULT, CreativePolicy, CreativeScore, encode
from counterpoint.events.agent import Decision, publish_policy
from counterpoint.events.event import Event
from counterpoint.events.facts import AdSkipped, ClickSeen, ImpressionSeen

SOURCE = "agent/creative"
DECAY_EVERY_NS = 60 * NS_PER_S
GROUP_QUALITY_MAX = 5.0


class CreativeConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    publish_every_ms: int = 1_000
    renew_every_ms: int = 60_000
    valid_ms: int = 300_000
    half_life_s: float = 3 * 86_400.0
    posterior_scale: float = 0.7  # 1: Thompson sampling; less explores less
    epsilon: float = EPSILON_DEFAULT
    refresh_impressions: float = 20.0  # a line item is scored anew after this many, or this share more
    refresh_share: float = 0.02


class State(Struct):
    counts: dict[str, Counts] = {}  # by creative
    scores: dict[str, dict[str, CreativeScore]] = {}  # by line item, creative: as last scored
    rounds: dict[str, int] = {}  # by line item: how often scored; the counter of its draws
    pending: dict[str, float] = {}  # by line item: what came since (a click counts as many impressions)
    version: int = 0
    dirty: bool = True
    published_at_ns: int = 0
    decayed_at_ns: int = 0
    last: str = "nothing published yet"
    why: str = "no event heard yet"


class _Snapshot(Struct):
    state: State
    seen: tuple[bytes, bytes]


_ENCODER = msgspec.msgpack.Encoder()
CLICK_WEIGHT = 5.0  # what one click or skip tells, in impressions, for deciding when to score anew


class CreativeLearner:
    """Implements :class:`counterpoint.events.agent.Learner`. No I/O; equal events, times and seed give equal bytes."""

    name = AGENT

    def __init__(
        self, catalog: Catalog | None = None, config: CreativeConfig | None = None, seed: int = 1
    ) -> None:
        self.config = config if config is not None else CreativeConfig()
        assert 0.0 < self.config.posterior_scale <= 1.0
        self._seed = seed
        self._state = State()
        self._seen = SeenIds()
        self._shown: dict[str, tuple[Shown, ...]] = {}  # by line item
        self._items_of: dict[str, tuple[str, ...]] = {}  # by creative
        self._owner_prior: dict[str, float] = {}  # by line item
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            ImpressionSeen: self._on_impression,
            ClickSeen: self._on_click,
            AdSkipped: self._on_skip,
        }
        if catalog is not None:
            self.set_catalog(catalog)

    def set_catalog(self, catalog: Catalog) -> None:
        """Take up a new catalog; what is known of creatives no longer shown is forgotten."""
        creatives = {creative.id: creative for creative in catalog.creatives}
        self._shown, self._owner_prior = {}, {}
        items_of: dict[str, list[str]] = {}
        for item in catalog.line_items:
            ids = [name for name in dict.fromkeys(item.creative_ids) if name in creatives]
            self._shown[item.id] = tuple(_shown(item.id, creatives[name]) for name in ids)
            self._owner_prior[item.id] = item.expected_click_rate
            for name in ids:
                items_of.setdefault(name, []).append(item.id)
        self._items_of = {name: tuple(items) for name, items in items_of.items()}
        self._fit_to_catalog()
        self._state.dirty = True

    def _fit_to_catalog(self) -> None:
        state = self._state
        state.counts = {name: c for name, c in state.counts.items() if name in self._items_of}
        state.rounds = {name: n for name, n in state.rounds.items() if name in self._shown}
        state.scores = {name: s for name, s in state.scores.items() if name in self._shown}
        state.pending = {name: n for name, n in state.pending.items() if name in self._shown}
        for name, scores in state.scores.items():
            if scores.keys() != {s.creative_id for s in self._shown[name]}:
                state.pending[name] = float("inf")  # its creatives changed: score it anew at once

    # ---- the verbs

    def on(self, events: Sequence[Event], now_ns: int) -> list[Decision]:
        """Learn; decisions follow in :meth:`tick`."""
        self._age(now_ns)
        handlers, seen = self._handlers, self._seen
        for event in events:
            handler = handlers.get(type(event))
            if handler is not None and seen.add(event.event_id):
                handler(event)
        return []

    def tick(self, now_ns: int) -> list[Decision]:
        state, config = self._state, self.config
        self._age(now_ns)
        since_ns = now_ns - state.published_at_ns
        if since_ns < config.publish_every_ms * NS_PER_MS:
            return []
        self._score()
        if not state.dirty and since_ns < config.renew_every_ms * NS_PER_MS:
            return []
        return [self._publish(now_ns)]

    def explain(self) -> tuple[str, str]:
        return self._state.last, self._state.why

    def snapshot(self) -> bytes:
        return _ENCODER.encode(_Snapshot(self._state, self._seen.dump()))

    def restore(self, raw: bytes) -> None:
        """Raises ``msgspec.DecodeError`` or ``ValueError`` on a snapshot that is not one of ours."""
        snapshot = msgspec.msgpack.decode(raw, type=_Snapshot)
        self._seen.load(snapshot.seen)
        self._state = snapshot.state
        self._fit_to_catalog()

    # ---- what is heard

    def _counts(self, creative_id: str, told: float) -> Counts | None:
        """None for a creative the catalog does not show: that is the bound of what is kept."""
        items = self._items_of.get(creative_id)
        if items is None:
            return None
        pending = self._state.pending
        for item in items:
            pending[item] = pending.get(item, 0.0) + told
        counts = self._state.counts.get(creative_id)
        if counts is None:
            counts = self._state.counts[creative_id] = Counts()
        return counts

    def _on_impression(self, seen: ImpressionSeen) -> None:
        counts = self._counts(seen.creative_id, 1.0)
        if counts is not None:
            counts.impressions += 1.0

    def _on_click(self, click: ClickSeen) -> None:
        counts = self._counts(click.creative_id, CLICK_WEIGHT)
        if counts is not None:
            counts.clicks += 1.0

    def _on_skip(self, skip: AdSkipped) -> None:
        counts = self._counts(skip.creative_id, CLICK_WEIGHT)
        if counts is not None:
            counts.skips += 1.0

    # ---- what follows

    def _age(self, now_ns: int) -> None:
        """Before anything new is counted, so that a long silence ages only what came before it."""
        state = self._state
        elapsed_ns = now_ns - state.decayed_at_ns
        if elapsed_ns < DECAY_EVERY_NS:
            return
        if state.decayed_at_ns > 0:
            factor = 0.5 ** (elapsed_ns / NS_PER_S / self.config.half_life_s)
            for counts in state.counts.values():
                counts.decay(factor)
        state.decayed_at_ns = now_ns

    def _score(self) -> None:
        """Score anew the line items of which enough was heard."""
        state, config = self._state, self.config
        for item in sorted(state.pending):
            shown = self._shown[item]
            known = sum(
                state.counts[s.creative_id].impressions for s in shown if s.creative_id in state.counts
            )
            if state.pending[item] < max(config.refresh_impressions, config.refresh_share * known):
                continue
            del state.pending[item]
            if not shown:
                state.scores.pop(item, None)
                continue
            state.rounds[item] = state.rounds.get(item, 0) + 1
            scores = self._score_item(item, shown)
            if scores != state.scores.get(item):
                state.scores[item] = scores
                state.dirty = True

    def _score_item(self, item: str, shown: tuple[Shown, ...]) -> dict[str, CreativeScore]:
        state = self._state
        found = posteriors(shown, state.counts, self._owner_prior[item])
        groups: dict[str, list[int]] = {}
        for at, creative in enumerate(shown):
            groups.setdefault(creative.group, []).append(at)
        chances: dict[int, float] = {}
        worth: dict[str, float] = {}
        for name, members in groups.items():
            group = [found[at] for at in members]
            drawn = chances_of_best(group, self._seed, name, state.rounds[item], self.config.posterior_scale)
            chances.update(zip(members, drawn.tolist(), strict=True))
            worth[name] = sum(_worth(p) * c for p, c in zip(group, drawn.tolist(), strict=True))
        mean_worth = sum(worth.values()) / len(worth)
        scores = {}
        for at, creative in enumerate(shown):
            quality = worth[creative.group] / mean_worth
            quality = min(max(quality, 1 / GROUP_QUALITY_MAX), GROUP_QUALITY_MAX)
            scores[creative.creative_id] = CreativeScore(found[at].mean, chances[at] * quality)
        best = max(range(len(shown)), key=lambda at: chances[at])
        if len(shown) > 1:
            state.last = f"prefers {shown[best].creative_id} in {item} with weight {chances[best]:.2f}"
            state.why = (
                f"click rate {found[best].mean:.4f} over {found[best].alpha + found[best].beta:.0f} impressions,"
                f" among {len(shown)} creatives"
            )
        return scores

    def policy(self, now_ns: int) -> CreativePolicy:
        """The artefact as it would be published now. A creative of several line items has the mean of its scores:
        weights matter only relative to the other creatives of the same line item, so this is an approximation there;
        the propensity that is logged stays exact."""
        state = self._state
        gathered: dict[str, list[CreativeScore]] = {}
        for item in sorted(state.scores):
            for name, score in state.scores[item].items():
                gathered.setdefault(name, []).append(score)
        return CreativePolicy(
            version=max(state.version + 1, now_ns // NS_PER_MS, 1),
            made_at_ns=now_ns,
            valid_until_ns=now_ns + self.config.valid_ms * NS_PER_MS,
            scores={
                name: CreativeScore(
                    sum(s.click_rate for s in scores) / len(scores),
                    sum(s.weight for s in scores) / len(scores),
                )
                for name, scores in sorted(gathered.items())
            },
            epsilon=self.config.epsilon,
        )

    def _publish(self, now_ns: int) -> Decision:
        state = self._state
        policy = self.policy(now_ns)
        state.version, state.published_at_ns, state.dirty = policy.version, now_ns, False
        if not policy.scores:
            state.last, state.why = "every creative alike", "nothing was shown yet"
        payload = encode(policy)
        return publish_policy(AGENT, policy.version, payload, now_ns, policy.valid_until_ns, state.why)


def _worth(posterior: Posterior) -> float:
    return posterior.mean * posterior.quality


def _shown(item_id: str, creative: Creative) -> Shown:
    size = f"{creative.w}x{creative.h}"
    features = [f"format={creative.media.value} {size}"]
    features += [f"{name}={value}" for name, value in sorted(creative.features.items())]
    return Shown(creative.id, f"{item_id}|{creative.media.value}|{size}", tuple(features))
