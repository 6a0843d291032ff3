"""The gRPC API: reads the views, streams their changes, and asks PlugChat for another webhook.

Of the log it takes the head and the marks cursors are held against; it writes only webhook
events, through the process's one appender. Everything a caller can get wrong is answered with a
code and an ErrorReason from the one table in `errors`; everything else is INTERNAL, opaque
outside and logged inside.

    server     listens, registers, drains           status      Get and BatchGet; lookup, by id
    access     tokens, and what each may do         listings    every List; service_status
    calls      the policy around every handler      waits       WaitForStatus
    lanes      how many calls at once, of whom      watch       one watcher; plan, what it asks for
    errors     the table of errors                  hub         what they share; live, packing
    fields     request fields and their bounds      admin       AdminService; long_tasks
    starts     cursors and times against the log    webhooks    UpdateWebhook; outcomes
    health     the standard health service
"""
