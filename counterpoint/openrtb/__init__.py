"""The wire: OpenRTB 2.5 and 2.6 requests, responses, notices and markup, bytes <-> structs.

Knows nothing of campaigns or money beyond a price; imports only ``base``.
"""
