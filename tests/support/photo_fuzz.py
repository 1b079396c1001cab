"""Damages photos in every way that files get damaged, and asks what is made of them.

`python -m tests.support.photo_fuzz COUNT SEED` does it so many times, and counts the refusals.
"""

import logging
import sys
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from io import BytesIO
from random import Random
from typing import Final

from PIL import Image

from feed_service.photo_formats.clean_photo import UnfitPhotoError
from feed_service.photo_formats.formats import cleaned
from tests.support import photos

_STRANGE_NUMBERS: Final = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1")
# A file of a few kilobytes takes a tenth of a millisecond; this finds what does not end.
_MOST_SECONDS: Final = 5.0
_REPORT_EVERY: Final = 20_000


_log = logging.getLogger(__name__)


class Outcome(Enum):
    """What became of a damaged photo."""

    REFUSED = "refused"
    CLEAN = "clean"
    SWALLOWED = "clean around a picture whose data, by the damage, reach over a planted text"


@dataclass(frozen=True, kw_only=True)
class Damaged:
    """A photo that was damaged."""

    content_type: str
    content: bytes


def damaged(random: Random) -> Damaged:
    """Return one of the samples after one to four changes; whole PNGs fit their checksums again."""
    content_type, original = random.choice(photos.variants())
    content = bytearray(original)
    for _ in range(random.randint(1, 4)):
        if content:
            random.choice(_CHANGES)(random, content)
    if content_type == "image/png" and random.random() < 0.9:
        _repair_checksums(content)
    return Damaged(content_type=content_type, content=bytes(content))


def check(photo: Damaged) -> Outcome:
    """Return what became of a photo; raises AssertionError where it was handled badly."""
    started = time.process_time()
    try:
        clean = cleaned(photo.content, content_type=photo.content_type)
    except UnfitPhotoError:
        return Outcome.REFUSED
    finally:
        assert time.process_time() - started < _MOST_SECONDS
    start, end = _picture(clean.content, photo.content_type)
    around = clean.content[:start] + clean.content[end:]
    assert not photos.told(around), photos.told(around)
    assert cleaned(clean.content, content_type=photo.content_type) == clean
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(BytesIO(clean.content)) as image:
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
            orientation = exif.get(0x0112, 1)
            assert set(exif) <= {0x0112}
            shown = image.size if orientation < 5 else image.size[::-1]
            assert shown == (clean.width, clean.height), (shown, clean.width, clean.height)
    return Outcome.SWALLOWED if photos.told(clean.content) else Outcome.CLEAN


def _picture(content: bytes, content_type: str) -> tuple[int, int]:
    """Return where the coded picture begins and ends in a clean photo."""
    match content_type:
        case "image/jpeg":
            return content.index(b"\xff\xda"), len(content)
        case "image/png":
            return content.index(b"IDAT"), len(content)
        case "image/webp":
            start = max(content.find(b"VP8 "), content.find(b"VP8L"))
            return start, start + 8 + int.from_bytes(content[start + 4 : start + 8], "little")
        case _:
            return content.index(b"mdat"), len(content)


def _flip(random: Random, content: bytearray) -> None:
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)


def _set_byte(random: Random, content: bytearray) -> None:
    content[random.randrange(len(content))] = random.choice(
        (0, 1, 0x7F, 0xFF, random.randrange(256))
    )


def _set_number(random: Random, content: bytearray) -> None:
    start = random.randrange(len(content))
    number = random.choice(_STRANGE_NUMBERS)[: random.choice((2, 4))]
    content[start : start + len(number)] = number


def _cut(random: Random, content: bytearray) -> None:
    del content[random.randrange(len(content)) :]


def _delete(random: Random, content: bytearray) -> None:
    start = random.randrange(len(content))
    del content[start : start + random.randint(1, 64)]


def _insert(random: Random, content: bytearray) -> None:
    start = random.randrange(len(content))
    content[start:start] = random.randbytes(random.randint(1, 64))


def _repeat(random: Random, content: bytearray) -> None:
    """Say something twice."""
    start = random.randrange(len(content))
    content[start:start] = content[start : start + random.randint(1, 64)]


_CHANGES: Final[tuple[Callable[[Random, bytearray], None], ...]] = (
    _flip,
    _flip,
    _set_byte,
    _set_byte,
    _set_number,
    _cut,
    _delete,
    _insert,
    _repeat,
)


def _repair_checksums(content: bytearray) -> None:
    start = 8
    while start + 12 <= len(content):
        size = int.from_bytes(content[start : start + 4], "big")
        end = start + 8 + size
        if end + 4 > len(content):
            return
        content[end : end + 4] = zlib.crc32(content[start + 4 : end]).to_bytes(4, "big")
        start = end + 4


def main(count: int, seed: int) -> None:
    """Check so many damaged photos; stops at the first that is handled badly, with its seed."""
    Image.MAX_IMAGE_PIXELS = None
    started, results = time.monotonic(), Counter[tuple[str, Outcome]]()
    for number in range(count):
        photo = damaged(Random(f"{seed}/{number}"))
        try:
            results[photo.content_type, check(photo)] += 1
        except Exception:
            _log.exception("%s, number %d of seed %d", photo.content_type, number, seed)
            raise
        if (number + 1) % _REPORT_EVERY == 0:
            _log.info("%s in %.0f s", f"{number + 1:,}", time.monotonic() - started)
    for (content_type, outcome), times in results.items():
        _log.info("%s %s: %s", content_type, outcome.value, f"{times:,}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
