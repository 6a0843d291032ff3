"""What was removed from the log is counted, and summed up where something of it lives on."""

import sqlalchemy as sa
from alembic import op

revision = "e0002"
down_revision = "e0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

TOMBSTONE = 9
"""`service.domain.events.EventKind.TOMBSTONE`, as of this revision."""

COUNTS = ("erased_event_count", "expired_event_count")
TIMES = ("last_erasure_time_us", "cut_time_us", "cut_time_max_us")


def upgrade() -> None:
    # A program of the revision before would show from its views what was erased here.
    op.execute("DELETE FROM served_revision")
    op.execute(f"INSERT INTO served_revision (revision) VALUES ('{revision}')")
    for name in (*COUNTS, *TIMES):
        op.add_column("log", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "baseline",
        sa.Column("kind", sa.Integer, primary_key=True),
        sa.Column("instance", TEXT, primary_key=True),
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("part", TEXT, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    if op.get_context().dialect.name == "postgresql":
        for statement in _postgres():
            op.execute(statement)
        return
    op.execute("DROP TRIGGER events_update")
    op.execute("DROP TRIGGER log_update")
    for trigger in _guards():
        op.execute(trigger)


def _guards() -> list[str]:
    falls = " OR ".join(f"NEW.{name} < OLD.{name}" for name in COUNTS)
    return [
        # A tombstone may be rewritten too, because what one erasure left, the next one may take;
        # but nothing is ever put into it.
        f"""
        CREATE TRIGGER events_update BEFORE UPDATE ON events
        WHEN NEW.kind <> {TOMBSTONE}
          OR (OLD.kind = {TOMBSTONE} AND length(NEW.content) > length(OLD.content))
          OR NEW.position <> OLD.position OR NEW.instance <> OLD.instance
          OR NEW.receive_time_us <> OLD.receive_time_us
          OR NEW.receive_time_max_us <> OLD.receive_time_max_us
        BEGIN SELECT RAISE(ABORT,
          'the event log is append-only: an event may only become a tombstone'); END
        """,
        f"""
        CREATE TRIGGER log_update BEFORE UPDATE ON log
        WHEN NEW.identity <> OLD.identity OR NEW.kept_from < OLD.kept_from OR {falls}
          OR NEW.kept_from > coalesce((SELECT max(position) FROM events), 1)
        BEGIN SELECT RAISE(ABORT,
          'a log keeps its identity; its counts and kept_from only rise, up to the last event'); END
        """,
    ]


def _postgres() -> list[str]:
    """PostgreSQL stores begin here: several processes append, in one order."""
    return [
        *_coordinating(),
        *_partitioning(),
        *_appending(),
        *_purging(),
        *_guarding_events(),
        *_guarding_log(),
    ]


def _coordinating() -> list[str]:
    return [
        # One row, changed by whoever appends: so positions have no gaps, and rise with each commit.
        """
        CREATE TABLE append_head (
            last_position bigint NOT NULL,
            receive_time_max_us bigint NOT NULL,
            partitioned_until bigint NOT NULL,
            partition_positions bigint NOT NULL
        )
        """,
        "INSERT INTO append_head VALUES (0, 0, 1, 1000000)",
        """
        CREATE TABLE appenders (
            appender text COLLATE "C" PRIMARY KEY,
            last_batch bigint NOT NULL,
            first_position bigint NOT NULL,
            settle_time timestamptz NOT NULL
        )
        """,
        """
        CREATE TABLE leases (
            name text COLLATE "C" PRIMARY KEY,
            holder text COLLATE "C" NOT NULL,
            expire_time timestamptz NOT NULL,
            wanted_by text COLLATE "C" NOT NULL DEFAULT '',
            wanted_until timestamptz NOT NULL DEFAULT '-infinity',
            -- A key, so that only a change of the holder waits for those who have locked the key.
            UNIQUE (name, holder)
        )
        """,
        # A key of its own for each log of a database.
        """
        CREATE FUNCTION append_lock() RETURNS bigint LANGUAGE sql STABLE AS
        $$ SELECT (1886155634::bigint << 32) | 'append_head'::regclass::oid::bigint $$
        """,
    ]


def _partitioning() -> list[str]:
    return [
        # The partition for the positions up to the next multiple of the size, attached and not
        # created in place: that would wait for every reader, and every reader for it.
        """
        CREATE FUNCTION add_partition() RETURNS void LANGUAGE plpgsql AS $$
        DECLARE
            head append_head;
            name text;
            until bigint;
        BEGIN
            SELECT * INTO head FROM append_head FOR UPDATE;
            until := (head.partitioned_until / head.partition_positions + 1)
                     * head.partition_positions;
            name := 'events_from_' || head.partitioned_until;
            EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING ALL)', name);
            EXECUTE format(
                'ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                name, head.partitioned_until, until);
            UPDATE append_head SET partitioned_until = until;
        END $$
        """,
        "SELECT add_partition()",
        # Half a partition ahead, so that nobody has to wait for it.
        """
        CREATE FUNCTION make_room(last bigint) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            WHILE (SELECT last + partition_positions / 2 >= partitioned_until FROM append_head) LOOP
                PERFORM add_partition();
            END LOOP;
        END $$
        """,
        # An empty log that is to hold the rest of another one, whose first events are gone.
        """
        CREATE FUNCTION begin_at(first bigint, time_max_us bigint) RETURNS void
        LANGUAGE plpgsql AS $$
        DECLARE
            child regclass;
        BEGIN
            FOR child IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'events'::regclass LOOP
                EXECUTE format('DROP TABLE %s', child);
            END LOOP;
            UPDATE append_head SET last_position = first - 1, receive_time_max_us = time_max_us,
                partitioned_until = greatest(1, first / partition_positions * partition_positions);
            PERFORM make_room(first);
        END $$
        """,
    ]


def _appending() -> list[str]:
    return [
        # One call, one transaction, one round trip: the lock is never held by a client that is
        # paused. Positions are drawn, and become visible, in the order of the commits, because
        # the lock is released behind the commit.
        """
        CREATE FUNCTION append_events(
            of_appender text, since_batch bigint, batch bigint,
            instances text[], times_us bigint[], kinds integer[], contents bytea[],
            OUT settled_batch bigint, OUT first_position bigint
        ) LANGUAGE plpgsql AS $$
        DECLARE
            added bigint := cardinality(contents);
            head append_head;
        BEGIN
            PERFORM pg_advisory_xact_lock(append_lock());
            SELECT last_batch, appenders.first_position INTO settled_batch, first_position
                FROM appenders WHERE appender = of_appender;
            IF NOT FOUND THEN
                settled_batch := 0;
                first_position := 0;
            END IF;
            IF settled_batch <> since_batch THEN
                RETURN;
            END IF;
            SELECT * INTO head FROM append_head;
            IF head.last_position + added + head.partition_positions / 2 >= head.partitioned_until
            THEN
                PERFORM make_room(head.last_position + added);
            END IF;
            settled_batch := batch;
            first_position := head.last_position + 1;
            INSERT INTO events
                SELECT head.last_position + number, instance, time_us,
                       greatest(head.receive_time_max_us, max(time_us) OVER (ORDER BY number)),
                       kind, content
                FROM unnest(instances, times_us, kinds, contents)
                    WITH ORDINALITY AS given (instance, time_us, kind, content, number);
            INSERT INTO appenders VALUES (of_appender, batch, append_events.first_position, now())
                ON CONFLICT (appender) DO UPDATE SET last_batch = excluded.last_batch,
                    first_position = excluded.first_position, settle_time = excluded.settle_time;
        END $$
        """,
    ]


def _purging() -> list[str]:
    return [
        # One partition that retention has passed is dropped at a time; the one that holds the head
        # is never passed. Of the partition that `kept_from` stands in, what is out of sight is
        # deleted only once it spans so much time: at a high rate it never does, and is dropped
        # whole; at a low one there is little to delete. True: there is more to do.
        """
        CREATE FUNCTION purge_events(span_us bigint) RETURNS boolean LANGUAGE plpgsql AS $$
        DECLARE
            cut log;
            passed name;
            gone bigint;
        BEGIN
            SET LOCAL lock_timeout = '500ms';
            SELECT * INTO cut FROM log;
            SELECT child.relname INTO passed
                FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
                WHERE inhparent = 'events'::regclass
                  AND (regexp_match(pg_get_expr(child.relpartbound, child.oid),
                                    'TO \\(''(\\d+)''\\)'))[1]::bigint <= cut.kept_from
                LIMIT 1;
            IF FOUND THEN
                EXECUTE format('DROP TABLE %I', passed);
                RETURN true;
            END IF;
            IF cut.cut_time_max_us - (SELECT receive_time_max_us FROM events
                                      ORDER BY position LIMIT 1) >= span_us THEN
                DELETE FROM events WHERE position < least(
                    cut.kept_from, (SELECT min(position) FROM events) + 10000);
                GET DIAGNOSTICS gone = ROW_COUNT;
                RETURN gone > 0;
            END IF;
            RETURN false;
        END $$
        """,
    ]


_APPEND_ONLY = "the event log is append-only: "


def _guarding_events() -> list[str]:
    return [
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE integrity_constraint_violation USING MESSAGE = TG_ARGV[0]; END $$
        """,
        # Erasure, and nothing else, rewrites a row; a tombstone may lose more, and gains nothing.
        f"""
        CREATE TRIGGER events_update BEFORE UPDATE ON events FOR EACH ROW
        WHEN (NEW.kind <> {TOMBSTONE}
          OR (OLD.kind = {TOMBSTONE} AND octet_length(NEW.content) > octet_length(OLD.content))
          OR NEW.position <> OLD.position OR NEW.instance <> OLD.instance
          OR NEW.receive_time_us <> OLD.receive_time_us
          OR NEW.receive_time_max_us <> OLD.receive_time_max_us)
        EXECUTE FUNCTION refuse('{_APPEND_ONLY}an event may only become a tombstone')
        """,
        # Retention first says what it keeps, then removes all that stands before it.
        f"""
        CREATE FUNCTION guard_delete() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            last_gone bigint := (SELECT max(position) FROM removed_events);
        BEGIN
            IF last_gone >= (SELECT kept_from FROM log)
                OR EXISTS (SELECT 1 FROM events WHERE position < last_gone)
            THEN
                RAISE integrity_constraint_violation
                    USING MESSAGE = '{_APPEND_ONLY}only a prefix below kept_from may go';
            END IF;
            RETURN NULL;
        END $$
        """,
        """
        CREATE TRIGGER events_delete AFTER DELETE ON events
        REFERENCING OLD TABLE AS removed_events FOR EACH STATEMENT EXECUTE FUNCTION guard_delete()
        """,
        f"""
        CREATE TRIGGER events_truncate BEFORE TRUNCATE ON events
        EXECUTE FUNCTION refuse('{_APPEND_ONLY}only a prefix below kept_from may go')
        """,
        # Nothing goes in front of what is there, whoever inserts it, and the head follows.
        f"""
        CREATE FUNCTION follow_insert() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE append_head SET last_position = added.last_position,
                receive_time_max_us = greatest(append_head.receive_time_max_us, added.time_max_us)
            FROM (SELECT min(position) AS first_position, max(position) AS last_position,
                         max(receive_time_max_us) AS time_max_us FROM added_events) AS added
            WHERE append_head.last_position < added.first_position;
            IF NOT FOUND AND EXISTS (SELECT 1 FROM added_events) THEN
                RAISE integrity_constraint_violation
                    USING MESSAGE = '{_APPEND_ONLY}this position is taken, or was';
            END IF;
            RETURN NULL;
        END $$
        """,
        """
        CREATE TRIGGER events_insert AFTER INSERT ON events
        REFERENCING NEW TABLE AS added_events FOR EACH STATEMENT EXECUTE FUNCTION follow_insert()
        """,
    ]


def _guarding_log() -> list[str]:
    falls = " OR ".join(f"NEW.{name} < OLD.{name}" for name in COUNTS)
    only_rise = "a log keeps its identity; its counts and kept_from only rise, up to the last event"
    return [
        f"""
        CREATE FUNCTION guard_log() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.identity <> OLD.identity OR NEW.kept_from < OLD.kept_from OR {falls}
                OR NEW.kept_from > greatest((SELECT last_position FROM append_head), 1)
            THEN
                RAISE integrity_constraint_violation USING MESSAGE = '{only_rise}';
            END IF;
            RETURN NEW;
        END $$
        """,
        "CREATE TRIGGER log_update BEFORE UPDATE ON log FOR EACH ROW EXECUTE FUNCTION guard_log()",
        """
        CREATE TRIGGER log_delete BEFORE DELETE OR TRUNCATE ON log
        EXECUTE FUNCTION refuse('the identity of a log is fixed')
        """,
        """
        CREATE TRIGGER log_insert BEFORE INSERT ON log
        EXECUTE FUNCTION refuse('a log has one identity')
        """,
    ]
