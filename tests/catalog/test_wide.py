"""The wide example has something for nearly every sound recorded request; floors, deals and currencies left aside."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from counterpoint.catalog.index import (
    AvOffer,
    BannerOffer,
    ImageAsset,
    NativeOffer,
    compile_index,
    fill_fit,
    fill_query,
)
from counterpoint.catalog.load import load_catalog
from counterpoint.catalog.model import Media

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("COUNTERPOINT_SHARED", ROOT.parent / "shared")) / "openrtb"
WIDE = load_catalog(ROOT / "examples" / "catalogs" / "wide.toml")


def test_every_medium_has_five_creatives_of_distinct_advertisers_and_categories() -> None:
    for medium in Media:
        made = [c for c in WIDE.creatives if c.media is medium]
        assert len({c.advertiser_id for c in made}) >= 5
        assert len({c.categories for c in made}) >= 5


def _ints(value: Any) -> tuple[int, ...]:
    return tuple(v for v in value if isinstance(v, int)) if isinstance(value, list) else ()


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(v) for v in value) if isinstance(value, list) else ()


def _int(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _banner(imp: dict[str, Any]) -> BannerOffer | None:
    banner = imp.get("banner")
    if not isinstance(banner, dict):
        return None
    sizes = [
        (_int(f.get("w")), _int(f.get("h"))) for f in banner.get("format") or [banner] if isinstance(f, dict)
    ]
    return BannerOffer(
        sizes=tuple(sizes),
        mimes=_texts(banner.get("mimes")),
        battr=_ints(banner.get("battr")),
        btype=_ints(banner.get("btype")),
        api=_ints(banner.get("api")),
    )


def _av(offer: Any) -> AvOffer | None:
    if not isinstance(offer, dict):
        return None
    return AvOffer(
        mimes=_texts(offer.get("mimes")),
        protocols=_ints(offer.get("protocols")),
        min_s=_int(offer.get("minduration")),
        max_s=_int(offer.get("maxduration")) or None,
        battr=_ints(offer.get("battr")),
        api=_ints(offer.get("api")),
        skip=offer.get("skip") == 1,
        linearity=offer.get("linearity"),
        min_kbps=_int(offer.get("minbitrate")),
        max_kbps=_int(offer.get("maxbitrate")) or None,
    )


def _native(imp: dict[str, Any]) -> NativeOffer | None:
    native = imp.get("native")
    if not isinstance(native, dict):
        return None
    asked = native.get("request")
    try:
        asked = json.loads(asked) if isinstance(asked, str) else asked
    except ValueError:
        return None
    asked = asked.get("native", asked) if isinstance(asked, dict) else {}
    title: int | None = None
    images: list[ImageAsset] = []
    data: list[tuple[int, int]] = []
    video: AvOffer | None = None
    for asset in asked.get("assets") or []:
        if not isinstance(asset, dict) or not asset.get("required"):
            continue
        if "title" in asset:
            title = _int(asset["title"].get("len"))
        elif "img" in asset:
            each = asset["img"]
            numbers = {key: _int(each.get(key)) for key in ("w", "h", "wmin", "hmin")}
            images.append(
                ImageAsset(type=_int(each.get("type")) or 3, mimes=_texts(each.get("mimes")), **numbers)
            )
        elif "data" in asset:
            data.append((_int(asset["data"].get("type")), _int(asset["data"].get("len"))))
        elif "video" in asset:
            video = _av(asset["video"])
    return NativeOffer(title_len=title, images=tuple(images), data=tuple(data), video=video)


@pytest.mark.parametrize("name", ["bidder_requests", "exchange_inbound_requests", "captured_requests"])
def test_sound_recorded_requests_find_a_creative(name: str) -> None:
    path = SHARED / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"recorded requests are not there: {path}")
    index = compile_index(WIDE)
    query, fit, scratch = index.new_query(), index.new_fit(), index.new_scratch()
    sound = served = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record.get("kind", "request") != "request" or record.get("issues"):
            continue
        body = record.get("body", record)
        sound += 1
        allowed = index.allowed_creatives(
            bcat=_texts(body.get("bcat")), cattax=body.get("cattax") or 1, badv=_texts(body.get("badv"))
        )
        for imp in body.get("imp") or []:
            banner, native = _banner(imp), _native(imp)
            video, audio = _av(imp.get("video")), _av(imp.get("audio"))
            offers = (banner, video, audio, native)
            fill_query(
                index,
                query,
                exchange="corpus",
                media=[medium for medium, offer in zip(Media, offers, strict=True) if offer is not None],
                sizes=banner.sizes if banner is not None else (),
                hour_of_week=0,
                now_ns=1,
            )
            n = index.eligible(query, scratch)
            fill_fit(
                index,
                fit,
                banner=banner,
                video=video,
                audio=audio,
                native=native,
                secure=imp.get("secure") == 1,
            )
            if index.fitting(n, fit, scratch, allowed):
                served += 1
                break
    assert sound > 20
    assert served >= 0.85 * sound, f"{served} of {sound}"
