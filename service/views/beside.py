"""Statements over what stands beside the slots, compiled once a dialect."""

from functools import cache
from typing import NamedTuple

from sqlalchemy import bindparam, select, update

from service.database.database import Dialect
from service.database.statements import compiler
from service.views.tables import generations, views


class Common(NamedTuple):
    """With positional parameters."""

    live: str
    generation: str
    begin_generation: str
    keep_from: str
    switch: str
    log_identity: str
    set_log_identity: str
    advance: str


@cache
def common(dialect: Dialect) -> Common:
    compiled = compiler(dialect)
    return Common(
        live=compiled(
            select(
                views.c.live_slot,
                generations.c.generation,
                generations.c.position,
                generations.c.receive_time_us,
                generations.c.kept_from,
            ).where(generations.c.slot == views.c.live_slot)
        ),
        generation=compiled(
            select(
                generations.c.generation,
                generations.c.position,
                generations.c.receive_time_us,
                generations.c.kept_from,
                generations.c.program,
            ).where(generations.c.slot == bindparam("slot"))
        ),
        begin_generation=compiled(
            update(generations)
            .values(
                generation=bindparam("new_generation"),
                position=bindparam("at"),
                receive_time_us=bindparam("at_time_us"),
                kept_from=bindparam("first_kept"),
                program=bindparam("by_program"),
            )
            .where(generations.c.slot == bindparam("of_slot"))
        ),
        keep_from=compiled(
            update(generations)
            .values(kept_from=bindparam("first_kept"))
            .where(generations.c.slot == bindparam("of_slot"))
        ),
        switch=compiled(update(views).values(live_slot=bindparam("to_slot"))),
        log_identity=compiled(select(views.c.log_identity)),
        set_log_identity=compiled(update(views).values(log_identity=bindparam("identity"))),
        advance=compiled(
            update(generations)
            .values(position=bindparam("until"), receive_time_us=bindparam("until_time_us"))
            .where(
                generations.c.slot == bindparam("of_slot"),
                generations.c.generation == bindparam("of_generation"),
                generations.c.position == bindparam("since"),
            )
        ),
    )
