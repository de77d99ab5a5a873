"""Which ad an order came from: the last click before it, else the last view, within the campaign's windows.

An order counts once per advertiser. The event id is made of advertiser and order id, so consumers drop a repeat that
this memory no longer knows of. A conversion reported late is matched by when it happened, not by when we hear of it.

Bounds: ``clicks_max`` and ``views_max`` touches and ``orders_max`` order ids, the oldest go and are counted as
evicted; an order whose touch is gone is unattributed, never guessed. A click token carries its own bid: an order
posted with one is attributed without any memory, the bid's time standing for the click's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.ids import digest
from counterpoint.bidder.directory import CampaignEntry
from counterpoint.bidder.signing import SignedBid
from counterpoint.events.facts import ClickSeen, ConversionAttributed, ConversionUnattributed, ImpressionSeen

SKEW_NS: Final = 10 * NS_PER_S  # an order may seem to precede its click by this much: two clocks
PER_USER_MAX: Final = 32  # newest touches of a person that are looked at


class Touch(Struct, frozen=True, array_like=True, gc=False):
    """A click or a view. Times in ns since the epoch."""

    bid_id: str
    at_ns: int
    exchange: str
    segment: str
    campaign_id: str
    line_item_id: str
    creative_id: str
    arm: str
    bid_at_ns: int
    user_key: str


class Order(Struct, frozen=True, kw_only=True):
    """A conversion as its advertiser reported it, read and checked."""

    advertiser_id: str
    order_id: str
    value_micros: int  # account currency
    happened_at_ns: int
    click: SignedBid | None = None  # of a click token that verified
    bid_id: str = ""
    user_key: str = ""


class AttributionConfig(Struct, frozen=True, forbid_unknown_fields=True):
    clicks_max: int = 50_000
    views_max: int = 100_000
    orders_max: int = 100_000


class _Touches:
    """One kind of touch: by bid id in order of arrival, and by person."""

    def __init__(self, touches_max: int) -> None:
        self.touches_max = touches_max
        self.evicted = 0
        # A plain dict looks for its first entry behind all it has deleted: an ordered one pops it at once.
        self.by_bid: OrderedDict[str, Touch] = OrderedDict()
        self.by_user: dict[str, list[str]] = {}

    def add(self, touch: Touch) -> None:
        if touch.bid_id in self.by_bid:
            return  # the first one counts
        self.by_bid[touch.bid_id] = touch
        if touch.user_key:
            self.by_user.setdefault(touch.user_key, []).append(touch.bid_id)
        if len(self.by_bid) > self.touches_max:
            self._evict()

    def _evict(self) -> None:
        _, oldest = self.by_bid.popitem(last=False)
        self.evicted += 1
        bids = self.by_user.get(oldest.user_key)
        if bids is not None:
            bids.remove(oldest.bid_id)
            if not bids:
                del self.by_user[oldest.user_key]

    def of(self, order: Order) -> list[Touch]:
        bids = self.by_user.get(order.user_key, [])[-PER_USER_MAX:] if order.user_key else []
        found = [self.by_bid[bid_id] for bid_id in bids]
        for bid_id in (order.bid_id, order.click.bid_id if order.click is not None else ""):
            touch = self.by_bid.get(bid_id)
            if touch is not None and touch not in found:
                found.append(touch)
        return found


class _Snapshot(Struct, frozen=True):
    clicks: list[Touch]
    views: list[Touch]
    orders: list[tuple[str, str]]


class Attribution:
    """The memory of touches and orders. Nothing here waits, reads a clock or does I/O."""

    def __init__(self, config: AttributionConfig | None = None) -> None:
        self.config = config if config is not None else AttributionConfig()
        self._clicks = _Touches(self.config.clicks_max)
        self._views = _Touches(self.config.views_max)
        self._orders: OrderedDict[tuple[str, str], None] = OrderedDict()

    @property
    def evicted(self) -> int:
        return self._clicks.evicted + self._views.evicted

    def on(self, events: Iterable[object]) -> None:
        """Clicks and views, our own or heard from another bidder; other events are passed over."""
        for event in events:
            if isinstance(event, ClickSeen):
                self._clicks.add(_touch(event))
            elif isinstance(event, ImpressionSeen):
                self._views.add(_touch(event))

    def is_known(self, order: Order) -> bool:
        return (order.advertiser_id, order.order_id) in self._orders

    def remember(self, order: Order) -> None:
        """The order is durable: from now on a repeat is answered without another event."""
        self._orders[(order.advertiser_id, order.order_id)] = None
        if len(self._orders) > self.config.orders_max:
            self._orders.popitem(last=False)

    def attribute(
        self, order: Order, campaigns: Mapping[str, CampaignEntry], now_ns: int, source: str
    ) -> ConversionAttributed | ConversionUnattributed:
        """Last click, else last view. Only touches of the order's own advertiser count."""
        # By digest: "a-b" + "c" and "a" + "b-c" are two orders, and of two advertisers.
        event_id = f"conv-{digest(order.advertiser_id, order.order_id)}"
        touch, by = self._last(order, campaigns)
        if touch is None:
            return ConversionUnattributed(
                event_id=event_id,
                happened_at_ns=order.happened_at_ns,
                recorded_at_ns=now_ns,
                source=source,
                advertiser_id=order.advertiser_id,
                order_id=order.order_id,
                value_micros=order.value_micros,
            )
        return ConversionAttributed(
            event_id=event_id,
            happened_at_ns=order.happened_at_ns,
            recorded_at_ns=now_ns,
            source=source,
            bid_id=touch.bid_id,
            exchange=touch.exchange,
            segment=touch.segment,
            campaign_id=touch.campaign_id,
            line_item_id=touch.line_item_id,
            creative_id=touch.creative_id,
            arm=touch.arm,
            bid_at_ns=touch.bid_at_ns,
            user_key=touch.user_key,
            advertiser_id=order.advertiser_id,
            order_id=order.order_id,
            value_micros=order.value_micros,
            by=by,
        )

    def _last(self, order: Order, campaigns: Mapping[str, CampaignEntry]) -> tuple[Touch | None, str]:
        clicks = self._clicks.of(order)
        click = order.click
        if click is not None and not any(touch.bid_id == click.bid_id for touch in clicks):
            clicks.append(_of_token(click))
        for touches, by in ((clicks, "click"), (self._views.of(order), "view")):
            fitting = [touch for touch in touches if _fits(touch, by, order, campaigns)]
            if fitting:
                return max(fitting, key=lambda touch: (touch.at_ns, touch.bid_id)), by
        return None, ""

    def figures(self) -> dict[str, int]:
        return {
            "clicks": len(self._clicks.by_bid),
            "views": len(self._views.by_bid),
            "orders": len(self._orders),
            "evicted": self.evicted,
        }

    def snapshot(self) -> bytes:
        """All that is remembered, oldest first, as msgpack."""
        return msgspec.msgpack.encode(
            _Snapshot(
                list(self._clicks.by_bid.values()), list(self._views.by_bid.values()), list(self._orders)
            )
        )

    def restore(self, raw: bytes) -> None:
        """Add what a snapshot holds. Raises ``msgspec.DecodeError`` for bytes that are none, changing nothing."""
        found = msgspec.msgpack.decode(raw, type=_Snapshot)
        for touch in found.clicks:
            self._clicks.add(touch)
        for touch in found.views:
            self._views.add(touch)
        for key in found.orders[-self.config.orders_max :]:
            self._orders[key] = None


def _touch(event: ClickSeen | ImpressionSeen) -> Touch:
    return Touch(
        event.bid_id,
        event.happened_at_ns,
        event.exchange,
        event.segment,
        event.campaign_id,
        event.line_item_id,
        event.creative_id,
        event.arm,
        event.bid_at_ns,
        event.user_key,
    )


def _of_token(bid: SignedBid) -> Touch:
    return Touch(
        bid.bid_id,
        bid.bid_at_ns,
        bid.exchange,
        bid.segment_name,
        bid.campaign_id,
        bid.line_item_id,
        bid.creative_id,
        bid.arm,
        bid.bid_at_ns,
        bid.user_key,
    )


def _fits(touch: Touch, by: str, order: Order, campaigns: Mapping[str, CampaignEntry]) -> bool:
    campaign = campaigns.get(touch.campaign_id)
    if campaign is None or campaign.advertiser_id != order.advertiser_id:
        return False
    window_ns = campaign.click_window_ns if by == "click" else campaign.view_window_ns
    age_ns = order.happened_at_ns - touch.at_ns
    return -SKEW_NS <= age_ns <= window_ns
