"""Countries as ISO 3166-1 alpha-3, which OpenRTB asks for and many exchanges do not send."""

from __future__ import annotations

# alpha-2 and alpha-3, one behind the other
_PAIRS = (
    "ADAND AEARE AFAFG AGATG AIAIA ALALB AMARM AOAGO AQATA ARARG ASASM ATAUT AUAUS AWABW AXALA AZAZE "
    "BABIH BBBRB BDBGD BEBEL BFBFA BGBGR BHBHR BIBDI BJBEN BLBLM BMBMU BNBRN BOBOL BQBES BRBRA BSBHS "
    "BTBTN BVBVT BWBWA BYBLR BZBLZ CACAN CCCCK CDCOD CFCAF CGCOG CHCHE CICIV CKCOK CLCHL CMCMR CNCHN "
    "COCOL CRCRI CUCUB CVCPV CWCUW CXCXR CYCYP CZCZE DEDEU DJDJI DKDNK DMDMA DODOM DZDZA ECECU EEEST "
    "EGEGY EHESH ERERI ESESP ETETH FIFIN FJFJI FKFLK FMFSM FOFRO FRFRA GAGAB GBGBR GDGRD GEGEO GFGUF "
    "GGGGY GHGHA GIGIB GLGRL GMGMB GNGIN GPGLP GQGNQ GRGRC GSSGS GTGTM GUGUM GWGNB GYGUY HKHKG HMHMD "
    "HNHND HRHRV HTHTI HUHUN IDIDN IEIRL ILISR IMIMN ININD IOIOT IQIRQ IRIRN ISISL ITITA JEJEY JMJAM "
    "JOJOR JPJPN KEKEN KGKGZ KHKHM KIKIR KMCOM KNKNA KPPRK KRKOR KWKWT KYCYM KZKAZ LALAO LBLBN LCLCA "
    "LILIE LKLKA LRLBR LSLSO LTLTU LULUX LVLVA LYLBY MAMAR MCMCO MDMDA MEMNE MFMAF MGMDG MHMHL MKMKD "
    "MLMLI MMMMR MNMNG MOMAC MPMNP MQMTQ MRMRT MSMSR MTMLT MUMUS MVMDV MWMWI MXMEX MYMYS MZMOZ NANAM "
    "NCNCL NENER NFNFK NGNGA NINIC NLNLD NONOR NPNPL NRNRU NUNIU NZNZL OMOMN PAPAN PEPER PFPYF PGPNG "
    "PHPHL PKPAK PLPOL PMSPM PNPCN PRPRI PSPSE PTPRT PWPLW PYPRY QAQAT REREU ROROU RSSRB RURUS RWRWA "
    "SASAU SBSLB SCSYC SDSDN SESWE SGSGP SHSHN SISVN SJSJM SKSVK SLSLE SMSMR SNSEN SOSOM SRSUR SSSSD "
    "STSTP SVSLV SXSXM SYSYR SZSWZ TCTCA TDTCD TFATF TGTGO THTHA TJTJK TKTKL TLTLS TMTKM TNTUN TOTON "
    "TRTUR TTTTO TVTUV TWTWN TZTZA UAUKR UGUGA UMUMI USUSA UYURY UZUZB VAVAT VCVCT VEVEN VGVGB VIVIR "
    "VNVNM VUVUT WFWLF WSWSM YEYEM YTMYT ZAZAF ZMZMB ZWZWE "
)

ALPHA3_BY_ALPHA2 = {pair[:2]: pair[2:] for pair in _PAIRS.split()}
_ALPHA3 = dict.fromkeys(ALPHA3_BY_ALPHA2.values(), True)
_READ = {
    **ALPHA3_BY_ALPHA2,
    **{code: code for code in _ALPHA3},
    "UK": "GBR",
    "EL": "GRC",
    "XK": "XKX",
    "XKX": "XKX",
}
_READ["ROM"] = "ROU"  # alpha-3 until 2002, still about


def country_alpha3(code: str) -> str:
    """Alpha-3 of an alpha-2 or alpha-3 code in any case; ``""`` for anything else.

    >>> country_alpha3("us"), country_alpha3("DEU"), country_alpha3("uk"), country_alpha3("Mars")
    ('USA', 'DEU', 'GBR', '')
    """
    found = _READ.get(code)
    return found if found is not None else _READ.get(code.strip().upper(), "")


def region_code(country: str, region: str) -> str:
    """``"USA-CA"`` of a country and its ISO 3166-2 region, with or without the country in front; ``""`` when unknown.

    >>> region_code("USA", "CA"), region_code("us", "US-ca"), region_code("USA", "")
    ('USA-CA', 'USA-CA', '')
    """
    alpha3 = country_alpha3(country)
    short = region.strip().upper().rpartition("-")[2]
    return f"{alpha3}-{short}" if alpha3 and short else ""
