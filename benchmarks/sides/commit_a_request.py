"""What is written first: FastAPI and SQLAlchemy as their tutorials show them, a commit a request.

    python -m benchmarks.sides.commit_a_request DATABASE_URL

A session a request, on FastAPI's own threads, from SQLAlchemy's pool; on SQLite with a write-ahead
log that is synced at each commit. Under uvicorn with uvloop and httptools.
"""

import sys
import time
from typing import Any

import uvloop
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import BigInteger, Engine, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from benchmarks.h2load import TOKEN
from benchmarks.sides import plain_http

_LOCK_S = 60
"""How long a writer waits for the others on SQLite: nobody is turned away."""


class _Base(DeclarativeBase):
    pass


class _Recorded(_Base):
    __tablename__ = "callbacks"

    id: Mapped[int] = mapped_column(primary_key=True)
    instance: Mapped[str]
    receive_time_us: Mapped[int] = mapped_column(BigInteger)
    content: Mapped[str]


class _Callback(BaseModel):
    type: str
    status: str
    ids: list[str]
    phone: str
    momment: int | None = None


def _opened(url: str) -> Engine:
    """With its table."""
    on_sqlite = url.startswith("sqlite")
    engine = create_engine(url, connect_args={"timeout": _LOCK_S} if on_sqlite else {})
    if on_sqlite:
        event.listen(engine, "connect", _make_durable)
    _Base.metadata.create_all(engine)
    return engine


def _make_durable(connection: Any, _record: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def application(engine: Engine) -> FastAPI:
    opened = sessionmaker(engine)

    def receive_callback(instance: str, callback: _Callback, token: str = "") -> dict[str, str]:
        if token != TOKEN:
            raise HTTPException(401)
        with opened() as session:
            recorded = _Recorded(
                instance=instance,
                receive_time_us=time.time_ns() // 1_000,
                content=callback.model_dump_json(),
            )
            session.add(recorded)
            session.commit()
            return {"outcome": "recorded", "cursor": str(recorded.id)}

    made = FastAPI()
    made.add_api_route("/instancia/{instance}/status", receive_callback, methods=["POST"])
    return made


def main() -> None:
    taken = plain_http.listening()
    app = application(_opened(sys.argv[1]))
    print(plain_http.address_of(taken), flush=True)
    uvloop.run(plain_http.serve(app, taken))


if __name__ == "__main__":
    main()
