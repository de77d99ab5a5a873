"""Everything a decision knows that is not a counter: catalog, policies, resolved settings, stops, experiment.

A View is immutable and swapped whole. It is compiled off the serving loop from :class:`ViewInputs`; what did not
change since the last one is taken over as it is, so that the swap of one policy costs milliseconds at any size of
the catalog. A policy is validated before it is used; one that fails is refused and the last good one stays.

An agent's policy gives way to the stated fallback where it is missing, expired, distrusted by Feedback, stopped by a
person, or switched off by the arm of the experiment:

- budget: catalog budgets, even pacing (applied where allowances are asked for);
- bidding: the expected value by the owner's priors x 0.8, no multiplier, no curve;
- creative: uniform among what fits, at the owner's prior;
- feedback: default settings (exploration), nobody distrusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.base.errors import PolicyRefused
from counterpoint.base.ids import digest
from counterpoint.bidder.experiment import AGENTS, ARMS, CompiledExperiment, Experiment, falls_back
from counterpoint.bidder.part import CatalogPart
from counterpoint.bidding import policy as bidding_policy
from counterpoint.bidding.policy import BiddingPolicy, CompiledBidding, compile_bidding
from counterpoint.budget import policy as budget_policy
from counterpoint.budget.policy import BudgetPolicy
from counterpoint.catalog.model import Catalog
from counterpoint.creative import policy as creative_policy
from counterpoint.creative.policy import EXPLORATION_MAX, CompiledCreative, CreativePolicy, compile_creative
from counterpoint.events.decisions import PolicyPublished
from counterpoint.feedback import policy as feedback_policy
from counterpoint.feedback.policy import FeedbackPolicy

EXPLORATION_DEFAULT_PPM: Final = 1_000_000
ALWAYS_NS: Final = 2**62
INT64_MAX: Final = 2**63 - 1  # what the decision log's columns and everybody's arrays hold

Policy = BudgetPolicy | BiddingPolicy | CreativePolicy | FeedbackPolicy


class HeldPolicy(Struct, frozen=True):
    """A validated policy and the checksum of the bytes it came in."""

    agent: str
    policy: Policy
    checksum: str


class ViewInputs(Struct, frozen=True, kw_only=True):
    """All that a View is made of. ``settings`` are resolved targets ("campaign/42/bid_ceiling"), ``stops`` what a
    person stopped ("campaign/42", "agent/bidding", "all"), ``quarantined`` ids of line items that failed an assertion."""

    catalog: Catalog
    experiment: Experiment = Experiment()
    policies: dict[str, HeldPolicy] = {}  # by agent
    settings: dict[str, int] = {}
    stops: frozenset[str] = frozenset()
    quarantined: frozenset[str] = frozenset()


def quarantine(inputs: ViewInputs, line_item_id: str) -> ViewInputs:
    return msgspec.structs.replace(inputs, quarantined=inputs.quarantined | {line_item_id})


class ViewManifest(Struct, frozen=True, kw_only=True):
    """A View without its weight: with the catalog and the policies of these digests it can be made again."""

    digest: str
    catalog_digest: str
    experiment: Experiment
    policy_checksums: dict[str, str]
    settings: dict[str, int]
    stops: list[str]
    quarantined: list[str]


class ArmTables(Struct, frozen=True):
    """What one arm decides by. ``ceilings`` and ``exploration`` by campaign position."""

    bidding: CompiledBidding
    creative: CompiledCreative
    ceilings: NDArray[np.int64]  # micros CPM
    exploration: NDArray[np.int64]  # ppm
    budget_version: int
    feedback_version: int


class View:
    """Immutable. ``arms`` hold while the FeedbackPolicy is valid, ``arms_trusting`` after it (nobody is distrusted)."""

    __slots__ = (
        "arms",
        "arms_trusting",
        "bidding_fallback",
        "creative_fallback",
        "digest",
        "experiment",
        "feedback_until_ns",
        "inputs",
        "live",
        "part",
        "stopped",
    )

    def __init__(
        self,
        inputs: ViewInputs,
        part: CatalogPart,
        experiment: CompiledExperiment,
        arms: tuple[ArmTables, ...],
        arms_trusting: tuple[ArmTables, ...],
        feedback_until_ns: int,
        fallbacks: tuple[CompiledBidding, CompiledCreative],
    ) -> None:
        self.inputs = inputs
        self.part = part
        self.experiment = experiment
        self.arms = arms
        self.arms_trusting = arms_trusting
        self.feedback_until_ns = feedback_until_ns
        self.bidding_fallback, self.creative_fallback = fallbacks
        self.stopped = "all" in inputs.stops or inputs.settings.get("all/enabled", 1) == 0
        self.live = _live(part, inputs)
        self.digest = view_digest(inputs)

    def manifest(self) -> ViewManifest:
        return ViewManifest(
            digest=self.digest,
            catalog_digest=self.part.digest,
            experiment=self.inputs.experiment,
            policy_checksums={agent: held.checksum for agent, held in self.inputs.policies.items()},
            settings=self.inputs.settings,
            stops=sorted(self.inputs.stops),
            quarantined=sorted(self.inputs.quarantined),
        )

    def policy(self, agent: str) -> Policy | None:
        """The agent's policy as held, whether or not it is in use now."""
        held = self.inputs.policies.get(agent)
        return held.policy if held is not None else None


def view_digest(inputs: ViewInputs) -> str:
    """Equal inputs have equal digests, whatever order they came in."""
    plain = (
        inputs.catalog.digest,
        inputs.experiment.name,
        inputs.experiment.salt,
        sorted(inputs.experiment.shares.items()),
        sorted((agent, held.checksum) for agent, held in inputs.policies.items()),
        sorted(inputs.settings.items()),
        sorted(inputs.stops),
        sorted(inputs.quarantined),
    )
    return digest(msgspec.msgpack.encode(plain))


# ---- policies: bytes -> validated, or refused


def read_policy(event: PolicyPublished, catalog: Catalog) -> HeldPolicy:
    """Decode and validate a published policy. Raises PolicyRefused: the last good one stays."""
    if digest(event.payload) != event.checksum:
        raise PolicyRefused(
            f"{event.agent} policy {event.policy_version}: the payload does not fit its checksum"
        )
    return HeldPolicy(event.agent, decode_policy(event.agent, event.payload, catalog), event.checksum)


def decode_policy(agent: str, payload: bytes, catalog: Catalog) -> Policy:
    """The same for archived bytes. Raises PolicyRefused."""
    policy = _valid_policy(agent, payload, catalog)
    if max(policy.version, policy.valid_until_ns) > INT64_MAX:
        raise PolicyRefused(f"{agent} policy: version or valid_until_ns beyond 64 bits with a sign")
    return policy


def _valid_policy(agent: str, payload: bytes, catalog: Catalog) -> Policy:
    if agent == "bidding":
        bidding = bidding_policy.decode(payload)
        bidding_policy.validate(bidding)
        return bidding
    if agent == "creative":
        creative = creative_policy.decode(payload)
        creative_policy.validate(creative)
        return creative
    if agent == "budget":
        budget = budget_policy.decode(payload)
        budget_policy.validate(budget, frozenset(campaign.id for campaign in catalog.campaigns))
        return budget
    if agent == "feedback":
        feedback = feedback_policy.decode(payload)
        feedback_policy.validate(feedback)
        return feedback
    raise PolicyRefused(f"no agent named {agent!r}; agents are {', '.join(AGENTS)}")


# ---- compiling


def compile_view(inputs: ViewInputs, last: View | None = None) -> View:
    """Make a View; what equals the ``last`` one's is taken from it. Runs off the loop, no I/O.

    Raises ConfigError for an experiment that cannot be. Policies are validated before (:func:`read_policy`).
    """
    part = (
        last.part
        if last is not None and last.inputs.catalog is inputs.catalog
        else CatalogPart(inputs.catalog)
    )
    same_part = last if last is not None and last.part is part else None
    experiment = (
        last.experiment
        if last is not None and last.inputs.experiment == inputs.experiment
        else CompiledExperiment(inputs.experiment)
    )
    if same_part is not None:
        fallbacks = (same_part.bidding_fallback, same_part.creative_fallback)
    else:
        fallbacks = (compile_bidding(None, part.frame), compile_creative(None, part.frame_creative))
    bidding = _bidding(inputs, part, same_part) or fallbacks[0]
    creative = _creative(inputs, part, same_part) or fallbacks[1]
    feedback = _usable(inputs, "feedback")
    distrusted: tuple[str, ...] = ()
    feedback_until_ns = ALWAYS_NS
    if isinstance(feedback, FeedbackPolicy):
        distrusted, feedback_until_ns = feedback.distrusted, feedback.valid_until_ns
    settings = _settings(inputs.settings, part)
    arms = tuple(_arm(arm, inputs, part, bidding, creative, fallbacks, settings, distrusted) for arm in ARMS)
    trusting = (
        arms
        if not distrusted
        else tuple(_arm(arm, inputs, part, bidding, creative, fallbacks, settings, ()) for arm in ARMS)
    )
    return View(inputs, part, experiment, arms, trusting, feedback_until_ns, fallbacks)


def _usable(inputs: ViewInputs, agent: str) -> Policy | None:
    """The agent's policy unless a person or a setting has switched the agent off."""
    if f"agent/{agent}" in inputs.stops or inputs.settings.get(f"agent/{agent}/enabled", 1) == 0:
        return None
    held = inputs.policies.get(agent)
    return held.policy if held is not None else None


def _bidding(inputs: ViewInputs, part: CatalogPart, last: View | None) -> CompiledBidding | None:
    policy = _usable(inputs, "bidding")
    if not isinstance(policy, BiddingPolicy):
        return None
    if last is not None and _usable(last.inputs, "bidding") is policy:
        return last.arms_trusting[0].bidding
    return compile_bidding(policy, part.frame)


def _creative(inputs: ViewInputs, part: CatalogPart, last: View | None) -> CompiledCreative | None:
    policy = _usable(inputs, "creative")
    if not isinstance(policy, CreativePolicy):
        return None
    if last is not None and _usable(last.inputs, "creative") is policy:
        return last.arms_trusting[0].creative
    return compile_creative(policy, part.frame_creative)


def _arm(
    arm: str,
    inputs: ViewInputs,
    part: CatalogPart,
    bidding: CompiledBidding,
    creative: CompiledCreative,
    fallbacks: tuple[CompiledBidding, CompiledCreative],
    settings: tuple[NDArray[np.int64], NDArray[np.int64]],
    distrusted: tuple[str, ...],
) -> ArmTables:
    ceilings, exploration = settings
    no_feedback = falls_back(arm, "feedback")
    distrusts = () if no_feedback else distrusted
    budget = None if falls_back(arm, "budget") or "budget" in distrusts else _usable(inputs, "budget")
    feedback = None if no_feedback else _usable(inputs, "feedback")
    return ArmTables(
        bidding=fallbacks[0] if falls_back(arm, "bidding") or "bidding" in distrusts else bidding,
        creative=fallbacks[1] if falls_back(arm, "creative") or "creative" in distrusts else creative,
        ceilings=part.ceilings if arm == "no_agents" else ceilings,
        exploration=_default_exploration(part) if no_feedback else exploration,
        budget_version=budget.version if budget is not None else 0,
        feedback_version=feedback.version if feedback is not None else 0,
    )


def _default_exploration(part: CatalogPart) -> NDArray[np.int64]:
    return np.full(len(part.campaigns), EXPLORATION_DEFAULT_PPM, np.int64)


def _settings(settings: Mapping[str, int], part: CatalogPart) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Resolved ceilings (never above the owner's) and exploration, by campaign position. A target of a campaign that
    is not in the catalog is passed over: the resolution may be one reload ahead."""
    ceilings, exploration = part.ceilings.copy(), _default_exploration(part)
    for target, value in settings.items():
        kind, _, rest = target.partition("/")
        name, _, setting = rest.rpartition("/")
        at = part.campaign_positions.get(name) if kind == "campaign" else None
        if at is None:
            continue
        if setting == "bid_ceiling":
            ceilings[at] = min(max(value, 0), int(part.ceilings[at]))
        elif setting == "exploration":
            exploration[at] = min(max(value, 0), EXPLORATION_MAX)
    return ceilings, exploration


def _live(part: CatalogPart, inputs: ViewInputs) -> NDArray[np.uint64]:
    """Bits of the line items that may bid at all: switched on, not stopped, not quarantined."""
    on = np.ones(len(part.campaigns), np.uint8)
    for name, at in part.campaign_positions.items():
        target = f"campaign/{name}"
        if target in inputs.stops or inputs.settings.get(target + "/enabled", 1) == 0:
            on[at] = 0
    live = part.index.live_mask(on)
    for name in inputs.quarantined:
        at_line = part.line_item_positions.get(name)
        if at_line is not None:
            live[at_line >> 6] &= ~np.uint64(1 << (at_line & 63))
    return live
