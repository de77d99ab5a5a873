"""An agent with its real credential that lies: bytes, headers, sizes. Nobody else may fall or go deaf by it."""

from __future__ import annotations

import asyncio
import math

import msgspec
import pytest
from nats.aio.client import Client

from counterpoint.base.errors import PolicyRefused
from counterpoint.base.ids import digest
from counterpoint.bidder.holder import REASON_CHARS_MAX, Changes, apply
from counterpoint.bidder.view import ViewInputs, compile_view
from counterpoint.bidding import policy as bidding_policy
from counterpoint.bidding.policy import CURVES_MAX, BiddingPolicy, WinCurve
from counterpoint.budget import policy as budget_policy
from counterpoint.bus.batch import open_batch
from counterpoint.coordination.admit import Refusal, refusal
from counterpoint.coordination.targets import Targets, bid_ceiling
from counterpoint.creative import policy as creative_policy
from counterpoint.events import subjects
from counterpoint.events.codec import decode_batch, encode_batch
from counterpoint.events.decisions import HybridTime, PolicyPublished, Proposal
from counterpoint.events.subjects import DECISIONS
from counterpoint.feedback import policy as feedback_policy
from tests.bidder.world import make_catalog
from tests.bus.conftest import embedded
from tests.bus.samples import beat, proposal
from tests.bus.worlds import Embedded

__all__ = ["embedded"]  # the fixture

GOOD = proposal("1", author="budget")
NOT_UTF8 = b"\xff\xfe"
GARBAGE = [
    b"",
    b"\xc1",
    b"\x91\x81\xa4kind\xa2" + NOT_UTF8,
    b"\x91\x82\xa4kind\xaaagent_beat\xa8event_id\xa2" + NOT_UTF8,
    b"\x91" * 200_000 + b"\x90",
    b"\x91\x82\xa4kind\xaaagent_beat\xa7unknown" + b"\x91" * 200_000 + b"\x90",
    b"\xdd\xff\xff\xff\xff",
]
NOW_NS = 1_800_000_000 * 10**9


@pytest.mark.parametrize("raw", GARBAGE)
def test_bytes_that_are_no_batch_are_counted_never_raised(raw: bytes) -> None:
    assert open_batch(subjects.proposal("budget"), raw) == ((), 1)


def test_one_event_that_is_no_text_does_not_hide_the_others() -> None:
    whole = encode_batch([GOOD, beat("22222222", agent="budget"), GOOD])
    events, unread = decode_batch(whole.replace(b"22222222", b"222222" + NOT_UTF8))
    assert (events, unread) == ([GOOD, GOOD], 1)


@pytest.mark.parametrize("module", [bidding_policy, creative_policy, budget_policy, feedback_policy])
def test_a_policy_that_is_no_text_or_nested_too_deep_is_refused(module: object) -> None:
    decode = module.decode  # type: ignore[attr-defined]
    times = {"version": 1, "made_at_ns": 1, "valid_until_ns": 2}
    named = {
        "multipliers": {"AA": 1.0},
        "scores": {"AA": (0.1, 1.0)},
        "plans": {"AA": {}},
        "why": {"AA": "x"},
    }
    raw = msgspec.msgpack.encode({**times, **named}).replace(b"AA", NOT_UTF8)
    deep = b"\x81\xa7unknown" + b"\x91" * 200_000 + b"\x90"
    for payload in (raw, deep):
        with pytest.raises(PolicyRefused):
            decode(payload)


async def test_garbage_and_forged_status_headers_make_no_reader_deaf(embedded: Embedded) -> None:
    """What an agent writes stays in the stream: whoever stumbles over it stumbles again after every restart."""
    credential = embedded.credential("agent-budget")
    client = Client()
    await client.connect(
        embedded.url, user=credential.user, password=credential.password, allow_reconnect=False
    )
    subject = subjects.proposal("budget")
    for raw in GARBAGE:
        await client.request(subject, raw)
    for status in ("204", "404", "500", "503", "x"):
        raw = encode_batch([proposal(f"status-{status}", author="budget")])
        await client.request(subject, raw, headers={"Status": status, "Nats-Num-Pending": "0"})
    await client.close()
    bus = await embedded.bus("ledger")
    last = await bus.last(subject)
    assert last is not None
    assert last.events[0].event_id == proposal("status-x", author="budget").event_id
    assert len(await bus.last_all("decisions.proposal.>")) == 1
    subscription = await bus.subscribe(DECISIONS, ("decisions.>",))
    found: list[str] = []
    unreadable = 0
    async with asyncio.timeout(20):
        while len(found) < 5:
            for delivery in await subscription.fetch(4, 0.5):
                found += [event.event_id for event in delivery.events]
                unreadable += delivery.unreadable
    assert unreadable == len(GARBAGE)
    assert len(set(found)) == 5


# ---- policies


def _published(payload: bytes) -> PolicyPublished:
    return PolicyPublished(
        event_id="p",
        happened_at_ns=1,
        recorded_at_ns=1,
        source="agent/bidding",
        agent="bidding",
        policy_version=7,
        checksum=digest(payload),
        payload=payload,
        valid_until_ns=2**62,
    )


CURVE = WinCurve((1_000_000,), (0.5,))
SOUND = BiddingPolicy(version=1, made_at_ns=1, valid_until_ns=2**62)
POISON = {
    "a version that no int64 column holds": msgspec.structs.replace(SOUND, version=2**63),
    "an end of time beyond int64": msgspec.structs.replace(SOUND, valid_until_ns=2**64 - 1),
    "curves without end": msgspec.structs.replace(
        SOUND, curves={f"x{n}": CURVE for n in range(CURVES_MAX + 1)}
    ),
    "a name of megabytes": msgspec.structs.replace(SOUND, multipliers={"x" * 3_000_000: math.nan}),
}


@pytest.mark.parametrize("what", POISON)
def test_a_poisoned_policy_is_refused_in_few_words_and_the_view_stays(what: str) -> None:
    view = compile_view(ViewInputs(catalog=make_catalog()))
    payload = bidding_policy.encode(POISON[what])
    after, refusals = apply(view, Changes(policies={"bidding": _published(payload)}), NOW_NS)
    assert after is view
    assert [refusal.agent for refusal in refusals] == ["bidding"]
    assert 0 < len(refusals[0].reason) <= REASON_CHARS_MAX


# ---- proposals


def _wish(
    event_id: str = "p", reason: str = "", source: str = "agent/budget", node: str = "budget"
) -> Proposal:
    return Proposal(
        event_id=event_id,
        happened_at_ns=1,
        recorded_at_ns=1,
        source=source,
        author="budget",
        target=bid_ceiling("c1"),
        intent="reach",
        stamp=HybridTime(1, 0, node),
        expires_at_ns=2,
        value=1,
        reason=reason,
    )


def test_a_proposal_of_megabytes_is_refused() -> None:
    """Every replica keeps the newest of each author and target, and a resolution names the ids of its proposals."""
    target = Targets(make_catalog()).get(bid_ceiling("c1"))
    assert target is not None
    assert refusal(target, _wish()) is None
    huge = "x" * 1_000_000
    for said in (_wish(event_id=huge), _wish(reason=huge), _wish(source=huge), _wish(node=huge)):
        assert refusal(target, said) is Refusal.MALFORMED
