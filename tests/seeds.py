"""Seeds that are parameters of a test: random on every run, the same in every process of one.

PLUGSTATUS_TEST_SEED draws those of an earlier run again; each is in its test's name as well.
"""

import os
import random

VARIABLE = "PLUGSTATUS_TEST_SEED"
RUN = os.environ.setdefault(VARIABLE, str(random.randrange(2**32)))


def seeds(count: int) -> list[int]:
    return random.Random(RUN).sample(range(10**6), count)
