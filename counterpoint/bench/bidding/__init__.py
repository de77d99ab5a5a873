"""What the Bidding agent must show, bar by bar: ``counterpoint bench bidding``."""
