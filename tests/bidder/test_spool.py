"""The spool: what append promised is there after any crash, and what it did not promise harms nothing."""

from __future__ import annotations

import resource
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.errors import ConfigError
from counterpoint.bidder.spool import Spool, SpooledBatch, SpoolFull, read_segment


def batch(n: int, size: int = 50) -> SpooledBatch:
    return SpooledBatch(f"batch-{n}", "money.notice.adx", bytes([n % 256]) * size)


def contents(spool: Spool) -> list[str]:
    return [b.batch_id for number in spool.seal() for b in spool.read(number).batches]


def test_what_was_appended_is_read_in_order_by_the_next_process(tmp_path: Path) -> None:
    first = Spool(tmp_path, segment_bytes=200)
    for n in range(10):
        first.append([batch(2 * n), batch(2 * n + 1)])
    first.close()
    second = Spool(tmp_path)
    assert second.bytes_used > 0
    assert contents(second) == [f"batch-{n}" for n in range(20)]
    assert len(second.seal()) > 1
    for number in second.seal():
        second.remove(number)
    assert second.empty
    assert second.bytes_used == 0
    second.close()
    assert not list(tmp_path.glob("*.spool"))


def test_appending_goes_on_in_a_new_segment_after_a_restart(tmp_path: Path) -> None:
    for n in range(3):
        spool = Spool(tmp_path)
        spool.append([batch(n)])
        spool.close()
    spool = Spool(tmp_path)
    assert contents(spool) == ["batch-0", "batch-1", "batch-2"]
    spool.close()


def test_two_processes_cannot_share_a_spool(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    with pytest.raises(ConfigError, match="another bidder"):
        Spool(tmp_path)
    first.close()
    Spool(tmp_path).close()


def test_full_is_refused_and_takes_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, bytes_max=500)
    spool.append([batch(1)])
    before = spool.bytes_used
    with pytest.raises(SpoolFull):
        spool.append([batch(2, 1000)])
    assert spool.bytes_used == before
    assert contents(spool) == ["batch-1"]
    spool.close()


def test_a_disk_that_fails_is_full_and_what_was_kept_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([batch(1)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (spool.bytes_used + 30, hard))  # room for half a record
        with pytest.raises(SpoolFull, match="cannot be written"):
            spool.append([batch(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert spool.write_errors == 1
    spool.append([batch(3)])
    assert contents(spool) == ["batch-1", "batch-3"]
    assert not any(spool.read(number).torn for number in spool.seal())
    spool.close()


@given(cut=st.integers(0, 400), sizes=st.lists(st.integers(0, 80), min_size=1, max_size=5))
@settings(deadline=None, max_examples=150)
def test_a_torn_tail_loses_only_itself(
    tmp_path_factory: pytest.TempPathFactory, cut: int, sizes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    spool = Spool(folder)
    ends = []
    for n, size in enumerate(sizes):
        spool.append([batch(n, size)])
        ends.append(spool.bytes_used)
    (number,) = spool.seal()
    spool.close()
    raw = (folder / f"{number:08d}.spool").read_bytes()
    cut = min(cut, len(raw))
    found = read_segment(raw[:cut])
    whole = sum(1 for end in ends if end <= cut)
    assert [b.batch_id for b in found.batches] == [f"batch-{n}" for n in range(whole)]
    assert found.damaged == 0
    assert found.torn == (cut not in (0, *ends))


@given(place=st.integers(0, 10_000), byte=st.integers(1, 255))
@settings(deadline=None, max_examples=150)
def test_damage_is_stepped_over_and_never_read_as_something_else(place: int, byte: int) -> None:
    with TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        spool.append([batch(n) for n in range(4)])
        (number,) = spool.seal()
        raw = bytearray((Path(folder) / f"{number:08d}.spool").read_bytes())
        spool.close()
    place %= len(raw)
    raw[place] ^= byte
    found = read_segment(bytes(raw))
    ids = [b.batch_id for b in found.batches]
    assert ids == [f"batch-{n}" for n in range(4) if f"batch-{n}" in ids]
    assert len(ids) >= 3
    assert all(b == batch(int(b.batch_id[6:])) for b in found.batches)
    assert found.damaged or found.torn


def test_a_damaged_segment_is_kept_aside(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([batch(1), batch(2)])
    (number,) = spool.seal()
    path = tmp_path / f"{number:08d}.spool"
    raw = bytearray(path.read_bytes())
    raw[40] ^= 1
    path.write_bytes(bytes(raw))
    found = spool.read(number)
    assert [b.batch_id for b in found.batches] == ["batch-2"]
    assert found.damaged == 1
    spool.remove(number, keep_aside=True)
    assert spool.empty
    assert path.with_suffix(".damaged").exists()
    spool.close()


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=150)
def test_any_bytes_can_be_read(raw: bytes) -> None:
    read_segment(raw)
    read_segment(b"CPS1" + raw)
