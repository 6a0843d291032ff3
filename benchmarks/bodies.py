"""What is posted."""

import json

_USUAL = {
    "status": "RECEIVED",
    "ids": ["3EB0C767D097B7C1F2"],
    "momment": 1632234645000,
    "phone": "5544999999999",
    "type": "MessageStatusCallback",
    "instanceId": "3A1B",
}

USUAL = json.dumps(_USUAL).encode()
"""One status of one message: what nearly all callbacks are."""


def of_many(first: int, count: int) -> bytes:
    """One callback about so many messages, to fill a store with; at most 10,000."""
    ids = [f"3EB0{number:016X}" for number in range(first, first + count)]
    return json.dumps(_USUAL | {"ids": ids}).encode()
