"""Who may say and hear what: one credential per role, enforced by the embedded server.

Every role is a NATS account of its own. Streams live in the account ``BUS``; a role's account sees of it only what is
imported here, so that "not allowed" means "does not exist". Subject permissions inside one account would not do: the
server answers a request to whatever reply subject the client names, so a client that may read a stream it also
writes to could have its own bytes delivered to ``money.notice.x`` and stored as money. Across accounts such a reply
stays in the asker's account. For the same reason no role may create consumers, which deliver where they are told.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from counterpoint.base.errors import ConfigError
from counterpoint.base.files import read_bytes, write_atomically
from counterpoint.events import subjects
from counterpoint.events.subjects import DECISIONS, FACTS, MONEY

LATEST = "LATEST"  # the newest message of every subject with a last value, however old
TAIL = "tail"  # ``tail.<subject>``: headers of what was just stored, so that readers need not poll
AGENTS = ("budget", "bidding", "creative", "feedback")
ADMIN = "admin"  # makes streams; held by whoever starts the server, by no part


class Role(Struct, frozen=True):
    name: str
    publishes: tuple[str, ...]
    reads: tuple[str, ...]  # streams, by position and by subject; and nothing else of JetStream
    never: tuple[str, ...] = ()  # exceptions to ``publishes``


class Credential(Struct, frozen=True, forbid_unknown_fields=True):
    user: str
    password: str


def _signs_of_life(*names: str) -> tuple[str, ...]:
    return tuple(s for name in dict.fromkeys(names) for s in (subjects.beat(name), subjects.alarm(name)))


def roles(bidder_ids: Sequence[str] = ("b1",)) -> tuple[Role, ...]:
    """All roles. ``bidder_ids``: the bidders that run with the credential of role ``bidder``."""
    everything = (MONEY, FACTS, DECISIONS)
    agents = tuple(
        Role(
            f"agent-{name}",
            (subjects.policy(name), subjects.proposal(name), *_signs_of_life(name, f"agent/{name}")),
            everything,
        )
        for name in AGENTS
    )
    ledger = Role(
        "ledger",
        (
            "money.ledger.>",
            "decisions.resolution.*",
            subjects.proposal("ledger"),
            *_signs_of_life("ledger"),
        ),
        (MONEY, DECISIONS),
    )
    names = [name for bidder_id in bidder_ids for name in (bidder_id, f"bidder/{bidder_id}")]
    bidder = Role(
        "bidder",
        (
            "money.notice.*",
            *(subjects.money_command(bidder_id) for bidder_id in bidder_ids),
            *(f"facts.*.{subjects.token(bidder_id)}" for bidder_id in bidder_ids),
            "decisions.rejected.*",
            "decisions.resolution.*",
            *_signs_of_life("bidder", "tracker", *names),
        ),
        everything,
    )
    recorder = Role("recorder", _signs_of_life("recorder"), everything)
    # a wildcard is a whole token, so "person_*" cannot be said: everybody who is not a person is named instead
    console = Role(
        "console",
        ("decisions.proposal.*", subjects.STOPS, subjects.CATALOG, *_signs_of_life("console")),
        everything,
        never=tuple(subjects.proposal(name) for name in (*AGENTS, "ledger", "law")),
    )
    return (*agents, ledger, bidder, recorder, console)


def _account(role: Role) -> str:
    return role.name.upper().replace("-", "_")


def server_accounts(
    credentials: dict[str, Credential], all_roles: Iterable[Role]
) -> dict[str, dict[str, Any]]:
    """The ``accounts`` block of the server's configuration."""
    exports: dict[tuple[str, str], list[str]] = {}
    accounts: dict[str, dict[str, Any]] = {}
    for role in all_roles:
        account = _account(role)
        readable = (*role.reads, LATEST)
        services = [*role.publishes, *(f"$JS.API.DIRECT.GET.{stream}" for stream in readable)]
        tails = [f"{TAIL}.{subjects.STREAMS[stream]}" for stream in role.reads]
        for kind, wanted in (("service", services), ("stream", tails)):
            for subject in wanted:
                exports.setdefault((kind, subject), []).append(account)
        credential = credentials[role.name]
        accounts[account] = {
            "users": [
                {
                    "user": credential.user,
                    "password": credential.password,
                    "permissions": {
                        "publish": {"allow": services, "deny": list(role.never)},
                        "subscribe": {"allow": ["_INBOX.>", *tails]},
                    },
                }
            ],
            "imports": [
                {kind: {"account": "BUS", "subject": subject}}
                for kind, wanted in (("service", services), ("stream", tails))
                for subject in wanted
            ],
        }
    admin = credentials[ADMIN]
    accounts["BUS"] = {
        "jetstream": "enabled",
        "users": [{"user": admin.user, "password": admin.password}],
        "exports": [
            # "stream": a read is answered by many messages
            {
                kind: subject,
                "accounts": names,
                **({"response": "stream"} if ".DIRECT.GET." in subject else {}),
            }
            for (kind, subject), names in exports.items()
        ],
    }
    return accounts


def load_credentials(path: Path) -> dict[str, Credential]:
    """Read ``{role: {"user", "password"}}``. Raises :class:`ConfigError`."""
    raw = read_bytes(path)
    if raw is None:
        raise ConfigError(
            f"{path}: no bus credentials there. They are made when the embedded server first starts; "
            "for an external server write a JSON object {role: {user, password}}"
        )
    try:
        return msgspec.json.decode(raw, type=dict[str, Credential])
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: not bus credentials ({error})") from error


def make_credentials(path: Path, names: Iterable[str]) -> dict[str, Credential]:
    """Load what is there, make a random password for every role that has none, keep both readable by us alone."""
    known = load_credentials(path) if path.exists() else {}
    missing = [name for name in names if name not in known]
    if missing:
        known |= {name: Credential(name, secrets.token_urlsafe(24)) for name in missing}
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.format(msgspec.json.encode(known), indent=2), mode=0o600)
    path.chmod(0o600)
    return known
