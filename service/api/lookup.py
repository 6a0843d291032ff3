"""One message by its id, with or without its instance."""

from collections.abc import Collection, Sequence

from service import errors
from service.views.store import EncodedMessage, ViewsReader


def candidates(
    views: ViewsReader, instances: Collection[str], message_id: str
) -> Sequence[EncodedMessage]:
    """Every message of these instances, or of all, that the id can mean; at most ten, in order."""
    return views.messages_by_id(message_id, instances, errors.NAMED_INSTANCES_MAX)


def candidates_of_each(
    views: ViewsReader, instances: Collection[str], ids: Sequence[str]
) -> dict[str, list[EncodedMessage]]:
    """The same for several ids, each given once."""
    return views.messages_of_ids(ids, instances, errors.NAMED_INSTANCES_MAX)


def the_one(views: ViewsReader, instances: Collection[str], message_id: str) -> EncodedMessage:
    """Raises MessageNotFound, or AmbiguousMessageId if several of the instances hold the id."""
    found = views.messages_by_id(message_id, instances, errors.NAMED_INSTANCES_MAX)
    if not found:
        raise errors.MessageNotFound(message_id)
    if len(found) > 1:
        raise errors.AmbiguousMessageId(message_id, [message.instance for message in found])
    return found[0]
