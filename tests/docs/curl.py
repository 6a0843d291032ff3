#!/usr/bin/env python3
"""What the pages need of curl, on a machine that has none."""

import argparse
import sys
import urllib.error
import urllib.request

_parser = argparse.ArgumentParser(prog="curl")
_parser.add_argument("-X", dest="method", default="GET")
_parser.add_argument("-H", dest="headers", action="append", default=[])
_parser.add_argument("-d", dest="body")
_parser.add_argument("-s", dest="silent", action="store_true")
_parser.add_argument("url")


def main() -> int:
    given = _parser.parse_args()
    body = given.body.encode() if given.body is not None else None
    headers = dict(header.split(": ", 1) for header in given.headers)
    request = urllib.request.Request(given.url, body, headers, method=given.method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            sys.stdout.write(answer.read().decode())
    except urllib.error.HTTPError as error:
        sys.stdout.write(error.read().decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
