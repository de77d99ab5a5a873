"""Device facts in one spelling each: operating system by ``sua``, then ``os``, then a light look at ``ua``."""

from __future__ import annotations

from functools import lru_cache

from counterpoint.openrtb.objects import Device

# Spellings of device.os and sua.platform.brand, letters and digits only.
_OS = {
    "ios": "ios",
    "iphone": "ios",
    "iphoneos": "ios",
    "ipad": "ios",
    "ipados": "ios",
    "ipod": "ios",
    "cpuiphoneos": "ios",
    "android": "android",
    "androidos": "android",
    "aosp": "android",
    "googleandroid": "android",
    "fireos": "fireos",
    "amazonfireos": "fireos",
    "firetv": "fireos",
    "macos": "macos",
    "macosx": "macos",
    "osx": "macos",
    "mac": "macos",
    "macintosh": "macos",
    "darwin": "macos",
    "chromeos": "chromeos",
    "cros": "chromeos",
    "chromiumos": "chromeos",
    "linux": "linux",
    "ubuntu": "linux",
    "debian": "linux",
    "fedora": "linux",
    "gnulinux": "linux",
    "tvos": "tvos",
    "appletv": "tvos",
    "appletvos": "tvos",
    "roku": "roku",
    "rokuos": "roku",
    "tizen": "tizen",
    "samsungtizen": "tizen",
    "webos": "webos",
    "webostv": "webos",
    "lgwebos": "webos",
    "windowsphone": "windowsphone",
    "windowsphoneos": "windowsphone",
    "windowsmobile": "windowsphone",
    "kaios": "kaios",
    "harmonyos": "harmonyos",
    "playstation": "playstation",
    "xbox": "xbox",
    "unknown": "",
    "other": "",
    "na": "",
}
# Looked for in this order: a marker of a rarer system often stands beside that of the common one it grew from.
_UA_MARKS = (
    ("Windows Phone", "windowsphone"),
    ("KAIOS", "kaios"),
    ("AFTT", "fireos"),
    ("Roku", "roku"),
    ("Tizen", "tizen"),
    ("Web0S", "webos"),
    ("webOS", "webos"),
    ("AppleTV", "tvos"),
    ("PlayStation", "playstation"),
    ("Xbox", "xbox"),
    ("Android", "android"),
    ("iPhone", "ios"),
    ("iPad", "ios"),
    ("iPod", "ios"),
    ("CrOS", "chromeos"),
    ("Windows", "windows"),
    ("Macintosh", "macos"),
    ("Linux", "linux"),
)


@lru_cache(maxsize=4_096)
def os_name(text: str) -> str:
    """One spelling per operating system, lower case; an unknown one stays itself, "" stays "".

    >>> os_name("iPhone OS"), os_name("Windows 10"), os_name("OS X"), os_name("Plan 9")
    ('ios', 'windows', 'macos', 'plan9')
    """
    key = "".join(c for c in text.lower() if c.isalnum())
    found = _OS.get(key)
    if found is not None:
        return found
    found = _OS.get(key.rstrip("0123456789"))
    if found is not None:
        return found
    if key.startswith("win"):
        return "windows"
    return key[:32]


def os_of_user_agent(ua: str) -> str:
    """A light look at the user agent: enough for targeting, no fraud check."""
    for mark, name in _UA_MARKS:
        if mark in ua:
            return name
    return ""


def device_os(device: Device | None) -> str:
    """The operating system in our spelling; ``""``: unknown."""
    if device is None:
        return ""
    sua = device.sua
    if sua is not None and sua.platform is not None and sua.platform.brand:
        name = os_name(sua.platform.brand)
        if name:
            return name
    if device.os:
        name = os_name(device.os)
        if name:
            return name
    return os_of_user_agent(device.ua)


def language_code(text: str) -> str:
    """ISO 639-1 alpha-2 in lower case, of "en", "EN-us" or "en_US"; anything else as it is, cut at the first "-".

    >>> language_code("EN_us"), language_code("")
    ('en', '')
    """
    return text.strip().lower().replace("_", "-").partition("-")[0]
