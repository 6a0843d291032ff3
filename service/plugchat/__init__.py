"""PlugChat, the provider: what its callbacks mean, and how its webhook is changed.

`decode` is total: every body that can be in the log gives reports, nothing, or a reason for
quarantine, and never an exception. A new status word is one line in `words`; a new type of
callback is one entry in `decode.CALLBACK_TYPES` and one function beside it.

What is known of the provider, and where from, is in docs/provider.md.
"""
