"""What the tracker looks up in the catalog: where a click goes, whose a campaign is, who may post conversions."""

from __future__ import annotations

import logging
from typing import Final

from msgspec import Struct

from counterpoint.base.clock import NS_PER_MS, NS_PER_S
from counterpoint.base.money import MICROS_PER_UNIT
from counterpoint.bidder.message import header
from counterpoint.catalog.model import Catalog, ExchangeProfile

log = logging.getLogger(__name__)

RETIRED_MAX: Final = (
    100_000  # click targets of creatives that left the catalog, kept while their ads may be out
)
BILLING_DELAY_NS: Final = 3_600_000 * NS_PER_MS  # of an exchange that left the catalog
CLICK_ID: Final = (
    "{click_id}"  # in a click target: becomes the click's token, for the advertiser to send back
)


class CampaignEntry(Struct, frozen=True):
    advertiser_id: str
    click_window_ns: int
    view_window_ns: int


class Directory:
    """Immutable; made anew with each catalog by :meth:`build`."""

    def __init__(self) -> None:
        self.click_urls: dict[str, str] = {}  # by creative
        self.retired_click_urls: dict[str, str] = {}
        self.campaigns: dict[str, CampaignEntry] = {}
        self.conversion_tokens: dict[str, str] = {}  # by advertiser; empty: conversions refused
        self.exchanges: dict[str, ExchangeProfile] = {}
        self.capped: frozenset[str] = (
            frozenset()
        )  # line items with a frequency cap: the others are not counted
        self.rates: dict[str, int] = {}  # micros of the account currency for one unit
        self.unusable_click_urls = 0

    @classmethod
    def build(cls, catalog: Catalog, previous: Directory | None = None) -> Directory:
        made = cls()
        for creative in catalog.creatives:
            if is_click_target(creative.click_url):
                made.click_urls[creative.id] = creative.click_url
            else:
                made.unusable_click_urls += 1
        if previous is not None:
            retired = {**previous.retired_click_urls, **previous.click_urls}
            gone = [(name, url) for name, url in retired.items() if name not in made.click_urls]
            made.retired_click_urls = dict(gone[-RETIRED_MAX:])
        made.campaigns = {
            campaign.id: CampaignEntry(
                campaign.advertiser_id,
                campaign.click_window_s * NS_PER_S,
                campaign.view_window_s * NS_PER_S,
            )
            for campaign in catalog.campaigns
        }
        made.conversion_tokens = {a.id: a.conversion_token for a in catalog.advertisers}
        made.exchanges = {profile.id: profile for profile in catalog.exchanges}
        made.capped = frozenset(item.id for item in catalog.line_items if item.frequency_cap is not None)
        made.rates = {rate.currency: rate.micros for rate in catalog.rates}
        made.rates[catalog.account_currency] = MICROS_PER_UNIT
        if made.unusable_click_urls:
            log.warning(
                "%d creatives have no usable click_url: clicks on them are answered 404",
                made.unusable_click_urls,
            )
        return made

    def click_url(self, creative_id: str) -> str | None:
        return self.click_urls.get(creative_id) or self.retired_click_urls.get(creative_id)

    def billing_delay_ns(self, exchange: str) -> int:
        profile = self.exchanges.get(exchange)
        return profile.billing_delay_max_ms * NS_PER_MS if profile is not None else BILLING_DELAY_NS


def is_click_target(url: str) -> bool:
    """Absolute http(s) with a host, and fit for a header line as it is.

    >>> is_click_target("https://shop.example/?a=1"), is_click_target("javascript:alert(1)"), is_click_target("//x")
    (True, False, False)
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() not in ("http", "https") or not rest or rest[0] in "/?#\\":
        return False
    try:
        header(b"Location", url.encode())
    except (ValueError, UnicodeEncodeError):
        return False
    return " " not in url and "\\" not in url
