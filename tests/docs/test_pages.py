"""Every page shows what happens: its commands are typed, its programs run, its output compared."""

from pathlib import Path

import pytest

from tests.docs.pages import Console, parts
from tests.docs.playing import play, same
from tests.docs.scenes import NOT_RUN, scene
from tests.docs.terminal import ROOT

PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in sorted(
        [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")]
    )
}
COMMANDS = {
    name: [
        shown.command
        for part in parts(page)
        if isinstance(part, Console)
        for shown in part.shown
        if shown.command
    ]
    for name, page in PAGES.items()
}
PLAYED = [
    name
    for name, commands in COMMANDS.items()
    if any(not command.startswith(tuple(NOT_RUN)) for command in commands)
]


@pytest.mark.parametrize("name", PLAYED)
def test_a_page_shows_what_happens(name: str, tmp_path: Path) -> None:
    """But for times, cursors and the like, each command prints what stands there."""
    with scene(Path(name).name, tmp_path) as terminal:
        differences = [one for one in play(PAGES[name], terminal, NOT_RUN) if not one.as_shown]

    assert [
        f"{name}:{one.shown.line}: {one.shown.command}: {one.printed}" for one in differences
    ] == []


@pytest.mark.parametrize("beginning", NOT_RUN)
def test_what_is_not_run_is_there(beginning: str) -> None:
    """No exception outlives its command."""
    assert any(
        command.startswith(beginning) for commands in COMMANDS.values() for command in commands
    )


@pytest.mark.parametrize("name", PAGES)
def test_shell_blocks_are_consoles(name: str) -> None:
    """Commands stand in blocks that are played, so that none is left out by its label."""
    assert not [label for label in ("```sh\n", "```bash\n", "```shell\n") if label in PAGES[name]]


PAGE = """
Save it as `said.py`:

```python
print("said at 2026-11-23T10:00:00Z")
```

```console
$ python said.py
said at 2031-01-01 00:00:00Z
$ echo 'one
two'
one
{second}
$ printf 'a\\nb\\nc\\n'
a
[…]
c
```
"""


@pytest.mark.parametrize(("second", "found"), [("two", 0), ("three", 1)])
def test_a_wrong_page_is_found(tmp_path: Path, second: str, found: int) -> None:
    """A line that is not printed is told of; what differs each time is not."""
    with scene("a page", tmp_path) as terminal:
        played = list(play(PAGE.format(second=second), terminal, {}))
        differences = [one for one in played if not one.as_shown]

    assert [one.printed for one in differences] == [["one", "two"]] * found


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        (["a"], []),
        (["a"], ["a", "b"]),
        (["a", "[…]", "c"], ["a", "b"]),
        (["[…]", "c"], ["a", "b", "cc"]),
        (["cursor A" + "b" * 38], ["cursor A" + "b" * 37]),
        (["2021-09-21T14:30:45Z"], ["2026-09-21T14:30:45Z"]),
    ],
)
def test_what_is_not_the_same(expected: list[str], printed: list[str]) -> None:
    """Neither more nor less, and a fixed time is no time that differs."""
    assert not same(expected, printed)


@pytest.mark.parametrize("printed", [["a", "c"], ["a", "b", "c"], ["a", "b", "b", "c"]])
def test_lines_that_are_left_out(printed: list[str]) -> None:
    """Any number of them, none as well."""
    assert same(["a", "[…]", "c"], printed)
