"""The projector: reads the log, decodes, folds, and writes the views.

Promise: every event is folded in exactly once, in log order, and the views' checkpoint says up
to where. Each batch (state, feed, quarantine, checkpoint) is one transaction, and the checkpoint
moves by compare-and-set, so a projector that lost its lead cannot write.

States: following (waiting for events), folding, retrying (a store failed; nothing is lost, the
batch is read again). Nothing a body holds can stop it: an event that cannot be folded goes to
quarantine with its reason, and the ones behind it go on. Only a store's fault holds it up.

Between batches, on the same thread, it does long tasks in steps: rebuilding the views, and
removing what retention no longer keeps. So while a step runs the views are at rest.
"""
