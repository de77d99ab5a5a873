"""The people of a market and what the ads are to them: latent tastes, aversions, contents, hidden appeal."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from counterpoint.market.chance import Stream, normals, uniforms
from counterpoint.market.design import MEDIA, Design
from counterpoint.market.scenario import Scenario

TASTES: Final = 8  # dimensions of taste; pairs of them turn when tastes drift
PHONE, COMPUTER = 4, 2  # AdCOM device types
SYSTEMS: Final = ("Android", "iOS", "Windows", "macOS")


class People:
    """One row per person. ``value`` is what rivals know of a person's worth, standard normal over people."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        u = scenario.users
        who = np.arange(u.count)
        first, second = uniforms(seed, Stream.USER, who, 0), normals(seed, Stream.USER, who, 1)
        shares = np.cumsum([c.share for c in u.countries])
        self.country: NDArray[np.int16] = np.searchsorted(shares / shares[-1], first[0], side="right").astype(
            np.int16
        )
        self.phone: NDArray[np.bool_] = first[1] < u.phone_share
        # a person's computer or phone runs one of two systems
        other = (first[1] / u.phone_share if u.phone_share > 0 else first[1]) % 1.0
        self.os: NDArray[np.int8] = np.where(
            self.phone, np.where(other < 0.55, 0, 1), np.where(first[3] < 0.75, 2, 3)
        ).astype(np.int8)
        self.consent: NDArray[np.bool_] = first[2] < u.consent_share
        self.click_bias: NDArray[np.float64] = second[0] * u.click_bias_sd
        self.value: NDArray[np.float64] = second[1]
        known = min(max(u.rival_value_weight, -1.0), 1.0)
        self.conversion_bias: NDArray[np.float64] = u.conversion_bias_sd * (
            known * second[1] + np.sqrt(1.0 - known * known) * second[2]
        )
        self.taste: NDArray[np.float64] = np.concatenate(
            [normals(seed, Stream.USER_TASTE, who, block) for block in range(TASTES // 4)]
        ).T.copy()
        averse = u.aversion_share > uniforms(seed, Stream.USER_AVERSION, who)[: len(MEDIA)].T
        self.aversion: NDArray[np.float64] = np.where(averse, u.aversion, 0.0)


class Ads:
    """Content and appeal of every creative: unit vectors, and logits that change by the hour."""

    def __init__(self, scenario: Scenario, design: Design, seed: int) -> None:
        s, n = scenario, design.count
        which = np.arange(n)
        features = np.zeros((n, TASTES))
        for kind, of in (
            (0, [c.colour for c in design.creatives]),
            (1, [c.message for c in design.creatives]),
            (2, [10 * c.media + c.size for c in design.creatives]),
            (3, [c.campaign for c in design.creatives]),
        ):
            features += _vectors(seed, np.array(of, dtype=np.int64), kind)
        own = _vectors(seed, which, 4)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        own /= np.linalg.norm(own, axis=1, keepdims=True)
        blend = np.sqrt(1.0 - s.click.own_content) * features + np.sqrt(s.click.own_content) * own
        self.content: NDArray[np.float64] = blend / np.linalg.norm(blend, axis=1, keepdims=True)
        likes = _vectors(seed, np.zeros(1, dtype=np.int64), 5)[0]  # what people like on the whole
        explained = self.content @ likes * s.click.content_sd
        hidden = normals(seed, Stream.CREATIVE, which)[0] * s.click.appeal_sd
        days = s.days + 2
        self.appeal: NDArray[np.float64] = np.repeat(
            (explained + hidden)[:, None], days, axis=1
        )  # [creative, day]
        self._wanders = s.drift.appeal_sd != 0.0
        self._wander(s, seed)
        # what jumps add, by the number of jumps passed: [creative, jumps + 1]
        self.jumps: NDArray[np.float64] = np.zeros((n, len(s.jump) + 1))
        self.jump_days: NDArray[np.float64] = np.array(sorted(j.day for j in s.jump))
        for k, jump in enumerate(sorted(s.jump, key=lambda each: each.day)):
            draws = uniforms(seed, Stream.APPEAL_JUMP, which, 2 * k)[0]
            anew = normals(seed, Stream.APPEAL_JUMP, which, 2 * k + 1)[0] * s.click.appeal_sd
            redrawn = draws < jump.appeal_share
            self.jumps[:, k + 1] = np.where(redrawn, anew - hidden, self.jumps[:, k])

    def _wander(self, s: Scenario, seed: int) -> None:
        if not self._wanders:
            return
        which = np.arange(self.appeal.shape[0])
        memory = s.drift.appeal_memory
        fresh = float(np.sqrt(1.0 - memory * memory))
        level = normals(seed, Stream.APPEAL_DRIFT, which, 0)[0]
        for day in range(self.appeal.shape[1]):
            if day:
                level = memory * level + fresh * normals(seed, Stream.APPEAL_DRIFT, which, day)[0]
            self.appeal[:, day] += s.drift.appeal_sd * level

    def appeal_at(self, creatives: NDArray[np.int64], day: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logit that each creative adds for everybody at its time, linear between days."""
        day = np.clip(day, 0.0, self.appeal.shape[1] - 1.001)
        whole = day.astype(np.int64)
        part = day - whole
        path = self.appeal[creatives, whole]
        if self._wanders:
            path = path * (1.0 - part) + self.appeal[creatives, whole + 1] * part
        if self.jump_days.size:
            path = path + self.jumps[creatives, np.searchsorted(self.jump_days, day, side="right")]
        return np.asarray(path, dtype=np.float64)


def _vectors(seed: int, index: NDArray[np.int64], kind: int) -> NDArray[np.float64]:
    """A standard normal vector per index: equal indices, equal vectors."""
    blocks = [normals(seed, Stream.CONTENT, index, kind * 16 + block) for block in range(TASTES // 4)]
    return np.concatenate(blocks).T.copy()
