"""A lease: what one of several processes has for itself, for as long as it keeps renewing it.

It is a row, with the time at which it runs out by the database's clock; a session's lock would stay
with a process that was stopped. Whoever takes it names a new term, so what was begun in an earlier
term, even by the same process, is not the holder's any more.

A lease alone only saves work: its holder may be stopped between looking at the clock and writing.
So every transaction that rests on it asks for its row first (`Term.fence`). The row's key, of which
the holder is a part, stays locked until that transaction ends: renewing does not wait for it,
taking does. Once somebody else has taken it, the fence of the former holder raises and its
transaction changes nothing.

Whoever takes a lease that has run out does not wait for a transaction of the former holder, but
ends it. PostgreSQL would not: between two messages of one pipeline no timeout of its own runs, so
one whose client was stopped or cut off there would stay open. An advisory lock, held as long as the
row's key, tells which sessions to end.
"""

from uuid import uuid4

from service import errors
from service.database.database import Connection, Cursor, Database, opening

_TAKE = """
INSERT INTO leases (name, holder, expire_time)
VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3::float8))
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder, expire_time = excluded.expire_time, wanted_by = ''
WHERE leases.holder = $5 OR leases.expire_time < clock_timestamp()
  AND (leases.wanted_by IN ('', $4) OR leases.wanted_until < clock_timestamp())
"""
_RENEW = """
UPDATE leases SET expire_time = clock_timestamp() + make_interval(secs => $3::float8)
WHERE name = $1 AND holder = $2
RETURNING wanted_by <> '' AND wanted_until > clock_timestamp()
"""
_WANT = """
UPDATE leases
SET wanted_by = $2, wanted_until = clock_timestamp() + make_interval(secs => $3::float8)
WHERE name = $1
"""
_RELEASE = "DELETE FROM leases WHERE name = $1 AND holder = $2 AND wanted_by = ''"
_HAND_OVER = "UPDATE leases SET expire_time = '-infinity' WHERE name = $1 AND holder = $2"
_KEY = "hashtextextended(current_schema() || ' lease ' || $1::text, 0)"
_HOLDS = f"""
SELECT pg_advisory_xact_lock_shared({_KEY}) FROM leases
WHERE name = $1 AND holder = $2 FOR KEY SHARE
"""  # noqa: S608
_IS_KEPT = """
SELECT 1 FROM leases WHERE name = $1 AND holder <> $2 AND expire_time >= clock_timestamp()
"""
_END_FORMER = f"""
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (classid::bigint << 32) | objid::bigint = {_KEY}
  AND NOT EXISTS ({_IS_KEPT})
"""  # noqa: S608


class Term:
    """The time from taking a lease until somebody else takes it."""

    def __init__(self, name: str, holder: str) -> None:
        self.name = name
        self.holder = holder

    def fence(self, connection: Connection) -> None:
        """Raises CheckpointMoved, inside a transaction, if somebody else has taken the lease."""
        if connection.execute(_HOLDS, (self.name, self.holder)).fetchone() is None:
            raise errors.CheckpointMoved(f"the lease {self.name!r} is another process's by now")


class Leases:
    """Takes and keeps leases of one database. Used by one thread at a time.

    Every method raises StoreUnusable if the database cannot be reached; then nothing is known of
    the lease, and it runs out by itself.
    """

    def __init__(self, database: Database, lease_s: float) -> None:
        self._database = database
        self._lease_s = lease_s
        self._me = uuid4().hex
        self._held: dict[str, str] = {}
        self._connection: Connection | None = None

    def take(self, name: str) -> Term | None:
        """None while another process has it, or is to have it next."""
        term = Term(name, uuid4().hex)
        # A term of its own that was cut short, with the database, need not run out first.
        before = self._held.get(name, "")
        # Looked at first: to take waits for the holder's transaction, even where it must not.
        if self._run(_IS_KEPT, (name, before)).fetchone():
            return None
        self._run(_END_FORMER, (name, before))
        taken = self._run(_TAKE, (name, term.holder, self._lease_s, self._me, before)).rowcount
        if not taken:
            return None
        self._held[name] = term.holder
        return term

    def want(self, name: str) -> None:
        """Ask the holder for it; once it lets go, it is this process's for a lease's time."""
        self._run(_WANT, (name, self._me, self._lease_s))

    def renew(self, term: Term) -> bool:
        """Does another process want it? Raises CheckpointMoved if one has it by now."""
        row = self._run(_RENEW, (term.name, term.holder, self._lease_s)).fetchone()
        if row is None:
            raise errors.CheckpointMoved(f"the lease {term.name!r} has run out")
        return bool(row[0])

    def release(self, term: Term) -> None:
        # A row that nobody waits for goes: names may be as many as requests.
        if not self._run(_RELEASE, (term.name, term.holder)).rowcount:
            self._run(_HAND_OVER, (term.name, term.holder))
        self._held.pop(term.name, None)

    def close(self) -> None:
        """Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> Connection:
        connection = self._database.connect_writer(reply_s=self._lease_s)
        with opening(connection, self._database.name):
            # A quorum that does not answer must not cost the lease as well. One that is lost with
            # its primary is nobody's: the fence finds another holder there.
            connection.execute("SET synchronous_commit = off")
        return connection

    def _run(self, sql: str, parameters: tuple[object, ...]) -> Cursor:
        if self._connection is None:
            self._connection = self._connected()
        try:
            return self._connection.execute(sql, parameters)
        except self._connection.faults as error:
            self.close()
            raise errors.StoreUnusable(
                f"{self._database.name}: a lease cannot be kept: {error}"
            ) from error
