"""Attacks across rooms: what a hostile peer, agent or disk may try, and what must hold."""
