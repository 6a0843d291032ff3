"""`python -m tests.docs PAGE…`: play pages, and write into them what was printed."""

import sys
import tempfile
from pathlib import Path

from tests.docs.pages import LEFT_OUT
from tests.docs.playing import play
from tests.docs.scenes import NOT_RUN, scene


def main() -> None:
    for name in sys.argv[1:]:
        path = Path(name)
        lines = path.read_text().splitlines()
        with tempfile.TemporaryDirectory() as folder, scene(path.name, Path(folder)) as terminal:
            found = list(play(path.read_text(), terminal, NOT_RUN))
        # All of it, so that times and cursors of a page go together.
        for played in reversed(found):
            begin, was = played.shown.line - 1, played.shown.printed
            if not (played.as_shown and LEFT_OUT in was):
                lines[begin : begin + len(was)] = played.printed
        path.write_text("\n".join([*lines, ""]))
        print(f"{path}: {sum(not played.as_shown for played in found)} were different")


if __name__ == "__main__":
    main()
