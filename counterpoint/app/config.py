"""Settings, settled at the door: parsed once into frozen structs that refuse unknown keys.

``None`` means "off", never "the default". Paths are relative to the configuration file.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import fields

from counterpoint.base.database import with_driver
from counterpoint.base.errors import ConfigError
from counterpoint.base.words import instead_of
from counterpoint.catalog.lines import Lines

Share = Annotated[float, Meta(ge=0, le=1)]


class BusConfig(Struct, frozen=True, forbid_unknown_fields=True):
    url: str | None = None  # None: an embedded NATS server in the data directory
    credentials: str | None = None  # external server: a JSON file {role: {"user": ..., "password": ...}}


class BidderConfig(Struct, frozen=True, forbid_unknown_fields=True):
    # stands in subjects, event ids and the names of files
    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")] = "b1"
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    # what exchanges and browsers reach us by; None: http://host:port
    public_url: Annotated[str, Meta(pattern=r"^https?://[A-Za-z0-9._~:/\[\]@%-]+$")] | None = None
    cpu: int | None = None  # pin the process to this core


class LedgerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    url: str | None = None  # None: SQLite in the data directory; else an SQLAlchemy URL
    # how long a bidder goes on without hearing of the ledger
    allowance_life_s: Annotated[int, Meta(ge=2, le=3_600)] = 45


class ExperimentConfig(Struct, frozen=True, forbid_unknown_fields=True):
    name: str = "always-on"
    salt: str = "counterpoint"
    # share of units whose decisions come from the stated fallbacks; the rest is arm "agents"
    no_agents: Share = 0.05
    no_budget: Share = 0.0
    no_bidding: Share = 0.0
    no_creative: Share = 0.0
    no_feedback: Share = 0.0

    def shares(self) -> dict[str, float]:
        holdouts = {
            arm: getattr(self, arm)
            for arm in ("no_agents", "no_budget", "no_bidding", "no_creative", "no_feedback")
        }
        rest = 1.0 - sum(holdouts.values())
        if rest < 0:
            raise ConfigError("[experiment] the shares of the arms sum to more than 1: lower some of them")
        return {"agents": rest, **holdouts}


class BudgetAgentConfig(Struct, frozen=True, forbid_unknown_fields=True):
    # evidence is closed and money moved once per period; delivery is judged over the last five
    period_s: Annotated[int, Meta(ge=5, le=86_400)] = 60
    shadow: bool = False  # splits nothing, and says in its policy what it would have moved


class RecorderConfig(Struct, frozen=True, forbid_unknown_fields=True):
    sample_rate: Share = 0.01  # of bids that did not win; wins are always kept
    keep_days: Annotated[int, Meta(ge=1)] = 30


class DemoConfig(Struct, frozen=True, forbid_unknown_fields=True):
    requests_per_s: Annotated[float, Meta(gt=0, le=20_000)] = 250.0
    seed: int = 1


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    catalog: str = "catalog.toml"
    data_dir: str = "var"
    bus: BusConfig = BusConfig()
    bidder: BidderConfig = BidderConfig()
    ledger: LedgerConfig = LedgerConfig()
    experiment: ExperimentConfig = ExperimentConfig()
    budget: BudgetAgentConfig = BudgetAgentConfig()
    recorder: RecorderConfig = RecorderConfig()
    demo: DemoConfig = DemoConfig()


class DataDir:
    """Where each part keeps what must survive it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.catalog = root / "catalog.db"
        self.nats = root / "nats"
        self.secrets = root / "secrets"
        self.hmac_keys = self.secrets / "hmac.json"
        self.spool = root / "spool"
        self.snapshots = root / "snapshots"
        self.control = root / "control"
        self.stops = self.control / "stops.json"
        self.runtime = self.control / "runtime.json"  # where the running parts are reached
        self.archive = root / "archive"
        self.decisions = root / "decisions"
        self.logs = root / "logs"

    def make(self) -> DataDir:
        """Make what is missing, for us alone: the catalog holds conversion tokens, the logs who spent what.

        Raises :class:`ConfigError` where nothing can be written."""
        try:
            self._make()
        except OSError as error:
            raise ConfigError(
                f"data_dir {self.root}: {error}. Give counterpoint a folder that it may write to"
            ) from error
        return self

    def _make(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (
            self.secrets,
            self.spool,
            self.snapshots,
            self.control,
            self.archive,
            self.decisions,
            self.logs,
        ):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.catalog.touch(mode=0o600)  # before SQLite does, which lets everybody read it
        self.catalog.chmod(0o600)


class Settings(Struct, frozen=True):
    """A configuration with its paths made absolute."""

    config: Config
    base: Path

    @property
    def data(self) -> DataDir:
        return DataDir(self.base / self.config.data_dir)

    @property
    def catalog_path(self) -> Path:
        return self.base / self.config.catalog

    @property
    def catalog_url(self) -> str:
        return f"sqlite:///{self.data.catalog}"

    @property
    def ledger_url(self) -> str:
        """Raises :class:`ConfigError` where its driver is not installed."""
        return with_driver(self.config.ledger.url or f"sqlite:///{self.data.root / 'ledger.db'}")

    @property
    def local_url(self) -> str:
        """How parts of this machine reach the bidder."""
        host = "127.0.0.1" if self.config.bidder.host in ("0.0.0.0", "::") else self.config.bidder.host
        return f"http://{host}:{self.config.bidder.port}"

    @property
    def public_url(self) -> str:
        return self.config.bidder.public_url or self.local_url


def load_settings(path: Path) -> Settings:
    """Read a TOML configuration. Raises :class:`ConfigError` that names the file, the key and what is expected."""
    try:
        text = path.read_text("utf-8")
        raw = tomllib.loads(text)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file. Start from examples/config.toml, or run 'counterpoint up --demo'"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    unknown = _unknown(raw)
    if unknown:
        lines = Lines(text, json=False)
        found = sorted((lines.of(key), cure) for key, cure in unknown.items())
        shown = "\n  ".join(f"{path}:{line}: {cure}" for line, cure in found)
        raise ConfigError(f"unknown keys; docs/configuration.md has them all:\n  {shown}")
    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        at = re.search(r" - at `\$\.([\w.]+)`$", str(error))
        line = f":{Lines(text, json=False).of(tuple(at[1].split('.')))}" if at else ""
        raise ConfigError(f"{path}{line}: {error}. Known keys: docs/configuration.md") from error
    config.experiment.shares()
    with_driver(config.ledger.url or "")
    return Settings(config, path.resolve().parent)


def _unknown(raw: dict[str, Any]) -> dict[tuple[str, ...], str]:
    """Every key that nobody reads, with its cure; all at once."""
    top = {field.name: field.default for field in fields(Config)}
    found: dict[tuple[str, ...], str] = {}
    for key, value in raw.items():
        if key not in top:
            found[(key,)] = f"unknown key `{key}`; {instead_of(key, top)}"
        elif isinstance(value, dict) and isinstance(top[key], Struct):
            known = top[key].__struct_fields__
            found |= {
                (key, name): f"unknown key `{name}` in [{key}]; {instead_of(name, known)}"
                for name in value
                if name not in known
            }
    return found
