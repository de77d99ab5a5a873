"""What a bidder tells of a bid: BidPlaced with the input from which the decision can be run again, a presumed loss."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from counterpoint.bidder.commit import BidContext, Committed
from counterpoint.bidder.decide import Candidates
from counterpoint.bidder.experiment import ARMS
from counterpoint.bidder.frequency import UserState
from counterpoint.bidder.part import R_KEY, ExchangePart
from counterpoint.bidder.signing import SignedBid
from counterpoint.bidder.view import View
from counterpoint.bidding.policy import shown_before
from counterpoint.events.facts import AuctionLost, BidPlaced
from counterpoint.openrtb.identity import archive_request
from counterpoint.openrtb.objects import BidRequest


class DecisionInput(Struct, frozen=True, array_like=True):
    """Everything ``decide`` was given, with the View by its digest; holds no raw id (identity is taken out first).

    ``limited``: where little money was left it decided something; all other campaigns had plenty. Fields are only ever
    added at the end."""

    request: bytes  # openrtb.identity.archive_request
    exchange: str
    view_digest: str
    user: UserState
    now_ns: int
    rng_key: int
    limited: tuple[tuple[int, int], ...]  # (purse in the View's catalog, nanos left in the arm)
    arm: int


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(DecisionInput)


def pack_input(
    request: BidRequest,
    exchange: str,
    view: View,
    user: UserState,
    made: Candidates,
    now_ns: int,
    rng_key: int,
) -> bytes:
    """Once per request; the bids of one request share it."""
    return _ENCODER.encode(
        DecisionInput(
            archive_request(request), exchange, view.digest, user, now_ns, rng_key, made.limited, made.arm
        )
    )


def unpack_input(raw: bytes) -> DecisionInput:
    """Raises ``msgspec.DecodeError`` for bytes that are none of ours."""
    return _DECODER.decode(raw)


def make_placed(
    signed: SignedBid,
    bid: Committed,
    made: Candidates,
    request: BidRequest,
    user: UserState,
    view: View,
    place: ExchangePart,
    source: str,
    decision_input: bytes,
) -> BidPlaced:
    candidate = bid.candidate
    return BidPlaced(
        event_id=signed.bid_id,
        happened_at_ns=signed.bid_at_ns,
        recorded_at_ns=signed.bid_at_ns,
        source=source,
        auction_id=request.id,
        exchange=signed.exchange,
        media=signed.media,
        segment=place.segment_names[bid.form.mtype],
        campaign_id=signed.campaign_id,
        line_item_id=signed.line_item_id,
        creative_id=signed.creative_id,
        price_nanos=candidate.price,
        value_nanos=candidate.value,
        paced_nanos=candidate.paced,
        floor_nanos=bid.floor,
        click_rate=candidate.click_rate,
        conversion_rate=candidate.conversion,
        click_chance=candidate.click,
        context=bid.context,
        exposed=shown_before(user.events, view.part.rules.item(candidate.line_item, R_KEY))
        if user.key
        else 0,
        win_rate=candidate.win_rate,
        auction_type=made.auction_type,
        explored=candidate.explored != 0,
        experiment=view.experiment.name,
        arm=ARMS[made.arm],
        bucket=made.bucket,
        unit=made.unit,
        creative_propensity=candidate.creative_propensity,
        price_propensity=candidate.price_propensity,
        bidding_version=made.bidding_version,
        creative_version=made.creative_version,
        budget_version=made.budget_version,
        feedback_version=made.feedback_version,
        view_digest=view.digest,
        user_key=signed.user_key,
        allowance_id=signed.allowance_id,
        decision_input=decision_input,
    )


def presumed_lost(bid: BidContext, now_ns: int, source: str) -> AuctionLost:
    """Nothing was heard of the bid within the exchange's own delay."""
    return AuctionLost(
        event_id=f"lost-{bid.bid_id}",
        happened_at_ns=now_ns,
        recorded_at_ns=now_ns,
        source=source,
        bid_id=bid.bid_id,
        exchange=bid.exchange,
        segment=bid.segment,
        campaign_id=bid.campaign_id,
        line_item_id=bid.line_item_id,
        creative_id=bid.creative_id,
        bid_nanos=bid.price_nanos,
        inferred=True,
        arm=bid.arm,
        bid_at_ns=bid.bid_at_ns,
    )
