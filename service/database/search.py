"""A program of its own: does a text, given on standard input, stand in one of some files?

    python search.py FILE…        exit code 0: it does; 1: it does not

Never in the process that has them open as databases: closing a file drops every POSIX lock that
the process holds on it, SQLite's too (https://sqlite.org/howtocorrupt.html, section 2.2). The
text goes through standard input because other users of the machine can read arguments.
"""

import sys
from pathlib import Path

_BLOCK_BYTES = 1024 * 1024


def stands_in(path: Path, text: bytes) -> bool:
    """Reads the file from end to end; one that is not there holds nothing."""
    kept = b""
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                read = kept + block
                if text in read:
                    return True
                kept = read[-len(text) :]
    except FileNotFoundError:
        pass
    return False


if __name__ == "__main__":
    wanted = sys.stdin.buffer.read()
    sys.exit(0 if any(stands_in(Path(name), wanted) for name in sys.argv[1:]) else 1)
