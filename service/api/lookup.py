"""One message by its id, with or without its instance."""

from collections.abc import Sequence

from service import errors
from service.domain.message import Message, MessageKey
from service.views.store import ViewsReader


def candidates(views: ViewsReader, instance: str, message_id: str) -> Sequence[Message]:
    """Every message the id can mean, in order of instance; at most ten."""
    if instance:
        message = views.message(MessageKey(instance, message_id))
        return [message] if message else []
    return views.messages_by_id(message_id, errors.NAMED_INSTANCES_MAX)


def the_one(views: ViewsReader, instance: str, message_id: str) -> Message:
    """Raises MessageNotFound, or AmbiguousMessageId if several instances hold the id."""
    found = candidates(views, instance, message_id)
    if not found:
        raise errors.MessageNotFound(message_id)
    if len(found) > 1:
        raise errors.AmbiguousMessageId(message_id, [message.instance for message in found])
    return found[0]
