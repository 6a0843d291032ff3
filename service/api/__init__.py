"""The gRPC API: reads the views, streams their changes, and asks PlugChat for another webhook.

Of the log it takes the head and the marks cursors are held against; it writes only webhook
events, through the process's one appender. Everything a caller can get wrong is answered with a
code and an ErrorReason from the one table in `errors`; everything else is INTERNAL, opaque
outside and logged inside.

    server     listens, registers, drains           status    Get and BatchGet; lookup, by id
    calls      the policy around every handler      listings  every List; service_status, the rest
    errors     the table of errors                  watch     one watcher, from Opened to Closing
    fields     request fields and their bounds      hub       what all watchers share; live, packing
    starts     cursors and times against the log    admin     AdminService's webhook
                                                    webhooks  UpdateWebhook as a process; turns,
                                                              outcomes
"""
