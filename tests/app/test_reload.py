"""Another catalog without a restart: a new campaign bids, one that was taken out does not, everybody takes it up."""

from __future__ import annotations

import asyncio
import re
import sys
import time

import pytest

from tests.app.load import Load
from tests.app.world import Running, catalog_text, read_books, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("system")]

OUT, NEW = "volta-launch", "stride-fresh"


def other_catalog() -> str:
    """``OUT`` and its line items are gone; ``NEW`` has a line item that wants every banner."""
    text = catalog_text()
    blocks = re.split(r"(?m)^(?=\[\[)", text)
    kept = [
        block
        for block in blocks
        if f'campaign = "{OUT}"' not in block and not block.startswith(f'[[campaign]]\nid = "{OUT}"')
    ]
    assert len(kept) < len(blocks)
    at = max(i for i, block in enumerate(kept) if block.startswith("[[campaign]]"))
    kept.insert(
        at + 1,
        f'[[campaign]]\nid = "{NEW}"\nname = "Fresh"\nadvertiser = "stride"\ndaily_budget = "50.00"\ngoal = "clicks"\n'
        'target_cpc = "5.00"\nbid_ceiling_cpm = "20.00"\n\n',
    )
    kept.append(
        f'\n[[line_item]]\nid = "{NEW}-web"\ncampaign = "{NEW}"\nexpected_click_rate = 0.05\n'
        'creatives = ["stride-300x250-red-price", "stride-728x90-red-price", "stride-320x50-red-price"]\n'
    )
    return "".join(kept)


async def test_a_catalog_is_taken_up_without_a_restart(running: Running, load: Load) -> None:
    await running.ready()
    pids = {name: part.pid for name, part in running.parts.items()}
    assert (await load.ask(200))[OUT] > 0
    file = running.config.parent / "other.toml"
    file.write_text(other_catalog(), "utf-8")
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "counterpoint.app.cli",
            "catalog",
            "load",
            str(file),
            "--config",
            str(running.config),
        ),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said
    assert b"in place" in said
    assert b"the bus was told" in said

    digest = said.decode().split("catalog ")[-1].split()[0]
    deadline = time.monotonic() + 30.0
    while not (await running.status())["view"]["catalog"].startswith(digest):
        assert time.monotonic() < deadline, "the bidder does not take the catalog up"
        await asyncio.sleep(0.1)
    bids = await load.ask(100)
    while bids[NEW] == 0:
        assert time.monotonic() < deadline, f"{NEW} does not bid: {bids}"
        bids = await load.ask(100)
    assert bids[OUT] == 0
    await until(lambda: NEW in running.watch.balances, "the ledger has opened its account")
    assert any(campaign == NEW for campaign, _ in read_books(running.settings).accounts)
    assert {name: part.pid for name, part in running.parts.items()} == pids, "nobody was started again"
