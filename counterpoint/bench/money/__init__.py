"""What the money must stand: random lives over the real books, kill -9 of real processes, and how fast it books."""
