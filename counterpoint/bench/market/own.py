"""Players that are not of this package: ``register`` in a program, ``MODULE:CLASS`` on the command line."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

from counterpoint.base.errors import ConfigError
from counterpoint.bench.market.policy import Policy, Reveals

VERBS: Final = ("begin", "split", "decide", "learn")
REGISTERED: Final[dict[str, Callable[[], Policy]]] = {}


def register(name: str, make: Callable[[], Policy]) -> None:
    """Make a player known by name in this process: runs in several processes take ``MODULE:CLASS``. A name is used once."""
    if name in REGISTERED or ":" in name or "," in name:
        raise ConfigError(
            f"policy {name!r} is registered already, or has a colon or comma; take another name"
        )
    REGISTERED[name] = make


def known(name: str) -> bool:
    return name in REGISTERED or ":" in name


def make(name: str) -> Policy:
    """A new one. Raises :class:`ConfigError` where it cannot be found, is not made without arguments, or is no player."""
    maker = _maker(name)
    try:
        inspect.signature(maker).bind()
    except TypeError:
        raise ConfigError(
            f"{name}: is not made without arguments; give a class, or a function, that is"
        ) from None
    made = maker()
    lacks = [verb for verb in VERBS if not callable(getattr(made, verb, None))]
    if not hasattr(made, "name"):
        lacks.append("name")
    if lacks:
        raise ConfigError(
            f"{name}: is no Policy, it lacks {', '.join(lacks)}; docs/scoreboard.md says what one is"
        )
    return made


def knows_truth(name: str) -> bool:
    return known(name) and isinstance(make(name), Reveals)


def title(name: str) -> str:
    """The first line of its docstring."""
    return (inspect.getdoc(type(make(name))) or "a player from outside").splitlines()[0]


def sources(names: Iterable[str]) -> list[str]:
    """What those of ``names`` that are from outside are made of, as far as it can be read."""
    out = []
    for name in names:
        if known(name):
            try:
                out.append(inspect.getsource(sys.modules[type(make(name)).__module__]))
            except (OSError, TypeError):
                out.append("")
    return out


def _maker(name: str) -> Callable[[], Policy]:
    if name in REGISTERED:
        return REGISTERED[name]
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found: Any = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{name}: {error}; MODULE:CLASS is looked for in this folder and among what is installed"
        ) from error
    if not callable(found):
        raise ConfigError(f"{name}: {module} has no class {attribute!r}; write MODULE:CLASS")
    maker: Callable[[], Policy] = found
    return maker
