"""Reading numbers and bytes in order, never past the end."""

import struct

from feed_service.photo_formats.clean_photo import UnfitPhotoError


class Reader:
    """Bytes that are read from the start; raises UnfitPhotoError where there are too few."""

    def __init__(self, content: memoryview) -> None:
        self.content = content
        self.position = 0

    @property
    def left(self) -> int:
        """How many bytes have not been read."""
        return len(self.content) - self.position

    def take(self, size: int) -> memoryview:
        """Return the next bytes."""
        if not 0 <= size <= self.left:
            raise UnfitPhotoError("is cut off or damaged")
        start, self.position = self.position, self.position + size
        return self.content[start : self.position]

    def number(self, size: int) -> int:
        """Return the next bytes as a number, the most significant first."""
        return int.from_bytes(self.take(size), "big")

    def code(self) -> bytes:
        """Return the next four bytes, which name something."""
        return bytes(self.take(4))


class BitReader:
    """Bits that are read from the most significant one; raises UnfitPhotoError past the end."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._position = 0

    def bits(self, count: int) -> int:
        """Return the next bits as a number."""
        start, end = self._position, self._position + count
        if end > len(self._content) * 8:
            raise UnfitPhotoError("is cut off or damaged")
        self._position = end
        whole = int.from_bytes(self._content[start // 8 : (end + 7) // 8], "big")
        return (whole >> (-end % 8)) & ((1 << count) - 1)

    def flag(self) -> bool:
        """Return the next bit."""
        return self.bits(1) == 1


def big_endian(layout: str, *values: int | bytes) -> bytes:
    """Return values in a layout of `struct`, the most significant byte first."""
    return struct.pack(f">{layout}", *values)
