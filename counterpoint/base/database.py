"""Addresses of databases as people write them."""

from __future__ import annotations

from importlib import import_module

from counterpoint.base.errors import ConfigError

DRIVER = "postgresql+psycopg"


def with_driver(url: str) -> str:
    """``postgresql://`` and ``postgres://`` mean the driver that we use. Raises :class:`ConfigError` where it is not installed.

    >>> with_driver("sqlite:///ledger.db")
    'sqlite:///ledger.db'
    """
    scheme, colon, rest = url.partition(":")
    if scheme not in ("postgresql", "postgres", DRIVER):
        return url
    try:
        import_module("psycopg")
    except ImportError as error:
        raise ConfigError(
            f"{scheme}://... needs a driver that is not installed ({error}); pip install 'counterpoint[postgres]'"
        ) from error
    return f"{DRIVER}{colon}{rest}"
