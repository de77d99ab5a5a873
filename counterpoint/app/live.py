"""The live view: one screen that says what happens, who is alive, and why each agent last decided what it did.

Boxes where the terminal has room for them; on a small one the same lines without boxes and without wrapping, so that
nothing falls off the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime

from rich.console import Console, ConsoleOptions, RenderableType
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
PPM = 1_000_000
REASONS_SHOWN = 3
WIDE = 112  # columns from which a line of traffic fits and every column is shown
BOXED_LINES = 40  # lines of the boxed view beside its campaigns, some of them wrapped
COMPACT_LINES = 16  # of the one without boxes
VERSION_IS_TIME = 10**12  # a policy version from here on is the millisecond it was made at


def money(nanos: int) -> str:
    return f"{nanos_to_micros_up(nanos) / 1_000_000:,.2f}"


def policy_name(version: int) -> str:
    """What fits a column.

    >>> policy_name(12)
    'v12'
    """
    if version >= VERSION_IS_TIME:
        return f"{datetime.fromtimestamp(version / 1000):%H:%M:%S}"
    return f"v{version}" if version else ""


def target_unit(target: str) -> Callable[[int], str]:
    """How the values of a setting read.

    >>> target_unit("campaign/42/bid_ceiling")(2_500_000)
    '2.50 CPM'
    >>> target_unit("campaign/42/budget_share")(250_000)
    '25.0 %'
    """
    setting = target.rpartition("/")[2]
    if setting == "bid_ceiling":
        return lambda value: f"{value / PPM:,.2f} CPM"
    if setting in ("budget_share", "exploration"):
        return lambda value: f"{value * 100 / PPM:.1f} %"
    return lambda value: f"{value:,}"


class LiveView:
    """``once``: printed, not kept on the screen, by somebody who does not hold the parts."""

    def __init__(
        self, watch: Watch, parts: dict[str, Part], catalog: Catalog, title: str, *, once: bool = False
    ) -> None:
        self.watch = watch
        self.parts = parts
        self.catalog = catalog
        self.title = title
        self.once = once
        self.news: deque[str] = deque(maxlen=NEWS_SHOWN)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        wide = options.max_width >= WIDE
        height = 10_000 if self.once or not console.is_terminal else console.size.height
        boxed = height >= BOXED_LINES + len(self._campaign_ids())
        rows_max = len(self._campaign_ids()) if boxed else max(height - COMPACT_LINES - 2 * (not wide), 1)
        sections: list[tuple[str, RenderableType]] = [
            (self.title, self._traffic(wide)),
            ("money (account currency)", self._campaigns(wide, rows_max)),
            ("who is alive", self._agents(wide, boxed)),
            (self._clash_title(), self._clash(boxed)),
        ]
        if not self.once:
            sections.append(("news", self._news(NEWS_SHOWN if boxed else 1, boxed)))
        for title, section in sections:
            yield Panel(section, title=title, title_align="left") if boxed else section

    def _traffic(self, wide: bool) -> Text:
        watch, away = self.watch, "[red bold]AWAY[/]"
        latency = watch.status.get("latency_us", {}) if watch.bidder_alive else {}
        p50, p99 = (f"{latency[key] / 1000:.2f}" if key in latency else "-" for key in ("p50", "p99"))
        totals = watch.totals
        lines = [
            f"[bold]{watch.rate('requests'):,.0f}[/] requests/s   [bold]{watch.rate('bids'):,.0f}[/] bids/s   "
            f"[bold]{watch.rate('wins'):,.1f}[/] wins/s   [bold]{watch.rate('clicks'):,.2f}[/] clicks/s   "
            f"answer p50 [bold]{p50}[/] p99 [bold]{p99}[/] ms   "
            f"bus {'[green]up[/]' if watch.bus_alive else away}   "
            f"bidder {'[green]up[/]' if watch.bidder_alive else away}"
            + ("   [red bold]all stopped by a person[/]" if "all" in watch.stops() else ""),
            f"{'since the bidder started' if self.once else 'since the start'} {totals.get('requests', 0):,} requests, {totals.get('bids', 0):,} bids, "
            f"{totals.get('wins', 0):,} wins, {totals.get('impressions', 0):,} impressions, "
            f"{totals.get('clicks', 0):,} clicks, {totals.get('conversions', 0):,} conversions",
            self._no_bids(wide),
        ]
        return Text.from_markup("\n".join(lines))

    def _no_bids(self, wide: bool) -> str:
        rates = list(self.watch.no_bid_rates().items())[:REASONS_SHOWN]
        if not rates:
            return "[dim]every request got a bid lately[/]" if self.watch.rate("requests") else "[dim]-[/]"
        said = "   ".join(f"{reason} {rate:,.1f}/s" for reason, rate in rates)
        busy = "   [yellow](overload: they waited too long for a free core)[/]"
        return f"no bid: {said}" + (busy if wide and any(reason == "overload" for reason, _ in rates) else "")

    def _campaign_ids(self) -> list[str]:
        """Of the catalog at the start, then what a reload brought."""
        known = [campaign.id for campaign in self.catalog.campaigns]
        return known + sorted(self.watch.balances.keys() - set(known))

    def _campaigns(self, wide: bool, rows_max: int) -> Table:
        table = Table(expand=True, box=None, pad_edge=False)
        goals = {campaign.id: campaign for campaign in self.catalog.campaigns}
        names = ("campaign", "goal", "spent", "of budget", "", "reserved", "overspend", "state")
        shown = [name for name in names if wide or name != "goal"]
        for name in shown:
            right = name in ("spent", "of budget", "reserved", "overspend")
            table.add_column(name, justify="right" if right else "left", no_wrap=True)
        ids = self._campaign_ids()
        fits = len(ids) if len(ids) <= rows_max else rows_max - 1
        for campaign_id in ids[:fits]:
            campaign, balance = goals.get(campaign_id), self.watch.balances.get(campaign_id)
            row: dict[str, RenderableType] = dict.fromkeys(names, "")
            row |= {"campaign": escape(campaign_id), "goal": campaign.goal.value if campaign else ""}
            if balance is None:
                budget = campaign.daily_budget_micros * 1000 if campaign else 0
                row |= {"spent": "-", "of budget": money(budget)}
            else:
                row |= {
                    "spent": money(spent_nanos(balance)),
                    "of budget": money(balance.budget_nanos),
                    "": ProgressBar(
                        total=max(balance.budget_nanos, 1),
                        completed=spent_nanos(balance),
                        width=24 if wide else 8,
                    ),
                    "reserved": money(balance.reserved_nanos),
                    "overspend": f"[red]{money(balance.overspend_nanos)}[/]"
                    if balance.overspend_nanos
                    else "0.00",
                    "state": self.state_of_campaign(campaign_id),
                }
            table.add_row(*(row[name] for name in shown))
        if fits < len(ids):
            table.add_row(f"[dim]... and {len(ids) - fits} more[/]")
        return table

    def state_of_campaign(self, campaign_id: str) -> str:
        """open | spent (the ledger grants nothing more) | the ledger's reason to stop it | stopped by a person."""
        balance = self.watch.balances[campaign_id]
        if f"campaign/{campaign_id}" in self.watch.stops():
            return "[yellow]stopped by a person[/]"
        if balance.stopped:
            return f"[red]{escape(balance.stop_reason) or 'stopped'}[/]"
        if campaign_id in self.watch.spent or spent_nanos(balance) >= balance.budget_nanos:
            return "spent"
        return "open"

    def _agents(self, wide: bool, boxed: bool) -> Table:
        table = Table(expand=True, box=None, pad_edge=False)
        table.add_column("part", no_wrap=True)
        table.add_column("state", no_wrap=True, min_width=len("catching_up"))
        if wide and not self.once:
            table.add_column("pid", justify="right", no_wrap=True, min_width=7)
        if not self.once:
            table.add_column("restarts", justify="right", no_wrap=True)
        table.add_column("policy", justify="right", no_wrap=True, min_width=len("17:20:48"))
        table.add_column("last decision, and why", ratio=1, no_wrap=not (boxed and wide), overflow="ellipsis")
        for name in PARTS:
            part, beat = self._part(name), self.watch.beats.get(name)
            row = [name, self.state_of(name)]
            if wide and not self.once:
                row.append(str(part.pid or "-") if part else "-")
            if not self.once:
                row.append(str(part.restarts) if part else "-")
            row.append(policy_name(beat.policy_version) if beat else "")
            why = f"  [dim]{escape(beat.why)}[/]" if beat and beat.why else ""
            row.append(f"{escape(beat.last_decision)}{why}" if beat and beat.last_decision else "")
            table.add_row(*row)
        return table

    def _part(self, name: str) -> Part | None:
        return self.parts.get(f"agent-{name}" if name in AGENTS else name)

    def state_of(self, name: str) -> str:
        part, beat = self._part(name), self.watch.beats.get(name)
        if part is not None and part.pid is None:
            return f"[red bold]{part.state}[/]" if part.state != "stopped" else "[dim]stopped[/]"
        if beat is None or (part is not None and beat.happened_at_ns < part.started_at_ns):
            return "[yellow]starting[/]" if part is not None else "[red bold]not heard[/]"
        if not self.watch.alive(name):
            return f"[yellow]{beat.state}[/]" if beat.state == "stopping" else "[red bold]silent[/]"
        if f"agent/{name}" in self.watch.stops():
            return "[yellow]stopped[/]"
        return f"[green]{beat.state}[/]" if beat.state == "running" else f"[yellow]{beat.state}[/]"

    def _clash_title(self) -> str:
        clash = self.watch.clash
        return "latest clash, resolved" + (f" (epoch {clash.epoch})" if clash is not None else "")

    def _clash(self, boxed: bool) -> Text:
        clash = self.watch.clash
        if clash is None:
            return Text.from_markup("[dim]no clash of wishes so far[/]")
        unit = target_unit(clash.target)
        parts = clash.target.split("/")
        head = (
            f"[bold]{escape(' '.join(parts[1:]))}[/] {unit(clash.incumbent)} -> [bold]{unit(clash.value)}[/]: "
            f"{escape(clash.why)}, {escape(clash.winner)} fares best"
        )
        campaign = next((c for c in self.catalog.campaigns if parts[1:2] == [c.id]), None)
        if campaign is not None:
            reach, cost = campaign.reach_weight_ppm / PPM, campaign.cost_weight_ppm / PPM
            head += f"   [dim]its owner weighs reach {reach:g}, cost {cost:g}[/]"
        wishes = []
        for author in (clash.winner, *clash.losers):
            wish = self.watch.proposals.get((author, clash.target))
            if wish is not None and wish.value is not None and not wish.withdraws:
                wishes.append(
                    f"{escape(author)} wishes {unit(wish.value)} for {escape(wish.intent)}: "
                    f"[dim]{escape(wish.reason)}[/]"
                )
        if boxed:
            return Text.from_markup("\n".join((head, *wishes)))
        return _one_line("\n".join((head, "   ".join(wishes))) if wishes else head)

    def _news(self, shown: int, boxed: bool) -> Text:
        lines = [escape(line) for line in list(self.news)[-shown:]] or [
            "[dim]Ctrl-C stops everything cleanly; a second start resumes[/]"
        ]
        return Text.from_markup("\n".join(lines)) if boxed else _one_line("\n".join(lines))


def _one_line(markup: str) -> Text:
    """Each line of it cut at the terminal's edge instead of wrapped."""
    text = Text.from_markup(markup, overflow="ellipsis")
    text.no_wrap = True
    return text
