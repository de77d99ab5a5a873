"""Who is believed, per campaign: plain counts, features, or features calibrated. Counts are where it starts.

The three predict every won impression before it is learned; evidence is each one's log-likelihood over that of the counts,
forgotten with time. A campaign's evidence is its own, plus what all others say, by OTHERS_MAX nats at most: a campaign
whose features mislead falls back to its counts. Shares are softmax of START plus evidence, and the odds are mixed by them.
So with few labels a chance is the counts', and features have to earn a say on traffic that was paid for.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from counterpoint.bidding.chances import CALIBRATIONS_MAX

START: Final = (-2.0, -3.0)  # features, calibrated features; in nats against the counts
OTHERS_MAX: Final = 2.0
EVIDENCE_MAX: Final = 12.0  # who was wrong for long can still come back
CAMPAIGNS_MAX: Final = (
    CALIBRATIONS_MAX  # as many as a policy may carry; further ones are judged by all together
)
SHARE_SAID: Final = 1e-3  # shares below are published as 0
EVERYBODY: Final = "*"


class Stack(msgspec.Struct):
    """``evidence`` of (features, calibrated) by campaign, nats against the counts."""

    evidence: dict[str, list[float]] = msgspec.field(default_factory=lambda: {EVERYBODY: [0.0, 0.0]})

    def shares(self, campaign: str) -> tuple[float, float, float]:
        """Of (counts, features, calibrated); they sum to 1.

        >>> [round(share, 3) for share in Stack().shares("new")]
        [0.844, 0.114, 0.042]
        """
        everybody = self.evidence[EVERYBODY]
        own = self.evidence.get(campaign) if campaign != EVERYBODY else None
        said = [0.0, 0.0, 0.0]
        for k in (0, 1):
            mine = 0.0 if own is None else own[k]
            others = min(max(everybody[k] - mine, -OTHERS_MAX), OTHERS_MAX)
            said[k + 1] = START[k] + mine + others
        best = max(said)
        parts = [math.exp(each - best) for each in said]
        total = sum(parts)
        return parts[0] / total, parts[1] / total, parts[2] / total

    def add(self, campaign: str, predicted: tuple[float, float, float], label: float, weight: float) -> None:
        """``predicted`` by counts, features, calibrated, each in (0, 1), before the row was learned."""
        counts, *others = predicted
        told = [self.evidence[EVERYBODY]]
        if campaign not in self.evidence and len(self.evidence) < CAMPAIGNS_MAX:
            self.evidence[campaign] = [0.0, 0.0]
        if campaign in self.evidence:
            told.append(self.evidence[campaign])
        for k, p in enumerate(others):
            gained = label * math.log(p / counts) + (weight - label) * math.log((1.0 - p) / (1.0 - counts))
            for of in told:
                of[k] = min(max(of[k] + gained, -EVIDENCE_MAX), EVIDENCE_MAX)

    def decay(self, factor: float) -> None:
        for name, of in self.evidence.items():
            self.evidence[name] = [each * factor for each in of]

    def forget(self, campaigns: set[str]) -> None:
        """Keep only these, and what all said together."""
        kept = {*campaigns, EVERYBODY}
        self.evidence = {name: of for name, of in self.evidence.items() if name in kept}

    def published(self) -> dict[str, tuple[float, float]]:
        """Shares of (features, calibrated) by campaign, "*" for any other; as a policy carries them."""
        found: dict[str, tuple[float, float]] = {}
        for name in sorted(self.evidence):
            _, features, calibrated = self.shares(name)
            found[name] = (_said(features), _said(calibrated))
        return found


def _said(share: float) -> float:
    return share if share >= SHARE_SAID else 0.0
