"""Views: what a policy, a setting, a stop or an arm changes; what is taken over; what is refused."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import msgspec
import numpy as np
import pytest

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.errors import ConfigError, PolicyRefused
from counterpoint.bidder.decide import Candidates, NoBid, decide
from counterpoint.bidder.experiment import ARM_INDEX, ARMS, Experiment
from counterpoint.bidder.frequency import NOBODY
from counterpoint.bidder.golden import check_view, golden_requests
from counterpoint.bidder.holder import Changes, Refusal, ViewHolder, apply
from counterpoint.bidder.view import HeldPolicy, View, ViewInputs, compile_view, read_policy
from counterpoint.bidding.policy import WinCurve
from counterpoint.catalog.model import Catalog, Media
from counterpoint.events.decisions import PolicyPublished
from counterpoint.feedback import policy as feedback_policy
from counterpoint.feedback.policy import FeedbackPolicy
from counterpoint.openrtb.nobid import NoBidReason
from counterpoint.openrtb.request import decode_request
from tests.bidder.hot import (
    NOW_NS,
    banner_request,
    bidding_published,
    body_of,
    creative_published,
    left_everywhere,
    published,
    small_catalog,
    view_of,
)

LATER_NS = NOW_NS + 601 * NS_PER_S


def held(*events: PolicyPublished, catalog: Catalog) -> dict[str, HeldPolicy]:
    return {event.agent: read_policy(event, catalog) for event in events}


def feedback_published(*distrusted: str, valid_s: int = 600) -> PolicyPublished:
    policy = FeedbackPolicy(
        version=1,
        made_at_ns=NOW_NS,
        valid_until_ns=NOW_NS + valid_s * NS_PER_S,
        distrusted=distrusted,
        why=dict.fromkeys(distrusted, "for the test"),
    )
    return published("feedback", 1, feedback_policy.encode(policy))


def everything(**more: Any) -> View:
    catalog = small_catalog()
    policies = held(bidding_published(), creative_published(catalog), catalog=catalog)
    return view_of(catalog, policies=policies, **more)


def arm_view(arm: str, **more: Any) -> View:
    return everything(experiment=Experiment(shares={arm: 1.0} if arm != "agents" else {}), **more)


def decided(view: View, now_ns: int = NOW_NS, **change: Any) -> Candidates:
    made = decide(
        decode_request(body_of(banner_request(**change))),
        "x1",
        view,
        NOBODY,
        left_everywhere(view),
        now_ns,
        1,
    )
    assert isinstance(made, Candidates), made
    return made


# ---- fallbacks


@pytest.mark.parametrize(
    ("arm", "bidding", "creative"),
    [
        ("agents", 1, 1),
        ("no_agents", 0, 0),
        ("no_bidding", 0, 1),
        ("no_creative", 1, 0),
        ("no_budget", 1, 1),
        ("no_feedback", 1, 1),
    ],
)
def test_an_arm_switches_its_agents_to_their_fallbacks(arm: str, bidding: int, creative: int) -> None:
    made = decided(arm_view(arm))
    assert ARMS[made.arm] == arm
    assert (made.bidding_version, made.creative_version) == (bidding, creative)


def test_an_expired_policy_gives_way_to_its_fallback() -> None:
    view = everything()
    made = decided(view, LATER_NS)
    assert (made.bidding_version, made.creative_version) == (0, 0)
    # 0.8 x the expected value by the owner's priors: 1 USD a click, 0.002 clicks an impression
    assert made.imps[0].candidates[0].price == 1_600_000
    assert made.imps[0].candidates[0].creative_propensity == pytest.approx(0.5)


def test_who_is_distrusted_is_not_used_while_feedback_says_so() -> None:
    catalog = small_catalog()
    policies = held(bidding_published(), feedback_published("bidding", valid_s=60), catalog=catalog)
    view = view_of(catalog, policies=policies)
    assert decided(view).bidding_version == 0
    assert decided(view, NOW_NS + 61 * NS_PER_S).bidding_version == 1  # a dead Feedback distrusts nobody
    no_feedback = view_of(catalog, policies=policies, experiment=Experiment(shares={"no_feedback": 1.0}))
    assert decided(no_feedback).bidding_version == 1


@pytest.mark.parametrize(
    "how", [{"stops": frozenset({"agent/bidding"})}, {"settings": {"agent/bidding/enabled": 0}}]
)
def test_an_agent_that_a_person_stopped_is_not_used(how: dict[str, Any]) -> None:
    assert decided(everything(**how)).bidding_version == 0


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"stops": frozenset({"campaign/c1"})}, NoBidReason.NO_ELIGIBLE_LINE_ITEM),
        ({"settings": {"campaign/c1/enabled": 0}}, NoBidReason.NO_ELIGIBLE_LINE_ITEM),
        ({"quarantined": frozenset({"li-banner"})}, NoBidReason.NO_ELIGIBLE_LINE_ITEM),
        ({"stops": frozenset({"all"})}, NoBidReason.STOPPED),
        ({"settings": {"all/enabled": 0}}, NoBidReason.STOPPED),
    ],
)
def test_what_is_stopped_does_not_bid(how: dict[str, Any], reason: NoBidReason) -> None:
    view = everything(**how)
    request = decode_request(body_of(banner_request()))
    made = decide(request, "x1", view, NOBODY, left_everywhere(view), NOW_NS, 1)
    assert isinstance(made, NoBid)
    assert made.reason is reason


# ---- settings


def test_a_ceiling_is_kept_and_never_above_the_owners() -> None:
    assert (
        decided(everything(settings={"campaign/c1/bid_ceiling": 300_000})).imps[0].candidates[0].price
        == 300_000
    )
    view = everything(settings={"campaign/c1/bid_ceiling": 10**12, "campaign/gone/bid_ceiling": 5})
    assert view.arms[0].ceilings.tolist() == [20_000_000]
    assert everything(settings={"campaign/c1/bid_ceiling": -5}).arms[0].ceilings.tolist() == [0]
    without = arm_view("no_agents", settings={"campaign/c1/bid_ceiling": 300_000})
    assert decided(without).imps[0].candidates[0].price > 300_000


def test_exploration_is_bounded_and_default_without_feedback() -> None:
    view = everything(settings={"campaign/c1/exploration": 9_000_000})
    assert view.arms[ARM_INDEX["agents"]].exploration.tolist() == [2_000_000]
    assert view.arms[ARM_INDEX["no_feedback"]].exploration.tolist() == [1_000_000]


# ---- what is taken over, and the name of a View


def test_a_swap_of_one_policy_takes_the_rest_over() -> None:
    view = everything()
    newer = held(bidding_published(2), catalog=view.inputs.catalog)
    swapped = compile_view(
        msgspec.structs.replace(view.inputs, policies={**view.inputs.policies, **newer}), view
    )
    assert swapped.part is view.part
    assert swapped.experiment is view.experiment
    assert swapped.arms[0].creative is view.arms[0].creative
    assert swapped.arms[0].bidding is not view.arms[0].bidding
    assert swapped.bidding_fallback is view.bidding_fallback


def test_a_digest_names_the_inputs_whatever_their_order() -> None:
    one = everything(settings={"a/x": 1, "b/y": 2}, stops=frozenset({"p", "q"}))
    two = everything(settings={"b/y": 2, "a/x": 1}, stops=frozenset({"q", "p"}))
    assert one.digest == two.digest
    others = [
        everything(),
        everything(settings={"a/x": 2, "b/y": 2}, stops=frozenset({"p", "q"})),
        everything(settings={"a/x": 1, "b/y": 2}, stops=frozenset({"p"})),
        arm_view("no_agents"),
        view_of(small_catalog()),
        view_of(small_catalog(goal_value_micros=5)),
    ]
    assert len({view.digest for view in [one, *others]}) == len(others) + 1
    manifest = one.manifest()
    assert manifest.digest == one.digest
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(manifest), type=type(manifest)) == manifest


# ---- refused before use


def test_golden_requests_offer_every_medium_of_the_catalog() -> None:
    view = everything()
    offered = [request.id for request in golden_requests(view.part)]
    assert {name.split("-")[-1] for name in offered} == {*(media.value for media in Media), "all"}
    assert check_view(view, NOW_NS) > 0


@pytest.mark.parametrize(
    "fields",
    [
        {"multipliers": {"c1": math.nan}},
        {"multipliers": {"c1": 1e-9}},
        {"ctr_factors": {"*": 1e9}},
        {"curves": {"*": WinCurve((100, 50), (0.1, 0.2), 1.0)}},
        {"curves": {"*": WinCurve((100, 200), (0.2, math.inf), 1.0)}},
        {"exploration_rate": 7.0},
    ],
)
def test_a_poisoned_policy_is_refused_and_the_last_good_one_stays(fields: dict[str, Any]) -> None:
    good, refusals = apply(
        view_of(small_catalog()), Changes(policies={"bidding": bidding_published(1)}), NOW_NS
    )
    assert refusals == []
    kept, refusals = apply(good, Changes(policies={"bidding": bidding_published(2, **fields)}), NOW_NS)
    assert kept is good
    assert [(refusal.agent, refusal.policy_version) for refusal in refusals] == [("bidding", 2)]
    assert decided(kept).bidding_version == 1


@pytest.mark.parametrize("agent", ["bidding", "creative", "budget", "feedback", "nobody"])
@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x80", msgspec.msgpack.encode({"version": "x"})])
def test_bytes_that_are_no_policy_are_refused(agent: str, payload: bytes) -> None:
    with pytest.raises(PolicyRefused):
        read_policy(published(agent, 1, payload), small_catalog())


def test_a_payload_that_was_changed_on_the_way_is_refused() -> None:
    event = bidding_published()
    with pytest.raises(PolicyRefused, match="checksum"):
        read_policy(msgspec.structs.replace(event, payload=event.payload + b"\x00"), small_catalog())


def test_a_view_that_prices_golden_requests_insanely_is_refused() -> None:
    """Past validation on purpose: what the arrays hold is what counts."""
    view = everything()
    bidding = view.arms[0].bidding
    bidding.values[:, 1] = np.inf
    bidding.values[:, 2] = -1.0
    assert check_view(view, NOW_NS) == 0  # no value, no bid: sane
    view.arms[0].creative.click_rate[:] = 5.0
    assert check_view(view, NOW_NS) == 0
    good = everything()
    good.arms[0].bidding.tables[:, 3, :] = 7.0  # win rates above 1
    with pytest.raises(PolicyRefused, match="golden"):
        check_view(good, NOW_NS)


# ---- the holder


async def test_the_holder_gathers_changes_compiles_them_and_swaps() -> None:
    swapped: list[View] = []
    refused: list[Refusal] = []
    catalog = small_catalog()
    some = asyncio.Event()

    def on_swap(view: View) -> None:
        swapped.append(view)
        some.set()

    holder = ViewHolder(view_of(catalog), on_swap, refused.append, lambda: NOW_NS)
    running = asyncio.create_task(holder.run())
    holder.policy(bidding_published(1))
    holder.policy(bidding_published(3))
    holder.policy(bidding_published(2))  # late: a newer one waits already
    holder.policy(published("creative", 4, b"not a policy"))
    holder.setting("campaign/c1/bid_ceiling", 400_000)
    holder.stops(frozenset({"agent/creative"}))
    async with asyncio.timeout(20):
        await some.wait()
        assert holder.latest() is swapped[-1]
        made = decided(holder.latest())
        assert made.bidding_version == 3
        assert made.imps[0].candidates[0].price <= 400_000
        assert [(refusal.agent, refusal.policy_version) for refusal in refused] == [("creative", 4)]
        some.clear()
        holder.quarantine("li-banner")
        holder.catalog(small_catalog(goal_value_micros=2_000_000))
        holder.experiment(Experiment(shares={"no_agents": 7.0}))
        await some.wait()
    assert holder.latest().inputs.catalog.campaigns[0].goal_value_micros == 2_000_000
    assert holder.latest().inputs.quarantined == {"li-banner"}
    assert refused[-1].agent == "experiment"
    running.cancel()


def test_an_experiment_that_cannot_be_does_not_start() -> None:
    with pytest.raises(ConfigError):
        compile_view(ViewInputs(catalog=small_catalog(), experiment=Experiment(shares={"no_agents": 2.0})))
