"""The frozen workload: the same bytes for ever, honest sizes, and enough to decide about."""

from __future__ import annotations

import time
from statistics import median

from counterpoint.base.ids import digest
from counterpoint.bench import workload
from counterpoint.bidder.decide import Candidates, decide
from counterpoint.bidder.experiment import ARMS
from counterpoint.bidder.frequency import NOBODY
from counterpoint.bidder.view import ViewInputs, compile_view
from counterpoint.openrtb.request import decode_request
from tests.bidder.hot import left_everywhere


def test_the_workload_is_frozen() -> None:
    """A change here is a new workload: give it a new name."""
    assert workload.NAME == "mixed-1800-v1"
    assert digest(*workload.bodies(1, 200)) == "c828e61e59135b4e087ef09e415c314e"
    catalog = workload.catalog(200, 500)
    aims = [
        (
            item.id,
            item.creative_ids,
            item.expected_click_rate,
            t.countries,
            t.os,
            t.channels,
            t.categories,
            t.domains,
        )
        for item in catalog.line_items
        for t in [item.targeting]
    ]
    values = [(campaign.id, campaign.goal_value_micros) for campaign in catalog.campaigns]
    assert digest(repr((aims, values))) == "db72a9306cc60219daa2ef108e9b38ef"


def test_bodies_are_as_long_as_real_ones() -> None:
    sizes = [len(body) for body in workload.bodies(3, 500)]
    assert 1_700 <= median(sizes) <= 1_900


def test_most_requests_end_in_a_bid_and_there_is_something_to_choose_from() -> None:
    view = compile_view(ViewInputs(catalog=workload.catalog(1_000)))
    left = left_everywhere(view)
    now_ns = time.time_ns()
    made = [
        decide(decode_request(body), workload.EXCHANGE, view, NOBODY, left, now_ns, at)
        for at, body in enumerate(workload.bodies(5, 300))
    ]
    bids = [one for one in made if isinstance(one, Candidates)]
    assert len(bids) >= 0.8 * len(made)
    assert median(one.eligible for one in bids) >= 20
    assert median(one.scored for one in bids) >= 100
    assert {ARMS[one.arm] for one in bids} == {"agents"}
