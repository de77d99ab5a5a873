"""A line item with a cap of its own bids on its own allowances, and nobody else does."""

from __future__ import annotations

import msgspec
import numpy as np

from counterpoint.base.money import NANOS_PER_MICRO
from counterpoint.bidder.arm_budgets import ArmBudgets
from counterpoint.bidder.experiment import ARMS
from counterpoint.catalog.model import Catalog
from counterpoint.events.money import AllowanceRequested
from tests.bidder.hot import NOW_NS, Bidder, banner_request, small_catalog, view_of

UNIT = 1_000_000_000


def capped_catalog() -> Catalog:
    """Two banner line items; the better one has a cap."""
    catalog = small_catalog()
    banner = catalog.line_items[0]
    lines = (
        msgspec.structs.replace(banner, id="capped", expected_click_rate=0.004, daily_cap_micros=3_000_000),
        msgspec.structs.replace(banner, id="free", expected_click_rate=0.002),
    )
    return msgspec.structs.replace(catalog, line_items=lines, digest="capped")


def won_by(bidder: Bidder, number: int) -> str:
    assert bidder.bids(banner_request(id=f"r{number}"))
    return str(getattr(bidder.heard.events[-1], "line_item_id", ""))


def test_it_bids_on_its_own_allowance_until_that_is_spent() -> None:
    view = view_of(capped_catalog())
    campaign_id = view.part.line_items[0].campaign_id
    purse = view.part.purses - 1
    bidder = Bidder(view)
    assert bidder.book.left.shape == (view.part.purses, len(ARMS))
    assert won_by(bidder, 1) == "free", "the campaign's money is not for the capped one"
    price = round(bidder.bids(banner_request(id="p"))[0]["price"] * 1e6)
    for arm in ARMS:
        bidder.grant(campaign_id, arm, 20 * price, "capped")
    before = bidder.book.left.copy()
    assert won_by(bidder, 2) == "capped"
    spent = before - bidder.book.left
    assert spent[purse].sum() == spent.sum() > 0
    for number in range(100):
        if won_by(bidder, 10 + number) == "free":
            break
    else:
        raise AssertionError("it bids beyond its allowance")
    assert (bidder.book.left >= 0).all()


def test_it_asks_for_itself_and_takes_no_more_than_its_cap() -> None:
    view = view_of(capped_catalog())
    bidder = Bidder(view, arms=())
    budgets = ArmBudgets(view.part.campaigns, (1.0, *(0.0 for _ in ARMS[1:])), view.part.line_items)
    caps = budgets.caps(NOW_NS)
    assert caps.shape == bidder.book.left.shape
    assert caps[-1].max() <= 3_000_000 * NANOS_PER_MICRO
    asked = bidder.book.requests_due(NOW_NS, np.minimum(caps, 10 * UNIT))
    assert all(isinstance(e, AllowanceRequested) and e.currency == "USD" for e in asked)
    assert {e.line_item_id for e in asked} == {"", "capped"}


def test_a_cap_that_goes_away_gives_its_money_back() -> None:
    view = view_of(capped_catalog())
    campaign_id = view.part.line_items[0].campaign_id
    bidder = Bidder(view, arms=())
    bidder.grant(campaign_id, ARMS[0], UNIT, "capped")
    bidder.book.remap(view.part.campaign_ids)
    (back,) = bidder.book.returns_due(NOW_NS)
    assert (back.amount_nanos, back.final) == (UNIT, True)
