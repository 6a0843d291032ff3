"""The log's tables. `migrations/eventlog` creates them, with the triggers that guard them."""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Table, Text

metadata = MetaData()

log = Table(
    "log",
    metadata,
    Column("identity", Text, nullable=False),
    Column("kept_from", BigInteger, nullable=False),
    comment="One row: who this log is, and the lowest position that retention keeps.",
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
    Column("content", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
