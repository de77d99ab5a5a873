"""What the View derives from the catalog alone: compiled once per catalog, shared by every View that uses it."""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from counterpoint.base.money import MICROS_PER_UNIT
from counterpoint.bidder.fits import FitClasses
from counterpoint.bidder.frequency import DAY_NS, line_item_key
from counterpoint.bidding.policy import BiddingFrame, prepare_bidding
from counterpoint.catalog.index import CatalogIndex, compile_index
from counterpoint.catalog.model import (
    MTYPE,
    Campaign,
    Catalog,
    Creative,
    ExchangeProfile,
    LineItem,
    UnknownUser,
)
from counterpoint.creative.policy import CreativeFrame, prepare_creative

# columns of CatalogPart.rules, by line item
R_CAMPAIGN: Final = 0
R_KEY: Final = 1  # the line item's key in a user's records
R_CAP: Final = 2  # impressions; 0: no cap
R_WINDOW: Final = 3  # ns
R_UNKNOWN_NO_BID: Final = 4  # 1: capped, and does not bid on who cannot be counted
R_PURSE: Final = 5  # whose allowances pay: the campaign's place, or behind the campaigns the line item's own
RULES: Final = 6

MEDIA_OF_MTYPE: Final = {number: media for media, number in MTYPE.items()}
MEDIA_NAMES: Final = ("", *(MEDIA_OF_MTYPE[number].value for number in sorted(MEDIA_OF_MTYPE)))  # by mtype


class ExchangePart(Struct, frozen=True):
    """One exchange as the hot path reads it. ``segment_names[mtype]``; position 0 is unused."""

    profile: ExchangeProfile
    segment_names: tuple[str, ...]
    settles: tuple[str, ...]  # by mtype: what ``profile.settles_by`` says


class CatalogPart:
    """Arrays and tuples by position; positions are those of the catalog's own order."""

    __slots__ = (
        "campaign_ids",
        "campaign_positions",
        "campaigns",
        "catalog",
        "ceilings",
        "creative_mtype",
        "creatives",
        "digest",
        "domains",
        "exchanges",
        "fit_classes",
        "frame",
        "frame_creative",
        "horizon_ns",
        "index",
        "line_item_positions",
        "line_items",
        "lines_capped",
        "purses",
        "rates",
        "rules",
    )

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.digest = catalog.digest
        self.index: CatalogIndex = compile_index(catalog)
        self.fit_classes = FitClasses(self.index)
        self.campaigns: tuple[Campaign, ...] = catalog.campaigns
        self.line_items: tuple[LineItem, ...] = catalog.line_items
        self.creatives: tuple[Creative, ...] = catalog.creatives
        self.campaign_ids = tuple(campaign.id for campaign in catalog.campaigns)
        self.campaign_positions = {name: at for at, name in enumerate(self.campaign_ids)}
        self.line_item_positions = {item.id: at for at, item in enumerate(catalog.line_items)}
        exchange_ids = tuple(profile.id for profile in catalog.exchanges)
        self.frame: BiddingFrame = prepare_bidding(catalog.campaigns, catalog.line_items, exchange_ids)
        self.frame_creative: CreativeFrame = prepare_creative(catalog.line_items, catalog.creatives)
        self.ceilings: NDArray[np.int64] = np.array(
            [campaign.bid_ceiling_micros for campaign in catalog.campaigns], np.int64
        )
        # line items with a cap of their own bid on allowances of their own
        self.lines_capped = tuple((i.campaign_id, i.id) for i in catalog.line_items if i.spend_capped)
        self.purses = len(self.campaign_ids) + len(self.lines_capped)
        self.rules = _rules(catalog, self.campaign_positions)
        self.creative_mtype: NDArray[np.int64] = np.array(
            [MTYPE[creative.media] for creative in catalog.creatives], np.int64
        )
        domains = {advertiser.id: advertiser.domain for advertiser in catalog.advertisers}
        self.domains = tuple(domains[creative.advertiser_id] for creative in catalog.creatives)  # adomain
        self.exchanges = {profile.id: _exchange(profile) for profile in catalog.exchanges}
        # micros of the account currency for one unit of each
        self.rates = {rate.currency: rate.micros for rate in catalog.rates}
        self.rates[catalog.account_currency] = MICROS_PER_UNIT
        self.horizon_ns = max(
            [DAY_NS]
            + [
                item.frequency_cap.window_s * 1_000_000_000
                for item in catalog.line_items
                if item.frequency_cap
            ]
        )


def _exchange(profile: ExchangeProfile) -> ExchangePart:
    names, settles = [""], [""]
    for number in sorted(MEDIA_OF_MTYPE):
        media = MEDIA_OF_MTYPE[number]
        names.append(f"{profile.id}/{media.value}")
        settles.append(profile.settles_by(media).value)
    return ExchangePart(profile, tuple(names), tuple(settles))


def _rules(catalog: Catalog, campaigns: dict[str, int]) -> NDArray[np.int64]:
    rules = np.zeros((len(catalog.line_items), RULES), np.int64)
    purse = len(campaigns)
    for at, item in enumerate(catalog.line_items):
        rules[at, R_CAMPAIGN] = campaigns[item.campaign_id]
        rules[at, R_PURSE] = campaigns[item.campaign_id]
        if item.spend_capped:
            rules[at, R_PURSE] = purse
            purse += 1
        rules[at, R_KEY] = line_item_key(item.id)
        cap = item.frequency_cap
        if cap is not None:
            rules[at, R_CAP] = max(1, cap.impressions)
            rules[at, R_WINDOW] = cap.window_s * 1_000_000_000
            rules[at, R_UNKNOWN_NO_BID] = int(item.unknown_user is UnknownUser.NO_BID)
    return rules
