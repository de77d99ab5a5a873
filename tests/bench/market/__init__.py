"""Tests of the ladder of baselines and its scoreboard."""
