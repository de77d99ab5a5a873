"""Where each event goes. A subject is ``stream.kind.key``; permissions and last values hang on it."""

from __future__ import annotations

import re

MONEY, FACTS, DECISIONS = "MONEY", "FACTS", "DECISIONS"
STREAMS = {MONEY: "money.>", FACTS: "facts.>", DECISIONS: "decisions.>"}

_UNSAFE = re.compile(r"[^A-Za-z0-9_\-]")


def token(text: str) -> str:
    """One subject token: dots, blanks and wildcards never pass.

    >>> token("campaign/42 *")
    'campaign_2f42_20_2a'
    """
    return _UNSAFE.sub(lambda m: f"_{ord(m.group()):02x}", text) or "_"


def stream_of(subject: str) -> str:
    head = subject.split(".", 1)[0]
    for name, pattern in STREAMS.items():
        if pattern.split(".", 1)[0] == head:
            return name
    raise AssertionError(f"no stream for subject {subject!r}")


def notice(exchange: str) -> str:  # SettlementNoticed; trackers only
    return f"money.notice.{token(exchange)}"


def money_command(
    bidder_id: str,
) -> str:  # BidderStarted, AllowanceRequested, AllowanceReturned; bidders only
    return f"money.command.{token(bidder_id)}"


def grants(bidder_id: str) -> str:  # AllowanceGranted, AllowanceRefused; ledger only
    return f"money.ledger.grant.{token(bidder_id)}"


def booked(campaign_id: str) -> str:  # SpendBooked; ledger only
    return f"money.ledger.booked.{token(campaign_id)}"


def balance(campaign_id: str) -> str:  # BalanceReported, last value; ledger only
    return f"money.ledger.balance.{token(campaign_id)}"


def moved(pool_id: str) -> str:  # BudgetMoved; ledger only
    return f"money.ledger.moved.{token(pool_id)}"


def bids(bidder_id: str) -> str:  # BidPlaced
    return f"facts.bids.{token(bidder_id)}"


def outcomes(bidder_id: str) -> str:  # AuctionWon, AuctionLost, impressions, clicks, skips, conversions
    return f"facts.outcomes.{token(bidder_id)}"


def traffic(bidder_id: str) -> str:  # TrafficCounted
    return f"facts.traffic.{token(bidder_id)}"


def policy(agent: str) -> str:  # PolicyPublished, last value; that agent only
    return f"decisions.policy.{token(agent)}"


def policy_rejected(agent: str) -> str:
    return f"decisions.rejected.{token(agent)}"


def proposal(author: str) -> str:  # Proposal; that author only
    return f"decisions.proposal.{token(author)}"


def resolution(target: str) -> str:  # Resolution, last value per target
    return f"decisions.resolution.{token(target)}"


def beat(source: str) -> str:  # AgentBeat, last value per source
    return f"decisions.beat.{token(source)}"


def alarm(agent: str) -> str:
    return f"decisions.alarm.{token(agent)}"


CATALOG = "decisions.catalog"
STOPS = "decisions.stops"
