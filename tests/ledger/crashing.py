"""A ledger process for the crash test: books the deliveries it can compute by itself, and is killed while it does.

``python -m tests.ledger.crashing ENGINE_URL``: says one line per committed batch, and "done" at the end.
"""

from __future__ import annotations

import sys

from counterpoint.bus.bus import Delivery
from counterpoint.ledger.books import Ledger
from tests.ledger.build import NOW, S, Stream, campaign, catalog, notice, request, started

GRANTS = 20
SETTLEMENTS = 1_500
PAID = 10_000_000
BATCH = 20


def allowance_ids(ledger: Ledger) -> list[str]:
    return [a.allowance_id for a in ledger.allowances()]


def commands() -> list[Delivery]:
    return Stream().of(started(), *(request(i, nanos=2_000_000_000) for i in range(GRANTS)))


def notices(allowances: list[str]) -> list[Delivery]:
    stream = Stream()
    stream.sequence = GRANTS + 1
    return stream.of(
        *(
            notice(f"bid{i}", allowances[i % len(allowances)], paid=PAID, until=NOW + 60 * S)
            for i in range(SETTLEMENTS)
        )
    )


def main(engine_url: str) -> None:
    ledger = Ledger(engine_url, catalog(campaign(units=100)))
    ledger.apply(commands(), NOW)
    deliveries = notices(allowance_ids(ledger))
    for start in range(0, len(deliveries), BATCH):
        ledger.apply(deliveries[start : start + BATCH], NOW + S)
        print(start, flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
