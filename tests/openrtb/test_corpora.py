"""Every third-party request is read; refused are only those that lack what is required."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from counterpoint.base.errors import InvalidRequest
from counterpoint.openrtb.nobid import NoBidReason, screen, screen_imp
from counterpoint.openrtb.request import decode_request
from tests.openrtb.corpora import need, records, request_bodies, request_files


def lacks_what_is_required(body: Any) -> bool:
    def is_id(value: Any) -> bool:
        return (isinstance(value, str) and value != "") or (type(value) in (int, float))

    if not isinstance(body, dict) or not is_id(body.get("id")):
        return True
    imps = body.get("imp")
    return not isinstance(imps, list) or not any(isinstance(i, dict) and is_id(i.get("id")) for i in imps)


@pytest.mark.parametrize("name", [*request_files(), "spec_examples.jsonl"])
def test_read_or_refused_with_reason(name: str) -> None:
    seen = 0
    for record, body in request_bodies(name):
        seen += 1
        where = record.get("key", record.get("section", seen))
        try:
            request = decode_request(msgspec.json.encode(body))
        except InvalidRequest:
            assert lacks_what_is_required(body), where
            continue
        assert not lacks_what_is_required(body), where
        sent = {str(i["id"]) for i in body["imp"] if isinstance(i, dict) and "id" in i}
        assert {i.id for i in request.imp} <= sent
        assert len(request.imp) + request.imps_unsound == len(body["imp"]), where
    assert seen > 0


@pytest.mark.parametrize("name", request_files())
def test_most_of_what_is_sound_may_be_answered(name: str) -> None:
    sound = open_to_us = 0
    for record, body in request_bodies(name):
        if record.get("issues") != []:
            continue
        sound += 1
        request = decode_request(msgspec.json.encode(body))
        if screen(request) is None:
            open_to_us += any(not isinstance(screen_imp(imp), NoBidReason) for imp in request.imp)
    if sound:
        assert open_to_us >= 0.7 * sound


def test_the_raw_text_of_broken_captures_is_refused() -> None:
    for record in records("captured_requests.jsonl"):
        if "raw" in record:
            with pytest.raises(InvalidRequest):
                decode_request(str(record["raw"]).encode())


def test_enumerations_agree_with_the_lists() -> None:
    lists = msgspec.json.decode(need("adcom_lists.json").read_bytes())["lists"]
    name = next(n for n in lists if n.lower().startswith("no-bid") or "no-bid" in n.lower())
    known = {int(entry["value"]) for entry in lists[name] if entry["value"].isdigit()}
    assert {reason.nbr for reason in NoBidReason} <= known
