"""The event log: what was said, in the order in which it was committed.

Authoritative: everything else can be built from it. Append-only, and the database itself says
so: triggers refuse every UPDATE and DELETE but the two a law or an operator may ask for,
erasure (one row becomes a tombstone) and retention (a whole prefix of positions goes).

Promise: when `GroupCommit.append` resolves, the event is on disk for good, and every reader sees
it, and every event before it, in order of position. When it raises LogUnavailable the event is
not known to be recorded, and appending it again does no harm.
"""
