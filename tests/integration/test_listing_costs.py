"""What a page of messages costs: the same among a thousand and among many, wherever it is."""

from contextlib import closing
from pathlib import Path

import pytest

from service.domain.events import Place, Position
from service.domain.message import Message
from service.domain.status import Status
from service.views.reader import StoredViewsReader
from service.views.store import MessageFilter
from tests.domain_values import message
from tests.sqlite_stores import connection_of
from tests.view_stores import VIEW_STORES, batch

NEWEST = Place(Position(2**62))
FEW, MANY = 1_000, 20_000
PAGE = 20
LOOKED_MAX = 10_000

INDEXED = {
    "by_change": MessageFilter(),
    "by_instance": MessageFilter(instances=frozenset("a")),
    "by_phone": MessageFilter(phone="1"),
    "by_status": MessageFilter(statuses=frozenset({Status.SENT})),
}
"""The filters that have an index to themselves, by its name."""

OTHERS = [
    MessageFilter(statuses=frozenset({Status.FAILED, Status.PLAYED})),
    MessageFilter(instances=frozenset("a"), phone="nobody"),
    MessageFilter(instances=frozenset("a"), statuses=frozenset({Status.PLAYED})),
    MessageFilter(updated_from_us=2**62),
    MessageFilter(phone="1", updated_until_us=1),
]
"""Filters that none of the messages below matches, and no index answers alone."""


def _messages(numbers: range) -> list[Message]:
    """Messages of two instances, phones and statuses each, changed in the order of numbers."""
    return [
        message(
            f"M{number}",
            instance="ab"[number % 2],
            phone="12"[number // 2 % 2],
            status=(Status.SENT, Status.READ)[number // 4 % 2],
            changed_at=Place(Position(number), 0),
        )
        for number in numbers
    ]


class Site:
    """Views that hold as many messages as asked, and a reader whose work is counted."""

    def __init__(self, folder: Path) -> None:
        self._views = VIEW_STORES["sqlite"](folder)
        self._writer = self._views.open_writer()
        self._held = 0

    def hold(self, count: int) -> None:
        more = _messages(range(self._held + 1, count + 1))
        self._writer.apply(batch(self._writer.checkpoint(), count, messages=more))
        self._held = count

    def work(self, wanted: MessageFilter, before: Place) -> tuple[int, int]:
        """How many messages a page holds, and how many steps of SQLite's machine it took."""
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        with closing(self._views.open_reader()) as reader:
            assert isinstance(reader, StoredViewsReader)
            connection_of(reader).set_progress_handler(count, 1)
            page = reader.last_changed(wanted, before, PAGE, LOOKED_MAX)
            return len(page.messages), steps

    def plan(self, wanted: MessageFilter) -> list[str]:
        """The plan of the one statement that reads messages."""
        plans = self._views.plans(
            lambda reader: reader.last_changed(wanted, NEWEST, PAGE, LOOKED_MAX)
        )
        (plan,) = (
            plan for sql, plan in plans.items() if " FROM messages_a" in " ".join(sql.split())
        )
        return plan

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize(("index", "wanted"), INDEXED.items(), ids=INDEXED)
def test_an_index_holds_the_page_in_its_order(
    site: Site, index: str, wanted: MessageFilter
) -> None:
    """The statement walks one index from where the page begins, and sorts nothing."""
    with closing(site):
        site.hold(FEW)
        (step,) = site.plan(wanted)

    assert step.startswith(f"SEARCH messages_a USING INDEX messages_a_{index} (")
    assert "(changed_position,changed_index)<(?,?)" in step


@pytest.mark.parametrize("wanted", INDEXED.values(), ids=INDEXED)
def test_a_page_costs_the_same_among_any_number(site: Site, wanted: MessageFilter) -> None:
    """Twenty times the messages take no more work, on the first page and on one far behind."""
    with closing(site):
        site.hold(FEW)
        few = site.work(wanted, NEWEST)
        site.hold(MANY)
        many = [site.work(wanted, before) for before in (NEWEST, Place(Position(FEW // 2)))]

    assert [found for found, _ in (few, *many)] == [PAGE] * 3
    assert max(steps for _, steps in many) <= few[1] * 1.05


@pytest.mark.parametrize("wanted", OTHERS, ids=repr)
def test_other_filters_look_at_ten_thousand_at_most(site: Site, wanted: MessageFilter) -> None:
    """A page that finds nothing took no more than 10,000 messages, however many there are."""
    with closing(site):
        site.hold(MANY)
        before = site.work(wanted, NEWEST)
        site.hold(MANY + LOOKED_MAX)
        after = site.work(wanted, NEWEST)

    assert (before[0], after[0]) == (0, 0)
    assert after[1] <= before[1] * 1.05
