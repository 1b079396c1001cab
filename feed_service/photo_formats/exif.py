"""EXIF: which way up a picture is, and nothing else of it.

The layout is TIFF's, see "Exif 3.0" (CIPA DC-008) section 4.5 and 4.6.5 for Orientation.
"""

import struct
from typing import Final

UPRIGHT: Final = 1
_ORIENTATION: Final = 0x0112
_SHORT: Final = 3
_ENTRY_SIZE: Final = 12
_TURNED: Final = range(5, 9)
"""The orientations that show the stored rows as columns."""


def orientation_of(block: bytes | memoryview) -> int:
    """Return the orientation that an EXIF block states, 1 to 8.

    UPRIGHT where it states none or cannot be read, which is how viewers show the picture then.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]))
    if order is None:
        return UPRIGHT
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for number in range(count):
            tag, kind, _, value = struct.unpack_from(
                f"{order}HHIH", block, start + 2 + number * _ENTRY_SIZE
            )
            if tag == _ORIENTATION and kind == _SHORT:
                return value if UPRIGHT <= value <= _TURNED[-1] else UPRIGHT
    except struct.error:
        pass
    return UPRIGHT


def block_of(orientation: int) -> bytes:
    """Return an EXIF block that states an orientation alone."""
    entry = struct.pack("<HHIHH", _ORIENTATION, _SHORT, 1, orientation, 0)
    return b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)


def shown_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Return the width and height of a picture after its orientation."""
    return (height, width) if orientation in _TURNED else (width, height)
