"""The judged game on the simulated market: driver, baselines, oracles, statistics, scoreboard."""
