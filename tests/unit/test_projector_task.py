"""A long task's life: its steps, its end, its caller's leaving; and who has to wait."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import aclosing
from typing import Any, cast

import pytest

from service import errors
from service.config import Limits
from service.database.database import Fence
from service.database.turns import LocalTurns
from service.domain.events import Position
from service.domain.progress import Progress
from service.projector.task import Hands, Run
from service.upkeep.parts import Parts
from service.upkeep.upkeep import Upkeep

DEADLINE_S = 30.0
HANDS = cast(Hands, object())


class Steps:
    """A task of so many steps, which says what became of it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.done = 0
        self.closed = False

    def __call__(self, hands: Hands) -> Iterator[Progress]:
        assert hands is HANDS
        # Held here too, so that only closing it can end it.
        self.steps = self._steps()
        return self.steps

    def _steps(self) -> Iterator[Progress]:
        try:
            for step in range(1, self.count + 1):
                self.done = step
                yield Progress(step, self.count, "steps", "stepping")
        finally:
            self.closed = True


def _heard(progress: list[int]) -> Callable[[Progress], None]:
    return lambda one: progress.append(one.done)


def test_a_run_is_stepped_to_its_end() -> None:
    """Each step tells its progress, the one behind the last ends the run well."""
    told: list[int] = []
    run = Run(Steps(2), _heard(told))
    went_on = [run.step(HANDS) for _ in range(3)]

    assert went_on == [True, True, False]
    assert told == [1, 2]
    assert run.ended.result(0) is None


def test_a_run_that_was_cancelled_first_does_nothing() -> None:
    """Nothing of a task is done whose caller left before its first step."""
    steps = Steps(2)
    run = Run(steps, _heard([]))
    run.ended.cancel()

    assert not run.step(HANDS)
    assert (steps.done, steps.closed) == (0, False)


def test_a_run_that_is_cancelled_ends_between_two_steps() -> None:
    """Its generator is closed at once, and not whenever it is collected."""
    told: list[int] = []
    steps = Steps(9)
    run = Run(steps, _heard(told))
    run.step(HANDS)
    run.ended.cancel()
    went_on = run.step(HANDS)

    assert not went_on
    assert steps.closed
    assert told == [1]
    with pytest.raises(CancelledError):
        run.ended.result(0)


def test_a_run_whose_step_fails() -> None:
    """Whatever a step raises is the asker's to hear, and the projector goes on."""

    def faulty(_: Hands) -> Iterator[Progress]:
        yield Progress(1, 2, "steps", "")
        raise RuntimeError("a defect")

    run = Run(faulty, _heard([]))

    assert [run.step(HANDS), run.step(HANDS)] == [True, False]
    with pytest.raises(RuntimeError, match="a defect"):
        run.ended.result(0)


def test_a_run_whose_beginning_fails() -> None:
    """A task that cannot even begin is heard just the same."""

    def unable(_: Hands) -> Iterator[Progress]:
        raise errors.ViewsUnavailable("gone")

    run = Run(unable, _heard([]))

    assert not run.step(HANDS)
    with pytest.raises(errors.ViewsUnavailable):
        run.ended.result(0)


def test_a_run_is_failed_from_outside() -> None:
    """A projector that ends closes the task under way, and says why."""
    steps = Steps(9)
    run = Run(steps, _heard([]))
    run.step(HANDS)
    run.fail(errors.ShuttingDown())

    assert steps.closed
    with pytest.raises(errors.ShuttingDown):
        run.ended.result(0)


def test_a_run_that_is_refused_while_it_is_stepped() -> None:
    """Another thread may refuse a run in the middle of a step: it ends behind that step."""
    steps = Steps(9)
    runs: list[Run] = []

    def refused(hands: Hands) -> Iterator[Progress]:
        for progress in steps(hands):
            runs[0].refuse(errors.ShuttingDown())
            yield progress

    runs.append(Run(refused, _heard([])))
    went_on = [runs[0].step(HANDS), runs[0].step(HANDS)]

    assert went_on == [True, False]
    assert steps.done == 1
    with pytest.raises(errors.ShuttingDown):
        runs[0].ended.result(0)


def test_ends_that_cross_do_no_harm() -> None:
    """A caller that leaves as the task ends or fails hears its own leaving, and nobody else."""
    left, failed = Run(Steps(0), _heard([])), Run(Steps(1), _heard([]))
    failed.step(HANDS)
    failed.ended.cancel()
    failed.fail(RuntimeError("too late"))
    assert not left.step(HANDS)
    left.fail(RuntimeError("too late"))

    assert failed.ended.cancelled()
    assert left.ended.result(0) is None


class Tasks:
    """The projector's tasks: each rebuild waits until it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.under_way = 0
        self.most_at_once = 0
        self.ended: list[str] = []

    async def rebuild(self, *, check: bool, tell: Callable[[Progress], None]) -> None:
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        tell(Progress(1, 2, "events", "under way"))
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.ended.append("left")
            raise
        finally:
            self.under_way -= 1
        self.ended.append("done")
        tell(Progress(2, 2, "events", "done"))

    async def retain(
        self,
        keep_from: Position,
        purge_span_us: int,
        fence: Fence,
        tell: Callable[[Progress], None],
    ) -> None: ...
    async def clear_spare(self, tell: Callable[[Progress], None]) -> None: ...
    async def rewrite(self, tell: Callable[[Progress], None]) -> None: ...
    async def wipe(self, tell: Callable[[Progress], None]) -> None: ...


@pytest.fixture
async def tasks() -> Tasks:
    return Tasks()


@pytest.fixture
async def upkeep(tasks: Tasks) -> Upkeep:
    nothing: Any = None
    limits = Limits(task_progress_s=0.01)
    parts = Parts(nothing, nothing, nothing, nothing, tasks, nothing, limits)
    return Upkeep(parts, tasks, lambda: Position(0), None, LocalTurns())


async def _next(steps: AsyncGenerator[Progress]) -> str:
    async with asyncio.timeout(DEADLINE_S):
        return (await anext(steps)).note


async def _rest(steps: AsyncGenerator[Progress]) -> list[str]:
    async with asyncio.timeout(DEADLINE_S):
        return [one.note async for one in steps]


async def test_the_second_task_waits(upkeep: Upkeep, tasks: Tasks) -> None:
    """One task at a time: the second says that it waits, and has its turn behind the first."""
    first, second = upkeep.rebuild(check=False), upkeep.rebuild(check=True)
    notes = [await _next(first), await _next(second)]
    tasks.let_go.set()
    rests = [await _rest(first), await _rest(second)]

    assert notes == ["under way", "waiting for another task to end"]
    assert [rest[-1] for rest in rests] == ["done", "done"]
    assert tasks.most_at_once == 1


async def test_a_caller_that_leaves_ends_its_task(upkeep: Upkeep, tasks: Tasks) -> None:
    """Left under way or waiting, a task ends, and the one behind it has its turn."""
    last = upkeep.rebuild(check=False)
    async with aclosing(upkeep.rebuild(check=False)) as first:
        await _next(first)
        async with aclosing(upkeep.rebuild(check=False)) as waiting:
            assert await _next(waiting) == "waiting for another task to end"
        assert await _next(last) == "waiting for another task to end"
    assert await _next(last) == "under way"
    tasks.let_go.set()
    await _rest(last)

    assert tasks.ended == ["left", "done"]


async def test_a_drain_ends_every_task(upkeep: Upkeep, tasks: Tasks) -> None:
    """The task under way, the one that waits and one that comes later hear of the shutdown."""
    first, second = upkeep.rebuild(check=False), upkeep.rebuild(check=False)
    await _next(first)
    await _next(second)
    upkeep.drain()
    for steps in (first, second, upkeep.rebuild(check=False)):
        with pytest.raises(errors.ShuttingDown):
            await _rest(steps)

    assert tasks.ended == ["left"]
