"""How many random examples tests make: few in `make test`, and many in `make oracle`."""

import os
from random import Random

_TIMES = int(os.environ.get("KITH_EXAMPLES", "1"))


def examples(few: int) -> int:
    """Return how many examples to make: so many, times KITH_EXAMPLES."""
    return few * _TIMES


def seeds(*few: int) -> list[int]:
    """Return these seeds, and random ones until there are KITH_EXAMPLES times as many."""
    more = Random(_TIMES)
    return [*few, *(more.randrange(100, 2**31) for _ in range(len(few) * (_TIMES - 1)))]
