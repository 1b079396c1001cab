"""WebP, see RFC 9649."""

import struct
from collections.abc import Iterator
from itertools import count
from typing import Final

from feed_service.photo_formats import exif, icc
from feed_service.photo_formats.binary import Reader
from feed_service.photo_formats.clean_photo import (
    CleanPhoto,
    UnfitPhotoError,
    require_parts,
    require_size,
)

_LOSSY: Final = b"VP8 "
_LOSSLESS: Final = b"VP8L"
_EXTENDED: Final = b"VP8X"
_ANIMATED: Final = frozenset({b"ANIM", b"ANMF"})
_HAS_PROFILE: Final = 0x20
_HAS_ALPHA: Final = 0x10
_HAS_EXIF: Final = 0x08
_IS_ANIMATED: Final = 0x02
_SIZE_BITS: Final = 0x3FFF


def cleaned(content: bytes) -> CleanPhoto:
    """Return the picture alone; raises UnfitPhotoError."""
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        raise UnfitPhotoError("is not a WebP")
    chunks = _chunks(memoryview(content))
    if not _ANIMATED.isdisjoint(chunks):
        raise UnfitPhotoError("is animated; a photo is a still picture")
    if (_LOSSY in chunks) == (_LOSSLESS in chunks):
        raise UnfitPhotoError("is cut off or damaged")
    name = _LOSSY if _LOSSY in chunks else _LOSSLESS
    stored, has_alpha = _lossy(chunks) if name == _LOSSY else _lossless(chunks[_LOSSLESS])
    require_size(*stored)
    _require_canvas(chunks.get(_EXTENDED), stored)
    orientation = exif.orientation_of(_tiff(chunks.get(b"EXIF", memoryview(b""))))
    rest = dict[bytes, bytes | memoryview]()
    if b"ICCP" in chunks:
        rest[b"ICCP"] = icc.cleaned(bytes(chunks[b"ICCP"]))
    if name == _LOSSY and b"ALPH" in chunks:
        rest[b"ALPH"] = chunks[b"ALPH"]
    rest[name] = chunks[name]
    if orientation != exif.UPRIGHT:
        rest[b"EXIF"] = exif.block_of(orientation)
    width, height = exif.shown_size(*stored, orientation)
    return CleanPhoto(
        content=_joined(rest, stored, has_alpha=has_alpha), width=width, height=height
    )


def _chunks(content: memoryview) -> dict[bytes, memoryview]:
    """Return the first chunk of each name."""
    reader = Reader(content)
    reader.take(4)
    (size,) = struct.unpack("<I", reader.take(4))
    reader = Reader(reader.take(size))
    reader.take(4)
    found = dict[bytes, memoryview]()
    for number in count(1):
        if not reader.left:
            break
        require_parts(number)
        name = reader.code()
        if not name.isascii() or not name.decode().isprintable():
            raise UnfitPhotoError("is cut off or damaged")
        (size,) = struct.unpack("<I", reader.take(4))
        found.setdefault(name, reader.take(size))
        reader.take(min(size % 2, reader.left))
    return found


def _lossy(chunks: dict[bytes, memoryview]) -> tuple[tuple[int, int], bool]:
    """Return the size, and whether there is transparency."""
    frame = chunks[_LOSSY]
    head = Reader(frame)
    tag = int.from_bytes(head.take(3), "little")
    is_key_frame, version, is_shown, first_partition = (
        not tag & 1,
        tag >> 1 & 7,
        tag >> 4 & 1,
        tag >> 5,
    )
    if (
        not is_key_frame
        or version > 3  # noqa: PLR2004 -- the last that RFC 6386 knows
        or not is_shown
        or bytes(head.take(3)) != b"\x9d\x01\x2a"
        or not 0 < first_partition < len(frame) - 10
    ):
        raise UnfitPhotoError("is cut off or damaged")
    width, height = struct.unpack("<HH", head.take(4))
    return (width & _SIZE_BITS, height & _SIZE_BITS), b"ALPH" in chunks


def _lossless(stream: memoryview) -> tuple[tuple[int, int], bool]:
    """Return the size, and whether there is transparency."""
    head = Reader(stream)
    if bytes(head.take(1)) != b"\x2f":
        raise UnfitPhotoError("is cut off or damaged")
    bits = int.from_bytes(head.take(4), "little")
    if bits >> 29:
        raise UnfitPhotoError("is cut off or damaged")
    return ((bits & _SIZE_BITS) + 1, (bits >> 14 & _SIZE_BITS) + 1), bool(bits >> 28 & 1)


def _require_canvas(extended: memoryview | None, stored: tuple[int, int]) -> None:
    if extended is None:
        return
    reader = Reader(extended)
    if reader.number(4) >> 24 & _IS_ANIMATED:
        raise UnfitPhotoError("is animated; a photo is a still picture")
    canvas = tuple(int.from_bytes(reader.take(3), "little") + 1 for _ in range(2))
    if canvas != stored:
        raise UnfitPhotoError("is cut off or damaged")


def _tiff(block: memoryview) -> memoryview:
    """Return an EXIF block without the start that only JPEG has, and some files have here too."""
    return block[6:] if bytes(block[:6]) == b"Exif\0\0" else block


def _joined(
    chunks: dict[bytes, bytes | memoryview], stored: tuple[int, int], *, has_alpha: bool
) -> bytes:
    parts = list[bytes | memoryview]()
    if len(chunks) > 1:
        flags = (
            _HAS_PROFILE * (b"ICCP" in chunks)
            | _HAS_ALPHA * has_alpha
            | _HAS_EXIF * (b"EXIF" in chunks)
        )
        canvas = b"".join((side - 1).to_bytes(3, "little") for side in stored)
        parts += _chunk(_EXTENDED, struct.pack("<I", flags) + canvas)
    for name, data in chunks.items():
        parts += _chunk(name, data)
    size = 4 + sum(map(len, parts))
    return b"".join((b"RIFF", struct.pack("<I", size), b"WEBP", *parts))


def _chunk(name: bytes, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
    yield from (name, struct.pack("<I", len(data)), data, bytes(len(data) % 2))
