"""Whichever library adds up, it must add up as Rucio does."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st

from volatile_rse.agent import checksum


@given(st.lists(st.binary(max_size=9000), max_size=6))
def test_a_file_that_comes_in_pieces_has_the_sum_of_the_whole(pieces: list[bytes]) -> None:
    value = checksum.EMPTY
    for piece in pieces:
        value = checksum.extend(value, piece)
    assert value == zlib.adler32(b"".join(pieces))


def test_a_library_that_adds_up_otherwise_is_not_used() -> None:
    assert checksum._is_right(zlib.adler32)
    assert not checksum._is_right(zlib.crc32)
    assert not checksum._is_right(lambda data, _value: zlib.adler32(data))
