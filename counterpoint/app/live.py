"""The live view: one screen that says what happens, who is alive, and why each agent last decided what it did."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from counterpoint.app.supervisor import Part
from counterpoint.app.watch import Watch, spent_nanos
from counterpoint.base.money import nanos_to_micros_up
from counterpoint.catalog.model import Catalog

AGENTS = ("budget", "bidding", "creative", "feedback")
PARTS = ("ledger", *AGENTS, "recorder", "bidder")
NEWS_SHOWN = 5


def money(nanos: int) -> str:
    return f"{nanos_to_micros_up(nanos) / 1_000_000:,.2f}"


class LiveView:
    def __init__(self, watch: Watch, parts: dict[str, Part], catalog: Catalog, title: str) -> None:
        self.watch = watch
        self.parts = parts
        self.catalog = catalog
        self.title = title
        self.news: deque[str] = deque(maxlen=NEWS_SHOWN)

    def __rich__(self) -> RenderableType:
        return Group(self._traffic(), self._campaigns(), self._agents(), self._resolution(), self._news())

    def _traffic(self) -> RenderableType:
        watch = self.watch
        latency = watch.status.get("latency_us", {})
        line = Table.grid(padding=(0, 3))
        line.add_row(
            f"[bold]{watch.rate('requests'):,.0f}[/] requests/s",
            f"[bold]{watch.rate('bids'):,.0f}[/] bids/s",
            f"[bold]{watch.rate('wins'):,.1f}[/] wins/s",
            f"[bold]{watch.rate('clicks'):,.2f}[/] clicks/s",
            f"answer p50 [bold]{latency.get('p50', 0) / 1000:.2f}[/] p99 [bold]{latency.get('p99', 0) / 1000:.2f}[/] ms",
            "bus [green]up[/]" if watch.bus_alive else "bus [red bold]AWAY[/]",
            "bidder [green]up[/]" if watch.bidder_alive else "bidder [red bold]AWAY[/]",
        )
        totals = watch.totals
        sums = Text.from_markup(
            f"in all {totals.get('requests', 0):,} requests, {totals.get('bids', 0):,} bids, "
            f"{totals.get('wins', 0):,} wins, {totals.get('impressions', 0):,} impressions, "
            f"{totals.get('clicks', 0):,} clicks, {totals.get('conversions', 0):,} conversions"
        )
        return Panel(Group(line, sums), title=self.title, title_align="left")

    def _campaigns(self) -> RenderableType:
        table = Table(expand=True, box=None, pad_edge=False)
        for name in ("campaign", "goal", "spent", "of budget", "", "reserved", "overspend", "state"):
            table.add_column(
                name, justify="right" if name in ("spent", "of budget", "reserved", "overspend") else "left"
            )
        for campaign in self.catalog.campaigns:
            balance = self.watch.balances.get(campaign.id)
            if balance is None:
                table.add_row(
                    escape(campaign.name),
                    campaign.goal.value,
                    "-",
                    money(campaign.daily_budget_micros * 1000),
                )
                continue
            spent = spent_nanos(balance)
            state = balance.stop_reason or "stopped" if balance.stopped else "open"
            if not balance.stopped and spent >= balance.budget_nanos * 0.99:
                state = "spent"
            table.add_row(
                escape(campaign.name),
                campaign.goal.value,
                money(spent),
                money(balance.budget_nanos),
                ProgressBar(total=max(balance.budget_nanos, 1), completed=spent, width=24),
                money(balance.reserved_nanos),
                f"[red]{money(balance.overspend_nanos)}[/]" if balance.overspend_nanos else "0.00",
                escape(state),
            )
        return Panel(table, title="money (account currency)", title_align="left")

    def _agents(self) -> RenderableType:
        table = Table(expand=True, box=None, pad_edge=False)
        table.add_column("part", no_wrap=True)
        table.add_column("state", no_wrap=True)
        table.add_column("pid", justify="right")
        table.add_column("restarts", justify="right")
        table.add_column("policy", justify="right")
        table.add_column("last decision, and why", ratio=1)
        for name in PARTS:
            part, beat = self._part(name), self.watch.beats.get(name)
            table.add_row(
                name,
                self.state_of(name),
                str(part.pid or "-") if part else "-",
                str(part.restarts) if part else "-",
                f"v{beat.policy_version}" if beat and beat.policy_version else "",
                f"{escape(beat.last_decision)}  [dim]{escape(beat.why)}[/]"
                if beat and beat.last_decision
                else "",
            )
        return Panel(table, title="who is alive", title_align="left")

    def _part(self, name: str) -> Part | None:
        return self.parts.get(f"agent-{name}" if name in AGENTS else name)

    def state_of(self, name: str) -> str:
        part, beat = self._part(name), self.watch.beats.get(name)
        if part is not None and part.pid is None:
            return f"[red bold]{part.state}[/]" if part.state != "stopped" else "[dim]stopped[/]"
        if beat is None or (part is not None and beat.happened_at_ns < part.started_at_ns):
            return "[yellow]starting[/]"
        if not self.watch.alive(name):
            return (
                "[red bold]silent[/]"
                if part is not None and part.state == "running"
                else f"[yellow]{beat.state}[/]"
            )
        return f"[green]{beat.state}[/]" if beat.state == "running" else f"[yellow]{beat.state}[/]"

    def _resolution(self) -> RenderableType:
        clash = self.watch.clash
        if clash is None:
            return Panel(
                "[dim]no clash of wishes so far[/]", title="latest clash, resolved", title_align="left"
            )
        text = (
            f"[bold]{clash.target}[/] {clash.incumbent:,} -> [bold]{clash.value:,}[/]  "
            f"winner {clash.winner}, yielding {', '.join(clash.losers)}\n[dim]{escape(clash.why)}[/]"
        )
        return Panel(text, title=f"latest clash, resolved (epoch {clash.epoch})", title_align="left")

    def _news(self) -> RenderableType:
        lines: Sequence[str] = [escape(line) for line in self.news] or [
            "[dim]Ctrl-C stops everything cleanly; a second start resumes[/]"
        ]
        return Panel("\n".join(lines), title="news", title_align="left")
