"""Replay of real auction logs: reading, auctions, budgets, what an agent may see, policies, and the verdict."""
