"""``POST /conversions/{advertiser}``: who may report an order, what a report must hold, one event per order.

::

    Authorization: Bearer <the advertiser's conversion_token>
    {"order_id": "A-17", "value": "49.90", "currency": "EUR", "happened_at": "2030-01-31T12:00:00Z",
     "click_id": "...", "bid_id": "...", "user": {"kind": "ifa", "id": "..."}}

``order_id`` is required; ``value`` defaults to 0, ``currency`` to the account's, ``happened_at`` (ISO 8601 with an
offset, or Unix seconds) to now. Any of ``click_id`` (what ``{click_id}`` in the click target became), ``bid_id`` and
``user`` say which ad may have led to it; with none of them the order is unattributed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime
from decimal import Decimal, InvalidOperation
from hmac import compare_digest

import msgspec
from msgspec import Struct

from counterpoint.base.clock import NS_PER_S
from counterpoint.base.money import MICROS_PER_UNIT
from counterpoint.base.unreadable import UNREADABLE
from counterpoint.bidder.attribution import Order
from counterpoint.bidder.signing import BadToken, NoticeKind
from counterpoint.bidder.tracker import Tracker
from counterpoint.events import subjects
from counterpoint.events.facts import ConversionAttributed, ConversionUnattributed

TEXT_MAX = 200
VALUE_MICROS_MAX = 10**9 * MICROS_PER_UNIT


class ConversionUser(Struct, frozen=True, forbid_unknown_fields=True):
    kind: str  # as in OpenRTB: "ifa", "buyeruid", "eid" (then id is "source:uid")
    id: str


class ConversionPost(Struct, frozen=True, forbid_unknown_fields=True):
    order_id: str
    value: str | int | float = 0
    currency: str = ""
    happened_at: str | int | float | None = None
    click_id: str = ""
    bid_id: str = ""
    user: ConversionUser | None = None


class ConversionAnswer(Struct, frozen=True, omit_defaults=True):
    """``status``: attributed | unattributed | duplicate | unauthorized | invalid | unavailable."""

    status: str
    by: str = ""
    campaign_id: str = ""
    error: str = ""


class _Invalid(Exception):
    """The report cannot be used; the message says why and is shown to the advertiser."""


_DECODER = msgspec.json.Decoder(ConversionPost)


class ConversionDesk:
    """Takes reports for one tracker; an event goes the durable way, so that 200 means kept."""

    def __init__(self, tracker: Tracker, bidder_id: str) -> None:
        self.tracker = tracker
        self.counters: Counter[str] = Counter()
        self._subject = subjects.outcomes(bidder_id)
        self._under_way: dict[tuple[str, str], asyncio.Future[ConversionAnswer]] = {}

    def report(
        self, advertiser_id: str, authorization: bytes, body: bytes
    ) -> ConversionAnswer | asyncio.Future[ConversionAnswer]:
        """One report. The token of an advertiser opens that advertiser alone."""
        expected = self.tracker.directory.conversion_tokens.get(advertiser_id, "")
        scheme, _, given = authorization.partition(b" ")
        same = compare_digest(given.strip(), expected.encode())
        if not expected or scheme.lower() != b"bearer" or not same:
            return self._count(ConversionAnswer("unauthorized"))
        now_ns = self.tracker.clock.now_ns()
        try:
            order = self._read(advertiser_id, body, now_ns)
        except _Invalid as invalid:
            return self._count(ConversionAnswer("invalid", error=str(invalid)))
        except UNREADABLE as error:
            return self._count(ConversionAnswer("invalid", error=str(error)[:TEXT_MAX]))
        attribution = self.tracker.attribution
        key = (order.advertiser_id, order.order_id)
        under_way = self._under_way.get(key)
        if attribution.is_known(order) or under_way is not None:
            answer = self._count(ConversionAnswer("duplicate"))
            return answer if under_way is None else under_way
        event = attribution.attribute(order, self.tracker.directory.campaigns, now_ns, self.tracker.source)
        saved = self.tracker.committer.submit(self._subject, event)
        answered: asyncio.Future[ConversionAnswer] = saved.get_loop().create_future()
        self._under_way[key] = answered

        def on_saved(future: asyncio.Future[bool]) -> None:
            self._under_way.pop(key, None)
            if not future.cancelled() and future.result():
                attribution.remember(order)
                answer = _answer(event)
            else:
                answer = ConversionAnswer("unavailable", error="not kept: send it again")
            if not answered.done():
                answered.set_result(self._count(answer))

        saved.add_done_callback(on_saved)
        return answered

    def _count(self, answer: ConversionAnswer) -> ConversionAnswer:
        self.counters[answer.status] += 1
        return answer

    def _read(self, advertiser_id: str, body: bytes, now_ns: int) -> Order:
        post = _DECODER.decode(body)
        order_id = post.order_id.strip()
        if not order_id or len(order_id) > TEXT_MAX or not order_id.isprintable():
            raise _Invalid(f"order_id must be 1 to {TEXT_MAX} printable characters")
        click = None
        if post.click_id:
            found = self.tracker.signer.verify(NoticeKind.CLICK, post.click_id.encode("utf-8", "replace"))
            click = None if isinstance(found, BadToken) or found.test else found
            self.counters["click_id_bad"] += isinstance(found, BadToken)
        user_key = ""
        if post.user is not None and post.user.id:
            user = post.user
            name = user.id.lower() if user.kind == "ifa" else user.id
            user_key = self.tracker.frequency.user_key(user.kind, name)
        return Order(
            advertiser_id=advertiser_id,
            order_id=order_id,
            value_micros=self._value_micros(post),
            happened_at_ns=_happened_at_ns(post.happened_at, now_ns),
            click=click,
            bid_id=post.bid_id,
            user_key=user_key,
        )

    def _value_micros(self, post: ConversionPost) -> int:
        """In micros of the account currency, rounded down."""
        text = str(post.value).strip()
        if not text.isascii() or "_" in text:  # Decimal reads digits of any script, and 1_0 as ten
            raise _Invalid("value must be a decimal number")
        try:
            value = Decimal(text)
        except InvalidOperation:
            raise _Invalid("value must be a decimal number") from None
        if not value.is_finite() or value < 0 or value.adjusted() > 12:
            raise _Invalid("value must be a decimal number from 0 to 1,000,000,000")
        rate = MICROS_PER_UNIT
        if post.currency:
            known = self.tracker.directory.rates.get(post.currency.upper())
            if known is None:
                raise _Invalid("currency has no rate in the catalog")
            rate = known
        micros = int(value * rate) if value.adjusted() > -20 else 0
        if micros > VALUE_MICROS_MAX:
            raise _Invalid("value must be at most 1,000,000,000 units")
        return micros


def _answer(event: ConversionAttributed | ConversionUnattributed) -> ConversionAnswer:
    if isinstance(event, ConversionAttributed):
        return ConversionAnswer("attributed", by=event.by, campaign_id=event.campaign_id)
    return ConversionAnswer("unattributed")


def _happened_at_ns(given: str | int | float | None, now_ns: int) -> int:
    """What is said to be in the future happened now."""
    if given is None:
        return now_ns
    if isinstance(given, str):
        try:
            moment = datetime.fromisoformat(given)
            if moment.tzinfo is None:
                raise _Invalid("happened_at needs an offset, like 2030-01-31T12:00:00Z")
            seconds = moment.timestamp()
        except (ValueError, OverflowError):
            raise _Invalid("happened_at must be ISO 8601 or Unix seconds") from None
    else:
        seconds = float(given) if abs(given) < 10**12 else -1.0
    if seconds < 0:
        raise _Invalid("happened_at must be ISO 8601 or Unix seconds")
    return min(int(seconds * NS_PER_S), now_ns)
