"""What folding has to know of the past, by key: the views have it, and so has the baseline."""

from collections.abc import Collection
from typing import Protocol

from service.domain.instance import Instance
from service.domain.message import Message, MessageKey, Recipient, RecipientKey
from service.domain.webhook import WebhookUpdate


class State(Protocol):
    def messages(self, keys: Collection[MessageKey]) -> dict[MessageKey, Message]:
        """The known ones of these."""
        ...

    def recipients(self, keys: Collection[RecipientKey]) -> dict[RecipientKey, Recipient]:
        """The known ones of these."""
        ...

    def last_webhook(self, instance: str) -> WebhookUpdate | None:
        """The instance's last attempt."""
        ...

    def webhook(self, update_id: str) -> WebhookUpdate | None: ...

    def instance(self, name: str) -> Instance | None: ...
