"""The one short tree of what the world does wrong. What *we* did wrong is an assertion instead."""

from __future__ import annotations


class CounterpointError(Exception):
    """Base of all named errors. The message says what happened and what to do about it."""


class ConfigError(CounterpointError):
    """A configuration or catalog file that cannot be used."""


class InvalidRequest(CounterpointError):
    """Bytes from an exchange that are not a usable bid request."""


class BusUnavailable(CounterpointError):
    """The bus did not take, or did not give, within the time allowed."""


class BusRefused(CounterpointError):
    """The bus answered and said no: no permission, message too large, unknown stream."""


class PolicyRefused(CounterpointError):
    """A published policy failed validation; the last good one stays."""


class Stopped(CounterpointError):
    """Somebody pressed Ctrl-C. The message says how far it came and what is kept."""


class AnswerRefused(CounterpointError):
    """A player of the simulated market answered what cannot be settled; its run ends."""
