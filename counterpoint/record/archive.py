"""What Views were made of, kept so that a decision can be run again: catalogs and policies by what they contain.

``views/``, ``catalogs/`` and ``policies/`` hold one compressed file per thing, named by its digest and mode 0600 (a
catalog holds conversion tokens). A manifest is written after all it names, and goes before them: what is there can be
made again. One process writes, any may read.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from counterpoint.base.errors import ConfigError, CounterpointError, PolicyRefused
from counterpoint.base.files import read_bytes, write_atomically
from counterpoint.base.ids import digest
from counterpoint.bidder.view import HeldPolicy, View, ViewInputs, ViewManifest, compile_view, decode_policy
from counterpoint.catalog.model import Catalog

log = logging.getLogger(__name__)

VIEWS_MAX: Final = 50_000  # manifests kept; the index of so many takes 19 MB and 1.2 s at the start
POLICIES_MAX: Final = 50_000
BYTES_MAX: Final = 4 * 2**30  # of all files together
POLICIES: Final = "policies/"
LEVEL: Final = 3  # of zlib: a third of the time of the default for a tenth more bytes

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_CATALOG: Final = msgspec.msgpack.Decoder(Catalog)
_MANIFEST: Final = msgspec.msgpack.Decoder(ViewManifest)


class ArchiveMissing(CounterpointError):
    """An input of a View is gone, or is not what it was. ``what``: "manifest" | "catalog" | "policy"; ``agent`` whose
    policy; ``damaged``: there, but not to be trusted."""

    def __init__(self, what: str, why: str, agent: str = "", damaged: bool = False) -> None:
        super().__init__(why)
        self.what = what
        self.agent = agent
        self.damaged = damaged


class _Kept(Struct, frozen=True, array_like=True):
    """One file of ``views/``: what it names stands in front, so that an index is made without unpacking."""

    catalog_digest: str
    policy_checksums: dict[str, str]
    manifest: bytes  # zlib, msgpack of ViewManifest
    catalog_checksum: (
        str  # of its bytes: its digest changes with every field that a catalog grows, they do not
    )


_KEPT: Final = msgspec.msgpack.Decoder(_Kept)


class Archive:
    """``keep`` from one thread at a time; nothing is read before it is first needed.

    Bounds: ``views_max`` manifests, ``policies_max`` policies, ``bytes_max`` bytes in all. Past any of them the manifests
    least recently in use go, and with them what no other names; the newest View stays whatever it takes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        views_max: int = VIEWS_MAX,
        policies_max: int = POLICIES_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        assert min(views_max, policies_max, bytes_max) > 0
        self.folder = folder
        self.views_max = views_max
        self.policies_max = policies_max
        self.bytes_max = bytes_max
        self.bytes_used = 0
        self.failed = 0  # Views that could not be written: explain will call them missing
        self.without_payload = 0  # policies in use whose bytes nobody handed over
        # files by "kind/name"; Views by digest, least recently used first, and the files each names
        self._views: OrderedDict[str, tuple[str, ...]] | None = None
        self._named: Counter[str] = Counter()  # by how many manifests
        self._sizes: dict[str, int] = {}
        self._policies = 0
        self._newest_catalog = ("", "")  # and the checksum of its bytes

    # ---- keeping

    def keep(self, view: View, payloads: Mapping[str, bytes]) -> None:
        """Write what is not there yet; costs a few dictionary look-ups where all is. ``payloads`` by checksum.

        A disk that does not take it is counted and told, never raised: bids go on, explanations suffer."""
        try:
            self._keep(view, payloads)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                self._forget_index()  # somebody cleared the folder: look anew
            self.failed += 1
            log.warning("View %s is not archived, its bids cannot be explained: %s", view.digest, error)

    def _keep(self, view: View, payloads: Mapping[str, bytes]) -> None:
        views = self._index()
        checksums = {agent: held.checksum for agent, held in view.inputs.policies.items()}
        catalog_checksum = self._keep_catalog(view.inputs.catalog)
        for checksum in checksums.values():
            path = _file("policies", checksum)
            if path in self._sizes:
                continue
            if checksum in payloads:
                self._write(path, zlib.compress(payloads[checksum], LEVEL))
            else:
                self.without_payload += 1
        own = _file("views", view.digest)
        if view.digest in views:
            views.move_to_end(view.digest)
            os.utime(self.folder / own)
        else:
            manifest = zlib.compress(msgspec.msgpack.encode(view.manifest()), LEVEL)
            kept = _Kept(view.part.digest, checksums, manifest, catalog_checksum)
            self._write(own, msgspec.msgpack.encode(kept))
            self._name(view.digest, kept)
        while len(views) > 1 and (
            len(views) > self.views_max
            or self._policies > self.policies_max
            or self.bytes_used > self.bytes_max
        ):
            self._forget_oldest()

    def _keep_catalog(self, catalog: Catalog) -> str:
        """The checksum of its bytes as they are on disk."""
        path = _file("catalogs", catalog.digest)
        if self._newest_catalog[0] == path and path in self._sizes:
            return self._newest_catalog[1]
        try:
            raw = zlib.decompress((self.folder / path).read_bytes()) if path in self._sizes else b""
        except zlib.error:
            raw = b""
        if not raw:
            raw = msgspec.msgpack.encode(catalog)
            self._write(path, zlib.compress(raw, LEVEL))
        self._newest_catalog = (path, digest(raw))
        return self._newest_catalog[1]

    def _forget_oldest(self) -> None:
        assert self._views is not None
        name, named = self._views.popitem(last=False)
        self._unlink(_file("views", name))
        for path in named:
            self._named[path] -= 1
            if self._named[path] <= 0:
                del self._named[path]
                self._unlink(path)

    def _write(self, path: str, raw: bytes) -> None:
        write_atomically(self.folder / path, raw)
        self._count(path, len(raw))

    def _count(self, path: str, size: int) -> None:
        self.bytes_used += size - self._sizes.get(path, 0)
        self._policies += path.startswith(POLICIES) and path not in self._sizes
        self._sizes[path] = size

    def _unlink(self, path: str) -> None:
        size = self._sizes.pop(path, None)
        if size is not None:
            self.bytes_used -= size
            self._policies -= path.startswith(POLICIES)
            (self.folder / path).unlink(missing_ok=True)

    def _name(self, view_digest: str, kept: _Kept) -> None:
        assert self._views is not None
        named = (
            _file("catalogs", kept.catalog_digest),
            *(_file("policies", checksum) for checksum in sorted(set(kept.policy_checksums.values()))),
        )
        named = tuple(sys.intern(path) for path in named)  # shared by thousands of manifests
        self._views[view_digest] = named
        self._named.update(named)

    def _index(self) -> OrderedDict[str, tuple[str, ...]]:
        """What is there, read once. What no manifest names is left from a crash and goes."""
        if self._views is None:
            self._views = OrderedDict()
            try:
                self._scan(self._views)
            except OSError:  # half an index would forget what it did not see
                self._forget_index()
                raise
        return self._views

    def _forget_index(self) -> None:
        self._views = None
        self._named.clear()
        self._sizes.clear()
        self.bytes_used = self._policies = 0

    def _scan(self, views: OrderedDict[str, tuple[str, ...]]) -> None:
        found: list[tuple[int, str]] = []
        for kind in ("catalogs", "policies", "views"):
            (self.folder / kind).mkdir(parents=True, exist_ok=True)
            for entry in os.scandir(self.folder / kind):
                if _NAME.fullmatch(entry.name) is None:  # torn, or none of ours
                    if entry.name.startswith(".") and entry.name.endswith(".part"):
                        os.unlink(entry.path)
                    continue
                about = entry.stat()
                self._count(f"{kind}/{entry.name}", about.st_size)
                if kind == "views":
                    found.append((about.st_mtime_ns, entry.name))
        for _, name in sorted(found):
            try:
                self._name(name, _KEPT.decode((self.folder / "views" / name).read_bytes()))
            except (msgspec.DecodeError, ValueError):
                views[name] = ()  # told as damaged until its turn comes
        for path in [
            path for path in self._sizes if not path.startswith("views/") and path not in self._named
        ]:
            self._unlink(path)

    # ---- reading

    def view(self, view_digest: str) -> View:
        """Make the View of this digest again. Raises :class:`ArchiveMissing` that names the input that is gone or is not
        what it was."""
        manifest, catalog_checksum = self._manifest(view_digest)
        catalog = self._catalog(manifest.catalog_digest, catalog_checksum)
        policies = {
            agent: self._policy(agent, checksum, catalog)
            for agent, checksum in manifest.policy_checksums.items()
        }
        inputs = ViewInputs(
            catalog=catalog,
            experiment=manifest.experiment,
            policies=policies,
            settings=manifest.settings,
            stops=frozenset(manifest.stops),
            quarantined=frozenset(manifest.quarantined),
        )
        try:
            view = compile_view(inputs)
        except ConfigError as error:
            raise _damaged("manifest", f"the manifest of View {view_digest} is damaged: {error}") from error
        if view.digest != view_digest:
            raise _damaged(
                "manifest",
                f"the manifest of View {view_digest} was changed: what it names makes View {view.digest}",
            )
        return view

    def _manifest(self, view_digest: str) -> tuple[ViewManifest, str]:
        raw = self._read("views", view_digest)
        if raw is None:
            raise ArchiveMissing(
                "manifest",
                f"the manifest of View {view_digest} is not in {self.folder / 'views'}: never written (a full disk is told "
                f"in the bidder's log), or gone because newer Views took its place",
            )
        try:
            kept = _KEPT.decode(raw)
            return _MANIFEST.decode(zlib.decompress(kept.manifest)), kept.catalog_checksum
        except (msgspec.DecodeError, zlib.error) as error:
            raise _damaged("manifest", f"the manifest of View {view_digest} is damaged: {error}") from error

    def _catalog(self, catalog_digest: str, checksum: str) -> Catalog:
        raw = self._read("catalogs", catalog_digest)
        if raw is None:
            raise ArchiveMissing(
                "catalog", f"the catalog {catalog_digest} is not in {self.folder / 'catalogs'} any more"
            )
        try:
            payload = zlib.decompress(raw)
            catalog = _CATALOG.decode(payload)
        except (msgspec.DecodeError, zlib.error) as error:
            raise _damaged("catalog", f"the catalog {catalog_digest} is damaged: {error}") from error
        if digest(payload) != checksum or catalog.digest != catalog_digest:
            raise _damaged(
                "catalog", f"the catalog {catalog_digest} was changed: its bytes do not fit their checksum"
            )
        return catalog

    def _policy(self, agent: str, checksum: str, catalog: Catalog) -> HeldPolicy:
        raw = self._read("policies", checksum)
        if raw is None:
            raise ArchiveMissing(
                "policy",
                f"the {agent} policy with checksum {checksum} is not in {self.folder / 'policies'} any more",
                agent,
            )
        try:
            payload = zlib.decompress(raw)
            if digest(payload) != checksum:
                raise _damaged(
                    "policy",
                    f"the {agent} policy was changed: its bytes do not fit the checksum {checksum}",
                    agent,
                )
            return HeldPolicy(agent, decode_policy(agent, payload, catalog), checksum)
        except (PolicyRefused, zlib.error) as error:
            raise _damaged(
                "policy", f"the {agent} policy with checksum {checksum} is damaged: {error}", agent
            ) from error

    def _read(self, kind: str, name: str) -> bytes | None:
        return read_bytes(self.folder / kind / name) if _NAME.fullmatch(name) else None

    # ---- for whoever looks

    def digests(self) -> Iterable[str]:
        """Views that are there, least recently used first."""
        return tuple(self._index())


def _damaged(what: str, why: str, agent: str = "") -> ArchiveMissing:
    return ArchiveMissing(what, why, agent, damaged=True)


def _file(kind: str, name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"not the name of anything in the archive: {name!r}")
    return f"{kind}/{name}"
