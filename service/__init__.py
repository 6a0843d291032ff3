"""plugstatus: callbacks in, message statuses out.

The flow has one direction, and so have the imports:

    ingress ──append──▶ eventlog ──read──▶ projector ──▶ views ──▶ api ──▶ callers

`eventlog` stores what was said and is authoritative. `views` store what we take it to mean and
can be rebuilt from the log at any time. `app` builds everything; nothing happens at import.
"""

__version__ = "0.1.0"
