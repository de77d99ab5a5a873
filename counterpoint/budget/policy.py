"""The Budget agent's artefact: when in the day each campaign's money should be spent, and how pools are split.

The bidder reads the spend plan when it asks for allowances, the Bidding learner when it paces. The split itself
reaches the ledger only as proposals on ``campaign/{id}/budget_share``; here it stands to be shown.
Without a valid policy the stated fallback holds: the catalog's budgets, spent evenly over the local day.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import msgspec
from msgspec import Struct

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.errors import PolicyRefused
from counterpoint.base.ids import digest
from counterpoint.base.unreadable import UNREADABLE

PPM = 1_000_000
HOURS = 24
HOUR_NS = 3_600 * NS_PER_S
DAY_NS = HOURS * HOUR_NS
MINUTE_NS = 60 * NS_PER_S
HOUR_SHARE_MAX_PPM = 500_000  # no plan puts more than half a day's money into one hour
PLANS_MAX = 100_000
EVEN_PPM: tuple[int, ...] = tuple((PPM * (h + 1)) // HOURS - (PPM * h) // HOURS for h in range(HOURS))


class CampaignPlan(Struct, frozen=True, kw_only=True):
    """``hourly_ppm[h]``: share of the day's budget for local hour ``h``, summing to exactly 1,000,000."""

    hourly_ppm: tuple[int, ...] = EVEN_PPM
    share_ppm: int = PPM  # wished share of its pool's sum; PPM for a campaign outside any pool
    marginal_return: float = 0.0  # value per unit of money at the margin, measured; 0: not known yet


class BudgetPolicy(Struct, frozen=True, kw_only=True):
    version: int
    made_at_ns: int
    valid_until_ns: int
    plans: dict[str, CampaignPlan] = {}  # by campaign id; a campaign without one is spent evenly


_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(BudgetPolicy)


def encode(policy: BudgetPolicy) -> bytes:
    return _ENCODER.encode(policy)


def decode(payload: bytes) -> BudgetPolicy:
    """Raises :class:`PolicyRefused` where the bytes are not a budget policy."""
    try:
        return _DECODER.decode(payload)
    except UNREADABLE as broken:
        raise PolicyRefused(f"budget policy cannot be read: {broken}") from broken


def checksum(payload: bytes) -> str:
    return digest(payload)


def validate(policy: BudgetPolicy, catalog_ids: Collection[str]) -> None:
    """Raise :class:`PolicyRefused` unless every plan is finite, in bounds and sums to a day.

    ``catalog_ids``: the campaign ids of the catalog in use. A plan for a campaign that is not among them is passed
    over (the catalog may be one reload ahead or behind); a policy that knows none of them is refused.
    """
    if policy.version < 1 or policy.made_at_ns < 0 or policy.valid_until_ns <= policy.made_at_ns:
        raise PolicyRefused("budget policy: version from 1, valid_until_ns after made_at_ns")
    if len(policy.plans) > PLANS_MAX:
        raise PolicyRefused(f"budget policy: {len(policy.plans)} plans, at most {PLANS_MAX}")
    if policy.plans and catalog_ids and not any(name in catalog_ids for name in policy.plans):
        raise PolicyRefused("budget policy: plans for none of the catalog's campaigns")
    for name, plan in policy.plans.items():
        if len(plan.hourly_ppm) != HOURS:
            raise PolicyRefused(
                f"budget policy, campaign {name}: {len(plan.hourly_ppm)} hourly shares, not 24"
            )
        if min(plan.hourly_ppm) < 0 or max(plan.hourly_ppm) > HOUR_SHARE_MAX_PPM:
            raise PolicyRefused(
                f"budget policy, campaign {name}: an hourly share is outside 0..{HOUR_SHARE_MAX_PPM} ppm"
            )
        if sum(plan.hourly_ppm) != PPM:
            raise PolicyRefused(
                f"budget policy, campaign {name}: hourly shares sum to {sum(plan.hourly_ppm)} ppm"
            )
        if not 0 <= plan.share_ppm <= PPM:
            raise PolicyRefused(f"budget policy, campaign {name}: pool share {plan.share_ppm} ppm")
        if not math.isfinite(plan.marginal_return) or plan.marginal_return < 0:
            raise PolicyRefused(f"budget policy, campaign {name}: marginal return {plan.marginal_return}")


def local_day_ns(now_ns: int, utc_offset_minutes: int) -> int:
    """Nanoseconds since the local day began, 0..DAY_NS-1.

    >>> local_day_ns(0, utc_offset_minutes=90) == 90 * MINUTE_NS
    True
    """
    return (now_ns + utc_offset_minutes * MINUTE_NS) % DAY_NS


def elapsed_ppm(hourly_ppm: tuple[int, ...], day_ns: int) -> int:
    """Share of the day's budget that the plan has released ``day_ns`` into the local day: 0 at its start, never
    falling, 1,000,000 at its end. Linear inside an hour, rounded down.

    >>> elapsed_ppm(EVEN_PPM, 0), elapsed_ppm(EVEN_PPM, DAY_NS // 2), elapsed_ppm(EVEN_PPM, DAY_NS)
    (0, 500000, 1000000)
    """
    assert 0 <= day_ns <= DAY_NS
    hour, rest_ns = divmod(day_ns, HOUR_NS)
    done = sum(hourly_ppm[:hour])
    return done if hour == HOURS else done + hourly_ppm[hour] * rest_ns // HOUR_NS


def planned_ppm(policy: BudgetPolicy | None, campaign_id: str, now_ns: int, utc_offset_minutes: int) -> int:
    """What :func:`elapsed_ppm` says for one campaign now; even where the policy is missing, expired or silent."""
    hourly = EVEN_PPM
    if policy is not None and now_ns <= policy.valid_until_ns:
        plan = policy.plans.get(campaign_id)
        if plan is not None:
            hourly = plan.hourly_ppm
    return elapsed_ppm(hourly, local_day_ns(now_ns, utc_offset_minutes))
