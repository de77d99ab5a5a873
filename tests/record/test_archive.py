from __future__ import annotations

import os
import shutil
import stat
import zlib
from pathlib import Path

import msgspec
import pytest

from counterpoint.bidder.decide import decide, left_of
from counterpoint.bidder.frequency import NOBODY
from counterpoint.bidder.golden import golden_requests
from counterpoint.bidder.holder import Changes, apply
from counterpoint.bidder.view import View, ViewInputs, compile_view
from counterpoint.catalog.digest import seal
from counterpoint.catalog.load import load_catalog
from counterpoint.events.decisions import PolicyPublished
from counterpoint.record.archive import Archive, ArchiveMissing
from tests.record import auctions
from tests.record.auctions import DEMO, EXPERIMENT, SETTINGS, START

CATALOG = load_catalog(DEMO)
BARE = compile_view(ViewInputs(catalog=CATALOG, experiment=EXPERIMENT))


def with_policies(view: View, *events: PolicyPublished, **settings: int) -> View:
    named = {f"campaign/{name.replace('_', '-')}/bid_ceiling": value for name, value in settings.items()}
    changes = Changes(policies={event.agent: event for event in events}, settings=SETTINGS | named)
    changed, refused = apply(view, changes, START)
    assert refused == []
    return changed


def payloads(*events: PolicyPublished) -> dict[str, bytes]:
    return {event.checksum: event.payload for event in events}


ALL = (auctions.bidding(1), auctions.creative(1, CATALOG), auctions.budget(1), auctions.feedback(1))
FULL = with_policies(BARE, *ALL)


def files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def test_a_view_comes_back_and_decides_the_same(tmp_path: Path) -> None:
    view = compile_view(
        msgspec.structs.replace(
            FULL.inputs, stops=frozenset({"campaign/volta-film"}), quarantined=frozenset({"stride-native"})
        )
    )
    Archive(tmp_path).keep(view, payloads(*ALL))
    again = Archive(tmp_path).view(view.digest)
    assert again.digest == view.digest
    assert again.manifest() == view.manifest()
    assert again.inputs.policies == view.inputs.policies
    left = left_of(view, 0, ())
    for at, request in enumerate(golden_requests(view.part)):
        key = at * 1_000_003
        made = decide(request, "northstar", view, NOBODY, left, START, key)
        assert decide(request, "northstar", again, NOBODY, left, START, key) == made


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.keep(FULL, payloads(*ALL))
    before = files(tmp_path)
    assert len(before) == 1 + 4 + 1  # manifest, policies, catalog
    archive.keep(FULL, {})
    Archive(tmp_path).keep(FULL, payloads(*ALL))
    assert files(tmp_path) == before
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.rglob("*") if path.is_file())
    archive.keep(with_policies(FULL, stride_clicks=900_000), {})
    assert len(files(tmp_path)) == len(before) + 1
    assert archive.without_payload == 0
    assert archive.bytes_used == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())


def test_a_policy_nobody_handed_over_is_counted_and_named_later(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.keep(FULL, payloads(*ALL[1:]))
    assert archive.without_payload == 1
    with pytest.raises(ArchiveMissing, match="the bidding policy with checksum") as gone:
        archive.view(FULL.digest)
    assert (gone.value.what, gone.value.agent, gone.value.damaged) == ("policy", "bidding", False)
    archive.keep(FULL, payloads(*ALL))  # handed over at last
    assert archive.view(FULL.digest).digest == FULL.digest


def test_the_oldest_manifests_go_with_what_only_they_name(tmp_path: Path) -> None:
    archive = Archive(tmp_path, views_max=3)
    views = [with_policies(FULL, auctions.bidding(n), stride_clicks=n * 100_000) for n in range(2, 8)]
    for at, view in enumerate(views, 2):
        archive.keep(view, payloads(*ALL, auctions.bidding(at)))
    kept = [view.digest for view in views[-3:]]
    assert list(archive.digests()) == kept
    assert len(list((tmp_path / "views").iterdir())) == 3
    assert len(list((tmp_path / "policies").iterdir())) == 3 + 3  # three biddings and what all share
    assert len(list((tmp_path / "catalogs").iterdir())) == 1
    assert [archive.view(name).digest for name in kept] == kept
    with pytest.raises(ArchiveMissing, match="manifest") as gone:
        archive.view(views[0].digest)
    assert gone.value.what == "manifest"


def test_a_view_used_again_is_young_again_after_a_restart_too(tmp_path: Path) -> None:
    archive = Archive(tmp_path, views_max=3)
    first, second, third, fourth = (with_policies(FULL, stride_clicks=n * 100_000) for n in range(1, 5))
    for at, view in enumerate((first, second, third)):
        archive.keep(view, payloads(*ALL))
        os.utime(tmp_path / "views" / view.digest, ns=(START + at, START + at))
    archive.keep(first, {})
    restarted = Archive(tmp_path, views_max=3)
    restarted.keep(fourth, {})
    assert list(restarted.digests()) == [third.digest, first.digest, fourth.digest]
    assert restarted.view(first.digest).digest == first.digest


def test_policies_and_bytes_are_bounded_and_the_newest_view_stays(tmp_path: Path) -> None:
    by_policies = Archive(tmp_path / "p", policies_max=5)
    by_bytes = Archive(tmp_path / "b", bytes_max=1)
    for version in range(2, 6):
        view = with_policies(FULL, auctions.bidding(version))
        for archive in (by_policies, by_bytes):
            archive.keep(view, payloads(*ALL, auctions.bidding(version)))
            assert archive.view(view.digest).digest == view.digest
    assert len(list((tmp_path / "p" / "policies").iterdir())) == 5
    assert len(files(tmp_path / "b")) == 1 + 4 + 1
    assert by_bytes.bytes_used > by_bytes.bytes_max


def test_a_catalog_goes_with_the_last_manifest_that_names_it(tmp_path: Path) -> None:
    archive = Archive(tmp_path, views_max=2)
    other = seal(msgspec.structs.replace(CATALOG, rates=CATALOG.rates[:1]))
    archive.keep(BARE, {})
    new = [
        compile_view(ViewInputs(catalog=other, experiment=EXPERIMENT, settings={"all/enabled": n}))
        for n in (0, 1)
    ]
    archive.keep(new[0], {})
    assert len(list((tmp_path / "catalogs").iterdir())) == 2
    archive.keep(new[1], {})
    assert [path.name for path in (tmp_path / "catalogs").iterdir()] == [other.digest]


def test_a_catalog_written_before_it_grew_a_field_stays_good(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.keep(BARE, {})
    path = tmp_path / "catalogs" / CATALOG.digest
    older = msgspec.msgpack.decode(zlib.decompress(path.read_bytes()))
    for profile in older["exchanges"]:
        assert profile.pop("markup_on_win") is False  # a field with a default that was not there yet
    path.write_bytes(zlib.compress(msgspec.msgpack.encode(older)))
    restarted = Archive(tmp_path)
    restarted.keep(FULL, payloads(*ALL))  # newer code, the same catalog: its bytes are not written again
    assert restarted.view(FULL.digest).inputs.catalog == CATALOG


def test_what_a_crash_left_is_cleared(tmp_path: Path) -> None:
    Archive(tmp_path).keep(FULL, payloads(*ALL))
    before = files(tmp_path)
    (tmp_path / "policies" / "0123").write_bytes(b"of a manifest that was never written")
    (tmp_path / "views" / ".abc.7.part").write_bytes(b"torn")
    (tmp_path / "views" / "beef").write_bytes(b"no manifest")
    archive = Archive(tmp_path)
    archive.keep(FULL, {})
    assert files(tmp_path).keys() == before.keys() | {"views/beef"}
    with pytest.raises(ArchiveMissing) as broken:
        archive.view("beef")
    assert broken.value.damaged


def test_a_disk_that_refuses_is_counted_and_bids_go_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    archive = Archive(tmp_path / "file" / "archive")
    archive.keep(FULL, payloads(*ALL))
    archive.keep(FULL, payloads(*ALL))
    assert archive.failed == 2


def test_a_folder_cleared_under_a_running_bidder_fills_again(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.keep(FULL, payloads(*ALL))
    whole = files(tmp_path).keys()
    shutil.rmtree(tmp_path)
    archive.keep(FULL, payloads(*ALL))
    assert archive.failed == 1
    archive.keep(FULL, payloads(*ALL))
    assert files(tmp_path).keys() == whole
    (tmp_path / "catalogs" / CATALOG.digest).write_bytes(b"damaged")
    (tmp_path / "views" / "notes.txt").write_text("none of ours")
    Archive(tmp_path, views_max=1).keep(with_policies(FULL, stride_clicks=5), {})
    assert (tmp_path / "views" / "notes.txt").exists()
    assert len(list((tmp_path / "views").iterdir())) == 2
    assert Archive(tmp_path).view(with_policies(FULL, stride_clicks=5).digest).inputs.catalog == CATALOG


def test_every_kind_of_change_is_named(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.keep(FULL, payloads(*ALL))
    creative = tmp_path / "policies" / ALL[1].checksum
    catalog = tmp_path / "catalogs" / CATALOG.digest
    manifest = tmp_path / "views" / FULL.digest
    other = auctions.creative(9, CATALOG)
    slightly = msgspec.structs.replace(CATALOG, account_currency="EUR")
    elsewhere = with_policies(FULL, stride_clicks=1_000_001)
    archive.keep(elsewhere, {})
    tampered = [
        (creative, zlib.compress(other.payload), "policy", "creative", "do not fit the checksum"),
        (creative, b"\x00", "policy", "creative", "damaged"),
        (creative, None, "policy", "creative", "any more"),
        (catalog, zlib.compress(msgspec.msgpack.encode(slightly)), "catalog", "", "fit their checksum"),
        (catalog, zlib.compress(b"\xc1"), "catalog", "", "damaged"),
        (catalog, None, "catalog", "", "any more"),
        (manifest, (tmp_path / "views" / elsewhere.digest).read_bytes(), "manifest", "", "was changed"),
        (manifest, b"", "manifest", "", "damaged"),
        (manifest, None, "manifest", "", "newer Views"),
    ]
    for path, content, what, agent, why in tampered:
        whole = path.read_bytes()
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(ArchiveMissing, match=why) as gone:
            archive.view(FULL.digest)
        assert (gone.value.what, gone.value.agent, gone.value.damaged) == (what, agent, content is not None)
        path.write_bytes(whole)
    assert archive.view(FULL.digest).digest == FULL.digest


@pytest.mark.parametrize("name", ["", "../catalogs/x", "a/b", "." * 3, "x" * 200])
def test_a_digest_is_never_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchiveMissing):
        Archive(tmp_path).view(name)
