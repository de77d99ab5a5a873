"""Markets to bid in: an exchange that speaks OpenRTB over HTTP to a running bidder."""
