"""A page, played from its first command to its last, and where it shows something else."""

import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.docs.pages import LEFT_OUT, Console, Shown, parts
from tests.docs.terminal import Running, Terminal

# These run until somebody ends them.
_STAYS = re.compile(
    r"make run|plugstatus (serve|watch)|/WatchStatuses|(python|node) \w*(watch|mirror)"
)
_SERVES = re.compile(r"make run|plugstatus serve")
"""Their log goes on, whatever a page shows of it."""
_SIGNALS = {"^C": signal.SIGINT, "Killed": signal.SIGKILL}
_KEPT_WITHIN_A_BLOCK = re.compile(r"export |cd ")

_DIFFERS_EACH_TIME = {
    "time": r"\b20(2[6-9]|[3-9]\d)-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z",
    "compact time": r"\b20\d{6}T\d{6,12}Z",
    "cursor": r"(?<![\w-])A[\w-]{38,}(?![\w-])",
    "generation": r"\b1[78]\d{14}\b",
    "token": r"\bpst_[\w-]{43}",
    "digest": r"\b[0-9a-f]{64}\b",
    "span": r"\b\d+(\.\d+)? s\b",
    "version of SQLite": r"(?<=SQLite: )3\.\d+\.\d+",
}
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True)
class Played:
    shown: Shown
    printed: list[str]

    @property
    def as_shown(self) -> bool:
        return same(self.shown.printed, self.printed)


def play(page: str, terminal: Terminal, not_run: Mapping[str, str]) -> Iterator[Played]:
    """Every command but those that begin like one of `not_run`."""
    left_running: list[Running] = []
    followed: list[Running] = []
    for part in parts(page):
        if not isinstance(part, Console):
            terminal.save(part.name, part.content)
            continue
        before: list[str] = []
        for shown in part.shown:
            if shown.command.startswith(tuple(not_run)):
                continue
            if shown.command and not _STAYS.search(shown.command):
                printed = terminal.run("\n".join([*before, shown.command]))
            else:
                if shown.command:
                    left_running.append(terminal.start("\n".join([*before, shown.command])))
                    if not _SERVES.search(shown.command):
                        followed.append(left_running[-1])
                printed = _followed(left_running[-1], shown.printed)
            if _KEPT_WITHIN_A_BLOCK.match(shown.command):
                before.append(shown.command)
            yield Played(shown, printed)
    for running in followed:
        if more := running.untaken():
            yield Played(Shown("at the end", page.count("\n") + 1), more)


def _followed(running: Running, expected: list[str]) -> list[str]:
    """As much as is expected of a command that stays, which gets the signals shown on the way."""
    printed: list[str] = []
    waiting = 0
    for line in expected:
        if line not in _SIGNALS:
            waiting += 1
            continue
        printed += [*running.take(waiting), line]
        waiting = 0
        running.send(_SIGNALS[line])
        printed += running.rest()
    return printed + running.take(waiting)


def same(expected: list[str], printed: list[str]) -> bool:
    """But for what differs each time, the width of columns, and lines that are left out."""
    pattern = "".join(
        r"(?:.*\n)*" if line == LEFT_OUT else re.escape(_plain(line)) + r"\n" for line in expected
    )
    return re.fullmatch(pattern, "".join(f"{_plain(line)}\n" for line in printed)) is not None


def _plain(line: str) -> str:
    for name, pattern in _DIFFERS_EACH_TIME.items():
        line = re.sub(pattern, f"<{name}>", line)
    return _SPACES.sub(" ", line).strip()
