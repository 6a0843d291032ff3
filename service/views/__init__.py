"""The views: what we take the log to mean.

Not authoritative: they can be deleted at any time and are built again from the log. They hold
the state of every message and recipient, the feed (one row a report, with the change exactly as
watchers get it), the quarantine and the webhooks, and the checkpoint: the position up to which
the log is folded in. A batch and its checkpoint are one transaction, and the checkpoint only
moves from the position the batch was read from, so two projectors can never both write.

Two sets of tables, `a` and `b`, are there from the start. One is live; a rebuild fills the other
and then switches. Each filling is a generation with a number of its own.
"""
