"""The rules, and nothing else: what an event is, what a status is, how reports become a state.

Pure functions over frozen values; no I/O, no clock, nothing of ours imported. All times are
integers: microseconds since 1970-01-01 UTC, named `…_us`.
"""
