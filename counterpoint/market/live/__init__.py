"""The live system in one process at simulated time: docs/market.md, "Two ways to drive it"."""
