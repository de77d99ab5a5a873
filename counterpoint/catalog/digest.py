"""The name of a catalog's content: equal content, equal digest, whatever file, order of keys or database it came from."""

from __future__ import annotations

import msgspec

from counterpoint.base.ids import digest
from counterpoint.catalog.model import Catalog

_ENCODER = msgspec.msgpack.Encoder(
    order="deterministic"
)  # dict keys sorted, so insertion order is no content


def encode(value: object) -> bytes:
    """A struct of the catalog as canonical msgpack."""
    return _ENCODER.encode(value)


def seal(catalog: Catalog) -> Catalog:
    """The same catalog with its ``digest`` set."""
    bare = msgspec.structs.replace(catalog, digest="")
    return msgspec.structs.replace(catalog, digest=digest(encode(bare)))
