"""Colour profiles: the numbers that colours are computed with, without names, dates and texts.

See ICC.1:2022. A profile describes a device, and says whose: "Anna's display" in its description,
a maker and a model in its header.
"""

import struct
from typing import Final

from feed_service.photo_formats.clean_photo import UnfitPhotoError

MAX_PROFILE_BYTES: Final = 4 * 1024 * 1024
_HEADER_SIZE: Final = 128
_MOST_TAGS: Final = 100
# Tables of several dimensions, which are copied whole: for their exact size they would have to be
# computed, and what hides behind one was put there on purpose.
_TABLES: Final = frozenset({b"mft1", b"mft2", b"mAB ", b"mBA "})
_CURVES: Final = frozenset({b"curv", b"para"})
_NUMBERS: Final = frozenset({b"XYZ "})
_KINDS: Final = {
    **dict.fromkeys((b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"bkpt", b"lumi"), _NUMBERS),
    **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC", b"kTRC"), _CURVES),
    **dict.fromkeys((b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2"), _TABLES),
    b"chad": frozenset({b"sf32"}),
    b"cicp": frozenset({b"cicp"}),
}
_PARAMETERS: Final = (1, 3, 4, 5, 7)
"""How many numbers each kind of parametric curve has."""
_VERSION_4: Final = 4
_NAME: Final = "RGB"


def cleaned(profile: bytes) -> bytes:
    """Return a profile that converts colours alike; raises UnfitPhotoError for a broken one."""
    if len(profile) > MAX_PROFILE_BYTES:
        raise UnfitPhotoError(f"must have a colour profile of at most {MAX_PROFILE_BYTES:,} bytes")
    try:
        return _rebuilt(profile)
    except (struct.error, IndexError):
        raise UnfitPhotoError("has a colour profile that cannot be read") from None


def _rebuilt(profile: bytes) -> bytes:
    if profile[36:40] != b"acsp":
        raise UnfitPhotoError("has a colour profile that cannot be read")
    (count,) = struct.unpack_from(">I", profile, _HEADER_SIZE)
    if count > _MOST_TAGS:
        raise UnfitPhotoError("has a colour profile that cannot be read")
    entries = [
        struct.unpack_from(">4sII", profile, _HEADER_SIZE + 4 + 12 * number)
        for number in range(count)
    ]
    is_new = profile[8] >= _VERSION_4
    tags = {b"desc": _description(is_new=is_new), b"cprt": _copyright(is_new=is_new)}
    for name, start, size in entries:
        if name in _KINDS:
            tags[name] = _numbers(profile[start : start + size], size, _KINDS[name])
    return _joined(profile, tags)


def _numbers(element: bytes, size: int, kinds: frozenset[bytes]) -> bytes:
    """Return an element as far as it is of one of the kinds."""
    kind = element[:4]
    if len(element) != size or kind not in kinds:
        raise UnfitPhotoError("has a colour profile that cannot be read")
    if kind in _TABLES:
        return element
    length = _length(element)
    if len(element) < length:
        raise UnfitPhotoError("has a colour profile that cannot be read")
    return kind + bytes(4) + element[8:length]


def _length(element: bytes) -> int:
    """Return how long an element is by what it says itself."""
    match element[:4]:
        case b"curv":
            return 12 + 2 * int(struct.unpack_from(">I", element, 8)[0])
        case b"para":
            return 12 + 4 * _PARAMETERS[struct.unpack_from(">H", element, 8)[0]]
        case b"sf32":
            return 8 + 4 * 9
        case b"XYZ ":
            return 8 + 4 * 3
        case _:
            return 8 + 4


def _description(*, is_new: bool) -> bytes:
    if is_new:
        return _localized(_NAME)
    text = _NAME.encode() + b"\0"
    # Without Unicode and Macintosh names, whose fields there must be.
    return b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)


def _copyright(*, is_new: bool) -> bytes:
    return _localized("-") if is_new else b"text" + bytes(4) + b"-\0"


def _localized(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    record = struct.pack(">4sII", b"enUS", len(encoded), 28)
    return b"mluc" + bytes(4) + struct.pack(">II", 1, 12) + record + encoded


def _joined(profile: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return a profile with these tags; the ones that are equal share their bytes."""
    starts = dict[bytes, int]()
    body = bytearray()
    first = _HEADER_SIZE + 4 + 12 * len(tags)
    for element in tags.values():
        if element not in starts:
            starts[element] = first + len(body)
            body += element + bytes(-len(element) % 4)
            # Elements that lie over each other are to make no more than there was.
            if len(body) > MAX_PROFILE_BYTES:
                raise UnfitPhotoError("has a colour profile that cannot be read")
    table = b"".join(
        struct.pack(">4sII", name, starts[element], len(element)) for name, element in tags.items()
    )
    header = bytearray(_HEADER_SIZE)
    header[0:4] = struct.pack(">I", first + len(body))
    header[8:24] = profile[8:24]  # version, class of device, colour space, connection space
    header[36:40] = b"acsp"
    header[64:80] = profile[64:80]  # rendering intent, illuminant
    return bytes(header) + struct.pack(">I", len(tags)) + table + bytes(body)
