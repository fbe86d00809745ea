"""Sizes as people write them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmkit.sizes import MOST, format_size, parse_size

UNITS = {
    "": 1, "B": 1,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("64 MiB", 64 * 2**20),
        ("64MiB", 64 * 2**20),
        ("1.5 GiB", 3 * 2**29),
        ("10 kB", 10_000),
        ("512", 512),
        ("512 B", 512),
        ("0", 0),
        (".5 KiB", 512),
        ("0.1 MB", 100_000),
        ("1_000 B", 1000),
        (" 2\tTiB\n", 2**41),
        ("1 tb", 10**12),
        ("1 KB", 1000),
        ("+4", 4),
        ("-0", 0),
        ("4194304 TiB", MOST),
    ],
)
def test_text_with_a_unit_is_a_number_of_bytes(text: str, nbytes: int) -> None:
    """Binary and decimal units, with or without a space, in either case, are exact."""
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("size", [0, 1, 4096, MOST, np.int64(77), np.uint8(3)])
def test_an_integer_of_any_kind_is_itself(size: int) -> None:
    """Whole numbers, NumPy's too, come back as an int."""
    assert parse_size(size) == int(size)
    assert type(parse_size(size)) is int


@pytest.mark.parametrize(
    ("size", "rule"),
    [
        (-1, "negative"),
        ("-1 MiB", "negative"),
        (MOST + 1, "at most 2**62"),
        ("4194305 TiB", "at most 2**62"),
        ("9" * 400, "at most 2**62"),
        ("1.5", "whole number"),
        ("0.3 KiB", "whole number"),
        ("5 parsecs", "unit must be one of"),
        ("64 Mi", "unit must be one of"),
        ("64 MiB/s", "a number and a unit"),
        ("", "a number and a unit"),
        ("MiB", "a number and a unit"),
        ("1e6", "a number and a unit"),
        ("0x10", "a number and a unit"),
        ("1. KiB", "a number and a unit"),
        ("inf", "a number and a unit"),
        ("1 2", "a number and a unit"),
        ("9" * 5000, "a number and a unit"),
        ("١٢", "a number and a unit"),
    ],
)
def test_a_value_that_is_no_size_is_refused_with_the_rule(size: int | str, rule: str) -> None:
    """The ValueError says the value and the rule that it breaks."""
    with pytest.raises(ValueError, match=r"^a size") as caught:
        parse_size(size)
    assert rule in str(caught.value)
    assert repr(size) in str(caught.value)


@pytest.mark.parametrize("size", [1.0, 1.5, True, False, None, b"64", [64], np.float32(2)])
def test_a_type_that_is_no_size_is_refused(size: object) -> None:
    """Floats, bools and others are a TypeError that names value and type, not a silent conversion."""
    with pytest.raises(TypeError) as caught:
        parse_size(size)  # type: ignore[arg-type]
    assert repr(size) in str(caught.value)
    assert type(size).__name__ in str(caught.value)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (3 * 2**19, "1.5 MiB"),
        (2**20 - 1, "1 MiB"),
        (2**30 - 1, "1 GiB"),
        (64 * 2**20, "64 MiB"),
        (5000 * 2**40, "5000 TiB"),
        (-1536, "-1.5 KiB"),
    ],
)
def test_a_size_is_shown_in_the_unit_that_suits_it(nbytes: int, text: str) -> None:
    """Binary units, at most one decimal, never 1024 of a unit."""
    assert format_size(nbytes) == text


@given(st.integers(0, MOST))
def test_digits_alone_are_bytes(nbytes: int) -> None:
    """Any size survives being written as text."""
    assert parse_size(str(nbytes)) == nbytes


@given(st.integers(0, 2**20), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " "]))
def test_a_unit_multiplies(count: int, unit: str, space: str) -> None:
    """Every unit is its factor, and its case does not matter."""
    assert parse_size(f"{count}{space}{unit}") == count * UNITS[unit]
    assert parse_size(f"{count}{space}{unit.swapcase()}") == count * UNITS[unit]


@given(st.integers(0, MOST))
def test_what_is_shown_is_close_and_can_be_read_again(nbytes: int) -> None:
    """format_size rounds to half a tenth of its unit, and what it rounds up to is in no smaller unit's range."""
    number, unit = format_size(nbytes).split()
    tenths = round(float(number) * 10)
    assert abs(tenths * UNITS[unit] - nbytes * 10) <= UNITS[unit] // 2
    assert tenths < 10240 or unit == "TiB"


@given(st.text())
def test_text_is_a_size_or_a_value_error(text: str) -> None:
    """No text makes parse_size fail in another way."""
    try:
        nbytes = parse_size(text)
    except ValueError as error:
        assert repr(text) in str(error)
    else:
        assert 0 <= nbytes <= MOST
