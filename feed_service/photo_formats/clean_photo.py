"""What all containers have in common: the result, the fault, the limits."""

from dataclasses import dataclass
from typing import Final

MAX_SIDE: Final = 16_384
MAX_PIXELS: Final = 100_000_000
# Of what a file consists. Pictures have some hundreds at the most; each costs a microsecond or two,
# and ten megabytes can hold millions.
MAX_PARTS: Final = 10_000


class UnfitPhotoError(Exception):
    """A file that cannot be a photo; the message completes a sentence about it, for its author."""


@dataclass(frozen=True, kw_only=True)
class CleanPhoto:
    """A photo without metadata, and its size in pixels as it is shown, after its orientation."""

    content: bytes
    width: int
    height: int


def require_parts(count: int) -> None:
    """Raise UnfitPhotoError for a file of so many parts that looking at them takes seconds."""
    if count > MAX_PARTS:
        raise UnfitPhotoError(f"must consist of at most {MAX_PARTS:,} parts")


def require_size(width: int, height: int) -> None:
    """Raise UnfitPhotoError for a picture that is empty, or too large for viewers' memory."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE) or width * height > MAX_PIXELS:
        raise UnfitPhotoError(
            f"must have 1 to {MAX_SIDE:,} pixels a side and at most {MAX_PIXELS:,} in all; "
            f"has {width:,} x {height:,}"
        )
