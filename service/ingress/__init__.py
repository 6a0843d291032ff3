"""The HTTP side: callbacks in, and what an operator asks a running process.

Promise: `200 {"outcome":"recorded"}` leaves only after the event is on disk. A callback that got
any other answer, or none, is not known to be recorded, and posting it again does no harm.

A callback is checked in this order, and the first fault is the answer:

    404   no such path, or an instance that is not served
    405   not POST
    401   the token in the query
    415   Content-Type, Content-Encoding
    413   a declared length over the limit
    408   the body does not arrive in time
    413   it is over the limit as it arrives, or as it is inflated
    400   it is not the JSON object it should be
    503   it cannot be recorded now

Nothing here decodes a callback beyond its type: the log keeps the bytes as they were sent, after
Content-Encoding, and what they mean is the projector's business.

    ingress      builds the rest; the composition root knows only this module
    server       listens, sweeps and drains;  connection bounds what one peer can cost
    callbacks    the one hot route;  request reads a head, body receives and checks a body
    operations   /healthz, /readyz, /metrics and the OpenAPI document
    problems     every error answer, in one table

The query, which may hold a token, reaches no log line, metric or answer.
"""
