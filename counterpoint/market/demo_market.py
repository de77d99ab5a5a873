"""The demo world as a market of an exchange: auctions in the order of their numbers, and people who act within seconds."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from counterpoint.market.demo_world import DemoWorld, Opportunity
from counterpoint.market.exchange import Ask, Deed, Offer, Verdict, tracking_urls


class DemoMarket:
    """Never over."""

    over = False

    def __init__(self, world: DemoWorld, first_number: int = 0) -> None:
        self.world = world
        self._number = first_number
        self._deeds: list[Deed] = []

    @property
    def seed(self) -> int:
        return self.world.seed

    def draw(self, stream: int, number: int) -> float:
        return self.world.draw(stream, number)

    def ask(self) -> Ask:
        number = self._number
        self._number += 1
        it = self.world.opportunity(number)
        test = bool(it.body.get("test"))
        body = msgspec.json.encode(it.body)
        return Ask(number, it.venue.exchange, it.media, it.body["tmax"], body, test, it)

    def hold(self, ask: Ask, offers: Sequence[Offer]) -> Verdict:
        if not offers:
            return Verdict()
        it: Opportunity = ask.what
        made = max(range(len(offers)), key=lambda k: offers[k].price)
        price, rival = offers[made].price, Decimal(str(round(it.rival_cpm, 6)))
        threshold = max(rival, Decimal(str(it.floor_cpm)))
        told = threshold if it.venue.loss_notices else None
        if price < threshold:
            return Verdict(made, minimum=told)
        self._meet(ask, offers[made], it)
        return Verdict(made, True, price if it.venue.auction_type == 1 else threshold, told)

    def deeds(self, last: bool = False) -> list[Deed]:
        told, self._deeds = self._deeds, []
        return told

    def _meet(self, ask: Ask, offer: Offer, it: Opportunity) -> None:
        """Somebody may see it, and skip, click, buy."""
        number = ask.number
        tracked = {kind for _, kind in tracking_urls(offer.text("adm"))}
        if "imp" not in tracked or self.draw(2, number) >= 0.97:
            return
        seen_at = 0.5 + 2.0 * self.draw(3, number)
        self._deeds.append(Deed(seen_at, "imp", offer))
        if "skip" in tracked and self.world.skips(it, number):
            self._deeds.append(Deed(seen_at + 5.0, "skip", offer))
        elif self.draw(4, number) < self.world.click_rate(offer.text("crid"), it):
            self._deeds.append(Deed(seen_at + 1.0 + 4.0 * self.draw(5, number), "click", offer))
            if self.draw(6, number) < self.world.conversion_rate(offer.text("cid")):
                value = str(round(10 + 90 * self.world.draw(9, number), 2))
                self._deeds.append(Deed(seen_at + 6.0 + 20.0 * self.draw(7, number), "order", offer, value))
