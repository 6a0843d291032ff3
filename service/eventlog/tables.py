"""The log's tables. `migrations/eventlog` creates them, with the triggers that guard them."""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Table, Text

metadata = MetaData()

log = Table(
    "log",
    metadata,
    Column("identity", Text, nullable=False),
    Column("kept_from", BigInteger, nullable=False),
    Column("erased_event_count", BigInteger, nullable=False, server_default="0"),
    Column("expired_event_count", BigInteger, nullable=False, server_default="0"),
    Column("last_erasure_time_us", BigInteger, nullable=False, server_default="0"),
    # Receive time of the last event that retention removed: cursors may still stand there.
    Column("cut_time_us", BigInteger, nullable=False, server_default="0"),
    Column("cut_time_max_us", BigInteger, nullable=False, server_default="0"),
    comment="One row: who this log is, the lowest position that retention keeps, and counts.",
)

baseline = Table(
    "baseline",
    metadata,
    Column("kind", Integer, primary_key=True),
    Column("instance", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("part", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    comment="What the removed events had come to, for all that later events go on with.",
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    # AUTOINCREMENT on SQLite: a position never comes again, whatever retention removes.
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("instance", Text, nullable=False),
    Column("receive_time_us", BigInteger, nullable=False),
    # The greatest receive time up to here. Clocks step back, so receive times are not ordered;
    # this is, and a time is found by bisection instead of a second index.
    Column("receive_time_max_us", BigInteger, nullable=False),
    Column("kind", Integer, nullable=False),
    # `domain.events.checksum_of`; none where the database has checksums of its own, beside a
    # tombstone, and of events from before there was this column.
    Column("checksum", BigInteger, nullable=True),
    Column("content", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
