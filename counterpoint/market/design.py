"""The creatives and line items that a scenario declares, as arrays. The same for every seed: the truth about them is not."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.catalog.model import Media
from counterpoint.market.scenario import DAY_NS, STARTS_AT_NS, Scenario

MEDIA = (Media.BANNER, Media.VIDEO, Media.AUDIO, Media.NATIVE)  # positions in every array named ``media``
NO_SIZE = -1
_STAGGER = 0.6180339887498949  # golden section: lives of neighbouring slots begin far apart
_FOREVER_NS = np.iinfo(np.int64).max


class CreativeSpec(Struct, frozen=True):
    id: str
    campaign: int
    line_item: int
    media: int
    size: int  # position in scenario.size, or NO_SIZE
    colour: int
    message: int
    slot: int  # of the line item and format; generations of one slot follow one another
    from_ns: int
    to_ns: int  # exclusive


class Design:
    """Positions: ``campaign`` as declared, ``line_item`` = (campaign, medium) in that order, ``creative`` likewise."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.line_items: list[tuple[int, int]] = []  # (campaign, media)
        self.creatives: list[CreativeSpec] = []
        for c, campaign in enumerate(scenario.campaign):
            for media in campaign.media:
                m = MEDIA.index(media)
                self.line_items.append((c, m))
                sizes = range(len(scenario.size)) if media is Media.BANNER else (NO_SIZE,)
                for size in sizes:
                    for k in range(scenario.creatives.per_format):
                        self._slot(c, m, size, k)
        spec = self.creatives
        self.campaign: NDArray[np.int32] = np.array([s.campaign for s in spec], dtype=np.int32)
        self.line_item: NDArray[np.int32] = np.array([s.line_item for s in spec], dtype=np.int32)
        self.media: NDArray[np.int8] = np.array([s.media for s in spec], dtype=np.int8)
        self.size: NDArray[np.int16] = np.array([s.size for s in spec], dtype=np.int16)
        self.from_ns: NDArray[np.int64] = np.array([s.from_ns for s in spec], dtype=np.int64)
        self.to_ns: NDArray[np.int64] = np.array([s.to_ns for s in spec], dtype=np.int64)
        self.position = {s.id: n for n, s in enumerate(spec)}

    def _slot(self, campaign: int, media: int, size: int, k: int) -> None:
        s = self.scenario
        n = len(self.creatives)
        where = f"{s.size[size].w}x{s.size[size].h}" if size != NO_SIZE else MEDIA[media].value
        generations = s.churn.generations
        life_ns = int(s.churn.life_days * DAY_NS)
        first_end = STARTS_AT_NS + int(((n * _STAGGER) % 1.0) * life_ns)
        for g in range(generations):
            turn = k + g * s.creatives.per_format + 2 * campaign
            begin = 0 if g == 0 else first_end + (g - 1) * life_ns
            end = _FOREVER_NS if g == generations - 1 else first_end + g * life_ns
            self.creatives.append(
                CreativeSpec(
                    id=f"{s.campaign[campaign].id}-{where}-{k}" + (f"-g{g}" if generations > 1 else ""),
                    campaign=campaign,
                    line_item=len(self.line_items) - 1,
                    media=media,
                    size=size,
                    colour=turn % len(s.creatives.colours),
                    message=(turn // len(s.creatives.colours) + turn) % len(s.creatives.messages),
                    slot=k,
                    from_ns=begin,
                    to_ns=end,
                )
            )

    @property
    def count(self) -> int:
        return len(self.creatives)

    def live(self, creatives: NDArray[np.int64], t_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each creative (position) is in its life at each time."""
        return np.asarray((self.from_ns[creatives] <= t_ns) & (t_ns < self.to_ns[creatives]))

    def fitting(self, media: int, size: int, country: int) -> NDArray[np.int64]:
        """Creatives of any time that may be shown there: format, size and the campaign's countries."""
        code = self.scenario.users.countries[country].code
        fits = [
            n
            for n, spec in enumerate(self.creatives)
            if spec.media == media
            and spec.size == size
            and (
                not self.scenario.campaign[spec.campaign].countries
                or code in self.scenario.campaign[spec.campaign].countries
            )
        ]
        return np.array(fits, dtype=np.int64)
