"""Text from outside, as people may read it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volatile_rse.api.text import visible

ODD = {
    "a terminal sequence": ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
    "a title of a terminal": ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
    "a one-byte sequence": ("\x9b31m", r"\x9b31m"),
    "line ends": ("a\r\nb\x85c\u2028d\u2029", r"a\x0d\x0ab\x85c\u2028d\u2029"),
    "a tabulator and a null": ("a\tb\0", r"a\x09b\x00"),
    "a turned end": ("\u202etxt.toor", r"\u202etxt.toor"),
    "isolates and marks": ("\u2066a\u2069\u200f\u061c", r"\u2066a\u2069\u200f\u061c"),
    "no width": ("a\u200bb\ufeff\u2060\xad", r"a\u200bb\ufeff\u2060\xad"),
    "tags": ("a\U000e0041", r"a\U000e0041"),
    "half a pair": ("\udcff", r"\udcff"),
    "what looks like a blank": ("a\xa0b\u3000", r"a\xa0b\u3000"),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_not_printed_is_escaped(case: str) -> None:
    odd, seen = ODD[case]
    assert visible(odd) == seen


@pytest.mark.parametrize("text", ["plots/h.root", "ü/ñ.root", "файл", "画像.root", "a b", r"\x1b", "😀"])
def test_what_people_can_read_stays(text: str) -> None:
    assert visible(text) == text


def test_a_long_text_is_cut_and_no_escape_with_it() -> None:
    assert visible("x" * 10, 10) == "x" * 10
    assert visible("x" * 11, 10) == "x" * 9 + "…"
    for room in range(1, 30):
        cut = visible("ab\x1b\u202e\U000e0041" * 9, room).removesuffix("…")
        whole = visible("ab\x1b\u202e\U000e0041" * 9)
        assert whole.startswith(cut)
        assert not cut.endswith("\\")
        assert whole[len(cut)] in "ab\\", "an escape is whole or not there"
    assert visible("a\\u20", 4) == "a…", "also one that was written before"


@given(st.text(), st.integers(1, 40))
def test_it_is_always_printable_short_and_the_same_when_it_is_done_twice(text: str, longest: int) -> None:
    once = visible(text, longest)
    assert once.isprintable()
    assert len(once) <= longest
    assert visible(once, longest) == once
    assert not any(unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for sign in visible(text))
    assert visible(visible(text)) == visible(text)


def test_a_long_name_does_not_hide_what_is_the_matter() -> None:
    text = f"Secret ops/{'x' * 5000} is missing. ADMIN must act: create it."
    shown = visible(text, 512)
    assert shown.startswith("Secret ops/xxx")
    assert shown.endswith("xxx is missing. ADMIN must act: create it.")
    assert "…" in shown
    assert visible(shown, 512) == shown


def test_a_long_name_stays_whole_where_there_is_room() -> None:
    text = f"Secret ops/{'x' * 253} is missing."
    assert visible(text, 512) == text


def test_of_a_megabyte_no_more_than_there_is_room_for_is_told() -> None:
    assert len(visible("ab " * 1_000_000, 512)) == 512
    assert len(visible("x" * 3_000_000, 512)) <= 512
