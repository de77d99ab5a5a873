"""How much each (campaign, arm) may ask of the ledger now: its arm's share of the day's budget, less what it has had.

An arm whose Budget policy is the fallback is paced evenly over the campaign's local day; the others are paced by the
Bidding agent's multiplier and only kept within their arm's share, so that one arm cannot eat another's experiment.
Counts what was granted and returned; after a restart it starts from the snapshot, and the ledger still holds the budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.money import NANOS_PER_MICRO
from counterpoint.bidder.experiment import ARMS, falls_back
from counterpoint.catalog.local_time import offset_minutes
from counterpoint.catalog.model import Campaign, LineItem, Pacing
from counterpoint.events.money import AllowanceGranted, AllowanceReturned, BalanceReported

DAY_NS: Final = 86_400 * NS_PER_S
AHEAD_NS: Final = 900 * NS_PER_S  # an evenly paced arm may be this much ahead, so that it can bid at all


class _Snapshot(Struct, frozen=True):
    had: list[tuple[str, str, str, int]]  # campaign, arm, day, nanos


class ArmBudgets:
    def __init__(
        self, campaigns: Sequence[Campaign], shares: Sequence[float], lines: Sequence[LineItem] = ()
    ) -> None:
        assert len(shares) == len(ARMS)
        self._shares = tuple(shares)
        self._had: dict[
            tuple[str, str], tuple[str, int]
        ] = {}  # (campaign, arm): day, nanos granted less returned
        self._arm_of: dict[str, tuple[str, str, str]] = {}  # allowance: campaign, arm, day
        self._budgets: dict[str, tuple[str, int]] = {}  # campaign: day, nanos by its last balance
        self.set_campaigns(campaigns, lines)

    def set_campaigns(self, campaigns: Sequence[Campaign], lines: Sequence[LineItem] = ()) -> None:
        """``lines``: all line items; those with caps of their own have a row behind the campaigns."""
        self._campaigns = tuple(campaigns)
        position = {campaign.id: at for at, campaign in enumerate(self._campaigns)}
        self._lines = tuple(
            (position[item.campaign_id], _cap_nanos(item)) for item in lines if item.spend_capped
        )

    def granted(self, event: AllowanceGranted) -> None:
        self._arm_of[event.allowance_id] = (event.campaign_id, event.arm, event.day)
        self._add(event.campaign_id, event.arm, event.day, event.usable_nanos)

    def returned(self, event: AllowanceReturned) -> None:
        known = self._arm_of.get(event.allowance_id)
        if known is None:
            return
        self._add(*known, -event.amount_nanos)
        if event.final:
            del self._arm_of[event.allowance_id]

    def balance(self, event: BalanceReported) -> None:
        self._budgets[event.campaign_id] = (event.day, event.budget_nanos)

    def _add(self, campaign_id: str, arm: str, day: str, nanos: int) -> None:
        held_day, had = self._had.get((campaign_id, arm), (day, 0))
        if day > held_day:
            held_day, had = day, 0
        if day == held_day:
            self._had[(campaign_id, arm)] = (held_day, max(0, had + nanos))

    def caps(self, now_ns: int) -> NDArray[np.int64]:
        """``[purse, arm]`` nanos that may be asked for now, at most."""
        caps = np.zeros((len(self._campaigns) + len(self._lines), len(ARMS)), np.int64)
        for at, campaign in enumerate(self._campaigns):
            local_ns = now_ns + offset_minutes(campaign, now_ns) * 60 * NS_PER_S
            day = str(np.datetime64(local_ns // NS_PER_S, "s").astype("datetime64[D]"))
            budget = campaign.daily_budget_micros * NANOS_PER_MICRO
            told = self._budgets.get(campaign.id)
            if told is not None and told[0] == day:
                budget = told[1]
            even = campaign.pacing is Pacing.EVEN
            elapsed = min((local_ns % DAY_NS + AHEAD_NS) / DAY_NS, 1.0) if even else 1.0
            for position, arm in enumerate(ARMS):
                part = budget * self._shares[position] * (elapsed if falls_back(arm, "budget") else 1.0)
                had_day, had = self._had.get((campaign.id, arm), (day, 0))
                caps[at, position] = max(0, int(part) - (had if had_day == day else 0))
        for at, (campaign_at, cap) in enumerate(self._lines, len(self._campaigns)):
            caps[at] = np.minimum(caps[campaign_at], cap)
        return caps

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(_Snapshot([(c, a, d, n) for (c, a), (d, n) in self._had.items()]))

    def restore(self, raw: bytes) -> None:
        """Raises ``msgspec.DecodeError`` for bytes that are none, changing nothing."""
        held = msgspec.msgpack.decode(raw, type=_Snapshot)
        self._had = {(campaign, arm): (day, nanos) for campaign, arm, day, nanos in held.had}

    def figures(self) -> Mapping[str, int]:
        return {f"{campaign}/{arm}": nanos for (campaign, arm), (_, nanos) in self._had.items()}


def _cap_nanos(item: LineItem) -> int:
    return (
        min(c for c in (item.daily_cap_micros, item.lifetime_cap_micros) if c is not None) * NANOS_PER_MICRO
    )
