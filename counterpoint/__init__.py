"""Counterpoint: a self-hosted, multi-agent ad delivery platform."""
