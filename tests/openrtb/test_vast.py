from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.openrtb.markup import MarkupError, TrackingUrls
from counterpoint.openrtb.vast import (
    EVENTS,
    VERSION_BY_PROTOCOL,
    VastMarkup,
    VastMedia,
    choose_protocol,
    fitting_files,
    skip_offset_s,
    vast_wrapper,
)

URLS = TrackingUrls(
    "https://t.example/c?b=1&x=<y>", "https://t.example/i?b=1&z=2", "https://t.example/e?b=1&e="
)
FILES = (
    VastMedia("https://cdn.example/a.mp4", "video/mp4", 640, 360, 800),
    VastMedia("https://cdn.example/a.webm?x=1&y=2", "video/webm", 640, 360, 400),
)


def video(title: str = "A & B", files: tuple[VastMedia, ...] = FILES) -> VastMarkup:
    return VastMarkup(creative_id='cr"1', title=title, duration_s=30, files=files)


def tree(xml: str) -> ElementTree.Element:
    root = ElementTree.fromstring(xml)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # the namespace came with 4.1
    return root


def text_of(root: ElementTree.Element, path: str) -> str:
    found = root.find(path)
    assert found is not None, path
    return found.text or ""


@pytest.mark.parametrize("protocol", VERSION_BY_PROTOCOL)
def test_a_document_of_every_version(protocol: int) -> None:
    version = VERSION_BY_PROTOCOL[protocol]
    root = tree(video().render(URLS, "bid<1>", protocol=protocol, skip_after_s=5))
    assert root.get("version") == version
    inline = root.find("Ad/InLine")
    assert inline is not None
    names = [child.tag for child in inline]
    if version < "4":
        assert names == ["AdSystem", "AdTitle", "Impression", "Creatives"]
    elif version == "4.0":
        assert names == ["AdSystem", "Impression", "AdTitle", "Creatives"]
    else:
        assert names == ["AdSystem", "Impression", "AdServingId", "AdTitle", "Creatives"]
        assert text_of(inline, "AdServingId") == "bid<1>"
    assert text_of(inline, "AdTitle") == "A & B"
    assert text_of(inline, "Impression") == URLS.impression
    linear = inline.find("Creatives/Creative/Linear")
    assert linear is not None
    assert linear.get("skipoffset") == ("00:00:05" if version >= "3" else None)
    assert text_of(linear, "Duration") == "00:00:30"
    assert text_of(linear, "VideoClicks/ClickThrough") == "https://t.example/c?b=1&x=%3Cy%3E"
    expected = (
        ["TrackingEvents", "Duration", "MediaFiles", "VideoClicks"]
        if version >= "4"
        else ["Duration", "TrackingEvents", "VideoClicks", "MediaFiles"]
    )
    assert [child.tag for child in linear] == [t for t in expected if t != "TrackingEvents" or version >= "3"]
    events = {t.get("event"): t.text for t in linear.iter("Tracking")}
    assert events == ({name: URLS.event + name for name in EVENTS} if version >= "3" else {})
    files = [(m.get("type"), m.get("width"), m.get("bitrate"), m.text) for m in linear.iter("MediaFile")]
    assert files == [("video/mp4", "640", "800", FILES[0].url), ("video/webm", "640", "400", FILES[1].url)]
    assert len(list(root.iter("UniversalAdId"))) == (1 if version >= "4" else 0)


def test_audio_says_so_where_it_can() -> None:
    audio = VastMarkup(
        creative_id="a",
        title="",
        duration_s=15,
        files=[VastMedia("https://c.example/a.mp3", "audio/mpeg")],
        audio=True,
    )
    ad = tree(audio.render(URLS, "b", protocol=11)).find("Ad")
    assert ad is not None
    assert ad.get("adType") == "audio"
    older = tree(audio.render(URLS, "b", protocol=3))
    media = older.find(".//MediaFile")
    assert media is not None
    assert (media.get("width"), media.get("height")) == ("0", "0")
    assert text_of(older, ".//AdTitle") == "a"


def test_without_an_event_url_no_events() -> None:
    urls = TrackingUrls(URLS.click, URLS.impression)
    assert "Tracking" not in video().render(urls, "b", protocol=3)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_title_and_url_is_well_formed(title: str, tail: str) -> None:
    url = "https://t.example/" + tail
    files = (VastMedia(url, "video/mp4"),)
    root = tree(video(title, files).render(TrackingUrls(url, url, url), title, protocol=13))
    assert len(list(root.iter("MediaFile"))) == 1


def test_a_linear_ad_needs_a_duration_and_a_file() -> None:
    with pytest.raises(MarkupError):
        VastMarkup(creative_id="x", title="", duration_s=0, files=FILES)
    with pytest.raises(MarkupError):
        VastMarkup(creative_id="x", title="", duration_s=1, files=())


def test_only_fitting_files_are_named() -> None:
    assert fitting_files(FILES, ["VIDEO/MP4"]) == FILES[:1]
    assert fitting_files(FILES, ["video/mp4", "video/webm"], bitrate_max=500) == FILES[1:]
    assert fitting_files(FILES, ["video/mp4", "video/webm"], bitrate_min=500) == FILES[:1]
    assert fitting_files(FILES, ["audio/mpeg"]) == ()
    insecure = VastMedia("http://cdn.example/a.mp4", "video/mp4")
    assert fitting_files([insecure], ["video/mp4"], secure=True) == ()
    one = video()
    root = tree(one.render(URLS, "b", protocol=3, files=fitting_files(one.files, ["video/webm"])))
    assert [m.get("type") for m in root.iter("MediaFile")] == ["video/webm"]


@pytest.mark.parametrize(
    ("offered", "able", "protocol"),
    [
        ([], [], 3),
        ([], [7], 7),
        ([1, 2, 3, 4, 5, 6], [], 3),
        ([2, 5], [], 2),
        ([3, 7, 11, 13], [], 13),
        ([15], [], 15),
        ([13, 3], [2, 3], 3),
        ([1], [], None),
        ([4, 5, 6], [], None),
        ([9, 10], [], None),
        ([13], [2, 3], None),
        ([4711], [], None),
    ],
)
def test_the_version_is_one_of_those_offered(
    offered: list[int], able: list[int], protocol: int | None
) -> None:
    assert choose_protocol(offered, able) == protocol


def test_a_skip_button_of_our_own_only_where_nobody_else_decides() -> None:
    def offset(skippable: bool = True, skip: int | None = None, battr: tuple[int, ...] = ()) -> int | None:
        return skip_offset_s(skippable, 5, offered_skip=skip, battr=battr, duration_s=30)

    assert offset() == 5
    assert offset(skippable=False) is None
    assert offset(skip=1) is None
    assert offset(skip=0) is None
    assert offset(battr=(16,)) is None
    assert skip_offset_s(True, 5, offered_skip=None, battr=(), duration_s=5) is None
    assert skip_offset_s(True, 5, offered_skip=None, battr=(), duration_s=30, protocol=2) is None


def test_a_wrapper_parses() -> None:
    root = tree(vast_wrapper("https://tag.example/v?a=1&b=2"))
    assert text_of(root, "Ad/Wrapper/VASTAdTagURI") == "https://tag.example/v?a=1&b=2"


def test_templates_are_bounded() -> None:
    one = video()
    for skip in range(1, 200):
        one.render(URLS, "b", protocol=3, skip_after_s=skip)
    assert len(one._templates) <= 64
