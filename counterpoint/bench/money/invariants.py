"""What must be true of the money, held against an account of its own of everything that was answered 200."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from counterpoint.bidder.allowances import AllowanceBook
from counterpoint.events.money import AllowanceGranted, BalanceReported
from counterpoint.ledger import look
from counterpoint.ledger.books import Ledger

Key = tuple[str, str]  # campaign or line item, local day


class InvariantBroken(AssertionError):
    """Money was lost, booked twice or promised twice; the message says where."""


class Answered:
    """The second account: what was answered, by (campaign, day) and (line item, day), in nanos."""

    def __init__(self) -> None:
        self.count = 0
        self.complete = False  # everything answered has been given to the ledger
        self.paid: dict[Key, int] = defaultdict(int)
        self.late: dict[Key, int] = defaultdict(
            int
        )  # settled after its reservation, or when its money was gone
        self.refunded: dict[Key, int] = defaultdict(int)
        self._disputed: dict[str, tuple[str, tuple[str, str]]] = {}

    def add(
        self, bid_id: str, day: str, purse: tuple[str, str], paid: int, late: bool, disputed: bool
    ) -> None:
        self.count += 1
        for owner in purse:
            self.paid[owner, day] += paid
            self.late[owner, day] += paid if late else 0
        if disputed:
            self._disputed[bid_id] = (day, purse)

    def accept(self, bid_id: str, nanos: int) -> None:
        """A person agreed to pay more for it."""
        day, purse = self._disputed.pop(bid_id)
        for owner in purse:
            self.paid[owner, day] += nanos
            self.late[owner, day] += nanos

    def refund(self, campaign_id: str, day: str, nanos: int) -> None:
        self.refunded[campaign_id, day] += nanos


class Granted:
    """What the ledger granted and when it stopped, as it was heard: each allowance once, the newest of each balance."""

    def __init__(self) -> None:
        self._lives: dict[str, tuple[int, int]] = {}  # allowance: from, until
        self._stops: dict[Key, tuple[int, bool]] = {}  # version, stopped

    def hear(self, said: AllowanceGranted | BalanceReported) -> None:
        key = (said.campaign_id, said.day)
        version, stopped = self._stops.get(key, (-1, False))
        if isinstance(said, BalanceReported):
            if said.version > version:
                self._stops[key] = (said.version, said.stopped)
        elif said.allowance_id not in self._lives:
            self._lives[said.allowance_id] = (said.starts_at_ns, said.expires_at_ns)
            if stopped:
                raise InvariantBroken(f"granted after the stop: {said}")

    def check_bid(self, allowance_id: str, now_ns: int) -> None:
        starts_at_ns, expires_at_ns = self._lives[allowance_id]
        if not starts_at_ns <= now_ns < expires_at_ns:
            raise InvariantBroken(
                f"a bid at {now_ns} on {allowance_id}, which lives {starts_at_ns} to {expires_at_ns}"
            )


def check_said(said: BalanceReported, answered: Answered) -> None:
    """One balance, as the ledger published it, right after the transaction that changed it."""
    key = (said.campaign_id, said.day)
    if said.spent_on_time_nanos + said.reserved_nanos > said.budget_nanos:
        raise InvariantBroken(f"promised twice: {said}")
    committed = said.spent_on_time_nanos + said.late_spend_nanos + said.reserved_nanos + said.held_nanos
    if committed > said.budget_nanos:
        raise InvariantBroken(f"covered beyond the budget: {said}")
    spent = said.spent_on_time_nanos + said.late_spend_nanos + said.overspend_nanos
    if spent + answered.refunded[key] > answered.paid[key]:
        raise InvariantBroken(f"booked more than was answered ({answered.paid[key]}): {said}")
    if said.overspend_nanos > answered.late[key]:
        raise InvariantBroken(f"overspend beyond what came late ({answered.late[key]}): {said}")
    if said.overspend_nanos > 0 and committed < said.budget_nanos:
        raise InvariantBroken(f"free money beside overspend: {said}")
    if answered.late[key] == 0 and said.late_spend_nanos > 0:
        raise InvariantBroken(f"what was on time did not find its money: {said}")


def check_books(
    ledger: Ledger, answered: Answered, books: Sequence[AllowanceBook], pool: Sequence[str]
) -> tuple[str, ...]:
    """Every balance rebuilt from the journal, held against what was answered and against what the bidders hold.
    ``pool``: the campaigns between which money may move."""
    problems = list(ledger.verify().problems)
    for account in ledger.accounts():
        key = (account.campaign_id, account.day)
        booked = account.spent + answered.refunded[key]
        if account.moved != 0 and account.campaign_id not in pool:
            problems.append(f"{key}: {account.moved} came from a pool that it is no member of")
        if booked > answered.paid[key] or (answered.complete and booked != answered.paid[key]):
            problems.append(f"{key}: {booked} booked, {answered.paid[key]} answered")
    with ledger.engine.execution_options(reads=True).connect() as connection:
        lines = look.balances(connection)[1]
    for line in lines:
        caps = ledger.line_caps_nanos(line.line_item_id)
        late = answered.late[line.line_item_id, line.day]
        if caps[0] is not None and line.used > caps[0] + late:
            problems.append(f"{line}: beyond its cap {caps[0]} and {late} of late spend")
    lifetimes: dict[str, int] = defaultdict(int)
    for account in ledger.accounts():
        lifetimes[account.campaign_id] += account.budget - max(account.adjusted, 0)
    for campaign_id, given in lifetimes.items():
        lifetime = ledger.lifetime_nanos(campaign_id)
        if lifetime is not None and given > lifetime:
            problems.append(f"{campaign_id}: its days hold {given} of a lifetime budget of {lifetime}")
    for book in books:
        problems += _book_problems(book)
    return tuple(problems)


def _book_problems(book: AllowanceBook) -> list[str]:
    figures = book.figures()
    found = []
    if (book.left < 0).any():
        found.append(f"{book.bidder_id}: negative money to bid")
    if min(figures["left_nanos"], figures["reserved_nanos"]) < 0:
        found.append(f"{book.bidder_id}: {dict(figures)}")
    return found
