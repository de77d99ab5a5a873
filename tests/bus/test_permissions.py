"""Attacks on the bus with every credential but the right one."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import nats.errors
import pytest
from nats.aio.client import Client

from counterpoint.base.errors import BusRefused
from counterpoint.bus.nats import NatsBus
from counterpoint.bus.roles import AGENTS, LATEST, roles
from counterpoint.events import subjects
from counterpoint.events.codec import encode_batch
from counterpoint.events.decisions import StopChanged
from counterpoint.events.event import Event
from counterpoint.events.subjects import DECISIONS, FACTS, MONEY
from tests.bus.samples import balance, beat, click, ids, notice, policy, proposal
from tests.bus.worlds import Embedded

STOP = StopChanged(
    event_id="stop-1",
    happened_at_ns=1,
    recorded_at_ns=1,
    source="cli",
    target="all",
    stopped=True,
    person="ann",
)
PERSON = proposal("1", author="person:ann")
WRITES: list[tuple[str, Event, str]] = [
    (subjects.notice("adx"), notice("1"), "bidder"),
    (subjects.outcomes("b1"), click("1"), "bidder"),
    (subjects.balance("1"), balance("1", 1), "ledger"),
    (subjects.policy("creative"), policy("1", agent="creative"), "agent-creative"),
    (subjects.proposal("budget"), proposal("1", author="budget"), "agent-budget"),
    (subjects.proposal("person:ann"), PERSON, "console"),
    (subjects.beat("feedback"), beat("1", agent="feedback"), "agent-feedback"),
    (subjects.beat("recorder"), beat("1", agent="recorder"), "recorder"),
    (subjects.STOPS, STOP, "console"),
]
ROLES = [role.name for role in roles()]


async def raw_client(world: Embedded, role: str) -> Client:
    """A client that keeps to no convention of ours."""
    credential = world.credential(role)
    client = Client()

    async def quiet(_: Exception) -> None:
        pass

    await client.connect(
        world.url,
        user=credential.user,
        password=credential.password,
        error_cb=quiet,
        allow_reconnect=False,
        max_reconnect_attempts=1,
        reconnect_time_wait=0,
    )
    return client


async def stored(world: Embedded, stream: str) -> int:
    client = await raw_client(world, "admin")
    info = await client.request(f"$JS.API.STREAM.INFO.{stream}")
    await client.close()
    return int(msgspec.json.decode(info.data)["state"]["messages"])


async def test_every_subject_has_its_speaker_and_refuses_all_others(embedded: Embedded) -> None:
    for subject, event, speaker in WRITES:
        for role in ROLES:
            bus = await embedded.bus(role)
            if role == speaker:
                await bus.publish(subject, [event])
            else:
                with pytest.raises(BusRefused):
                    async with asyncio.timeout(2):  # an answer, not a hang
                        await bus.publish(subject, [event])
    assert await stored(embedded, MONEY) == 2
    assert await stored(embedded, FACTS) == 1


async def test_a_bidder_speaks_only_for_itself(embedded: Embedded) -> None:
    bus = await embedded.bus("bidder")
    with pytest.raises(BusRefused):
        await bus.publish(subjects.outcomes("b2"), [click("1")])


async def test_without_a_credential_there_is_no_bus(embedded: Embedded) -> None:
    for user, password in (("", ""), ("nobody", "x"), ("bidder", "guess")):
        bus = NatsBus(embedded.url, user, password, "attacker")
        with pytest.raises(BusRefused):
            await bus.open(wait_s=1.0)
    with socket.create_connection(("127.0.0.1", embedded.server.port), 2.0) as plain:
        plain.settimeout(5.0)
        plain.sendall(b"CONNECT {}\r\nPUB money.notice.adx 1\r\nx\r\nPING\r\n")
        answer = b""
        while chunk := plain.recv(4096):
            answer += chunk
    assert b"Authorization Violation" in answer
    assert b"PONG" not in answer


@pytest.mark.parametrize("role", ["agent-bidding", "bidder", "ledger", "recorder", "console"])
async def test_no_role_can_administer_streams(embedded: Embedded, role: str) -> None:
    await (await embedded.bus("agent-bidding")).publish(subjects.beat("bidding"), [beat("1")])
    client = await raw_client(embedded, role)
    consumer = {"stream_name": DECISIONS, "config": {"name": "x", "deliver_subject": "money.notice.adx"}}
    for subject, body in (
        (f"$JS.API.STREAM.PURGE.{DECISIONS}", {}),
        (f"$JS.API.STREAM.DELETE.{DECISIONS}", {}),
        (f"$JS.API.STREAM.MSG.DELETE.{DECISIONS}", {"seq": 1}),
        (f"$JS.API.STREAM.UPDATE.{DECISIONS}", {"name": DECISIONS, "subjects": ["x"]}),
        ("$JS.API.STREAM.CREATE.MINE", {"name": "MINE", "subjects": ["mine"], "sources": [{"name": MONEY}]}),
        (f"$JS.API.CONSUMER.CREATE.{DECISIONS}.x", consumer),
        (f"$JS.API.CONSUMER.DURABLE.CREATE.{DECISIONS}.x", consumer),
        ("$JS.API.INFO", {}),
        ("$JS.API.STREAM.NAMES", {}),
        ("$SYS.REQ.SERVER.PING", {}),
    ):
        with pytest.raises((nats.errors.TimeoutError, nats.errors.NoRespondersError)):
            await client.request(subject, msgspec.json.encode(body), timeout=0.05)
    await client.close()
    assert await stored(embedded, DECISIONS) == 1


async def test_a_reader_cannot_have_its_own_bytes_delivered_as_money(embedded: Embedded) -> None:
    """A read is answered to any reply subject. What an agent stored as a proposal must not come out as a notice."""
    client = await raw_client(embedded, "agent-bidding")
    own = subjects.proposal("bidding")
    await client.request(own, encode_batch([notice("forged")]))
    for stream in (DECISIONS, LATEST):
        await client.publish(
            f"$JS.API.DIRECT.GET.{stream}",
            msgspec.json.encode({"last_by_subj": own}),
            reply=subjects.notice("adx"),
        )
    await client.flush()
    await asyncio.sleep(0.1)
    await client.close()
    assert await stored(embedded, MONEY) == 0


async def test_events_count_only_where_they_belong(embedded: Embedded) -> None:
    """A liar writes money, and another author's wish, into the one subject it may write."""
    client = await raw_client(embedded, "agent-bidding")
    own = subjects.proposal("bidding")
    forged = [notice("forged"), proposal("1"), proposal("2", author="budget"), PERSON]
    await client.request(own, encode_batch(forged))
    await client.request(own, b"\xc1 this is no batch")
    await client.close()
    for role in ("ledger", "bidder"):
        subscription = await (await embedded.bus(role)).subscribe(DECISIONS, ["decisions.>"])
        first, second = await subscription.fetch(2, wait_s=2.0)
        assert (ids(first.events), first.unreadable) == (["proposal-bidding-1"], 3)
        assert (second.events, second.unreadable) == ((), 1)


async def test_a_stream_that_is_not_for_the_role_cannot_be_read(embedded: Embedded) -> None:
    ledger = await embedded.bus("ledger")
    with pytest.raises(BusRefused):
        await (await ledger.subscribe(FACTS, ["facts.>"], after=1)).fetch(wait_s=1.0)
    with pytest.raises(BusRefused):
        await ledger.last(subjects.outcomes("b1"))


async def test_hints_cannot_be_forged_and_subjects_cannot_be_overheard(embedded: Embedded) -> None:
    spy = await raw_client(embedded, "agent-budget")
    heard: list[str] = []

    async def hear(message: object) -> None:
        heard.append("something")

    for subject in ("money.>", "decisions.proposal.>", "_INBOX.>", ">"):
        await spy.subscribe(subject, cb=hear)
    await spy.publish("tail.money.notice.adx", b"forged")
    await spy.flush()
    await (await embedded.bus("bidder")).publish(subjects.notice("adx"), [notice("1")])
    await (await embedded.bus("agent-bidding")).publish(subjects.proposal("bidding"), [proposal("1")])
    await asyncio.sleep(0.1)
    await spy.close()
    assert heard == []


def test_every_agent_has_a_role_and_no_role_is_another() -> None:
    names = [role.name for role in roles(("b1", "b2"))]
    assert len(set(names)) == len(names)
    assert {f"agent-{name}" for name in AGENTS} <= set(names)
    for role in roles():
        others = [subject for other in roles() if other.name != role.name for subject in other.publishes]
        mine = [s for s in role.publishes if s.startswith(("money.", "facts.", "decisions.policy"))]
        assert not set(mine) & set(others)
