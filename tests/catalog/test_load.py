"""A catalog file: what it means, and for every mistake the file, the line and the cure."""

from __future__ import annotations

import json
import runpy
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.errors import ConfigError
from counterpoint.catalog.load import CatalogError, check_catalog, load_catalog
from counterpoint.catalog.model import Catalog, FrequencyCap, Goal, Media, Settles

SOUND = """\
account_currency = "USD"

[rates]
EUR = "1.08"

[[advertiser]]
id = "acme"
name = "Acme"
domain = "acme.example"
conversion_token = "t"

[[advertiser]]
id = "other"
name = "Other"
domain = "other.example"

[[pool]]
id = "pool"
advertiser = "acme"

[[campaign]]
id = "spring"
advertiser = "acme"
name = "Spring"
daily_budget = "100.00"
pool = "pool"
budget_min = 10
budget_max = "150.5"
starts_at = 2026-03-01T00:00:00Z
ends_at = "2026-04-01T00:00:00+02:00"
goal = "clicks"
target_cpc = "0.25"
reach_weight = 0.3
bid_ceiling_cpm = "12.345678"

[[campaign]]
id = "autumn"
advertiser = "acme"
name = "Autumn"
daily_budget = 50
pool = "pool"
goal = "value"
target_roas = "4.5"
paused = true

[[line_item]]
id = "banner"
campaign = "spring"
creatives = ["red", "film"]
bid_min_cpm = "0.10"
bid_max_cpm = "9"
frequency_cap = { impressions = 3, window_s = 86400 }
unknown_user = "no_bid"
expected_click_rate = 0.002
  [line_item.targeting]
  exchanges = ["north"]
  media = ["banner"]
  sizes = ["300x250"]
  countries = ["USA", "DEU"]
  regions = ["USA-CA"]
  device_types = [2, 4]
  domains = ["example.com"]
  categories = ["IAB1", "IAB2-1"]
  hours_utc = [0, 167]

[[creative]]
id = "red"
advertiser = "acme"
media = "banner"
click_url = "https://acme.example/"
size = "300x250"
image_url = "https://cdn.example/red.png"
categories = ["IAB18"]
attributes = []
features = { colour = "red" }

[[creative]]
id = "film"
advertiser = "acme"
media = "video"
click_url = "https://acme.example/"
duration_s = 15
protocols = [2, 3]
categories = ["IAB18"]
attributes = [6]
files = [
  { url = "https://cdn.example/f.mp4", mime = "video/mp4", w = 640, h = 360, bitrate_kbps = 800 },
]

[[creative]]
id = "card"
advertiser = "acme"
media = "native"
click_url = "https://acme.example/"
categories = ["IAB18"]
attributes = []
  [creative.native]
  title = "Hello"
  main_url = "https://cdn.example/m.jpg"
  main_size = "1200x627"

[[exchange]]
id = "north"
seat = "s"
currency = "EUR"
settles = { banner = "win" }
"""


def written(folder: Path, text: str, name: str = "catalog.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def mistakes(folder: Path, text: str, name: str = "catalog.toml") -> list[tuple[int, str]]:
    with pytest.raises(CatalogError) as caught:
        load_catalog(written(folder, text, name))
    assert isinstance(caught.value, ConfigError)
    assert str(folder) in str(caught.value)
    return [(found.line, found.text) for found in caught.value.problems]


def line_of(text: str, fragment: str) -> int:
    assert text.count(fragment) == 1, fragment
    return text[: text.index(fragment)].count("\n") + 1


def test_a_sound_file_means_what_it_says(tmp_path: Path) -> None:
    loaded = check_catalog(written(tmp_path, SOUND))
    assert loaded.warnings == ()
    catalog = loaded.catalog
    spring, autumn = catalog.campaigns
    assert spring.daily_budget_micros == 100_000_000
    assert (spring.budget_min_micros, spring.budget_max_micros) == (10_000_000, 150_500_000)
    assert spring.starts_at_ns == 1_772_323_200 * 10**9
    assert spring.ends_at_ns == (1_775_001_600 - 7_200) * 10**9
    assert (spring.goal, spring.goal_value_micros) == (Goal.CLICKS, 250_000)
    assert (spring.reach_weight_ppm, spring.bid_ceiling_micros) == (300_000, 12_345_678)
    assert (autumn.goal, autumn.goal_value_micros) == (Goal.VALUE, 4_500_000)
    item = catalog.line_items[0]
    assert item.frequency_cap == FrequencyCap(impressions=3, window_s=86_400)
    assert item.targeting.media == (Media.BANNER,)
    assert (item.bid_min_micros, item.bid_max_micros) == (100_000, 9_000_000)
    red, film, card = catalog.creatives
    assert (red.w, red.h, red.attributes) == (300, 250, ())
    assert film.mimes == ("video/mp4",)
    assert card.native is not None
    assert (card.native.main_w, card.native.main_h) == (1200, 627)
    assert catalog.exchanges[0].settles == {"banner": Settles.WIN}
    assert catalog.rates[0].micros == 1_080_000


def test_the_digest_names_content_and_not_spelling(tmp_path: Path) -> None:
    first = load_catalog(written(tmp_path, SOUND))
    turned = SOUND.replace('id = "acme"\nname = "Acme"', 'name = "Acme"  # a comment\nid = "acme"')
    assert load_catalog(written(tmp_path, turned)) == first
    as_json = json.dumps(tomllib.loads(SOUND), default=str)
    assert load_catalog(written(tmp_path, as_json, "catalog.json")) == first
    changed = load_catalog(written(tmp_path, SOUND.replace('"0.25"', '"0.26"')))
    assert changed.digest != first.digest
    assert len(first.digest) == 32


MISTAKES = [
    # what stands in the sound file, what is written instead, where the complaint points, what it says, the cure
    ('domain = "acme.example"', 'domain = "https://acme.example"', "domain: is", "write a bare lower-case domain"),
    ('name = "Other"', "nme = 1", "no such key of advertiser", 'did you mean "name"?'),
    ('id = "other"', 'id = "acme"', "already (number 1)", "rename one"),
    ('id = "other"', 'id = "an other"', 'is "an other"', "use 1 to 64 letters"),
    ('EUR = "1.08"', 'GBP = "1.08"', "no rate for EUR", "under [rates]"),
    ('EUR = "1.08"', 'EUR = "0"', "more than 0", "account currency per unit"),
    ('EUR = "1.08"', 'EUR = "1.08"\nUSD = "2"', "is the account currency", "leave it out"),
    ('account_currency = "USD"', 'account_currency = "dollar"', 'is "dollar"', "ISO 4217"),
    ('daily_budget = "100.00"', 'daily_budget = "-1"', "money must be more than 0", "per local day"),
    ('daily_budget = "100.00"', "daily_budget = nan", "is NaN", "write a finite number"),
    ('daily_budget = "100.00"', "daily_budget = inf", "is Infinity", "write a finite number"),
    ('daily_budget = "100.00"', "daily_budget = 1e12", "at most 1000000000", "per local day"),
    ('daily_budget = "100.00"', 'daily_budget = "1.0000001"', "at most six decimals", "millionth"),
    ('daily_budget = "100.00"', 'daily_budget = "lots"', "not a number", 'for example "100.00"'),
    ('daily_budget = "100.00"', "daily_budget = true", "not a number", 'for example "100.00"'),
    ("budget_min = 10", "budget_min = 101", "above daily_budget", "lower it"),
    ('budget_max = "150.5"', 'budget_max = "99"', "below daily_budget", "raise it"),
    ('pool = "pool"\nbudget_min = 10', "budget_min = 10", "only inside a pool", "name a pool or leave it out"),
    ('id = "pool"\nadvertiser = "acme"', 'id = "pool"\nadvertiser = "other"', 'belongs to advertiser "other"', "money never moves"),
    ("starts_at = 2026-03-01T00:00:00Z", "starts_at = 2026-03-01", "date, time and offset", "2026-03-01T00:00:00Z"),
    ("starts_at = 2026-03-01T00:00:00Z", "starts_at = 2026-05-01T00:00:00Z", "not after starts_at", "swap or mend"),
    ('goal = "clicks"', 'goal = "fame"', 'is "fame"', "choose one of reach, clicks"),
    ('goal = "clicks"', 'goal = "reach"', 'does not go with goal = "reach"', "use target_cpm"),
    ('target_cpc = "0.25"\n', "", 'goal = "clicks" needs target_cpc', "add target_cpc ="),
    ("reach_weight = 0.3", "reach_weight = 1.5", "is 1.5", "from 0 to 1"),
    ("reach_weight = 0.3", "reach_weight = 0\ncost_weight = 0", "both 0", "give one of them weight"),
    ("reach_weight = 0.3", "reach_weight = 0.3\nrepeat_value = 0.5", "goes with goal", "leave it out"),
    ("reach_weight = 0.3", "reach_weight = 0.3\nrepeat_value = 2", "is 2", "from 0 to 1"),
    ('bid_ceiling_cpm = "12.345678"', "bid_ceiling_cpm = 20000", "at most 10000", "per 1,000 impressions"),
    ('bid_ceiling_cpm = "12.345678"', 'bid_ceiling_cpm = "0.05"', "is above bid_ceiling_cpm", "never bid"),
    ('campaign = "spring"', 'campaign = "sprint"', 'no campaign "sprint"', 'did you mean "spring"?'),
    ('"red", "film"]', '"red", "flim"]', 'no creative "flim"', 'did you mean "film"?'),
    ('"red", "film"]', '"red", "red"]', "twice", "keep one"),
    ('creatives = ["red", "film"]', 'creatives = "red"', "not a list", "write creatives = [...]"),
    ('bid_min_cpm = "0.10"', 'bid_min_cpm = "10"', "above bid_max_cpm", "swap or mend"),
    ("impressions = 3", "impressions = 0", "whole number from 1", "to 100000"),
    ("impressions = 3, ", "", "impressions is missing", "add impressions = 3"),
    ('unknown_user = "no_bid"', 'unknown_user = "maybe"', 'is "maybe"', "bid, no_bid"),
    ("expected_click_rate = 0.002", "expected_click_rate = 1", "between 0 and 1", "0.002"),
    ('exchanges = ["north"]', 'exchanges = ["nroth"]', 'no exchange "nroth"', 'did you mean "north"?'),
    ('media = ["banner"]', 'media = ["baner"]', 'is "baner"', "banner, video, audio, native"),
    ('sizes = ["300x250"]', 'sizes = ["300*250"]', 'is "300*250"', '"300x250"'),
    ('countries = ["USA", "DEU"]', 'countries = ["USA", "de"]', 'is "de"', 'such as "DEU"'),
    ('regions = ["USA-CA"]', 'regions = ["CA"]', 'is "CA"', '"USA-CA"'),
    ("device_types = [2, 4]", "device_types = [2, 9]", "is 9", "from 1 to 8"),
    ('domains = ["example.com"]', 'domains = ["https://example.com"]', "write a domain", "no scheme"),
    ('"IAB2-1"]', '"IAB2-99"]', 'is "IAB2-99"', "Content Taxonomy 1.0"),
    ("hours_utc = [0, 167]", "hours_utc = [0, 168]", "is 168", "0 to 167"),
    ('media = "banner"', 'media = "video"', "size: does not belong to a video creative", "leave it out"),
    ('size = "300x250"\n', "", "needs size", 'add size = "300x250"'),
    ('image_url = "https://cdn.example/red.png"\n', "", "either html or image_url", "not both"),
    ('id = "red"\nadvertiser = "acme"', 'id = "red"\nadvertiser = "other"', "not this advertiser's", '"acme"'),
    ('id = "red"\nadvertiser = "acme"', 'id = "red"\nadvertiser = "acm"', 'no advertiser "acm"', 'did you mean "acme"?'),
    ("duration_s = 15\n", "", "needs duration_s", "add duration_s = 15"),
    ("protocols = [2, 3]\n", "", "needs protocols", "add protocols ="),
    ("protocols = [2, 3]", "protocols = [2, 33]", "is 33", "1 to 16"),
    ("attributes = [6]", "attributes = [24]", "is 24", "1 to 23"),
    ("w = 640, h = 360, ", "", "needs w and h", "pixels"),
    ('mime = "video/mp4", ', "", "mime is missing", 'add mime = "video/mp4"'),
    ("duration_s = 15\n", 'duration_s = 15\nmimes = ["video/webm"]\n', "of none of its files", "leave it out"),
    ('main_size = "1200x627"', "", "go together", "main_size"),
    ('title = "Hello"', "", "title is missing", "add title ="),
    ('currency = "EUR"', 'currency = "EUR"\nround_trip_ms = 100', "not below deadline_ms_max", "time is left"),
    ('currency = "EUR"', 'currency = "EUR"\nauction_type = 3', "is 3", "1, 2"),
    ('settles = { banner = "win" }', 'settles = { banner = "view" }', 'is "view"', "win, billing, impression"),
    ('settles = { banner = "win" }', 'settles = { bannr = "win" }', "no such key of settles", "banner"),
    ('seat = "s"\n', "", "seat is missing", "add seat ="),
    ("[[pool]]", "[pool]", "not a list of tables", "double brackets"),
    ("[[exchange]]", "[[exchagne]]", "no such table", 'did you mean "exchange"?'),
]  # fmt: skip


@pytest.mark.parametrize(("sound", "wrong", "what", "cure"), MISTAKES, ids=[m[2] for m in MISTAKES])
def test_every_mistake_names_its_line_and_the_cure(
    tmp_path: Path, sound: str, wrong: str, what: str, cure: str
) -> None:
    assert SOUND.count(sound) >= 1, "the mistake replaces something"
    text = SOUND.replace(sound, wrong, 1)
    found = mistakes(tmp_path, text)
    hits = [(line, said) for line, said in found if what in said]
    assert hits, found
    assert any(cure in said for _, said in hits), hits
    # the changed line, its table's header, or the other half of the contradiction (a line that names the key)
    line, said = hits[0]
    first = text[: SOUND.index(sound)].count("\n") + 1
    shown = text.split("\n")[line - 1]
    key = said.split(": ")[1].rpartition(".")[2]
    changed = first <= line <= first + wrong.count("\n")
    assert changed or shown.lstrip().startswith(("[", "{")) or key in shown, (line, first, shown)


def test_lines_are_exact(tmp_path: Path) -> None:
    text = (
        SOUND.replace('domain = "other.example"', 'domain = "x"')
        .replace('daily_budget = "100.00"', "daily_budget = -5")
        .replace("hours_utc = [0, 167]", "hours_utc = [\n    0, # midnight ]\n    168,\n  ]")
        .replace("bitrate_kbps = 800", "bitrate_kbps = 0")
    )
    expected = [
        line_of(text, 'domain = "x"'),
        line_of(text, "daily_budget = -5"),
        line_of(text, "168,"),
        line_of(text, "bitrate_kbps = 0"),
    ]
    assert [line for line, _ in mistakes(tmp_path, text)] == expected


def test_all_mistakes_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = SOUND
    for sound, wrong in (
        ('EUR = "1.08"', 'EUR = "x"'),
        ("budget_min = 10", "budget_min = -1"),
        ('campaign = "spring"', 'campaign = "nothing"'),
        ('click_url = "https://acme.example/"\nsize', 'click_url = "http://acme.example/"\nsize'),
        ('seat = "s"', "seat = 5"),
    ):
        text = text.replace(sound, wrong, 1)
    found = mistakes(tmp_path, text)
    assert len(found) == 5
    assert [line for line, _ in found] == sorted(line for line, _ in found)
    assert "full https address" in found[3][1]


def test_json_mistakes_have_lines_too(tmp_path: Path) -> None:
    text = """{
  "advertiser": [
    {"id": "a", "name": "A",
     "domain": "x y"}
  ],
  "campaign": [
    {"id": "c", "advertiser": "b", "name": "C", "goal": "reach",
     "target_cpm": NaN,
     "daily_budget": 1.5, "daily_budget": 2.5}
  ]
}"""
    found = mistakes(tmp_path, text, "catalog.json")
    assert [line for line, _ in found] == [4, 7, 8, 9]
    assert "given twice" in found[3][1]
    assert 'no advertiser "b"' in found[1][1]


@pytest.mark.parametrize(
    ("text", "name", "line", "what"),
    [
        ("a = 1\nb = = 2\n", "c.toml", 2, "is not TOML"),
        ("[[advertiser]]\nid = 1\nid = 2\n", "c.toml", 3, "is not TOML"),
        ('{"a": 1,\n "b": }', "c.json", 2, "is not JSON"),
        ("[1, 2]", "c.json", 1, "one object"),
        ("", "c.json", 1, "is not JSON"),
        ('{"a": 1e99999999999999999999}', "c.json", 1, "cannot be parsed"),
        ("[" * 100_000, "c.json", 1, "cannot be parsed"),
    ],
)
def test_a_file_that_does_not_parse(tmp_path: Path, text: str, name: str, line: int, what: str) -> None:
    found = mistakes(tmp_path, text, name)
    assert found[0][0] == line
    assert what in found[0][1]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="check the path"):
        load_catalog(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(CatalogError, match="not UTF-8 at byte 8"):
        load_catalog(tmp_path / "latin.toml")


def warned(folder: Path, sound: str, doubtful: str) -> list[str]:
    assert sound in SOUND
    return [str(w) for w in check_catalog(written(folder, SOUND.replace(sound, doubtful, 1))).warnings]


@pytest.mark.parametrize(
    ("sound", "doubtful", "what"),
    [
        ('sizes = ["300x250"]', 'sizes = ["728x90"]', "leave none of its creatives"),
        ('creatives = ["red", "film"]', "creatives = []", "never bids"),
        ('categories = ["IAB18"]\nattributes = []\nfeatures', "attributes = []\nfeatures", "blocks categories"),
        ("attributes = []\nfeatures", "features", "write [] for none"),
        ("https://cdn.example/red.png", "http://cdn.example/red.png", "secure=1"),
        ('image_url = "https://cdn.example/red.png"', 'html = "<b>hi</b>"', "clicks are not seen"),
        ('bid_max_cpm = "9"', 'bid_max_cpm = "13"', "which wins"),
        ('domains = ["example.com"]', 'domains = ["example.com"]\n  domains_blocked = ["example.com"]', "the block wins"),
        ('conversion_token = "t"\n', "", "conversions are refused"),
        ('pool = "pool"\ngoal', "goal", "no money can move"),
        ("paused = true\n", "", "never bids; add one or pause it"),
    ],
)  # fmt: skip
def test_what_is_usable_but_doubtful_is_a_warning(
    tmp_path: Path, sound: str, doubtful: str, what: str
) -> None:
    found = warned(tmp_path, sound, doubtful)
    assert any(what in each for each in found), found


def test_no_exchange_is_a_warning_about_the_whole_file(tmp_path: Path) -> None:
    text = SOUND[: SOUND.index("[[exchange]]")].replace('exchanges = ["north"]\n', "\n")
    (found,) = check_catalog(written(tmp_path, text)).warnings
    assert "add [[exchange]]" in found.text


def test_an_empty_file_is_an_empty_catalog(tmp_path: Path) -> None:
    loaded = load_catalog(written(tmp_path, ""))
    assert loaded == Catalog(digest=loaded.digest)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "advertiser", "pool", "campaign", "line_item", "creative", "exchange", "rates", "account_currency", "id", "name",
    "targeting", "creatives", "files", "native", "settles", "goal", "daily_budget", "sizes", "features", "media",
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(KEYS),
        JUNK | st.lists(st.dictionaries(st.sampled_from(KEYS), JUNK, max_size=6), max_size=3),
        max_size=6,
    )
)
def test_no_content_makes_it_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, object]
) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.json"
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    problems = None
    try:
        load_catalog(path)
    except CatalogError as error:
        problems = error.problems
    lines = path.read_text(encoding="utf-8").count("\n") + 1
    assert problems is None or (problems and all(1 <= found.line <= lines for found in problems))


@pytest.mark.parametrize("name", ["demo", "wide"])
def test_the_examples_are_sound(name: str) -> None:
    loaded = check_catalog(Path(__file__).parents[2] / "examples" / "catalogs" / f"{name}.toml")
    assert loaded.warnings == ()


@pytest.mark.parametrize("name", ["demo", "wide"])
def test_the_examples_are_what_their_script_writes(name: str) -> None:
    folder = Path(__file__).parents[2] / "examples" / "catalogs"
    script = runpy.run_path(str(folder / "make.py"))
    assert (folder / f"{name}.toml").read_text(encoding="utf-8") == script[name]()
