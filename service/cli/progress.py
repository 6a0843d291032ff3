"""A long task's progress on standard error: a bar for people, a line a stage for logs."""

import sys
import time
from types import TracebackType
from typing import Any, Self

import click

from service.gen.plugchat.status.v1 import status_pb2 as pb


class ProgressBar:
    """One bar for each stage, with its rate and the time left; as a context manager."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""
        self._begun_s = 0.0
        self.last = pb.TaskProgress()

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
        self.last = progress
        if progress.note != self._stage or self._bar is None or progress.done < self._bar.pos:
            self._end_stage()
            self._begin_stage(progress)
        if progress.total:
            self._bar.length = progress.total
        self._bar.update(progress.done - self._bar.pos)

    def _begin_stage(self, progress: pb.TaskProgress) -> None:
        self._stage = progress.note
        self._begun_s = time.monotonic()

        def rate(_item: object) -> str:
            return f"{self._rate():,.0f} {progress.unit}/s" if progress.unit else ""

        bar: Any = click.progressbar(
            length=progress.total or None,
            label=progress.note,
            show_pos=True,
            file=sys.stderr,
            item_show_func=rate,
        )
        bar.__enter__()
        self._bar = bar

    def _end_stage(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def _rate(self) -> float:
        lasted_s = time.monotonic() - self._begun_s
        return self._bar.pos / lasted_s if self._bar is not None and lasted_s else 0.0
