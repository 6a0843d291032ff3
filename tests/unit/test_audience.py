"""Who is found for a row: everybody whose filter matches it, by look-ups alone."""

from hypothesis import given
from hypothesis import strategies as st

from service.api.live import Audience, LiveQueue
from service.domain.status import Status
from service.views.feed import FeedFilter, FeedRow

NAMES = st.sampled_from(["", "a", "b", "c"])
SETS = st.frozensets(st.sampled_from(["a", "b", "c"]))

filters = st.builds(
    FeedFilter,
    instances=SETS,
    message_ids=SETS,
    phones=SETS,
    statuses=st.frozensets(st.sampled_from([Status.SENT, Status.READ])),
    unchanged=st.booleans(),
)
rows = st.builds(
    FeedRow,
    position=st.just(1),
    report_index=st.just(0),
    receive_time_us=st.just(1),
    instance=NAMES,
    message_id=NAMES,
    phone=NAMES,
    status=st.sampled_from([Status.SENT, Status.READ]),
    changed=st.booleans(),
    change=st.just(b""),
)


def _queue(wanted: FeedFilter) -> LiveQueue:
    return LiveQueue(wanted, frames_max=1, bytes_max=1)


@given(st.lists(filters, max_size=12), st.lists(rows, max_size=5), st.data())
def test_everybody_concerned_is_found(
    wanted: list[FeedFilter], changes: list[FeedRow], data: st.DataObject
) -> None:
    """Of those who have joined and not left, all whose filter matches a row are found."""
    queues = [_queue(one) for one in wanted]
    left = data.draw(st.sets(st.sampled_from(queues))) if queues else set()
    audience = Audience()
    for queue in queues:
        audience.add(queue)
    for queue in left:
        audience.discard(queue)
        audience.discard(queue)
    stayed = set(queues) - left
    concerned = {q for q in stayed if any(q.wanted.matches(row) for row in changes)}

    found = {queue for group in audience.of(changes) for queue in group.queues}

    assert concerned <= found <= stayed
    assert stayed == set(audience)


def test_a_row_is_looked_up_and_not_tried() -> None:
    """Of ten thousand watchers of one message each, a change finds the one it concerns."""
    audience = Audience()
    queues = [_queue(FeedFilter(message_ids=frozenset({f"M{n}"}))) for n in range(10_000)]
    for queue in queues:
        audience.add(queue)
    row = FeedRow(1, 0, 1, "acme", "M77", "55", Status.READ, True, b"")

    (group,) = audience.of([row])

    assert {queues[77]} == group.queues


def test_nothing_of_those_who_left_stays() -> None:
    """An audience that everybody has left holds nothing, however they were found."""
    audience = Audience()
    queue = _queue(FeedFilter(phones=frozenset({"1", "2"})))
    audience.add(queue)
    audience.discard(queue)

    assert 0 == len(audience)
    assert [{}, {}] == [vars(audience)["_groups"], vars(audience)["_by_key"]]
