"""Domains as block lists mean them: by what can be registered, sub-domains included (``badv``, ``adomain``)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

# Second levels under which countries let people register ("co.uk", "com.br"). A short stand-in for the Public Suffix
# List: where it is wrong it takes too much for one registrable name ("a.city.xx" and "b.city.xx" are the same), so a
# block reaches too far, never too short.
_SECOND_LEVELS = frozenset(
    [
        "ac",
        "co",
        "com",
        "edu",
        "gen",
        "go",
        "gob",
        "gov",
        "gouv",
        "mil",
        "ne",
        "net",
        "nom",
        "or",
        "org",
        "sch",
    ]
)


@lru_cache(maxsize=65_536)  # block lists repeat from request to request
def host_of(text: str) -> str:
    """The host of a domain or URL as exchanges write them: lower case, no scheme, port, path, user or ``www.``.

    >>> host_of("https://WWW.Example.com:443/a?b"), host_of("*.example.com"), host_of(" ")
    ('example.com', 'example.com', '')
    """
    host = text.strip().lower()
    host = host.partition("://")[2] or host if "://" in host else host
    for end in "/?#":
        host = host.partition(end)[0]
    host = host.rpartition("@")[2].partition(":")[0].strip(".*")
    host = host.removeprefix("www.")
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return host
    return host


@lru_cache(maxsize=65_536)
def registrable_domain(text: str) -> str:
    """The name someone registered, of a host or URL.

    >>> registrable_domain("https://ads.shop.example.co.uk/x"), registrable_domain("m.example.com")
    ('example.co.uk', 'example.com')
    """
    labels = host_of(text).split(".")
    if len(labels) <= 2:
        return ".".join(labels)
    keep = 3 if len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVELS else 2
    return ".".join(labels[-keep:])


def registrable_set(texts: Iterable[str]) -> frozenset[str]:
    """A block list, ready for membership of ``registrable_domain(adomain)``."""
    return frozenset(name for name in map(registrable_domain, texts) if name)


def is_blocked(adomain: str, badv: Iterable[str]) -> bool:
    """Whether an advertiser's domain is on the list: the same registrable domain, whichever sub-domain either names.

    >>> is_blocked("shop.example.com", ["WWW.EXAMPLE.COM"]), is_blocked("ample.com", ["example.com"])
    (True, False)
    """
    return registrable_domain(adomain) in registrable_set(badv)


def host_within(host: str, domain: str) -> bool:
    """Whether a site's host is that domain or a sub-domain of it: for targeting, both already as ``host_of`` says."""
    return host == domain or host.endswith("." + domain)
