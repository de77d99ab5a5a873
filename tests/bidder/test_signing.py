"""Signed notice URLs and their keys: nothing but what we signed, for the kind it was signed for, is taken."""

from __future__ import annotations

import base64
import os
import secrets
import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.base.errors import ConfigError
from counterpoint.bidder.keys import ENVIRONMENT, KEYS_KEPT, KeyRing, load_keys, new_keys, rotate
from counterpoint.bidder.signing import TAG_CHARS, BadToken, NoticeKind, SignedBid, Signer

RING = KeyRing(1, {1: secrets.token_bytes(32)})
SIGNER = Signer(RING)
BID = SignedBid(
    bid_id="0192f0aa11bb00112233440000000f",
    allowance_id="alw-1",
    campaign_id="c1",
    line_item_id="l1",
    creative_id="cr1",
    exchange="adx",
    media="banner",
    settles="billing",
    bid_nanos=1_250_000,
    currency="EUR",
    rate_micros=1_080_000,
    arm="agents",
    bid_at_ns=1_700_000_000_000_000_000,
    reservation_until_ns=1_700_000_010_000_000_000,
    expires_at_ns=1_700_086_400_000_000_000,
    user_key="ab" * 16,
    test=False,
)


def test_what_was_signed_comes_back() -> None:
    tokens = SIGNER.sign(BID)
    for kind in NoticeKind:
        assert SIGNER.verify(kind, tokens.of(kind).encode()) == BID
    assert len({tokens.of(kind) for kind in NoticeKind}) == len(NoticeKind)


def test_tokens_fit_a_url_path_as_they_are() -> None:
    for kind in NoticeKind:
        token = SIGNER.sign(BID).of(kind)
        assert len(token) < 320
        assert token.replace("-", "").replace("_", "").isalnum()


def test_no_kind_of_notice_passes_for_another() -> None:
    tokens = SIGNER.sign(BID)
    for signed_for in NoticeKind:
        for used_as in NoticeKind:
            if signed_for is not used_as:
                assert SIGNER.verify(used_as, tokens.of(signed_for).encode()) == BadToken("forged")


def test_a_tag_of_another_bid_is_forged() -> None:
    dear = SIGNER.sign(msgspec.structs.replace(BID, bid_nanos=1))
    mine = SIGNER.sign(BID)
    mixed = mine.bill[:-TAG_CHARS] + dear.bill[-TAG_CHARS:]
    assert SIGNER.verify(NoticeKind.BILLING, mixed.encode()) == BadToken("forged")


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
@settings(deadline=None, max_examples=300)
def test_any_changed_byte_is_noticed(place: int, byte: int) -> None:
    token = bytearray(SIGNER.sign(BID).bill.encode())
    place %= len(token)
    if token[place] != byte:
        token[place] = byte
        assert isinstance(SIGNER.verify(NoticeKind.BILLING, bytes(token)), BadToken)


@given(st.binary(max_size=400))
@settings(deadline=None, max_examples=300)
def test_garbage_is_a_bad_token_and_no_exception(token: bytes) -> None:
    assert isinstance(SIGNER.verify(NoticeKind.WIN, token), BadToken)
    assert isinstance(SIGNER.verify(NoticeKind.WIN, b"01" + token), BadToken)


@given(cut=st.integers(1, 300))
@settings(deadline=None, max_examples=50)
def test_a_cut_or_lengthened_token_is_bad(cut: int) -> None:
    token = SIGNER.sign(BID).win.encode()
    assert isinstance(SIGNER.verify(NoticeKind.WIN, token[:-cut]), BadToken)
    assert isinstance(SIGNER.verify(NoticeKind.WIN, token + b"A" * cut), BadToken)


def test_padding_and_other_spellings_of_the_same_bytes_are_refused() -> None:
    token = SIGNER.sign(BID).win.encode()
    payload, tag = token[:-TAG_CHARS], token[-TAG_CHARS:]
    for other in (payload + b"=", b"0" + payload[1:].upper(), payload.replace(b"01", b"1 ", 1)):
        if other != payload:
            assert isinstance(SIGNER.verify(NoticeKind.WIN, other + tag), BadToken)


def test_another_installation_cannot_sign_for_us() -> None:
    theirs = Signer(KeyRing(1, {1: secrets.token_bytes(32)}))
    assert SIGNER.verify(NoticeKind.WIN, theirs.sign(BID).win.encode()) == BadToken("forged")
    unknown = Signer(KeyRing(9, {9: RING.keys[1]}))
    assert SIGNER.verify(NoticeKind.WIN, unknown.sign(BID).win.encode()) == BadToken("unknown_key")


def test_segment_is_exchange_and_media_unless_said_otherwise() -> None:
    assert BID.segment_name == "adx/banner"
    assert msgspec.structs.replace(BID, segment="adx/app").segment_name == "adx/app"


# ---- keys


def test_keys_are_made_private_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "hmac.json"
    made = new_keys(path)
    assert load_keys(path, {}) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match="exists already"):
        new_keys(path)


def test_rotation_signs_with_the_new_key_and_accepts_the_old(tmp_path: Path) -> None:
    path = tmp_path / "hmac.json"
    old = Signer(new_keys(path)).sign(BID).bill.encode()
    for _ in range(KEYS_KEPT - 1):
        ring = rotate(path)
        assert isinstance(Signer(ring).verify(NoticeKind.BILLING, old), SignedBid)
    assert Signer(ring).sign(BID).bill.encode()[:2] != old[:2]
    assert Signer(rotate(path)).verify(NoticeKind.BILLING, old) == BadToken("unknown_key")
    for _ in range(300):
        ring = rotate(path)
    assert len(ring.keys) == KEYS_KEPT
    assert ring.signs in ring.keys


def test_keys_come_from_the_environment_first(tmp_path: Path) -> None:
    key = base64.b64encode(bytes(range(32))).decode()
    ring = load_keys(tmp_path / "none", {ENVIRONMENT: f'{{"signs": 7, "keys": {{"7": "{key}"}}}}'})
    assert ring == KeyRing(7, {7: bytes(range(32))})


def test_no_keys_is_an_error_that_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="counterpoint keys new"):
        load_keys(tmp_path / "hmac.json", {})


def test_keys_that_others_may_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "hmac.json"
    new_keys(path)
    os.chmod(path, 0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_keys(path, {})


GOOD = base64.b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        "{}",
        '{"signs": 1, "keys": {}}',
        '{"signs": 1, "keys": {"1": ""}}',
        '{"signs": 1, "keys": {"1": "c2hvcnQ="}}',
        '{"signs": 1, "keys": {"1": "not base64!"}}',
        '{{"signs": 1, "keys": {{"1": "{}"}}}}'.format(base64.b64encode(b"\0" * 32).decode()),
        f'{{"signs": 2, "keys": {{"1": "{GOOD}"}}}}',
        f'{{"signs": 0, "keys": {{"0": "{GOOD}"}}}}',
        f'{{"signs": 256, "keys": {{"256": "{GOOD}"}}}}',
        f'{{"signs": 1, "keys": {{"1": "{GOOD}"}}, "default": true}}',
    ],
)
def test_unusable_keys_are_refused_without_showing_them(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_keys(tmp_path / "x", {ENVIRONMENT: text})
    assert GOOD not in str(caught.value)
