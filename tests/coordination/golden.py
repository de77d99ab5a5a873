"""Fixed cases whose outcome is written down in ``golden_vectors.json``.

``python -m tests.coordination.golden`` writes the file anew. Do so only together with a changelog entry: replicas of
the versions before and after would disagree.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from counterpoint.coordination.resolve import epoch_end_ns, genesis, resolve
from counterpoint.coordination.targets import TradeOff
from counterpoint.events.decisions import Proposal
from tests.coordination.world import CEILING, E0, target, wish

PATH = Path(__file__).parent / "golden_vectors.json"


def run(case: dict[str, Any]) -> dict[str, Any]:
    goal = target(case["target"])
    proposals = msgspec.convert(case["proposals"], list[Proposal])
    trade_off = TradeOff(*case["trade_off"])
    held = genesis(goal)
    for epoch in range(E0, E0 + case["epochs"]):
        held = resolve(goal, proposals, trade_off, held, epoch_end_ns(epoch))
    return {
        "value": held.value,
        "epoch": held.epoch,
        "winner": held.winner,
        "losers": list(held.losers),
        "digest": held.digest,
    }


def _case(
    epochs: int, *proposals: Proposal, about: str = CEILING, trade_off: tuple[int, int] = (500_000, 500_000)
) -> dict[str, Any]:
    return {
        "target": about,
        "trade_off": list(trade_off),
        "epochs": epochs,
        "proposals": [msgspec.to_builtins(p) for p in proposals],
    }


def _cases() -> list[dict[str, Any]]:
    share, explore = "campaign/b/budget_share", "campaign/a/exploration"
    cases = [
        _case(1, wish("bidding", 5_000_000, event_id="g0")),
        _case(60, wish("bidding", 5_000_000, event_id="g0")),
    ]
    cases += [
        _case(
            90,
            wish("budget", 15_000_000, "reach", event_id="g1", strength=strength),
            wish("bidding", 5_000_000, "cost", event_id="g2", confidence=confidence),
            trade_off=(reach, 1_000_000 - reach),
        )
        for reach in (200_000, 500_000, 900_000)
        for strength, confidence in ((1_000_000, 1_000_000), (400_000, 700_000))
    ]
    cases += [
        _case(1, wish("person:ann", low=8_000_000, intent="reach", event_id="g3"), wish("ledger", high=0, event_id="g4")),
        _case(9, wish("person:ann", low=8_000_000, intent="reach", event_id="g3"), wish("bidding", high=2_000_000, event_id="g5")),
        _case(40, wish("budget", 700_000, "budget", about=share, event_id="g6"), about=share),
        _case(
            40,
            wish("feedback", 300_000, "relevance", about=explore, event_id="g7"),
            wish("creative", 1_800_000, "relevance", about=explore, event_id="g8", strength=600_000),
            wish("person:bob", 1_000_000, "safety", about=explore, event_id="g9", high=1_200_000),
            about=explore,
        ),
        _case(3, wish("person:ann", 0, "safety", about="all/enabled", event_id="g10"), about="all/enabled"),
    ]  # fmt: skip
    return cases


def main() -> None:
    vectors = [{"input": case, "output": run(case)} for case in _cases()]
    PATH.write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
