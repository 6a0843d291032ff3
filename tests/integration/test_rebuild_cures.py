"""What a rebuild mends, and what a check tells of it before."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.database.schema import Store
from service.domain.events import QuarantineReason
from service.plugchat import decode
from tests.histories import Said, modelled, random_callbacks
from tests.rebuild_site import RebuildSite, busy_site
from tests.stores import change, rows

FOLDING = "folding the log anew"
CLEARING = "clearing the views that are not live"


@pytest.fixture
def chance() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def site(tmp_path: Path, chance: random.Random) -> Iterator[RebuildSite]:
    made = busy_site(tmp_path / "data", chance)
    yield made
    made.close()


def tamper(site: RebuildSite, sql: str, *parameters: Any) -> None:
    """Change the live views past the service."""
    ((live,),) = rows(site.data_dir, Store.VIEWS, "SELECT live_slot FROM views")
    assert change(site.data_dir, Store.VIEWS, sql.format(live), *parameters) == 1


EXTRA = {
    "messages": "INSERT INTO messages_{0} SELECT instance, 'X', phone, is_group, status, "
    "provider_status, stages, recipient_count, failure_code, failure_reason, report_count, "
    "update_time_us, changed_position, changed_index, first_position, first_index, encoded, "
    "encoded_reports FROM messages_{0} LIMIT 1",
    "recipients": "INSERT INTO recipients_{0} VALUES ('acme', 'X', '77', 70, 'READ', 1, 1)",
    "feed": "INSERT INTO feed_{0} VALUES (1, 40, 1, 'acme', 'X', '', 40, TRUE, x'00', x'00', NULL)",
    "quarantine": "INSERT INTO quarantine_{0} VALUES (99999, 'acme', 2, 1)",
    "webhooks": "INSERT INTO webhooks_{0} "
    "VALUES ('X', 'acme', '', 'https://x', '', '', 1, 1, '', '', 1, 1, '')",
    "instances": "INSERT INTO instances_{0} VALUES ('X', 1, 0, 0)",
}
ONE = {
    "messages": "message_id = (SELECT min(message_id) FROM messages_{0}) AND instance = "
    "(SELECT instance FROM messages_{0} ORDER BY message_id, instance LIMIT 1)",
    "recipients": "(instance, message_id, participant) = (SELECT instance, message_id, participant "
    "FROM recipients_{0} LIMIT 1)",
    "feed": "(position, report_index) = (SELECT position, report_index FROM feed_{0} LIMIT 1)",
    "quarantine": "position = (SELECT max(position) FROM quarantine_{0})",
    "webhooks": "update_id = 'u1'",
    "instances": "instance = 'b'",
}
CHANGED = {
    "messages": ("report_count = report_count + 1", "report_count"),
    "recipients": ("status = status + 1", "status"),
    "feed": ("change = x'01'", "change"),
    "quarantine": ("reason = 9", "reason"),
    "webhooks": ("state = 3", "state"),
    "instances": ("connection_state = 2", "connection_state"),
}


def _faults(table: str) -> Iterator[tuple[str, str]]:
    yield EXTRA[table], "only live"
    yield f"DELETE FROM {table}_{{0}} WHERE {ONE[table]}", "only rebuilt"
    change, column = CHANGED[table]
    yield f"UPDATE {table}_{{0}} SET {change} WHERE {ONE[table]}", f"differs in {column}"


@pytest.mark.parametrize("fault", [0, 1, 2], ids=["extra", "missing", "differing"])
@pytest.mark.parametrize("table", sorted(EXTRA))
def test_a_check_finds_a_wrong_row_and_a_rebuild_cures_it(
    site: RebuildSite, table: str, fault: int
) -> None:
    """In each table: told with its name and fault, without being mended; gone with a rebuild."""
    sql, words = list(_faults(table))[fault]
    tamper(site, sql)
    first, second = site.checked(), site.checked()
    site.rebuilt()
    cured = site.checked()

    assert [first.differences, second.differences, cured.differences] == [1, 1, 0]
    assert first.note == second.note
    assert first.note.startswith(f"1 of {first.done} rows differ: {table} ")
    assert first.note.endswith(f" {words}")
    assert cured.note.startswith("no difference: ")
    assert site.told() == modelled(site.said)


def test_a_check_shows_a_few_of_many(site: RebuildSite) -> None:
    """All differences are counted, five of them are shown."""
    wrong = change(site.data_dir, Store.VIEWS, "UPDATE messages_a SET report_count = 0")
    last = site.checked()

    assert last.differences == wrong > 5
    assert last.note.count("differs in report_count") == 5
    assert last.note.endswith(f"; and {wrong - 5} more")


def test_a_wrong_quarantine_is_cured(site: RebuildSite) -> None:
    """A callback that views of an older version hold as UNREADABLE is told of by a rebuild."""
    said: Said = (
        "acme",
        {"type": "MessageStatusCallback", "status": "read", "ids": ["poison"], "phone": "1"},
    )
    site.append([said])
    position = len(site.said) + 1
    for table in ("messages", "feed"):
        tamper(site, f"DELETE FROM {table}_{{}} WHERE message_id = 'poison'")
    tamper(site, "INSERT INTO quarantine_{} VALUES (?, 'acme', 6, 1)", position)
    before = (site.told().get(("acme", "poison")), site.quarantined()[position])
    site.rebuilt()

    assert before == (None, QuarantineReason.UNREADABLE)
    assert position not in site.quarantined()
    assert site.told() == modelled(site.said)
    assert site.checked().differences == 0


@pytest.mark.parametrize("reason", [QuarantineReason.TYPE_UNKNOWN, QuarantineReason.UNREADABLE])
def test_what_an_older_decoder_could_not_read_is_cured(
    tmp_path: Path, chance: random.Random, reason: QuarantineReason
) -> None:
    """Folded by a decoder that does not know the type or fails over it, rebuilt by ours."""

    def unable(*_: object) -> decode.Reading:
        raise RuntimeError("a defect of the older version")

    said = random_callbacks(chance, 15, ids=20)
    older = dict(decode.CALLBACK_TYPES)
    if reason is QuarantineReason.TYPE_UNKNOWN:
        del older["MESSAGESTATUSCALLBACK"]
    else:
        older["MESSAGESTATUSCALLBACK"] = unable
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "CALLBACK_TYPES", older)
        site = RebuildSite(tmp_path / "data", said)
    before = (site.told(), list(site.quarantined().values()).count(reason))
    checked = site.checked()
    site.rebuilt()
    after = list(site.quarantined().values())
    readable = sum("ids" in body for _, body in said)
    site.close()

    assert before[0] == {}
    assert before[1] >= readable
    assert checked.differences > readable
    assert site.told() == modelled(said)
    assert len(after) == len(said) - readable
