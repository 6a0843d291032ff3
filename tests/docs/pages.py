"""What of a Markdown page is typed at a terminal, and what is saved as a file.

- A fenced block `console`: a line that begins with `$ ` is a command, with the lines that a
  backslash, a bar or an open quote joins to it; those that follow are what it printed. A block that
  does not begin with a command shows what the command that was left running has printed since.
- Any other fenced block directly behind a paragraph that ends with a file's name in backquotes and
  a colon: that file.
- A line `^C` among what was printed: Ctrl-C was pressed. `Killed`: it got SIGKILL. `[…]`: lines are
  left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

LEFT_OUT = "[…]"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SAVED_AS = re.compile(r"`([\w.-]+\.\w+)`:\n\n\Z")


@dataclass
class Shown:
    """A command and what it prints; without a command, what the one left running prints."""

    command: str
    line: int
    """Of the page, from 1, where the printed lines begin."""
    printed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Console:
    shown: list[Shown]


@dataclass(frozen=True)
class File:
    name: str
    content: str


def parts(page: str) -> Iterator[Console | File]:
    """In the order of the page."""
    for fence in _FENCE.finditer(page):
        language, content = fence.groups()
        if language == "console":
            first = page.count("\n", 0, fence.start(2)) + 1
            yield Console(_shown(content.splitlines(), first))
        elif named := _SAVED_AS.search(page, 0, fence.start()):
            yield File(named[1], content)


def _shown(lines: list[str], first: int) -> list[Shown]:
    found: list[Shown] = []
    joined = False
    for number, line in enumerate(lines, first):
        if joined:
            found[-1].command += f"\n{line}"
        elif line.startswith("$ "):
            found.append(Shown(line.removeprefix("$ "), number))
        else:
            if not found:
                found.append(Shown("", number))
            found[-1].printed.append(line)
            continue
        found[-1].line = number + 1
        joined = _goes_on(found[-1].command)
    return found


def _goes_on(command: str) -> bool:
    return command.endswith(("\\", "|")) or command.count("'") % 2 == 1
