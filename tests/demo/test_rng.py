"""The random stream: fixed values, ranges, independence of names."""

from collections import Counter

from biollm.demo.rng import Rng, mix


def test_mix_is_the_published_splitmix64() -> None:
    # The first outputs of splitmix64 seeded with 0 (Steele, Lea, Flood 2014; the reference C program).
    golden = 0x9E3779B97F4A7C15
    assert [mix(golden * n & (1 << 64) - 1) for n in (1, 2, 3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def test_streams_are_known_by_their_names() -> None:
    assert [Rng(0, "a").bits() for _ in range(2)] == [Rng(0, "a").bits()] * 2
    assert len({Rng(seed, name, n).bits() for seed in (0, 1) for name in ("a", "b") for n in (1, 11)}) == 8
    assert Rng(0, "a", 11).bits() != Rng(0, "a1", 1).bits()


def test_draws_stay_in_range_and_are_even() -> None:
    rng = Rng(7)
    assert {rng.between(3, 5) for _ in range(200)} == {3, 4, 5}
    counts = Counter(rng.below(4) for _ in range(4000))
    assert all(850 < counts[value] < 1150 for value in range(4))
    weights = Counter(rng.weighted((("often", 9), ("never", 0), ("seldom", 1))) for _ in range(2000))
    assert weights["never"] == 0
    assert 100 < weights["seldom"] < 300


def test_shuffle_and_sample_keep_the_items() -> None:
    rng = Rng(1)
    items = list(range(50))
    rng.shuffle(items)
    assert sorted(items) == list(range(50))
    assert items != list(range(50))
    assert len(set(rng.sample(range(9), 4))) == 4
