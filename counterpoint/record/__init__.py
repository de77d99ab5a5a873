"""The decision log: every win and a sample of the rest, in Parquet, and the story of a bid told by re-running it.

Consumes ``facts.bids.>`` (with their minimal input) and ``facts.outcomes.>``; publishes only its beat; keeps
``decisions/*.parquet`` and ``snapshots/recorder.bin``.
"""
