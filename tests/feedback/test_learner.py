"""The Feedback learner: finds what was injected, keeps quiet otherwise, judges health, adjusts within bounds."""

from __future__ import annotations

import msgspec
import pytest

from counterpoint.base.clock import NS_PER_MS, NS_PER_S
from counterpoint.base.errors import PolicyRefused
from counterpoint.bus.bus import Delivery
from counterpoint.coordination.epochs import EpochBook
from counterpoint.coordination.targets import exploration
from counterpoint.events import subjects
from counterpoint.events.agent import Decision
from counterpoint.events.decisions import (
    AgentBeat,
    AlarmRaised,
    PolicyPublished,
    PolicyRejected,
    Proposal,
)
from counterpoint.events.facts import BidPlaced
from counterpoint.feedback import policy as artefact
from counterpoint.feedback.learner import FeedbackLearner
from counterpoint.feedback.policy import FeedbackPolicy, Health, distrusts
from tests.feedback.series import CATALOG, MINUTE_NS, T0, World, run


@pytest.mark.parametrize(
    ("metric", "broken"),
    [
        ("ctr", {"ctr": 0.3}),
        ("win_rate", {"win_rate": 2.0}),
        ("cpm", {"cpm": 1.6}),
        ("latency_p99_us", {"latency": 3.0}),
        ("requests_per_s", {"requests": 3.0}),
        ("no_bid_share", {"no_bid": 2.0}),
    ],
)
def test_finds_an_injected_anomaly_soon(metric: str, broken: dict[str, float]) -> None:
    alarms = run(FeedbackLearner(CATALOG), World(11, **broken), minutes=55, break_at=45)
    assert [a for minute, a in alarms if minute < 45] == []
    first = min(minute for minute, a in alarms if a.metric == metric)
    assert first - 45 <= (8 if metric == "ctr" else 2)


def false_alarms(seeds: range, minutes: int) -> tuple[int, int]:
    """(alarms, judged points) on clean series."""
    alarms = judged = 0
    for seed in seeds:
        learner = FeedbackLearner(CATALOG)
        alarms += len(run(learner, World(seed), minutes=minutes))
        judged += learner._state.judged
    return alarms, judged


def test_keeps_quiet_on_clean_series() -> None:
    alarms, judged = false_alarms(range(100, 106), minutes=90)
    assert judged > 3_000
    assert alarms <= 2, f"{alarms} false alarms in {judged} judged points"


def beat(agent: str, at_ns: int, incarnation: str = "i", lag: int = 0) -> AgentBeat:
    return AgentBeat(
        event_id=f"beat-{agent}-{at_ns}", happened_at_ns=at_ns, recorded_at_ns=at_ns, source=f"agent/{agent}", agent=agent,
        incarnation=incarnation, state="running", lag_events=lag,
    )  # fmt: skip


def published(agent: str, version: int, at_ns: int, life_s: int = 60) -> PolicyPublished:
    return PolicyPublished(
        event_id=f"p-{agent}-{version}", happened_at_ns=at_ns, recorded_at_ns=at_ns, source=f"agent/{agent}", agent=agent,
        policy_version=version, checksum="", payload=b"", valid_until_ns=at_ns + life_s * NS_PER_S,
    )  # fmt: skip


def rejected(agent: str, version: int, at_ns: int, bidder: str = "b1") -> PolicyRejected:
    return PolicyRejected(
        event_id=f"r-{agent}-{version}-{bidder}", happened_at_ns=at_ns, recorded_at_ns=at_ns, source=f"bidder/{bidder}",
        agent=agent, policy_version=version, reason="not monotone",
    )  # fmt: skip


def newest(decisions: list[Decision]) -> FeedbackPolicy:
    payloads = [d.event.payload for d in decisions if isinstance(d.event, PolicyPublished)]
    policy = artefact.decode(payloads[-1])
    artefact.validate(policy)
    return policy


def live(learner: FeedbackLearner, seconds: range, silent: tuple[str, ...] = ()) -> list[Decision]:
    out: list[Decision] = []
    for second in seconds:
        now_ns = T0 + second * NS_PER_S
        parts = ("budget", "bidding", "creative", "ledger", "bidder")
        learner.on([beat(name, now_ns) for name in parts if name not in silent], now_ns)
        for part in range(5):
            out += learner.tick(now_ns + part * 200 * NS_PER_MS)
    return out


def test_an_agent_that_falls_silent_is_lagging_then_dead_and_told_once() -> None:
    learner = FeedbackLearner(CATALOG)
    live(learner, range(20))
    assert {h.state for h in learner.policy(T0 + 19 * NS_PER_S).health.values()} == {Health.ALIVE}
    told = live(learner, range(20, 40), silent=("bidding",))
    assert learner.policy(T0 + 22 * NS_PER_S).health["bidding"].state is Health.LAGGING
    assert newest(told).health["bidding"].state is Health.DEAD
    assert newest(told).health["budget"].state is Health.ALIVE
    alarms = [d.event for d in told if isinstance(d.event, AlarmRaised)]
    assert [(a.metric, a.subject) for a in alarms] == [("beat_age_s", "agent/bidding")]
    live(learner, range(40, 45))
    assert learner.policy(T0 + 44 * NS_PER_S).health["bidding"].state is Health.ALIVE


def test_after_a_long_sleep_nobody_is_called_dead_at_once() -> None:
    learner = FeedbackLearner(CATALOG)
    live(learner, range(10))
    restored = FeedbackLearner(CATALOG)
    restored.restore(learner.snapshot())
    later = T0 + 3_600 * NS_PER_S
    decisions = restored.tick(later)
    assert not [d for d in decisions if isinstance(d.event, AlarmRaised)]
    assert restored.policy(later).health["budget"].state is Health.UNKNOWN


def test_distrusts_a_stale_policy_and_one_that_is_refused_again_and_again() -> None:
    learner = FeedbackLearner(CATALOG)
    learner.on([published("bidding", 1, T0), published("creative", 1, T0, life_s=10)], T0)
    assert newest(learner.tick(T0 + NS_PER_S)).distrusted == ()
    stale = newest(learner.tick(T0 + 11 * NS_PER_S))
    assert stale.distrusted == ("creative",)
    assert "expired" in stale.why["creative"]
    learner.on([published("creative", 2, T0 + 12 * NS_PER_S)], T0)
    assert newest(learner.tick(T0 + 12 * NS_PER_S)).distrusted == ()
    for version in (2, 3, 4):
        at_ns = T0 + (12 + version) * NS_PER_S
        learner.on([published("bidding", version, at_ns), rejected("bidding", version, at_ns)], at_ns)
        learner.on([rejected("bidding", version, at_ns, "b2")], at_ns)  # a second bidder says the same
        assert learner.policy(at_ns).distrusted == (("bidding",) if version == 4 else ())
    learner.on([published("bidding", 5, T0 + 20 * NS_PER_S)], T0)
    assert newest(learner.tick(T0 + 22 * NS_PER_S)).distrusted == ()


def test_a_dead_feedback_agent_distrusts_nobody() -> None:
    policy = FeedbackPolicy(
        version=1, made_at_ns=0, valid_until_ns=10, distrusted=("bidding",), why={"bidding": "stale"}
    )
    assert distrusts(policy, "bidding", 10)
    assert not distrusts(policy, "bidding", 11)
    assert not distrusts(None, "bidding", 0)


@pytest.mark.parametrize(
    "change",
    [
        {"distrusted": ("feedback",), "why": {"feedback": "x"}},
        {"distrusted": ("bidding",), "why": {}},
        {"distrusted": ("creative", "bidding"), "why": {"creative": "x", "bidding": "x"}},
        {"valid_until_ns": 0},
        {"version": 0},
    ],
)
def test_a_bad_policy_is_refused(change: dict[str, object]) -> None:
    policy = msgspec.structs.replace(FeedbackPolicy(version=1, made_at_ns=0, valid_until_ns=10), **change)
    with pytest.raises(PolicyRefused):
        artefact.validate(artefact.decode(artefact.encode(policy)))


def exploration_wishes(learner: FeedbackLearner, world: World, minutes: int, break_at: int) -> list[Proposal]:
    said = []
    for minute in range(minutes):
        now_ns = T0 + (minute + 1) * MINUTE_NS
        learner.on(world.minute(minute, is_broken=minute >= break_at), now_ns)
        decisions = learner.tick(now_ns + 35 * NS_PER_S)
        said += [d.event for d in decisions if isinstance(d.event, Proposal)]
    return said


def test_lowers_exploration_when_the_click_rate_falls_and_lets_go_later() -> None:
    learner = FeedbackLearner(CATALOG)
    said = exploration_wishes(learner, World(7, ctr=0.3), minutes=75, break_at=45)
    assert {w.target for w in said} == {exploration("a")}
    assert said[0].value == 500_000
    assert "click rate fell" in said[0].reason or "predicted" in said[0].reason
    assert all(w.value is None or 250_000 <= w.value <= 1_500_000 for w in said)
    assert said[-1].withdraws
    book = EpochBook(CATALOG)
    stored = said[0].happened_at_ns
    for i in range(12):
        events = (said[0],) if i == 0 else (beat("budget", stored + i * NS_PER_S),)
        subject = subjects.proposal("feedback") if i == 0 else subjects.beat("budget")
        book.feed(Delivery(subjects.DECISIONS, i + 1, stored + i * NS_PER_S, subject, events))
    assert not book.refused
    assert book.value(exploration("a")) == 500_000


def test_raises_exploration_when_the_click_model_is_stale() -> None:
    learner = FeedbackLearner(CATALOG)
    learner.on([published("creative", 1, T0 - 600 * NS_PER_S, life_s=3_600)], T0)
    said = exploration_wishes(learner, World(8), minutes=3, break_at=99)
    assert said[0].value == 1_250_000
    assert "old" in said[0].reason


def test_a_repeated_event_changes_nothing() -> None:
    once, twice = FeedbackLearner(CATALOG), FeedbackLearner(CATALOG)
    events = [*World(5).minute(0, is_broken=False), beat("budget", T0), published("bidding", 1, T0)]
    once.on(events, T0)
    twice.on([*events, *events[:50]], T0)
    twice.on(events, T0)
    assert once.snapshot() == twice.snapshot()


def test_restored_it_decides_identically() -> None:
    first, second = FeedbackLearner(CATALOG), FeedbackLearner(CATALOG)
    world, same = World(9), World(9)
    for learner in (first, second):
        learner.on([rejected("bidding", 3, T0), published("bidding", 3, T0)], T0)
    run(first, world, minutes=30)
    run(second, same, minutes=12)
    third = FeedbackLearner(CATALOG)
    third.restore(second.snapshot())
    for minute in range(12, 30):
        now_ns = T0 + (minute + 1) * MINUTE_NS
        third.on(same.minute(minute, is_broken=False), now_ns)
        third.tick(now_ns + 35 * NS_PER_S)
    assert third.snapshot() == first.snapshot()


def test_series_are_bounded_and_follow_the_catalog() -> None:
    learner = FeedbackLearner(CATALOG)
    run(learner, World(4), minutes=15)
    assert any(key.startswith("win_rate|campaign/a") for key in learner.rates())
    learner.set_catalog(msgspec.structs.replace(CATALOG, campaigns=()))
    assert not any("campaign/a" in key for key in learner.rates())


def test_what_is_caught_up_with_after_a_sleep_is_no_surge() -> None:
    learner, world = FeedbackLearner(CATALOG), World(6)
    assert run(learner, world, minutes=45) == []
    burst = [event for minute in range(45, 55) for event in world.minute(minute, is_broken=False)]
    woken = T0 + 55 * MINUTE_NS
    learner.tick(woken)
    learner.on(burst, woken)
    told = learner.tick(woken + 95 * NS_PER_S)
    assert [
        d.event for d in told if isinstance(d.event, AlarmRaised) and d.event.metric != "beat_age_s"
    ] == []


if __name__ == "__main__":
    found, judged = false_alarms(range(200, 240), minutes=120)
    print(f"{found} false alarms in {judged} judged points")


@pytest.mark.parametrize(("chance", "predicted"), [(0.3, 0.3), (-1.0, 0.1), (float("nan"), 0.1), (1.5, 0.1)])
def test_clicks_are_held_against_the_chance_that_was_priced(chance: float, predicted: float) -> None:
    """Of an older bidder, which logs none, against the creative's click rate (0.1 in these bids)."""
    learner = FeedbackLearner(CATALOG)
    events = [
        msgspec.structs.replace(event, click_chance=chance) if isinstance(event, BidPlaced) else event
        for event in World(11, ctr=0.3).minute(0, is_broken=False)
    ]
    learner.on(events, T0)
    tally = learner._state.campaigns["a"]
    assert tally.predicted / tally.bids == pytest.approx(predicted)
