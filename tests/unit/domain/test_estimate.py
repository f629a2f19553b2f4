"""How long a buffer takes until it is usable."""

from __future__ import annotations

import pytest

from volatile_rse.domain.estimate import Sample, seconds_of


@pytest.mark.parametrize(
    ("samples", "size", "seconds"),
    [
        ([], 100, None),
        ([(5, 0)], 100, 5),
        ([(5, 100)], 100, 5),
        ([(5, 0), (15, 100)], 100, 15),
        ([(5, 0), (15, 100)], 300, 35),
        ([(5, 0), (15, 100), (35, 300)], 200, 25),
        ([(5, 10), (5, 1000)], 10**9, 5),
    ],
)
def test_it_is_the_time_of_every_buffer_and_that_of_its_bytes(
    samples: list[tuple[float, int]], size: int, seconds: int | None
) -> None:
    assert seconds_of([Sample("c", took, number) for took, number in samples], size) == seconds
