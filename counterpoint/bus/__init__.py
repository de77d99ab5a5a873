"""The bus: at least once, in order per stream, resumable by position. Two implementations, one contract."""
