"""One account and one allowance as the rules handle them: plain integers, checked at every step."""

from __future__ import annotations

from dataclasses import dataclass, field

OPEN, ORPHAN, FINAL, CLOSED = "open", "orphan", "final", "closed"

_INT64_MAX = 2**63 - 1


@dataclass(slots=True)
class Account:
    """A campaign's money for one local day, nanos of the account currency.

    ``budget = free + reserved + held + spent_on_time + late``; ``overspend`` is beyond it."""

    campaign_id: str
    day: str
    budget: int = 0
    target: int = 0
    moved: int = 0
    spent_on_time: int = 0
    late: int = 0
    reserved: int = 0
    overspend: int = 0
    stopped: bool = False
    stop_reason: str = ""
    suspense: bool = False
    version: int = 0
    pruned: bool = False
    held: int = 0  # set aside by a person
    adjusted: int = 0  # a person's credits less debits, in the target
    new: bool = field(default=False, compare=False)

    @property
    def free(self) -> int:
        return self.budget - self.spent_on_time - self.late - self.reserved - self.held

    @property
    def spent(self) -> int:
        """All that is booked and was not refunded."""
        return self.spent_on_time + self.late + self.overspend

    @property
    def committed(self) -> int:
        """What no cut can take back now."""
        return self.spent_on_time + self.late + self.reserved + self.held

    def check(self) -> None:
        """Money that was promised twice stops the process: this raises AssertionError, and nothing is committed."""
        assert self.spent_on_time + self.reserved <= self.budget, f"promised twice: {self}"
        assert self.free >= 0, f"covered beyond the budget: {self}"
        assert min(self.spent_on_time, self.late, self.reserved, self.overspend, self.held) >= 0, (
            f"negative: {self}"
        )
        assert max(self.budget, self.overspend) <= _INT64_MAX, f"beyond 64 bits: {self}"


@dataclass(slots=True)
class Allowance:
    allowance_id: str
    bidder_id: str
    incarnation: str
    campaign_id: str
    day: str
    arm: str
    granted: int
    out: int
    headroom: int
    spent: int = 0
    late: int = 0
    returned: int = 0
    state: str = OPEN
    expires_at_ns: int = 0
    closes_at_ns: int = 0
    line_item_id: str = ""  # empty: for every line item of the campaign that has no cap of its own
    new: bool = field(default=False, compare=False)
    counted: int = field(default=0, compare=False)  # the rest that its line item's reserve knows of

    @property
    def rest(self) -> int:
        """What the account still reserves for it."""
        return self.out + self.headroom

    def check(self) -> None:
        assert min(self.out, self.headroom, self.spent, self.late, self.returned) >= 0, f"negative: {self}"
        assert self.granted == self.rest + self.spent + self.late + self.returned, f"vanished: {self}"
        assert self.state != CLOSED or self.rest == 0, f"closed with money: {self}"


@dataclass(slots=True)
class Line:
    """A line item's spend (of whatever kind, less refunds) and reserve on one local day: what its caps count."""

    line_item_id: str
    day: str
    campaign_id: str
    spent: int = 0
    reserved: int = 0
    new: bool = field(default=False, compare=False)

    @property
    def used(self) -> int:
        return self.spent + self.reserved
