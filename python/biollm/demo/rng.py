"""Random draws that are the same on every Python, platform and version: integers only, by splitmix64.

`random.Random` promises stable `random()` alone, not stable `choice`, `shuffle` or `sample`; a corpus whose bytes are
tested needs all of them.

Reference: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (the mixer of SplitMix64).
"""

from collections.abc import MutableSequence, Sequence
from typing import TypeVar

T = TypeVar("T")
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mix(value: int) -> int:
    """The output function of splitmix64: 64 bits in, 64 well mixed bits out; a bijection."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class Rng:
    """A stream of draws, known by its seed and any number of names: `Rng(0, "abstract", 17)`.

    Streams of different names are independent of one another, so that one part of the corpus can change
    without moving the others.
    """

    def __init__(self, seed: int, *names: str | int) -> None:
        state = mix((seed + _GOLDEN) & _MASK)
        for name in names:
            for byte in str(name).encode() + b"\x00":
                state = mix(((state ^ byte) + _GOLDEN) & _MASK)
        self._state = state

    def bits(self) -> int:
        """The next 64 bits."""
        self._state = (self._state + _GOLDEN) & _MASK
        return mix(self._state)

    def below(self, n: int) -> int:
        """An integer in 0..n, n excluded."""
        return (self.bits() * n) >> 64

    def between(self, low: int, high: int) -> int:
        """An integer in low..high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        """True in `percent` of a hundred draws."""
        return self.below(100) < percent

    def choice(self, items: Sequence[T]) -> T:
        """One of `items`."""
        return items[self.below(len(items))]

    def weighted(self, items: Sequence[tuple[T, int]]) -> T:
        """One of the (item, weight) pairs, in proportion to its weight."""
        draw = self.below(sum(weight for _, weight in items))
        for item, weight in items:
            draw -= weight
            if draw < 0:
                return item
        raise AssertionError("weights are positive integers")

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Fisher and Yates, in place."""
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]

    def sample(self, items: Sequence[T], k: int) -> list[T]:
        """`k` different items, in random order."""
        pool = list(items)
        self.shuffle(pool)
        return pool[:k]
