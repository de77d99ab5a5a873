"""Holds bids until they are won or too old, then writes wins (all) and the rest (sampled by the hash of the bid id)."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
from msgspec import Struct
from pyarrow import ArrowInvalid

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.files import read_bytes, write_atomically
from counterpoint.base.ids import digest
from counterpoint.base.unreadable import UNREADABLE
from counterpoint.bus.bus import Delivery
from counterpoint.events.event import Event
from counterpoint.events.facts import AuctionWon, BidPlaced
from counterpoint.record.schema import KEPT_SAMPLED, KEPT_WON, Row, table

log = logging.getLogger(__name__)

WAITING_BYTES_MAX = (
    128 * 2**20
)  # bids that may still win; past that the oldest are decided early, a later win is counted
WAITING_NS_MAX = 900 * NS_PER_S
ROWS_MAX = 20_000  # rows of one Parquet part
PART_NS_MAX = (
    5 * NS_PER_S
)  # a part is closed at least this often while there are rows: explain finds a bid soon
EARLY_WINS_MAX = 10_000
WRITTEN_KEPT = 200_000  # ids of rows already written, so that a replay after a crash writes none twice
_ROW_OVERHEAD = 1_000  # bytes of one waiting bid besides its input, measured generously


class RecorderState(Struct):
    """``position``: every FACTS delivery up to here is decided. ``written``: rows after it that are in a part already."""

    position: int = 0
    written: list[str] = []


class Recorder:
    def __init__(self, folder: Path, state_path: Path, sample_rate: float) -> None:
        assert 0.0 <= sample_rate <= 1.0
        self.folder = folder
        self.state_path = state_path
        self.sample_rate = sample_rate
        self.wins_without_input = 0
        self.rows_written = 0
        self._waiting: OrderedDict[str, tuple[int, BidPlaced]] = OrderedDict()
        self._waiting_bytes = 0
        self._early_wins: OrderedDict[str, int | None] = OrderedDict()  # heard before, or without, their bid
        self._rows: list[Row] = []
        self._written: OrderedDict[str, None] = OrderedDict()
        self._seen = 0
        self._part_began_ns = 0
        folder.mkdir(parents=True, exist_ok=True)
        for torn in folder.glob(".*.part"):
            torn.unlink()
        state = self._read_state()
        self.position = state.position
        self._seen = state.position
        self._written.update(dict.fromkeys(state.written))

    def _read_state(self) -> RecorderState:
        """A state that cannot be read is put aside: the stream is read again, and the parts tell what is in them."""
        raw = read_bytes(self.state_path)
        if raw is None:
            return RecorderState()
        try:
            return msgspec.msgpack.decode(raw, type=RecorderState)
        except UNREADABLE as error:
            aside = self.state_path.with_suffix(".broken")
            self.state_path.replace(aside)
            log.warning("state cannot be read (%s); kept as %s, the stream is read again", error, aside)
            return RecorderState(0, self._newest_written())

    def _newest_written(self) -> list[str]:
        found: list[str] = []
        for part in sorted(self.folder.glob("*.parquet"), reverse=True):
            try:
                found += pq.read_table(part, columns=["bid_id"]).column("bid_id").to_pylist()
            except (OSError, ArrowInvalid) as error:
                log.warning("%s cannot be read: %s", part, error)
            if len(found) >= WRITTEN_KEPT:
                break
        return found[:WRITTEN_KEPT]

    def on(self, deliveries: Sequence[Delivery], now_ns: int) -> None:
        for delivery in deliveries:
            for event in delivery.events:
                self._event(event, delivery.sequence)
            self._seen = max(self._seen, delivery.sequence)
        self._decide_old(now_ns)
        if self._rows and self._part_began_ns == 0:
            self._part_began_ns = now_ns
        if len(self._rows) >= ROWS_MAX or (self._rows and now_ns - self._part_began_ns >= PART_NS_MAX):
            self.flush(now_ns)

    def _event(self, event: Event, sequence: int) -> None:
        if isinstance(event, BidPlaced):
            if event.test or event.event_id in self._written or event.event_id in self._waiting:
                return
            if event.event_id in self._early_wins:
                self._keep(Row(event, KEPT_WON, 1.0, self._early_wins.pop(event.event_id)))
            else:
                self._waiting[event.event_id] = (sequence, event)
                self._waiting_bytes += len(event.decision_input) + _ROW_OVERHEAD
        elif isinstance(event, AuctionWon):
            held = self._waiting.pop(event.bid_id, None)
            if held is not None:
                self._waiting_bytes -= len(held[1].decision_input) + _ROW_OVERHEAD
                self._keep(Row(held[1], KEPT_WON, 1.0, event.price_nanos))
            elif event.bid_id not in self._written and event.bid_id not in self._early_wins:
                self._early_wins[event.bid_id] = event.price_nanos
                if len(self._early_wins) > EARLY_WINS_MAX:
                    self._early_wins.popitem(last=False)
                    self.wins_without_input += 1

    def _decide_old(self, now_ns: int) -> None:
        while self._waiting:
            bid_id, (_, bid) = next(iter(self._waiting.items()))
            if now_ns - bid.recorded_at_ns < WAITING_NS_MAX and self._waiting_bytes <= WAITING_BYTES_MAX:
                return
            self._drop_oldest(bid_id, bid)

    def _drop_oldest(self, bid_id: str, bid: BidPlaced) -> None:
        del self._waiting[bid_id]
        self._waiting_bytes -= len(bid.decision_input) + _ROW_OVERHEAD
        if self._sampled(bid_id):
            self._keep(Row(bid, KEPT_SAMPLED, self.sample_rate, None))

    def _sampled(self, bid_id: str) -> bool:
        return int(digest(bid_id, size=8), 16) < self.sample_rate * 2**64

    def _keep(self, row: Row) -> None:
        if row.bid.event_id in self._written:
            return
        self._rows.append(row)
        self._written[row.bid.event_id] = None
        while len(self._written) > WRITTEN_KEPT:
            self._written.popitem(last=False)

    def flush(self, now_ns: int) -> None:
        """Write the rows as one part (whole or not at all), then the state that says so."""
        if self._rows:
            name = f"{now_ns // 1_000_000:015d}-{self._rows[0].bid.event_id}.parquet"
            beside = self.folder / f".{name}.part"
            pq.write_table(table(self._rows), beside, compression="zstd")
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            beside.replace(self.folder / name)
            self.rows_written += len(self._rows)
            self._rows.clear()
        self._part_began_ns = 0
        oldest = next(iter(self._waiting.values()))[0] if self._waiting else self._seen + 1
        self.position = oldest - 1
        state = RecorderState(self.position, list(self._written))
        write_atomically(self.state_path, msgspec.msgpack.encode(state))

    def forget_older_than(self, now_ns: int, keep_days: int) -> int:
        """Delete parts past retention; returns how many."""
        before_ms = now_ns // 1_000_000 - keep_days * 86_400_000
        old = [part for part in self.folder.glob("*.parquet") if int(part.name.split("-", 1)[0]) < before_ms]
        for part in old:
            part.unlink()
        return len(old)
