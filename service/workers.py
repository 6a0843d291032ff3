"""Several processes of one `serve`, on one machine and one PostgreSQL, behind the same addresses.

    parent ── starts, and starts again ──▶ worker 1 … worker N: the whole service each
           ◀── listening, or why not ─────┘

The system gives each worker a share of the connections. The parent serves nothing but the
operations paths, where it tells of all of them. It ends once they have, and they end when it is
gone. Worker 1 has the data folder itself, the others a folder each below it.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import httpx
import structlog
from prometheus_client import CollectorRegistry, Counter, generate_latest

from service import __version__, app, errors, ports, process
from service.clock import SystemClock
from service.config import Bind, Config
from service.ingress.ingress import operations_server
from service.spools import leave_none_behind
from service.telemetry import ParentMetrics, WorkerMetrics, configure_logging

_log = structlog.get_logger(__name__)

_OWN_OPS = Bind("127.0.0.1", 0)
_ASK_S = 4.0
"""What a worker gets to answer the parent; less than the parent's own answer may take."""

_RESTART_S = 1.0
_RESTART_S_MAX = 30.0
_STEADY_S = 60.0
"""Who has run for so long is started again as if for the first time."""

_KILL_S = 2.0
"""A worker ends its drain by itself; one that is still there so long afterwards is killed."""

_spawning = multiprocessing.get_context("spawn")


def run(config: Config, log_level: str) -> None:
    """Run the workers until SIGTERM or SIGINT, then drain them. SIGHUP reaches all of them.

    A worker that ends by itself is started again, ever later if it keeps doing so. Raises
    OperatorError if one cannot start in the beginning; then all have ended again.
    """
    leave_none_behind(config)
    asyncio.run(_serve(config, log_level))


async def _serve(config: Config, log_level: str) -> None:
    stop = asyncio.Event()
    app.stop_on_signals(stop)
    async with AsyncExitStack() as closers:
        config = _placed(config, closers)
        workers = _Workers(config, log_level, stop)
        operations = operations_server(config, SystemClock(), workers.page, workers.not_ready)
        await operations.start()
        closers.push_async_callback(operations.drain)
        closers.push_async_callback(workers.http.aclose)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, workers.reload)
        workers.on_all_ready = lambda: _log.info(
            "ready",
            version=__version__,
            workers=config.workers,
            **_places(config, operations.bind),
        )
        await workers.run()
    _log.info("stopped")


def _placed(config: Config, closers: AsyncExitStack) -> Config:
    """With the ports that all workers share, taken for as long as any of them may come."""
    taken = {}
    for role, variable in (("ingress", "HTTP_BIND"), ("api", "GRPC_BIND")):
        if role in config.roles:
            field = variable.lower()
            place = ports.reserved(variable, getattr(config, field))
            closers.enter_context(closing(place))
            taken[field] = getattr(config, field)._replace(port=ports.bound_to(place).port)
    return replace(config, shared_ports=True, **taken)


def _places(config: Config, ops: Bind) -> dict[str, str]:
    places = {"ops": str(ops), "data_dir": str(config.data_dir)}
    if "ingress" in config.roles:
        places["http"] = str(config.http_bind)
    if "api" in config.roles:
        places["grpc"] = str(config.grpc_bind)
    return places


class _Workers:
    """All of them."""

    def __init__(self, config: Config, log_level: str, stop: asyncio.Event) -> None:
        self.on_all_ready: Callable[[], None] = lambda: None
        """Called once."""
        self.http = httpx.AsyncClient(trust_env=False, timeout=_ASK_S)
        self._stop = stop
        self._metrics = ParentMetrics()
        self._metrics.workers.set_function(lambda: len(self._ready()))
        restarts = self._metrics.restarts
        self._all = [
            _Worker(_config_of(config, number), number, log_level, self._on_ready, restarts)
            for number in range(1, config.workers + 1)
        ]

    async def run(self) -> None:
        """Until told to stop. Raises OperatorError if one cannot start in the beginning."""
        running = [asyncio.create_task(each.keep_running(self._stop)) for each in self._all]
        await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
        self._stop.set()
        await asyncio.gather(*running, return_exceptions=True)
        for one in running:
            one.result()

    def reload(self) -> None:
        for each in self._all:
            each.send_signal(signal.SIGHUP)

    async def page(self) -> bytes:
        """The metrics of all, and what only the parent knows."""
        told = {number: answer.text for number, answer in (await self._asked("/metrics")).items()}
        merged = CollectorRegistry()
        merged.register(WorkerMetrics(told))
        return generate_latest(self._metrics.registry) + generate_latest(merged)

    async def not_ready(self) -> Sequence[str]:
        """What those say that run. One that is being started takes no connections."""
        running = [each.number for each in self._ready()]
        if not running:
            return ["no worker runs"]
        told = await self._asked("/readyz")
        return [
            f"worker {number}: {reason}"
            for number in running
            for reason in (
                told[number].json()["reasons"] if number in told else ["it does not answer"]
            )
        ]

    async def _asked(self, path: str) -> dict[int, httpx.Response]:
        """The answers by worker, without those that did not answer."""

        async def asked(worker: "_Worker") -> httpx.Response | None:
            with suppress(httpx.TransportError):
                return await self.http.get(worker.ops + path)
            return None

        ready = self._ready()
        answers = await asyncio.gather(*map(asked, ready))
        return {
            worker.number: answer
            for worker, answer in zip(ready, answers, strict=True)
            if answer is not None
        }

    def _ready(self) -> list["_Worker"]:
        return [each for each in self._all if each.ops]

    def _on_ready(self) -> None:
        if len(self._ready()) == len(self._all):
            self.on_all_ready()
            self.on_all_ready = lambda: None


class _Worker:
    """One of them, in one process after the other."""

    def __init__(
        self,
        config: Config,
        number: int,
        log_level: str,
        on_ready: Callable[[], None],
        restarts: Counter,
    ) -> None:
        self.number = number
        self.ops = ""
        """Where it can be asked; empty while it is not ready."""
        self._config = config
        self._log_level = log_level
        self._on_ready = on_ready
        self._restarts = restarts
        self._process: SpawnProcess | None = None

    async def keep_running(self, stop: asyncio.Event) -> None:
        """Until told to stop. Raises OperatorError if its first process cannot start."""
        restart_s, was_ready = _RESTART_S, False
        while not stop.is_set():
            began_s = time.monotonic()
            fault, code = await self._run(stop)
            was_ready = was_ready or fault is None
            if stop.is_set():
                return
            if fault is not None and not was_ready:
                raise fault
            if time.monotonic() - began_s > _STEADY_S:
                restart_s = _RESTART_S
            _log.error(
                "a worker ended",
                number=self.number,
                exit_code=code,
                reason=str(fault or ""),
                restart_s=restart_s,
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(restart_s):
                    await stop.wait()
            restart_s = min(2 * restart_s, _RESTART_S_MAX)
            self._restarts.inc()

    def send_signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None and process.pid is not None and process.is_alive():
            os.kill(process.pid, number)

    async def _run(self, stop: asyncio.Event) -> tuple[errors.OperatorError | None, int]:
        """One process: why it could not start, and its exit code or minus the signal."""
        here, there = _spawning.Pipe()
        process = self._process = _spawning.Process(
            target=_work,
            args=(self._config, self.number, self._log_level, there),
            name=f"worker-{self.number}",
        )
        process.start()
        # Only then is either side told when the other one is gone.
        there.close()
        stopping = asyncio.create_task(self._stop_with(stop, process))
        with closing(here):
            fault = await self._started(here)
            await _readable(process.sentinel)
        self.ops = ""
        stopping.cancel()
        process.join()
        return fault, process.exitcode or 0

    async def _started(self, here: "Connection[Any, Any]") -> errors.OperatorError | None:
        """Wait until it listens; else why it does not."""
        await _readable(here.fileno())
        try:
            told = here.recv()
        except EOFError:
            return errors.WorkerEnded(self.number)
        if isinstance(told, errors.OperatorError):
            return told
        self.ops = f"http://{told['ops']}"
        self._on_ready()
        return None

    async def _stop_with(self, stop: asyncio.Event, process: SpawnProcess) -> None:
        await stop.wait()
        process.terminate()
        await asyncio.sleep(self._config.limits.drain_s + _KILL_S)
        _log.error("a worker did not end: killing it", number=self.number)
        process.kill()


def _config_of(config: Config, number: int) -> Config:
    folder = config.data_dir if number == 1 else config.data_dir / f"worker-{number}"
    return replace(config, data_dir=folder, ops_bind=_OWN_OPS, workers=1)


def _work(config: Config, number: int, log_level: str, parent: "Connection[Any, Any]") -> None:
    """A worker's process."""
    configure_logging(log_level, worker=number)
    try:
        process.run(config, parent)
    except errors.OperatorError as error:
        with suppress(OSError):
            parent.send(error)
        sys.exit(1)


async def _readable(file: int) -> None:
    """Wait until there is something to read, or the other end is closed."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(file, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(file)
