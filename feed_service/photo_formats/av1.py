"""A still picture of AV1: its units without metadata and padding, and the size it decodes to.

See "AV1 Bitstream & Decoding Process Specification" sections 5.3 to 5.5.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from feed_service.photo_formats.binary import BitReader, Reader
from feed_service.photo_formats.clean_photo import UnfitPhotoError

_SEQUENCE_HEADER: Final = 1
# Frame headers, groups of tiles, frames, and headers that are sent again.
_PICTURE: Final = frozenset({3, 4, 6, 7})
# Delimiters, metadata and padding.
_NEEDLESS: Final = frozenset({2, 5, 15})
_LONGEST_NUMBER: Final = 8
_MOST_ZEROS: Final = 32
# A still picture has a header, a frame, and at the most some groups of tiles.
_MOST_UNITS: Final = 200
# From this level on a sequence states its tier.
_LEVEL_WITH_TIER: Final = 8


class Picture(NamedTuple):
    """Coded data, and the size of the picture in them."""

    coded: bytes
    width: int
    height: int


class _Unit(NamedTuple):
    kind: int
    payload: memoryview
    whole: memoryview


def cleaned(coded: bytes) -> Picture:
    """Return the picture alone; raises UnfitPhotoError."""
    units = list(_units(memoryview(coded)))
    headers = [unit.payload for unit in units if unit.kind == _SEQUENCE_HEADER]
    if len(headers) != 1 or units[0].kind not in _NEEDLESS | {_SEQUENCE_HEADER}:
        raise UnfitPhotoError("is cut off or damaged")
    kept = [unit.whole for unit in units if unit.kind in _PICTURE | {_SEQUENCE_HEADER}]
    if len(kept) == 1 or not {unit.kind for unit in units} <= _PICTURE | _NEEDLESS | {
        _SEQUENCE_HEADER
    }:
        raise UnfitPhotoError("is cut off or damaged")
    width, height = _size(BitReader(headers[0]))
    return Picture(b"".join(kept), width, height)


def _units(coded: memoryview) -> Iterator[_Unit]:
    reader = Reader(coded)
    for _ in range(_MOST_UNITS):
        if not reader.left:
            return
        start = reader.position
        head = reader.number(1)
        if head & 0x81:  # bits that are always 0
            raise UnfitPhotoError("is cut off or damaged")
        if head & 4:
            reader.take(1)
        payload = reader.take(_leb128(reader) if head & 2 else reader.left)
        yield _Unit(head >> 3, payload, coded[start : reader.position])
    raise UnfitPhotoError(f"must have at most {_MOST_UNITS} units in a picture")


def _leb128(reader: Reader) -> int:
    value = 0
    for position in range(_LONGEST_NUMBER):
        byte = reader.number(1)
        value |= (byte & 0x7F) << (7 * position)
        if not byte & 0x80:
            return value
    raise UnfitPhotoError("is cut off or damaged")


def _size(header: BitReader) -> tuple[int, int]:
    header.bits(3 + 1)
    is_reduced = header.flag()
    if is_reduced:
        header.bits(5)
    else:
        _skip_operating_points(header)
    width_bits, height_bits = header.bits(4) + 1, header.bits(4) + 1
    return header.bits(width_bits) + 1, header.bits(height_bits) + 1


def _skip_operating_points(header: BitReader) -> None:
    delay_bits: int | None = None
    if header.flag():
        header.bits(32 + 32)
        if header.flag():
            _skip_exponential(header)
        if header.flag():
            delay_bits = header.bits(5) + 1
            header.bits(32 + 5 + 5)
    has_display_delay = header.flag()
    for _ in range(header.bits(5) + 1):
        header.bits(12)
        if header.bits(5) >= _LEVEL_WITH_TIER:
            header.bits(1)
        if delay_bits is not None and header.flag():
            header.bits(2 * delay_bits + 1)
        if has_display_delay and header.flag():
            header.bits(4)


def _skip_exponential(header: BitReader) -> None:
    for zeros in range(_MOST_ZEROS):
        if header.flag():
            header.bits(zeros)
            return
    raise UnfitPhotoError("is cut off or damaged")
