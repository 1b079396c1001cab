"""JPEG, see ITU-T T.81 for its markers, T.871 for JFIF.

Baseline, extended and progressive pictures of 8 bits and Huffman codes, which is what browsers
show. Second pictures, as of MPF and gain maps, come after the first one's end and stay behind.
"""

import re
from collections.abc import Iterator
from itertools import count
from typing import Final, NamedTuple

from feed_service.photo_formats import exif, icc
from feed_service.photo_formats.binary import Reader, big_endian
from feed_service.photo_formats.clean_photo import (
    CleanPhoto,
    UnfitPhotoError,
    require_parts,
    require_size,
)

_START: Final = b"\xff\xd8"
_END: Final = b"\xff\xd9"
_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2})
_HUFFMAN: Final = 0xC4
_END_CODE: Final = 0xD9
_SCAN: Final = 0xDA
_QUANTIZATION: Final = 0xDB
_RESTART_INTERVAL: Final = 0xDD
_JFIF: Final = 0xE0
_EXIF: Final = 0xE1
_ICC: Final = 0xE2
_ADOBE: Final = 0xEE
# Applications' segments and comments.
_METADATA: Final = frozenset({*range(0xE0, 0xF0), 0xFE})
_EXIF_NAME: Final = b"Exif\0\0"
_ICC_NAME: Final = b"ICC_PROFILE\0"
_ICC_PART_BYTES: Final = 65_535 - 2 - len(_ICC_NAME) - 2
# Progressive pictures have some ten. Decoders take time for each scan of all the picture.
_MOST_SCANS: Final = 200
_MOST_FILLING: Final = 64
_MARKER_AFTER_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class _Segment(NamedTuple):
    code: int
    parameters: memoryview
    coded: memoryview
    """What follows a scan's header; empty for others."""


class _Frame(NamedTuple):
    width: int
    height: int


def cleaned(content: bytes) -> CleanPhoto:
    """Return the picture alone; raises UnfitPhotoError."""
    if not content.startswith(_START):
        raise UnfitPhotoError("is not a JPEG")
    picture, applications = list[bytes | memoryview](), dict[int, list[bytes]]()
    frame: _Frame | None = None
    scans = 0
    for code, parameters, coded in _segments(memoryview(content)):
        if code in _METADATA:
            applications.setdefault(code, []).append(bytes(parameters))
            continue
        if code in _FRAMES:
            if frame is not None:
                raise UnfitPhotoError("has more than one frame")
            frame = _frame(parameters)
        elif code == _SCAN:
            scans += 1
            _require_scan(parameters, frame, scans)
        else:
            _require_table(code, parameters)
        picture += (_segment(code, parameters), coded)
    if frame is None or not scans:
        raise UnfitPhotoError("has no picture")
    orientation = _orientation(applications)
    width, height = exif.shown_size(frame.width, frame.height, orientation)
    head = (_START, *_application_segments(applications, orientation))
    return CleanPhoto(content=b"".join((*head, *picture, _END)), width=width, height=height)


def _segments(content: memoryview) -> Iterator[_Segment]:
    """Yield what is between the start and the end of the picture."""
    reader = Reader(content)
    reader.take(len(_START))
    for number in count(1):
        require_parts(number)
        code = _marker(reader)
        if code == _END_CODE:
            return
        parameters = reader.take(reader.number(2) - 2)
        coded = reader.take(_coded_size(reader)) if code == _SCAN else content[:0]
        yield _Segment(code, parameters, coded)


def _marker(reader: Reader) -> int:
    if reader.number(1) != 0xFF:  # noqa: PLR2004 -- the byte with which T.81 lets markers begin
        raise UnfitPhotoError("is cut off or damaged")
    # Any number of them may fill the space before a code; encoders write few.
    for _ in range(_MOST_FILLING):
        if (code := reader.number(1)) != 0xFF:  # noqa: PLR2004 -- as above
            return code
    raise UnfitPhotoError("is cut off or damaged")


def _coded_size(reader: Reader) -> int:
    found = _MARKER_AFTER_SCAN.search(reader.content, reader.position)
    if found is None:
        raise UnfitPhotoError("is cut off or damaged")
    return found.start() - reader.position


def _frame(parameters: memoryview) -> _Frame:
    reader = Reader(parameters)
    precision, height, width, components = (reader.number(size) for size in (1, 2, 2, 1))
    if precision != 8 or components not in (1, 3, 4) or reader.left != 3 * components:  # noqa: PLR2004 -- bits a sample, as browsers show
        raise UnfitPhotoError("is a kind of JPEG that browsers do not show")
    for _ in range(components):
        _, sampling, table = (reader.number(1) for _ in range(3))
        if not (1 <= sampling >> 4 <= 4 and 1 <= sampling & 15 <= 4 and table <= 3):  # noqa: PLR2004 -- the limits of T.81
            raise UnfitPhotoError("is cut off or damaged")
    require_size(width, height)
    return _Frame(width, height)


def _require_scan(parameters: memoryview, frame: _Frame | None, number: int) -> None:
    reader = Reader(parameters)
    components = reader.number(1)
    if frame is None or not 1 <= components <= 4 or reader.left != 2 * components + 3:  # noqa: PLR2004 -- the limits of T.81
        raise UnfitPhotoError("is cut off or damaged")
    if number > _MOST_SCANS:
        raise UnfitPhotoError(f"must have at most {_MOST_SCANS} scans")


def _require_table(code: int, parameters: memoryview) -> None:
    """Raise UnfitPhotoError for what is no table, or has something behind it."""
    reader = Reader(parameters)
    if code == _RESTART_INTERVAL:
        reader.take(2)
    elif code == _QUANTIZATION:
        while reader.left:
            reader.take(128 if reader.number(1) >> 4 else 64)
    elif code == _HUFFMAN:
        while reader.left:
            reader.take(1)
            reader.take(sum(reader.take(16)))
    else:
        raise UnfitPhotoError("is a kind of JPEG that browsers do not show")
    if reader.left:
        raise UnfitPhotoError("is cut off or damaged")


def _orientation(applications: dict[int, list[bytes]]) -> int:
    for parameters in applications.get(_EXIF, ()):
        if parameters.startswith(_EXIF_NAME):
            return exif.orientation_of(parameters[len(_EXIF_NAME) :])
    return exif.UPRIGHT


def _application_segments(
    applications: dict[int, list[bytes]], orientation: int
) -> Iterator[bytes]:
    """Yield what says how to show the picture: density, orientation, colours."""
    for parameters in applications.get(_JFIF, ())[:1]:
        if parameters.startswith(b"JFIF\0") and len(parameters) >= len(b"JFIF\0") + 9:
            yield _segment(_JFIF, b"JFIF\0\x01\x01" + parameters[7:12] + b"\0\0")
    if orientation != exif.UPRIGHT:
        yield _segment(_EXIF, _EXIF_NAME + exif.block_of(orientation))
    if profile := _profile(applications.get(_ICC, ())):
        starts = range(0, len(profile), _ICC_PART_BYTES)
        for number, start in enumerate(starts, 1):
            position = bytes((number, len(starts)))
            part = profile[start : start + _ICC_PART_BYTES]
            yield _segment(_ICC, _ICC_NAME + position + part)
    for parameters in applications.get(_ADOBE, ())[-1:]:
        if parameters.startswith(b"Adobe") and len(parameters) >= len(b"Adobe") + 7:
            yield _segment(_ADOBE, b"Adobe" + big_endian("HHHB", 100, 0, 0, parameters[11]))


def _profile(segments: "list[bytes] | tuple[()]") -> bytes:
    """Return the cleaned colour profile, whose parts may come in any order; empty for none."""
    start = len(_ICC_NAME)
    found = [parameters for parameters in segments if parameters.startswith(_ICC_NAME)]
    if not found:
        return b""
    if any(len(parameters) < start + 2 for parameters in found):
        raise UnfitPhotoError("has a colour profile that cannot be read")
    parts = {parameters[start]: parameters[start + 2 :] for parameters in found}
    if sorted(parts) != list(range(1, len(found) + 1)) or found[0][start + 1] != len(found):
        raise UnfitPhotoError("has a colour profile that cannot be read")
    return icc.cleaned(b"".join(parts[number] for number in sorted(parts)))


def _segment(code: int, parameters: bytes | memoryview) -> bytes:
    return big_endian("BBH", 0xFF, code, len(parameters) + 2) + bytes(parameters)
