"""PNG, see the W3C's "Portable Network Graphics (PNG) Specification (Third Edition)"."""

import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from feed_service.photo_formats import exif, icc
from feed_service.photo_formats.binary import Reader, big_endian
from feed_service.photo_formats.clean_photo import (
    CleanPhoto,
    UnfitPhotoError,
    require_parts,
    require_size,
)

_START: Final = b"\x89PNG\r\n\x1a\n"
# The bits of a sample that each colour type may have.
_DEPTHS: Final = {
    0: {1, 2, 4, 8, 16},
    2: {8, 16},
    3: {1, 2, 4, 8},
    4: {8, 16},
    6: {8, 16},
}
_PALETTE_TYPE: Final = 3
# What says how the picture looks, and how many bytes that may take. Of other lengths viewers
# ignore it, and so does this.
_ANCILLARY: Final = {
    b"tRNS": range(1, 257),
    b"bKGD": range(1, 7),
    b"sBIT": range(1, 5),
    b"gAMA": range(4, 5),
    b"cHRM": range(32, 33),
    b"sRGB": range(1, 2),
    b"pHYs": range(9, 10),
    b"cICP": range(4, 5),
    b"mDCV": range(24, 25),
    b"cLLI": range(8, 9),
}
_ANIMATED: Final = frozenset({b"acTL", b"fcTL", b"fdAT"})
# Bit 5 of a name's first letter, by which names of what may be ignored are in lower case.
_MAY_BE_IGNORED: Final = 0x20
_PALETTE_SIZES: Final = range(3, 3 * 256 + 1, 3)


class _Chunk(NamedTuple):
    name: bytes
    data: memoryview


def cleaned(content: bytes) -> CleanPhoto:
    """Return the picture alone; raises UnfitPhotoError."""
    if not content.startswith(_START):
        raise UnfitPhotoError("is not a PNG")
    chunks = list(_chunks(memoryview(content)))
    width, height, colour_type = _header(chunks[0])
    _require_order([name for name, _ in chunks], needs_palette=colour_type == _PALETTE_TYPE)
    orientation = next((exif.orientation_of(c.data) for c in chunks if c.name == b"eXIf"), 1)
    parts = [_START, *_chunk(*chunks[0])]
    if orientation != exif.UPRIGHT:
        parts += _chunk(b"eXIf", exif.block_of(orientation))
    for name, data in chunks[1:]:
        parts += _kept(name, data)
    width, height = exif.shown_size(width, height, orientation)
    return CleanPhoto(content=b"".join(parts), width=width, height=height)


def _chunks(content: memoryview) -> Iterator[_Chunk]:
    """Yield the chunks up to the last, and no bytes behind it."""
    reader = Reader(content)
    reader.take(len(_START))
    name, number = b"", 0
    while name != b"IEND":
        number += 1
        require_parts(number)
        size = reader.number(4)
        name = reader.code()
        data = reader.take(size)
        if reader.number(4) != zlib.crc32(data, zlib.crc32(name)):
            raise UnfitPhotoError("is cut off or damaged")
        yield _Chunk(name, data)


def _header(chunk: _Chunk) -> tuple[int, int, int]:
    reader = Reader(chunk.data)
    width, height = reader.number(4), reader.number(4)
    depth, colour_type, compression, filtering, interlacing = reader.take(5)
    if (
        chunk.name != b"IHDR"
        or reader.left
        or depth not in _DEPTHS.get(colour_type, ())
        or compression
        or filtering
        or interlacing > 1
    ):
        raise UnfitPhotoError("is cut off or damaged")
    require_size(width, height)
    return width, height, colour_type


def _require_order(names: list[bytes], *, needs_palette: bool) -> None:
    pictures = names.count(b"IDAT")
    palettes = names.count(b"PLTE")
    first = names.index(b"IDAT") if pictures else 0
    if not _ANIMATED.isdisjoint(names):
        raise UnfitPhotoError("is animated; a photo is a still picture")
    if (
        not pictures
        or names[first : first + pictures] != [b"IDAT"] * pictures
        or names.count(b"IHDR") != 1
        or palettes > 1
        or (palettes and names.index(b"PLTE") > first)
        or (needs_palette and not palettes)
    ):
        raise UnfitPhotoError("is cut off or damaged")


def _kept(name: bytes, data: memoryview) -> tuple[bytes | memoryview, ...]:
    """Return a chunk as it is to be copied; empty for one that is not."""
    if name == b"iCCP":
        return _chunk(name, b"icc\0\0" + zlib.compress(icc.cleaned(_inflated(data))))
    if name == b"PLTE" and len(data) not in _PALETTE_SIZES:
        raise UnfitPhotoError("is cut off or damaged")
    if name in (b"PLTE", b"IDAT") or len(data) in _ANCILLARY.get(name, ()):
        return _chunk(name, data)
    if name == b"IEND":
        return _chunk(name, b"")
    if not name[0] & _MAY_BE_IGNORED:
        raise UnfitPhotoError("is a kind of PNG that browsers do not show")
    return ()


def _inflated(data: memoryview) -> bytes:
    """Return the colour profile behind its name."""
    _, _, compressed = bytes(data).partition(b"\0")
    inflating = zlib.decompressobj()
    try:
        # One byte more than a profile may have, so that a larger one is known to be.
        return inflating.decompress(compressed[1:], icc.MAX_PROFILE_BYTES + 1)
    except zlib.error:
        raise UnfitPhotoError("has a colour profile that cannot be read") from None


def _chunk(name: bytes, data: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    checksum = zlib.crc32(data, zlib.crc32(name))
    return big_endian("I4s", len(data), name), data, big_endian("I", checksum)
