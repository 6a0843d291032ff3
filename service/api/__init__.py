"""The gRPC API: reads the views, streams their changes, and asks PlugChat for another webhook.

Of the log it takes the head and the marks cursors are held against; it writes only webhook
events, through the process's one appender. Everything a caller can get wrong is answered with a
code and an ErrorReason from the one table in `errors`; everything else is INTERNAL, opaque
outside and logged inside.

    server     listens, registers, drains             status   Get and BatchGet
    calls      the policy around every handler        watch    one watcher, from Opened to Closing
    errors     the table                              hub      what all watchers share
    fields     request fields and their bounds        admin    AdminService
    cursors    cursors against the log                webhooks UpdateWebhook as a process
"""
