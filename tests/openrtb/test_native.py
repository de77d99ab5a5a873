from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.errors import InvalidRequest
from counterpoint.openrtb.markup import TrackingUrls
from counterpoint.openrtb.native import (
    NativeImage,
    NativeMarkup,
    NativeMisfit,
    NativePlan,
    NativeValues,
)
from counterpoint.openrtb.request import decode_request
from tests.openrtb.corpora import request_bodies, request_files

URLS = TrackingUrls("https://t.example/c?a=1&b=2", "https://t.example/i?a=1")
VALUES = NativeValues(
    title='Twenty "five" chars here.',
    mains=(
        NativeImage("https://cdn.example/m.jpg", 1200, 627),
        NativeImage("https://cdn.example/s.jpg", 300, 250),
    ),
    icons=(NativeImage("https://cdn.example/i.png", 80, 80),),
    description="A short description",
    sponsored="Brand",
    cta="Buy",
    rating="4.5",
    video_vast_url="https://tag.example/vast",
)
TITLE = {"id": 1, "required": 1, "title": {"len": 25}}


def answer(request: Any, ver: str = "", secure: bool = False) -> dict[str, Any] | NativeMisfit:
    text = request if isinstance(request, str) else msgspec.json.encode(request).decode()
    plan = NativeMarkup(VALUES).plan(text, ver, secure=secure)
    if isinstance(plan, NativeMisfit):
        return plan
    decoded: dict[str, Any] = msgspec.json.decode(plan.render(URLS))
    return decoded


def assets(*asked: dict[str, Any]) -> dict[str, Any]:
    return {"ver": "1.2", "assets": list(asked)}


def test_everything_at_once() -> None:
    got = answer(
        {
            **assets(
                TITLE,
                {"id": 2, "required": 1, "img": {"type": 3, "wmin": 600, "hmin": 300}},
                {"id": 3, "img": {"type": 1, "w": 80, "h": 80}},
                {"id": 4, "required": 1, "data": {"type": 1, "len": 25}},
                {"id": 5, "data": {"type": 12}},
                {"id": 6, "required": 1, "video": {"mimes": ["video/mp4"], "protocols": [2, 5]}},
                {"id": 7, "data": {"type": 6}},
            ),
            "eventtrackers": [{"event": 1, "methods": [1, 2]}],
        }
    )
    assert isinstance(got, dict)
    assert got["ver"] == "1.2"
    assert [a["id"] for a in got["assets"]] == [1, 2, 3, 4, 5, 6]
    assert got["assets"][0] == {"id": 1, "required": 1, "title": {"text": VALUES.title, "len": 25}}
    assert got["assets"][1]["img"] == {"type": 3, "url": "https://cdn.example/m.jpg", "w": 1200, "h": 627}
    assert got["assets"][3]["data"]["value"] == "Brand"
    assert "https://tag.example/vast" in got["assets"][5]["video"]["vasttag"]
    assert got["link"] == {"url": URLS.click}
    assert got["eventtrackers"] == [{"event": 1, "method": 1, "url": URLS.impression}]
    assert "imptrackers" not in got


@pytest.mark.parametrize("offered", [[], [{"event": 1, "methods": [2]}], [{"event": 2, "methods": [1]}]])
def test_without_image_trackers_offered_the_old_way(offered: list[dict[str, Any]]) -> None:
    got = answer({**assets(TITLE), "eventtrackers": offered})
    assert isinstance(got, dict)
    assert got["imptrackers"] == [URLS.impression]
    assert "eventtrackers" not in got


@pytest.mark.parametrize(
    ("request_ver", "imp_ver", "wrap", "wrapped"),
    [
        ("1.0", "", True, True),
        ("1", "1.2", True, True),
        ("1.0", "", False, True),
        ("1.2", "", True, False),
        ("", "1.1", True, False),
        ("", "", True, True),
        ("", "", False, False),
        ("", "1.0", False, True),
    ],
)
def test_wrapped_as_the_version_says_else_as_it_came(
    request_ver: str, imp_ver: str, wrap: bool, wrapped: bool
) -> None:
    inner = {"ver": request_ver, "assets": [TITLE]}
    got = answer({"native": inner} if wrap else inner, imp_ver)
    assert isinstance(got, dict)
    assert ("native" in got) is wrapped


@pytest.mark.parametrize(
    "asked",
    [
        {"id": 1, "required": 1, "title": {"len": 24}},
        {"id": 1, "required": 1, "img": {"type": 3, "w": 999, "h": 627}},
        {"id": 1, "required": 1, "img": {"type": 3, "wmin": 1300}},
        {"id": 1, "required": 1, "img": {"type": 1, "w": 50, "h": 50}},
        {"id": 1, "required": 1, "img": {"type": 501}},
        {"id": 1, "required": 1, "data": {"type": 2, "len": 5}},
        {"id": 1, "required": 1, "data": {"type": 6}},
        {"id": 1, "required": 1, "video": {"protocols": [2, 3]}},
        {"id": 1, "required": 1},
        {"required": 1, "title": {"len": 90}},
        {"id": 1, "data": {"type": 6}},
    ],
)
def test_what_does_not_fit_says_why(asked: dict[str, Any]) -> None:
    got = answer(assets(asked))
    assert isinstance(got, NativeMisfit)
    assert got.why


def test_a_minimum_of_zero_is_none() -> None:
    got = answer(
        assets({"id": 1, "required": 1, "img": {"type": 3, "w": 300, "h": 250, "wmin": 0, "hmin": 0}})
    )
    assert isinstance(got, dict)
    assert got["assets"][0]["img"]["url"] == "https://cdn.example/s.jpg"


def test_secure_leaves_insecure_images_out() -> None:
    values = NativeValues(title="T", mains=(NativeImage("http://cdn.example/m.jpg", 10, 10),))
    text = '{"assets":[{"id":1,"required":1,"img":{"type":3}}]}'
    assert isinstance(NativeMarkup(values).plan(text), NativePlan)
    assert isinstance(NativeMarkup(values).plan(text, secure=True), NativeMisfit)


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "7", "{}", '{"assets":[]}', '{"native":{}}', '{"assets":7}', "[" * 9_000]
)
def test_what_is_no_native_request(text: str) -> None:
    markup = NativeMarkup(VALUES)
    for _ in range(2):  # remembered, too
        with pytest.raises(InvalidRequest):
            markup.plan(text)


def test_tolerance() -> None:
    twice = msgspec.json.encode(msgspec.json.encode(assets(TITLE)).decode()).decode()
    for text in (
        twice,
        '{"ver":1.2,"assets":[{"id":"1","required":true,"title":{"len":"25"}},"x"]}',
        '{"ver":"1.2","assets":{"id":1,"title":{}}}',
    ):
        got = answer(text)
        assert isinstance(got, dict)
        assert got["ver"] == "1.2"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 2_000) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "native",
                        "assets",
                        "id",
                        "required",
                        "title",
                        "img",
                        "data",
                        "video",
                        "len",
                        "type",
                        "w",
                        "h",
                        "wmin",
                        "ver",
                        "eventtrackers",
                    ]
                ),
                inner,
                max_size=6,
            )
        ),
        max_leaves=20,
    )
)
@settings(max_examples=300, deadline=None)
def test_any_json_is_answered_or_refused(plain: Any) -> None:
    try:
        plan = NativeMarkup(VALUES).plan(msgspec.json.encode(plain).decode())
    except InvalidRequest:
        return
    if isinstance(plan, NativePlan):
        msgspec.json.decode(plan.render(URLS))


def test_memory_is_bounded() -> None:
    markup = NativeMarkup(VALUES)
    for length in range(25, 600):
        markup.plan(msgspec.json.encode(assets({**TITLE, "title": {"len": length}})).decode())
    assert len(markup._plans) <= 256


def asked_assets(text: str) -> list[dict[str, Any]]:
    plain = msgspec.json.decode(text)
    found = plain.get("native", plain)["assets"]
    return [a for a in found if isinstance(a, dict)]


@pytest.mark.parametrize("name", request_files())
def test_every_native_request_of_the_corpora_is_answered_in_full_or_refused(name: str) -> None:
    markup = NativeMarkup(VALUES)
    answered = refused = 0
    for _, body in request_bodies(name):
        try:
            request = decode_request(msgspec.json.encode(body))
        except InvalidRequest:
            continue
        for imp in request.imp:
            if imp.native is None or not imp.native.request:
                continue
            try:
                plan = markup.plan(imp.native.request_text, imp.native.ver)
            except InvalidRequest:
                refused += 1
                continue
            if isinstance(plan, NativeMisfit):
                refused += 1
                continue
            answered += 1
            got = msgspec.json.decode(plan.render(URLS))
            got = got.get("native", got)
            assert got["link"]["url"] == URLS.click
            given = {a["id"]: a for a in got["assets"]}
            for asked in asked_assets(imp.native.request_text):
                if asked.get("required") == 1:
                    ours = given[asked["id"]]
                    kind = next(k for k in ("title", "img", "data", "video") if k in asked)
                    assert kind in ours
                    limit = asked[kind].get("len")
                    if limit and kind in ("title", "data"):
                        assert len(ours[kind].get("text", ours[kind].get("value"))) <= limit
    if name in ("bidder_requests.jsonl", "exchange_inbound_requests.jsonl"):
        assert answered >= 25, (answered, refused)
