"""How likely a price wins, per segment, from whatever the exchange tells us.

A row is one auction we bid in, and an interval for M, the least bid that would have won: told exactly (minimum bid to
win on win or loss, price on loss, price on win in second price), or only that it was up to our bid, or past it. Each
row keeps its own regime, and one self-consistent estimator (:mod:`win_kernels`) joins them: nothing is imputed.

Segments form a tree, "adx/video/{child}" > "adx/video" > "*/video" > "*": each is shrunk to its parent by PRIOR_ROWS,
the root to a log-logistic distribution. Rows fade by time. Beside that, segments down to "adx/video" are followed by
row-counted memories of SPEEDS rows; children move with their segment in log-odds. Which memory to trust is weighed by how
likely each made the rows that came next (:func:`win_kernels.score`), so a steady market keeps the long one.

A row may have two children: its class by predicted click rate ("~{class}") and its place ("@{place}"). A place's curve is the one
that prices, where it has one; it is published as long as it made its rows likelier than their classes did (:func:`win_kernels.duel`).
"""

from __future__ import annotations

from bisect import insort

import msgspec
import numpy as np
from numpy.typing import NDArray

from counterpoint.base.money import PRICE_MICROS_MAX
from counterpoint.bidding import win_kernels
from counterpoint.bidding.policy import WinCurve
from counterpoint.bidding.second_price import SecondPrices
from counterpoint.bidding.segments import lineage
from counterpoint.bidding.win_kernels import ABOVE, BELOW, EXACT
from counterpoint.bidding.win_shapes import BINS, EDGES, WIDTH, fitted_shape, pack, to_knots, unpack

FloatArray = NDArray[np.float64]

PRIOR_ROWS = 200.0  # a segment with this many rows counts as much as its parent
CHILD_PRIOR_ROWS = 60.0  # the same below "adx/video"
ROOT_PRIOR_ROWS = 50.0  # what the log-logistic shape counts for
ROWS_MIN = 50.0  # no curve is published on fewer
CHILD_ROWS_MIN = 20.0  # of a child: it leans on its segment
KEPT_SHARE = 0.5  # of those, under which a curve that was published is withdrawn
CHILD_SIGHTINGS = 10  # after which a child gets counts of its own
PLACES_MAX = (
    192  # whose curves are published: of those that have more to say than classes, the ones with most rows
)
DUEL_KEEP = 0.5 ** (1 / 1_000)  # rows of a place after which an old lead counts half
WAITING_MAX = 8_192  # children waiting for that; past it they are all forgotten
ATOM_VOTES_MIN, ATOM_SHARE_MIN = 2.0, 0.25  # a bin's price is where that much of a majority agrees
NODES_MAX = 512  # past it the quarter of children with fewest rows is forgotten; segments that find no room teach their parents
REFRESH_SHARE = 0.02  # a long memory is estimated anew when its rows grew by this share, or by
REFRESH_ROWS = 25.0
STEPS, STEPS_FIRST, ENOUGH = 40, 400, 1e-4  # of the estimator, from where it stood before
SPEEDS = (300.0, 2_000.0)  # rows after which a short memory has faded by half
SPEED_PRIOR_ROWS = 50.0
SPEED_HALF_LIFE_S = 3_600.0  # short memories fade with silence, too
SCORE_KEEP, SCORE_TEMPER = 0.5 ** (1 / 3_000), 0.1
PENDING_MAX = 4_096  # rows held back before they are counted
_GROWTH: FloatArray = np.array([2.0 ** (1.0 / rows) for rows in SPEEDS])
WAYS = 1 + len(SPEEDS)
ROOM_ROWS = 50_000  # between two times that children are forgotten
PLACE_TURNS = 8  # a place follows its segment every so many refreshes, its own rows at once
TRUNK, PLACE, CLASS, CHILD = range(4)
NODE_ARRAYS = (
    "_counts", "_tops", "_atoms", "_votes", "_added", "_mass", "_effective", "_leads", "_ways", "_behind",
)  # fmt: skip
LEVELS = 5  # nodes a row may teach: two children, segment, media, all


class WinCurves:
    """The rows of all segments and the curves they come to. ``curves`` are as of the last :meth:`refresh`."""

    def __init__(self, half_life_s: float) -> None:
        assert half_life_s > 0
        self._half_life_s = half_life_s
        self.refused = 0  # rows whose bid is no price
        self.unbelieved = 0  # minimums that are no price or contradict the outcome; the row counts without
        self.second = SecondPrices()
        self.curves: dict[str, WinCurve] = {}
        self._pending: list[tuple[tuple[int, ...], int, bool, int]] = []
        self._reset(16)
        self._node("*")

    def _reset(self, room: int) -> None:
        self._nodes: dict[str, int] = {}
        self._order: list[tuple[int, str]] = []  # parents first
        self._paths: dict[str, tuple[int, ...]] = {}
        self._waiting: dict[str, int] = {}  # children seen too seldom so far
        self._slots: list[int] = []  # by node: where its short memories are; of a child, its segment's
        self._parents: list[int] = []
        self._counts = np.zeros((room, 3, WIDTH))
        self._tops = np.zeros((room, WIDTH))
        self._atoms = np.zeros((room, WIDTH))
        self._votes = np.zeros((room, WIDTH))
        self._added = np.zeros(room)
        self._mass = np.zeros((room, WIDTH))
        self._effective = np.zeros(room)  # rows behind ``mass``
        self._leads = np.zeros(room)  # of a place over the classes of its rows, log
        self._ways = np.zeros((room, WAYS, WIDTH))
        self._behind = np.zeros(room)  # 1: a place whose segment has moved, and whose turn has not come
        self._turn = 0
        self._since_room = 0  # rows since children were last forgotten
        self._kinds: list[int] = []
        self._fast = np.zeros((4, len(SPEEDS), 3, WIDTH))
        self._fast_weight = np.ones((4, len(SPEEDS)))
        self._fast_mass = np.zeros((4, len(SPEEDS), WIDTH))
        self._fast_added = np.zeros(4)
        self._scores = np.zeros((4, WAYS))
        self._slots_used = 0

    # ---- rows

    def add(
        self,
        segment: str,
        bid_nanos: int,
        won: bool,
        minimum_nanos: int | None = None,
        *,
        floor_nanos: int = 0,
        also: str = "",
    ) -> None:
        """One auction. ``segment`` may name a child of its segment; ``also`` another child of the same one. A minimum that
        contradicts the outcome (a win below it, a loss above) is not believed.

        ``floor_nanos``: the request's, 0 for none. The curve is about rivals: a minimum at the floor only says that they were
        below it, a loss below the floor says nothing, and the price of a request is chosen at or above its own floor."""
        if not 0 < bid_nanos <= PRICE_MICROS_MAX:
            self.refused += 1
            return
        told = 0
        if minimum_nanos is not None:
            if 0 < minimum_nanos <= PRICE_MICROS_MAX and (
                (minimum_nanos <= bid_nanos) == won or minimum_nanos == bid_nanos
            ):
                told = int(minimum_nanos)
            else:
                self.unbelieved += 1
        if floor_nanos > bid_nanos:
            return
        self._since_room += 1
        if self._since_room >= ROOM_ROWS and len(self._nodes) > NODES_MAX - LEVELS:
            self._make_room()
        path = self._path(segment, also)
        if 0 < told <= floor_nanos:
            self._pending.append((path, int(floor_nanos), True, 0))
        else:
            self._pending.append((path, int(bid_nanos), bool(won), told))
        if len(self._pending) >= PENDING_MAX:
            self._count()

    def decay(self, elapsed_s: float) -> None:
        self._count()
        self._counts *= 0.5 ** (elapsed_s / self._half_life_s)
        self._votes *= 0.5 ** (elapsed_s / self._half_life_s)
        self._fast *= 0.5 ** (elapsed_s / SPEED_HALF_LIFE_S)

    def doubt(self, exchange: str, share: float) -> bool:
        """Something changed there: what was learned of it counts for ``share`` of its rows from here on. False where
        nothing was learned of it."""
        assert 0.0 < share <= 1.0
        self._count()
        of_it = [at for name, at in self._nodes.items() if name.startswith(exchange + "/")]
        for at in of_it:
            self._counts[at] *= share
        return bool(of_it)

    def _path(self, segment: str, also: str) -> tuple[int, ...]:
        key = segment + "\n" + also if also else segment
        path = self._paths.get(key)
        if path is None:
            if len(self._paths) >= 4 * NODES_MAX:
                self._paths.clear()
            names = (also, *lineage(segment)) if also else lineage(segment)
            found = [self._node(name) for name in names]
            made = [at for at in found if at >= 0]
            path = (*made, *[-1] * (LEVELS - len(made)))
            if len(made) == len(found) or len(self._nodes) >= NODES_MAX:
                self._paths[key] = path
        return path

    def _node(self, name: str) -> int:
        """Position of a segment; -1 where there is no room for another."""
        at = self._nodes.get(name)
        if at is not None:
            return at
        if len(self._nodes) >= NODES_MAX or (is_child(name) and not self._often(name)):
            return -1
        parents = lineage(name)[1:]
        parent = self._node(parents[0]) if parents else -1
        if parents and parent < 0:
            return -1
        at = self._nodes[name] = len(self._nodes)
        if at >= len(self._effective):
            for array in NODE_ARRAYS:
                setattr(self, array, _doubled(getattr(self, array)))
        self._parents.append(parent)
        self._kinds.append(
            PLACE if is_place(name) else CLASS if "/~" in name else CHILD if is_child(name) else TRUNK
        )
        if is_child(name):
            self._slots.append(self._slots[parent])
        else:
            if self._slots_used >= len(self._scores):
                for array in ("_fast", "_fast_weight", "_fast_mass", "_fast_added", "_scores"):
                    setattr(self, array, _doubled(getattr(self, array)))
            self._fast_weight[self._slots_used] = 1.0
            self._slots.append(self._slots_used)
            self._slots_used += 1
        insort(self._order, (len(parents), name))
        return at

    def _often(self, child: str) -> bool:
        """Children are many, and most are seen a handful of times: they get no counts of their own."""
        if len(self._waiting) >= WAITING_MAX:
            self._waiting.clear()
        seen = self._waiting.get(child, 0) + 1
        if seen < CHILD_SIGHTINGS:
            self._waiting[child] = seen
            return False
        self._waiting.pop(child, None)
        return True

    def _count(self) -> None:
        """Score what is pending under the curves as they stand, then count it in."""
        if not self._pending:
            return
        paths, bids, wins, told = zip(*self._pending, strict=True)
        self._pending = []
        nodes = np.array(paths, dtype=np.int64)
        bid, minimum = np.array(bids, dtype=np.float64), np.array(told, dtype=np.float64)
        exact = minimum > 0
        kinds = np.where(exact, EXACT, np.where(wins, BELOW, ABOVE)).astype(np.int64)
        prices = np.where(exact, minimum, bid)
        bins = np.searchsorted(EDGES, prices).astype(np.int64)
        slots = np.array(self._slots, dtype=np.int64)[nodes]
        win_kernels.score(
            kinds, bins, nodes[:, 0], slots[:, 0], self._ways, self._scores, SCORE_KEEP, SCORE_TEMPER
        )
        places, classes = self._children(nodes)
        win_kernels.duel(kinds, bins, places, classes, self._ways, self._leads, DUEL_KEEP)
        win_kernels.add_rows(
            kinds,
            bins,
            prices,
            nodes,
            self._counts,
            self._tops,
            self._atoms,
            self._votes,
            self._added,
        )
        slots[(nodes < 0) | (np.array(self._kinds)[nodes] != TRUNK)] = -1
        win_kernels.add_fast(kinds, bins, slots, self._fast, self._fast_weight, _GROWTH)
        np.add.at(self._fast_added, slots[slots >= 0], 1.0)

    def _children(self, nodes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """By row: the node of its place and that of its class, -1 for none."""
        kinds = np.array([*self._kinds, TRUNK], dtype=np.int8)  # node -1 is of no kind
        leaves = nodes[:, :2]  # children come first
        of = kinds[leaves]
        return np.where(of == PLACE, leaves, -1).max(axis=1), np.where(of == CLASS, leaves, -1).max(axis=1)

    def _make_room(self) -> None:
        """A quarter of the children is forgotten, those with the fewest rows; fewer children than that stay."""
        self._count()
        self._since_room = 0
        rows = self._counts.sum(axis=(1, 2))
        children = sorted((float(rows[at]), name) for name, at in self._nodes.items() if self._kinds[at])
        if len(children) < NODES_MAX // 4:
            return
        gone = {name for _, name in children[: len(children) // 4]}
        names = [name for name in self._nodes if name not in gone]
        kept = [self._nodes[name] for name in names]
        moved = {old: new for new, old in enumerate(kept)}
        for array in NODE_ARRAYS:
            old = getattr(self, array)
            setattr(self, array, np.zeros_like(old))
            getattr(self, array)[: len(kept)] = old[kept]
        self._nodes = {name: at for at, name in enumerate(names)}
        self._parents = [moved.get(self._parents[old], -1) for old in kept]
        self._slots = [self._slots[old] for old in kept]
        self._kinds = [self._kinds[old] for old in kept]
        self._order = [(depth, name) for depth, name in self._order if name not in gone]
        self._paths.clear()
        for name in gone:
            self.curves.pop(name, None)

    # ---- curves

    def refresh(self) -> bool:
        """Estimate anew what has grown; True when any published curve changed. Parents first: children lean on them."""
        self._count()
        self._turn = (self._turn + 1) % PLACE_TURNS
        moved: set[int] = set()
        changed = False
        for _, name in self._order:
            at, parent = self._nodes[name], self._parents[self._nodes[name]]
            effective = float(self._counts[at].sum())
            least = CHILD_ROWS_MIN if is_child(name) else ROWS_MIN
            if effective < least * (KEPT_SHARE if self._effective[at] > 0.0 else 1.0):
                if self._effective[at] > 0.0:  # faded: who leans on it leans on its parent again
                    self._effective[at] = 0.0
                    self._ways[at] = self._behind[at] = 0.0
                    self.curves.pop(name, None)
                    moved.add(at)
                    changed = True
                continue
            stale = self._added[at] > max(REFRESH_ROWS, REFRESH_SHARE * effective)
            slot = self._slots[at]
            follows = not is_child(name) and self._fast_added[slot] >= REFRESH_ROWS
            if not (stale or follows or parent in moved or self._behind[at]):
                continue
            if self._kinds[at] == PLACE and not stale and (at + self._turn) % PLACE_TURNS:
                self._behind[at] = 1.0
                continue
            self._behind[at] = 0.0
            if stale or self._effective[at] <= 0.0:
                self._estimate(at, parent, effective, is_child(name))
            if follows:
                self._fast_added[slot] = 0.0
                for speed in range(len(SPEEDS)):
                    self._estimate_fast(at, slot, speed)
            moved.add(at)
            curve = self._publish(at, parent if is_child(name) else at, slot)
            if curve != self.curves.get(name):
                self.curves[name] = curve
                changed = True
        return changed

    def published(self) -> dict[str, WinCurve]:
        """``curves`` as a policy carries them: of the places, those that have more to say than classes, at most PLACES_MAX."""
        places = [
            (-curve.rows, name)
            for name, curve in self.curves.items()
            if is_place(name) and self._leads[self._nodes[name]] >= 0.0
        ]
        shown = {name for _, name in sorted(places)[:PLACES_MAX]}
        return {name: curve for name, curve in self.curves.items() if name in shown or not is_place(name)}

    def _estimate(self, at: int, parent: int, effective: float, child: bool) -> None:
        self._added[at] = 0.0
        counts, mass = self._counts[at], self._mass[at]
        first = self._effective[at] <= 0.0
        if parent >= 0 and self._effective[parent] >= ROWS_MIN:
            prior = self._mass[parent]
            rows = CHILD_PRIOR_ROWS if child else PRIOR_ROWS
        else:
            prior, rows = fitted_shape(counts), ROOT_PRIOR_ROWS
        if first:
            mass[:] = prior
        self._effective[at] = effective
        win_kernels.self_consistent(counts, prior, rows, mass, STEPS_FIRST if first else STEPS, ENOUGH)

    def _estimate_fast(self, at: int, slot: int, speed: int) -> None:
        counts = self._fast[slot, speed] / self._fast_weight[slot, speed]
        mass, prior = self._fast_mass[slot, speed], self._mass[at]
        if not mass.any():
            mass[:] = prior
        win_kernels.self_consistent(counts, prior, SPEED_PRIOR_ROWS, mass, STEPS, ENOUGH)

    def _combine(self, at: int, segment: int, slot: int) -> FloatArray:
        """The win rates of each way, and their mixture."""
        ways = self._ways[at]
        ways[0] = np.cumsum(self._mass[at])
        usual = np.cumsum(self._mass[segment])
        for speed, rows in enumerate(SPEEDS):
            # a short memory that holds all there is would count the same rows twice
            if self._fast_mass[slot, speed].any() and self._effective[segment] >= 2.0 * rows:
                now = np.cumsum(self._fast_mass[slot, speed])
                win_kernels.carried_over(ways[0], now, usual, ways[1 + speed])
            else:
                ways[1 + speed] = ways[0]
        scores = self._scores[slot]
        weights = np.exp(scores - scores.max())
        mixed: FloatArray = (weights / weights.sum()) @ ways
        return mixed

    def _publish(self, at: int, segment: int, slot: int) -> WinCurve:
        tops, votes = self._tops[at, :BINS], self._votes[at, :BINS]
        prices = np.where(tops > 0.0, tops, EDGES)
        agreed = votes >= ATOM_VOTES_MIN + ATOM_SHARE_MIN * self._counts[at, EXACT, :BINS]
        prices = np.where(agreed, self._atoms[at, :BINS], prices)
        return to_knots(prices, self._combine(at, segment, slot)[:BINS], float(self._effective[at]))

    # ---- kept over a restart

    def dump(self) -> list[object]:
        self._count()
        nodes = [
            [
                name,
                pack(self._counts[at].ravel()),
                pack(self._tops[at]),
                pack(self._atoms[at]),
                pack(self._votes[at]),
                float(self._added[at]),
                pack(self._mass[at]),
                float(self._effective[at]),
                bool(self._ways[at, 0, -1] > 0.0),
                float(self._leads[at]),
                pack(self._ways[at].ravel()) if self._behind[at] else (0, b""),
            ]
            for name, at in self._nodes.items()
        ]
        slots = [
            [
                pack(self._fast[i].ravel()),
                self._fast_weight[i].tolist(),
                pack(self._fast_mass[i].ravel()),
                float(self._fast_added[i]),
                self._scores[i].tolist(),
            ]
            for i in range(self._slots_used)
        ]
        return [
            nodes,
            slots,
            self.curves,
            self._waiting,
            self.refused,
            self.unbelieved,
            self.second,
            [self._turn, self._since_room],
        ]

    def load(self, dumped: msgspec.Raw) -> None:
        nodes, slots, curves, waiting, refused, unbelieved, second, turns = msgspec.msgpack.decode(
            dumped, type=_Dumped
        )
        self._reset(max(16, len(nodes)))
        self._pending = []
        self._waiting = {name: CHILD_SIGHTINGS for name, *_ in nodes if is_child(name)}
        for name, counts, tops, atoms, votes, added, mass, effective, _, lead, _ in nodes:
            at = self._node(name)
            if at < 0 or at != len(self._nodes) - 1:
                raise ValueError(f"win curves: segment {name!r} is not in its place")
            self._counts[at] = unpack(counts, 3 * WIDTH).reshape(3, WIDTH)
            self._tops[at], self._atoms[at] = unpack(tops, WIDTH), unpack(atoms, WIDTH)
            self._votes[at] = unpack(votes, WIDTH)
            self._mass[at] = unpack(mass, WIDTH)
            self._added[at], self._effective[at], self._leads[at] = added, effective, lead
        self._waiting = waiting
        if len(slots) != self._slots_used:
            raise ValueError("win curves: short memories and segments do not match")
        for i, (fast, weight, fast_mass, fast_added, scores) in enumerate(slots):
            self._fast[i] = unpack(fast, len(SPEEDS) * 3 * WIDTH).reshape(len(SPEEDS), 3, WIDTH)
            self._fast_weight[i], self._scores[i] = weight, scores
            self._fast_mass[i] = unpack(fast_mass, len(SPEEDS) * WIDTH).reshape(len(SPEEDS), WIDTH)
            self._fast_added[i] = fast_added
        for name, *_, published, _, ways in nodes:
            at = self._nodes[name]
            if ways[1]:
                self._behind[at] = 1.0
                self._ways[at] = unpack(ways, WAYS * WIDTH).reshape(WAYS, WIDTH)
            elif published:
                self._combine(at, self._parents[at] if is_child(name) else at, self._slots[at])
        self.curves, self.refused, self.unbelieved = curves, refused, unbelieved
        self.second, (self._turn, self._since_room) = second, turns


_Packed = tuple[int, bytes]
_Dumped = tuple[
    list[tuple[str, _Packed, _Packed, _Packed, _Packed, float, _Packed, float, bool, float, _Packed]],
    list[tuple[_Packed, list[float], _Packed, float, list[float]]],
    dict[str, WinCurve],
    dict[str, int],
    int,
    int,
    SecondPrices,
    tuple[int, int],
]


def is_child(name: str) -> bool:
    """Below "{exchange}/{media}": it moves with its segment."""
    return name.count("/") >= 2


def is_place(name: str) -> bool:
    return "/@" in name


def _doubled(array: FloatArray) -> FloatArray:
    return np.concatenate([array, np.zeros_like(array)])
