"""One spelling for each value, on both sides: catalog targeting and requests go through the same functions."""

from __future__ import annotations

import contextlib
import re
from functools import lru_cache
from typing import Final

# ISO 3166-1: alpha-2 alpha-3, since real requests carry both where OpenRTB asks for alpha-3
_ISO_TEXT: Final = """
AD AND AE ARE AF AFG AG ATG AI AIA AL ALB AM ARM AO AGO AQ ATA AR ARG AS ASM AT AUT AU AUS AW ABW AX ALA AZ AZE
BA BIH BB BRB BD BGD BE BEL BF BFA BG BGR BH BHR BI BDI BJ BEN BL BLM BM BMU BN BRN BO BOL BQ BES BR BRA BS BHS
BT BTN BV BVT BW BWA BY BLR BZ BLZ CA CAN CC CCK CD COD CF CAF CG COG CH CHE CI CIV CK COK CL CHL CM CMR CN CHN
CO COL CR CRI CU CUB CV CPV CW CUW CX CXR CY CYP CZ CZE DE DEU DJ DJI DK DNK DM DMA DO DOM DZ DZA EC ECU EE EST
EG EGY EH ESH ER ERI ES ESP ET ETH FI FIN FJ FJI FK FLK FM FSM FO FRO FR FRA GA GAB GB GBR GD GRD GE GEO GF GUF
GG GGY GH GHA GI GIB GL GRL GM GMB GN GIN GP GLP GQ GNQ GR GRC GS SGS GT GTM GU GUM GW GNB GY GUY HK HKG HM HMD
HN HND HR HRV HT HTI HU HUN ID IDN IE IRL IL ISR IM IMN IN IND IO IOT IQ IRQ IR IRN IS ISL IT ITA JE JEY JM JAM
JO JOR JP JPN KE KEN KG KGZ KH KHM KI KIR KM COM KN KNA KP PRK KR KOR KW KWT KY CYM KZ KAZ LA LAO LB LBN LC LCA
LI LIE LK LKA LR LBR LS LSO LT LTU LU LUX LV LVA LY LBY MA MAR MC MCO MD MDA ME MNE MF MAF MG MDG MH MHL MK MKD
ML MLI MM MMR MN MNG MO MAC MP MNP MQ MTQ MR MRT MS MSR MT MLT MU MUS MV MDV MW MWI MX MEX MY MYS MZ MOZ NA NAM
NC NCL NE NER NF NFK NG NGA NI NIC NL NLD NO NOR NP NPL NR NRU NU NIU NZ NZL OM OMN PA PAN PE PER PF PYF PG PNG
PH PHL PK PAK PL POL PM SPM PN PCN PR PRI PS PSE PT PRT PW PLW PY PRY QA QAT RE REU RO ROU RS SRB RU RUS RW RWA
SA SAU SB SLB SC SYC SD SDN SE SWE SG SGP SH SHN SI SVN SJ SJM SK SVK SL SLE SM SMR SN SEN SO SOM SR SUR SS SSD
ST STP SV SLV SX SXM SY SYR SZ SWZ TC TCA TD TCD TF ATF TG TGO TH THA TJ TJK TK TKL TL TLS TM TKM TN TUN TO TON
TR TUR TT TTO TV TUV TW TWN TZ TZA UA UKR UG UGA UM UMI US USA UY URY UZ UZB VA VAT VC VCT VE VEN VG VGB VI VIR
VN VNM VU VUT WF WLF WS WSM XK XKX YE YEM YT MYT ZA ZAF ZM ZMB ZW ZWE
"""
_ISO = _ISO_TEXT.split()
ALPHA3_OF: Final = dict(zip(_ISO[::2], _ISO[1::2], strict=True))
COUNTRIES: Final = frozenset(ALPHA3_OF.values())

# Children of each tier-1 category, IAB Content Taxonomy 1.0 (AdCOM Category Taxonomies 1)
_CHILDREN: Final = {
    1: 7, 2: 23, 3: 12, 4: 11, 5: 15, 6: 9, 7: 45, 8: 18, 9: 31, 10: 9, 11: 5, 12: 3, 13: 12, 14: 8,
    15: 10, 16: 7, 17: 44, 18: 6, 19: 36, 20: 27, 21: 3, 22: 4, 23: 10, 24: 0, 25: 7, 26: 4,
}  # fmt: skip
CATEGORIES: Final = frozenset(
    [f"IAB{n}" for n in _CHILDREN]
    + [f"IAB{n}-{k}" for n, last in _CHILDREN.items() for k in range(1, last + 1)]
)

_OS_ALIASES: Final = {
    "iphone": "ios", "iphone os": "ios", "ipad": "ios", "ipados": "ios", "ipad os": "ios",
    "os x": "macos", "mac os x": "macos", "macosx": "macos", "mac os": "macos", "osx": "macos", "mac": "macos",
}  # fmt: skip
# Two-level public suffixes such as co.uk: a guess that errs towards blocking too much, never too little.
_SECOND_LEVEL: Final = frozenset(
    {"co", "com", "org", "net", "gov", "edu", "ac", "or", "ne", "go", "gob", "nom"}
)


_ENDS: Final = re.compile(r"^[\s.*]+|[\s.*]+$")  # a blank may be the end once the port is off


@lru_cache(65_536)
def domain(value: str) -> str:
    """A bare host name: no scheme, port, path, leading ``www.`` or trailing dot; lower case.

    >>> domain("https://www.Example.com:8080/x"), domain("news.example.com.")
    ('example.com', 'news.example.com')
    """
    host = value.strip().lower()
    scheme = host.find("://")
    if scheme >= 0:
        host = host[scheme + 3 :]
    for end in "/?#:":
        host = host.partition(end)[0]
    host = _ENDS.sub("", host.rpartition("@")[2].strip().removeprefix("www."))
    if not host.isascii():  # block lists write names both ways
        with contextlib.suppress(UnicodeError):
            return host.encode("idna").decode("ascii")
    return host


@lru_cache(65_536)
def suffixes(host: str) -> tuple[str, ...]:
    """The host and its parents down to two labels (a single label stands alone).

    >>> suffixes("a.b.example.com")
    ('a.b.example.com', 'b.example.com', 'example.com')
    """
    labels = host.split(".")
    if len(labels) <= 2:
        return (host,)
    return tuple(".".join(labels[i:]) for i in range(len(labels) - 1))


@lru_cache(65_536)
def registrable(value: str) -> str:
    """The part of a host name that somebody bought, without a public suffix list.

    >>> registrable("www.shop.ford.com"), registrable("www.02.co.uk"), registrable("Verizon.com")
    ('ford.com', '02.co.uk', 'verizon.com')
    """
    labels = domain(value).split(".")
    keep = 3 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL else 2
    return ".".join(labels[-keep:])


@lru_cache(4_096)
def country(value: str) -> str:
    """Alpha-3, upper case; alpha-2 is translated, the unknown kept.

    >>> country("us"), country("DEU")
    ('USA', 'DEU')
    """
    code = value.strip().upper()
    return ALPHA3_OF.get(code, code)


@lru_cache(16_384)
def region(value: str, country_code: str = "") -> str:
    """``USA-CA``, from ``CA``, ``US-CA`` or ``USA-CA``; empty without a country.

    >>> region("ca", "USA"), region("US-CA"), region("CA", "")
    ('USA-CA', 'USA-CA', '')
    """
    head, dash, tail = value.strip().upper().rpartition("-")
    where = country(head) if dash else country(country_code)
    return f"{where}-{tail}" if where and tail else ""


@lru_cache(4_096)
def os(value: str) -> str:
    """Family name without version, lower case.

    >>> os("iPhone OS"), os("Windows 7"), os("Android")
    ('ios', 'windows', 'android')
    """
    name = value.strip().lower()
    if name in _OS_ALIASES:
        return _OS_ALIASES[name]
    family = name.split(" ")[0]
    return family if family in ("windows", "android", "linux", "ios", "tvos", "tizen", "webos") else name


@lru_cache(4_096)
def language(value: str) -> str:
    """Primary subtag, lower case.

    >>> language("en-US"), language("PT")
    ('en', 'pt')
    """
    return value.strip().lower().replace("_", "-").partition("-")[0]


@lru_cache(4_096)
def category(value: str) -> str:
    """
    >>> category(" iab1-6 ")
    'IAB1-6'
    """
    return value.strip().upper()


@lru_cache(4_096)
def with_parent(value: str) -> tuple[str, ...]:
    """A category and the one above it.

    >>> with_parent("IAB1-6"), with_parent("IAB1")
    (('IAB1-6', 'IAB1'), ('IAB1',))
    """
    code = category(value)
    parent = code.partition("-")[0]
    return (code,) if parent == code or not parent else (code, parent)


@lru_cache(4_096)
def mime(value: str) -> str:
    """Lower case, no parameters; the misspelling ``image/jpg`` is ``image/jpeg`` (no answer carries an image's type).

    >>> mime("image/JPG"), mime("video/mp4; codecs=avc1")
    ('image/jpeg', 'video/mp4')
    """
    name = value.partition(";")[0].strip().lower()
    return "image/jpeg" if name == "image/jpg" else name


_EXTENSIONS: Final = {
    "jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "gif": "image/gif", "webp": "image/webp",
    "svg": "image/svg+xml", "avif": "image/avif",
}  # fmt: skip


def image_mime(url: str) -> str:
    """By extension; empty when it tells nothing.

    >>> image_mime("https://cdn.example.com/a.jpg?v=2"), image_mime("https://cdn.example.com/a")
    ('image/jpeg', '')
    """
    path = url.partition("?")[0].partition("#")[0]
    return _EXTENSIONS.get(path.rpartition(".")[2].lower(), "")
