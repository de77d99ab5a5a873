"""What a bid must be, checked from the raw request and the raw catalog file alone: shares no code with the bidder."""

from __future__ import annotations

import json
import tomllib
import xml.etree.ElementTree as ET
from decimal import Decimal
from pathlib import Path
from typing import Any

Json = dict[str, Any]
MEDIA = {1: "banner", 2: "video", 3: "audio", 4: "native"}


def number(value: Any) -> Decimal | None:
    """A number as exchanges write it, strings included; None where it is none."""
    try:
        found = Decimal(str(value))
    except ArithmeticError:
        return None
    return found if found.is_finite() else None


def texts(value: Any) -> list[str]:
    return [str(v).strip().lower() for v in value] if isinstance(value, list) else []


class Judge:
    def __init__(self, catalog: Path) -> None:
        raw = tomllib.loads(catalog.read_text())
        self.creatives = {c["id"]: c for c in raw["creative"]}
        self.campaigns = {c["id"]: c for c in raw["campaign"]}
        self.domains = {a["id"]: a["domain"] for a in raw["advertiser"]}
        account = raw.get("account_currency", "USD")
        self.rates = {name: Decimal(rate) for name, rate in raw.get("rates", {}).items()} | {
            account: Decimal(1)
        }

    def faults(self, request: Json, response: Json) -> list[str]:
        """Everything that is wrong with a response; empty when it is right."""
        found: list[str] = []
        if response.get("id") != str(request.get("id")):
            found.append("id is not the request's")
        allowed = [str(c) for c in request.get("cur") or []] or ["USD"]
        if response.get("cur") not in allowed:
            found.append(f"cur {response.get('cur')!r} not in {allowed}")
        seats = list(response.get("seatbid", []))
        if not seats or not all(seat.get("bid") for seat in seats):
            found.append("no bid in seatbid")
        for seat in seats:
            if request.get("wseat") and seat.get("seat") not in request["wseat"]:
                found.append(f"seat {seat.get('seat')!r} not in wseat")
            for bid in seat["bid"]:
                found += [f"{bid.get('id')}: {fault}" for fault in self._bid(request, response, bid)]
        ids = [bid["id"] for seat in seats for bid in seat["bid"]]
        if len(ids) != len(set(ids)):
            found.append("bid ids repeat")
        return found

    def _bid(self, request: Json, response: Json, bid: Json) -> list[str]:
        imps = [
            imp for imp in request["imp"] if isinstance(imp, dict) and str(imp.get("id")) == bid.get("impid")
        ]
        creative = self.creatives.get(bid.get("crid", ""))
        if not imps:
            return [f"impid {bid.get('impid')!r} not in the request"]
        if creative is None:
            return [f"crid {bid.get('crid')!r} not in the catalog"]
        imp, found = imps[0], []
        if bid.get("cid") not in self.campaigns:
            found.append("cid unknown")
        elif self.campaigns[bid["cid"]]["advertiser"] != creative["advertiser"]:
            found.append("creative of another advertiser")
        if bid.get("adomain") != [self.domains[creative["advertiser"]]]:
            found.append(f"adomain {bid.get('adomain')}")
        media = MEDIA.get(bid.get("mtype", 0), "")
        if media != creative["media"]:
            found.append(f"mtype {bid.get('mtype')} for a {creative['media']}")
        if not isinstance(imp.get(media), dict):
            found.append(f"the imp offers no {media}")
            return found
        found += self._floor(imp, response, bid)
        found += self._blocks(request, imp[media], creative, bid)
        found += getattr(self, f"_{media}")(imp, imp[media], creative, bid)
        for key in ("nurl", "adm"):
            if not bid.get(key):
                found.append(f"no {key}")
        return found

    def _floor(self, imp: Json, response: Json, bid: Json) -> list[str]:
        price = number(bid.get("price"))
        if price is None or price <= 0:
            return [f"price {bid.get('price')!r}"]
        floor = number(imp.get("bidfloor") or 0)
        if floor is None:
            return ["a bid on an imp whose floor cannot be read"]
        currency = str(imp.get("bidfloorcur") or "USD").upper()
        if floor and currency not in self.rates:
            return [f"a bid against a floor in {currency}, for which there is no rate"]
        ours = price * self.rates[response["cur"]]
        return (
            [f"price {price} below floor {floor} {currency}"]
            if floor and ours < floor * self.rates[currency]
            else []
        )

    def _blocks(self, request: Json, media: Json, creative: Json, bid: Json) -> list[str]:
        found = []
        for blocked in texts(request.get("bcat")):
            categories = texts(creative.get("categories", []))
            if any(category == blocked or category.startswith(blocked + "-") for category in categories):
                found += [f"blocked category {blocked}"]
        domain = bid["adomain"][0].lower()
        for blocked in texts(request.get("badv")):
            if domain == blocked or domain.endswith("." + blocked):
                found += [f"blocked advertiser {blocked}"]
        attributes = creative.get("attributes")
        blocked_attributes = {int(a) for a in media.get("battr") or [] if str(a).isdigit()}
        if blocked_attributes and (attributes is None or blocked_attributes & set(attributes)):
            found.append("blocked or undeclared attribute")
        if blocked_attributes & set(bid.get("attr", [])):
            found.append("declares a blocked attribute")
        return found

    def _banner(self, imp: Json, banner: Json, creative: Json, bid: Json) -> list[str]:
        sizes = {
            (int(number(f.get("w")) or 0), int(number(f.get("h")) or 0))
            for f in banner.get("format") or []
            if isinstance(f, dict)
        }
        w, h = number(banner.get("w")), number(banner.get("h"))
        if w and h:
            sizes.add((int(w), int(h)))
        declared = tuple(int(part) for part in creative["size"].split("x"))
        found = [] if (bid.get("w"), bid.get("h")) == declared else ["w and h are not the creative's"]
        if declared in sizes:
            return found
        flexible = all(banner.get(key) for key in ("wmin", "hmin")) or imp.get("instl") in (1, "1", True)
        return found if flexible else [*found, f"size {declared} not in {sorted(sizes)}"]

    def _length(self, offer: Json, creative: Json, bid: Json) -> list[str]:
        low, high = number(offer.get("minduration") or 0), number(offer.get("maxduration") or 10**9)
        seconds = Decimal(bid.get("dur") or 0)
        if low is None or high is None or not low <= seconds <= high:
            return [f"dur {seconds} outside {low}..{high}"]
        return []

    def _files(self, offer: Json, bid: Json) -> list[str]:
        root = ET.fromstring(bid["adm"])
        mimes = texts(offer.get("mimes"))
        found = [
            f"media file of type {file.get('type')} not in {mimes}"
            for file in root.iter("MediaFile")
            if mimes and str(file.get("type")).lower() not in mimes
        ]
        if not list(root.iter("MediaFile")):
            found.append("VAST without a media file")
        protocols = {int(p) for p in offer.get("protocols") or [] if str(p).isdigit()}
        if protocols and bid.get("protocol") not in protocols:
            found.append(f"protocol {bid.get('protocol')} not in {sorted(protocols)}")
        return found

    def _video(self, imp: Json, video: Json, creative: Json, bid: Json) -> list[str]:
        return self._length(video, creative, bid) + self._files(video, bid)

    def _audio(self, imp: Json, audio: Json, creative: Json, bid: Json) -> list[str]:
        return self._length(audio, creative, bid) + self._files(audio, bid)

    def _native(self, imp: Json, native: Json, creative: Json, bid: Json) -> list[str]:
        asked = native.get("request")
        document: Json = json.loads(asked) if isinstance(asked, str) else dict(asked or {})
        document = document.get("native", document)
        answer = json.loads(bid["adm"])
        answer = answer.get("native", answer)
        given = {asset.get("id"): asset for asset in answer.get("assets", [])}
        found = [] if answer.get("link", {}).get("url") else ["no link.url"]
        for asset in document.get("assets", []):
            given_asset = given.get(asset.get("id"))
            if given_asset is None:
                if asset.get("required") == 1:
                    found.append(f"required asset {asset.get('id')} is missing")
                continue
            title_max = (asset.get("title") or {}).get("len")
            if title_max and len(given_asset.get("title", {}).get("text", "")) > title_max:
                found.append("title too long")
            data_max = (asset.get("data") or {}).get("len")
            if data_max and len(given_asset.get("data", {}).get("value", "")) > data_max:
                found.append("data too long")
        return found
