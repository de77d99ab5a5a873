"""Requests of our own making, as real ones look: about 1.8 kB for the usual mobile banner."""

from __future__ import annotations

from typing import Any

import msgspec


def banner_request() -> dict[str, Any]:
    return {
        "id": "7f1c2a34-9a0b-4d55-8f5e-3f0b6a2d9c11",
        "at": 1,
        "tmax": 120,
        "cur": ["USD"],
        "bcat": ["IAB7-39", "IAB8-18", "IAB8-5", "IAB9-9", "IAB24", "IAB25", "IAB26"],
        "badv": ["blocked.example", "rival.example", "casino.example"],
        "imp": [
            {
                "id": "1",
                "banner": {
                    "w": 320,
                    "h": 50,
                    "pos": 1,
                    "btype": [4],
                    "battr": [1, 3, 5, 8, 9],
                    "api": [3, 5, 7],
                    "mimes": ["text/html", "image/jpeg", "image/gif", "image/png"],
                    "format": [{"w": 320, "h": 50}, {"w": 300, "h": 50}],
                    "topframe": 1,
                },
                "displaymanager": "SomeSDK",
                "displaymanagerver": "5.12.1",
                "instl": 0,
                "tagid": "home-bottom-320x50",
                "bidfloor": 0.42,
                "bidfloorcur": "USD",
                "secure": 1,
                "exp": 300,
                "ext": {"gpid": "/1234567/home/bottom", "viewability": 63},
            }
        ],
        "app": {
            "id": "ac8d3f10",
            "name": "Weather Near You",
            "bundle": "com.example.weather",
            "storeurl": "https://play.google.com/store/apps/details?id=com.example.weather",
            "cat": ["IAB15", "IAB15-10"],
            "ver": "4.8.2",
            "privacypolicy": 1,
            "publisher": {"id": "pub-55301", "name": "Example Weather Ltd", "domain": "weather.example"},
            "content": {"language": "en"},
        },
        "device": {
            "ua": (
                "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
                "Chrome/126.0.6478.122 Mobile Safari/537.36"
            ),
            "ip": "203.0.113.0",
            "geo": {
                "lat": 42.4,
                "lon": -71.1,
                "country": "USA",
                "region": "MA",
                "city": "Medford",
                "zip": "02155",
                "type": 2,
                "utcoffset": -240,
            },
            "make": "Google",
            "model": "Pixel 8",
            "os": "Android",
            "osv": "14",
            "h": 2400,
            "w": 1080,
            "pxratio": 2.625,
            "js": 1,
            "language": "en",
            "carrier": "310-410",
            "connectiontype": 6,
            "devicetype": 4,
            "dnt": 0,
            "lmt": 0,
            "ifa": "2f9e7a51-0c1d-4f6b-9b3e-5a8c7d6e4f21",
        },
        "user": {"id": "u-81f0c2", "buyeruid": "b-5d0a77", "yob": 1984, "gender": "F"},
        "source": {
            "fd": 1,
            "tid": "b0f4c1d2e3",
            "ext": {
                "schain": {
                    "ver": "1.0",
                    "complete": 1,
                    "nodes": [{"asi": "ssp.example", "sid": "55301", "hp": 1}],
                }
            },
        },
        "regs": {"coppa": 0, "ext": {"gdpr": 0, "us_privacy": "1YNN"}},
    }


def encode(plain: Any) -> bytes:
    return msgspec.json.encode(plain)
