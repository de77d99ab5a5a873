"""The HMAC keys of notice and tracking URLs: several are accepted, one signs, none is ever a default.

File (mode 0600, made by ``counterpoint keys new``) or environment variable ``COUNTERPOINT_HMAC_KEYS``, both JSON::

    {"signs": 2, "keys": {"1": "<base64, 32 bytes or more>", "2": "..."}}

Rotation: ``rotate`` adds a key that signs from then on and keeps the newest ``KEYS_KEPT``. A key must stay accepted
for the longest notice life after it last signed: a notice under a dropped key cannot be booked.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from counterpoint.base.errors import ConfigError
from counterpoint.base.files import write_atomically

ENVIRONMENT = "COUNTERPOINT_HMAC_KEYS"
KEY_BYTES_MIN = 32
KEY_BYTES_MAX = 64  # the most that keyed BLAKE2b takes
KEY_ID_MAX = 255
KEYS_KEPT = 4
CURE = "Make one with 'counterpoint keys new'"


class _KeyFile(Struct, forbid_unknown_fields=True):
    signs: int
    keys: dict[str, str]


class KeyRing(Struct, frozen=True):
    """``keys`` by id 1..255, all accepted; ``signs`` is the one new URLs are signed with."""

    signs: int
    keys: dict[int, bytes]


def load_keys(path: Path, environment: Mapping[str, str] | None = None) -> KeyRing:
    """The keys from the environment variable where set, else from the file.

    Raises :class:`ConfigError` that names the cure where there are none, where others may read the file, or where it
    is not what it should be. No message shows any of a key.
    """
    environment = os.environ if environment is None else environment
    text = environment.get(ENVIRONMENT)
    if text is not None:
        return _parse(text.encode(), f"environment variable {ENVIRONMENT}")
    try:
        mode = path.stat().st_mode
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no signing keys. {CURE}, or set {ENVIRONMENT}") from None
    except OSError as error:
        raise ConfigError(f"{path}: signing keys cannot be read: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"{path}: others on this machine may read the signing keys. Run 'chmod 600 {path}'")
    return _parse(raw, str(path))


def _parse(raw: bytes, where: str) -> KeyRing:
    try:
        found = msgspec.json.decode(raw, type=_KeyFile)
    except msgspec.DecodeError:
        raise ConfigError(
            f'{where}: signing keys must be JSON {{"signs": ID, "keys": {{"ID": "base64"}}}}. {CURE}'
        ) from None
    keys: dict[int, bytes] = {}
    for name, text in found.keys.items():
        if not name.isascii() or not name.isdigit() or not 1 <= int(name) <= KEY_ID_MAX:
            raise ConfigError(f"{where}: a key id is a number from 1 to {KEY_ID_MAX}")
        try:
            key = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(f"{where}: key {name} is not base64. {CURE}") from None
        if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
            raise ConfigError(
                f"{where}: key {name} has {len(key)} bytes, {KEY_BYTES_MIN} to {KEY_BYTES_MAX} are needed. {CURE}"
            )
        if len(set(key)) < 8:
            raise ConfigError(f"{where}: key {name} is not random. {CURE}")
        keys[int(name)] = key
    if found.signs not in keys:
        raise ConfigError(f"{where}: 'signs' names key {found.signs}, which is not among 'keys'")
    return KeyRing(found.signs, keys)


def new_keys(path: Path) -> KeyRing:
    """Write a file with one fresh key, mode 0600. Raises :class:`ConfigError` where a file is there already."""
    if path.exists():
        raise ConfigError(
            f"{path} exists already: rotate it instead, or URLs that are out could not be booked"
        )
    ring = KeyRing(1, {1: secrets.token_bytes(KEY_BYTES_MIN)})
    _write(path, ring)
    return ring


def rotate(path: Path) -> KeyRing:
    """Add a fresh key that signs from now on; the newest ``KEYS_KEPT`` stay accepted."""
    old = load_keys(path, {})
    ids = list(old.keys)  # in the order of the file: oldest first
    fresh = next(number for number in range(1, KEY_ID_MAX + 1) if number not in old.keys)
    kept = {number: old.keys[number] for number in ids[-(KEYS_KEPT - 1) :]}
    kept[old.signs] = old.keys[old.signs]
    kept[fresh] = secrets.token_bytes(KEY_BYTES_MIN)
    ring = KeyRing(fresh, kept)
    _write(path, ring)
    return ring


def _write(path: Path, ring: KeyRing) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = _KeyFile(ring.signs, {str(n): base64.b64encode(key).decode() for n, key in ring.keys.items()})
    write_atomically(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n", 0o600)
