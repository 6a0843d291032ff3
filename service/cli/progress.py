"""A long task's progress on standard error: a bar for people, a line a stage for logs."""

import sys
import time
from datetime import timedelta
from itertools import count
from types import TracebackType
from typing import Any, Self

import click

from service.cli.output import plain
from service.gen.plugchat.status.v1 import status_pb2 as pb


class ProgressBar:
    """One bar for each stage, with its rate and the time left; as a context manager."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""
        self._begun_s = 0.0
        self._begun_at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end_stage()

    def show(self, progress: pb.TaskProgress) -> None:
        if progress.note != self._stage or self._bar is None or progress.done < self._bar.pos:
            self._end_stage()
            self._begin_stage(progress)
        if progress.total:
            self._bar.length = progress.total
        # The total may have grown since it was reached.
        self._bar.finished = False
        self._bar.update(progress.done - self._bar.pos)

    def _begin_stage(self, progress: pb.TaskProgress) -> None:
        self._stage = progress.note
        self._begun_s = time.monotonic()
        # What goes on where another one was did not do that part: it counts for no rate.
        self._begun_at = progress.done

        def pace(_item: object) -> str:
            return self._pace(progress.unit)

        bar: Any = click.progressbar(
            # Without a length it has to have something to iterate, which is never touched.
            None if progress.total else count(),
            length=progress.total or None,
            label=plain(progress.note),
            show_pos=True,
            show_eta=False,
            file=sys.stderr,
            item_show_func=pace,
            update_min_steps=0,
        )
        bar.__enter__()
        self._bar = bar

    def _end_stage(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def _pace(self, unit: str) -> str:
        """The stage's rate so far and, once there is one, the time left; empty without a unit."""
        lasted_s = time.monotonic() - self._begun_s
        done = self._bar.pos - self._begun_at if self._bar is not None else 0
        if not unit or done <= 0 or lasted_s <= 0:
            return ""
        pace = f"{done / lasted_s:,.0f} {unit}/s"
        if self._bar.length is None:
            return pace
        left_s = (self._bar.length - self._bar.pos) * lasted_s / done
        return f"{pace}  {timedelta(seconds=round(left_s))} left"
