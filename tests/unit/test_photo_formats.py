"""Photos of all four formats without what they tell besides the picture."""

import struct
import tracemalloc
import zlib
from io import BytesIO
from random import Random

import pytest
from PIL import Image, ImageCms, ImageOps

from feed_service.photo_formats import av1
from feed_service.photo_formats.clean_photo import UnfitPhotoError
from feed_service.photo_formats.formats import cleaned
from tests.support import photo_fuzz, photos

_VARIANTS = photos.variants()
_NAMES = [f"{content_type}-{number}" for number, (content_type, _) in enumerate(_VARIANTS)]


@pytest.mark.parametrize(("content_type", "content"), _VARIANTS, ids=_NAMES)
def test_a_clean_photo_has_the_pixels_of_the_original_and_tells_nothing(
    content_type: str, content: bytes
) -> None:
    clean = cleaned(content, content_type=content_type)

    assert photos.pixels(clean.content) == photos.pixels(content)
    assert photos.told(clean.content) == []


@pytest.mark.parametrize(("content_type", "content"), _VARIANTS, ids=_NAMES)
def test_a_clean_photo_says_nothing_but_its_orientation_and_its_size_is_after_it(
    content_type: str, content: bytes
) -> None:
    clean = cleaned(content, content_type=content_type)

    with Image.open(BytesIO(clean.content)) as image:
        assert set(image.getexif()) <= {0x0112}
        assert not {"xmp", "comment", "photoshop", "mp", "Author"} & set(image.info)
        assert ImageOps.exif_transpose(image).size == (clean.width, clean.height)


@pytest.mark.parametrize(("content_type", "content"), _VARIANTS, ids=_NAMES)
def test_cleaning_a_clean_photo_changes_nothing(content_type: str, content: bytes) -> None:
    once = cleaned(content, content_type=content_type)

    assert cleaned(once.content, content_type=content_type) == once


@pytest.mark.parametrize("content_type", photos.CONTENT_TYPES)
def test_a_telling_photo_tells_what_is_looked_for(content_type: str) -> None:
    # What is compressed in it, as the profile of a PNG, cannot be found this way.
    assert {"text", "place"} <= set(photos.told(photos.telling(content_type)))


@pytest.mark.parametrize("content_type", photos.CONTENT_TYPES)
def test_colours_stay_under_a_name_that_is_nobodys(content_type: str) -> None:
    clean = cleaned(photos.telling(content_type), content_type=content_type)

    with Image.open(BytesIO(clean.content)) as image:
        profile = image.info["icc_profile"]
    kept = ImageCms.getOpenProfile(BytesIO(profile))
    original = ImageCms.getOpenProfile(BytesIO(photos.personal_profile()))
    colours = Image.merge("RGB", [Image.linear_gradient("L").rotate(n * 90) for n in range(3)])
    lab = ImageCms.createProfile("LAB")
    shown = [
        ImageCms.applyTransform(colours, ImageCms.buildTransform(each, lab, "RGB", "LAB"))
        for each in (kept, original)
    ]
    assert shown[0] == shown[1]
    assert ImageCms.getProfileDescription(kept).strip() == "RGB"


@pytest.mark.parametrize("content_type", photos.CONTENT_TYPES)
@pytest.mark.parametrize("other_type", photos.CONTENT_TYPES)
def test_a_photo_is_of_the_type_that_was_declared(content_type: str, other_type: str) -> None:
    if content_type != other_type:
        with pytest.raises(UnfitPhotoError, match="is not a"):
            cleaned(photos.plain(content_type), content_type=other_type)


@pytest.mark.parametrize(
    ("content_type", "name"), [("image/png", "PNG"), ("image/webp", "WEBP"), ("image/avif", "AVIF")]
)
def test_what_moves_is_refused(content_type: str, name: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    written = BytesIO()
    frames[0].save(written, name, save_all=True, append_images=frames[1:])

    with pytest.raises(UnfitPhotoError, match="is animated"):
        cleaned(written.getvalue(), content_type=content_type)


def _avif_of(meta: bytes) -> bytes:
    """Return an AVIF whose items are described so."""
    start = photos.avif_of_tiles()[:32]
    return start + struct.pack(">I4s", 8 + len(meta), b"meta") + meta


def _full(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s4x", 12 + len(content), kind) + content


_HANDLER = _full(b"hdlr", bytes(4) + b"pict" + bytes(13)) + _full(b"pitm", b"\0\1")
_ONE_ITEM = _full(
    b"iinf",
    struct.pack(">H", 1)
    + struct.pack(">I4sI", 20, b"infe", 2 << 24)
    + struct.pack(">HH4s", 1, 0, b"av01"),
)


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("image/jpeg", b"\xff\xd8" + b"\xff\xfe\0\2" * 2_500_000),
        ("image/jpeg", b"\xff\xd8" + b"\xff" * 10_000_000),
        (
            "image/png",
            photos.plain("image/png")[:33]
            + (bytes(4) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))) * 800_000,
        ),
        (
            "image/webp",
            b"RIFF" + struct.pack("<I", 9_600_004) + b"WEBP" + (b"junk" + bytes(4)) * 1_200_000,
        ),
        ("image/avif", photos.plain("image/avif") + b"\0\0\0\x08free" * 1_200_000),
        (
            "image/avif",
            _avif_of(
                bytes(4)
                + _HANDLER
                + _ONE_ITEM
                + _full(b"iprp", b"")
                # Ranges of no bytes, of which one item may have 65,535.
                + _full(b"iloc", b"\0\0\xff\xff" + b"\0\1\0\0\xff\xff" * 65_535)
            ),
        ),
    ],
    ids=["comments", "filling", "chunks", "RIFF chunks", "boxes", "ranges"],
)
def test_what_takes_long_to_walk_is_refused(content_type: str, content: bytes) -> None:
    # Where the bounds are missing, this runs into the time that a test may take.
    with pytest.raises(UnfitPhotoError):
        cleaned(content, content_type=content_type)


def test_padding_without_end_in_an_avif_is_refused() -> None:
    with pytest.raises(UnfitPhotoError, match="units in a picture"):
        av1.cleaned(b"\x7a\0" * 5_000_000)


def test_an_avif_that_keeps_what_was_cropped_is_refused() -> None:
    with pytest.raises(UnfitPhotoError, match="crop it permanently"):
        cleaned(photos.avif_of_tiles(crop=True), content_type="image/avif")


def test_a_colour_profile_that_a_jpeg_has_in_several_parts_stays_whole() -> None:
    table = b"mft2" + bytes(range(256)) * 600
    tags = struct.pack(">I4sII", 1, b"A2B0", 144, len(table))
    profile = struct.pack(">I4x", 144 + len(table)) + b"\4" + bytes(27) + b"acsp" + bytes(88)
    profile += tags + table
    written = BytesIO()
    Image.new("RGB", (8, 8)).save(written, "JPEG", icc_profile=profile)

    clean = cleaned(written.getvalue(), content_type="image/jpeg")

    with Image.open(BytesIO(clean.content)) as image:
        assert table in image.info["icc_profile"]


@pytest.mark.parametrize("content_type", photos.CONTENT_TYPES)
def test_a_photo_that_is_cut_off_is_refused_wherever_it_is_cut(content_type: str) -> None:
    whole = photos.plain(content_type)

    for end in range(len(whole)):
        with pytest.raises(UnfitPhotoError):
            cleaned(whole[:end], content_type=content_type)


def test_a_small_file_with_a_colour_profile_that_inflates_without_end_is_refused() -> None:
    picture = Image.new("RGB", (1, 1))
    written = BytesIO()
    picture.save(written, "PNG", icc_profile=bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(UnfitPhotoError, match="colour profile of at most"):
            cleaned(written.getvalue(), content_type="image/png")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 20_000_000


def test_damaged_photos_are_refused_or_clean() -> None:
    outcomes = {photo_fuzz.check(photo_fuzz.damaged(Random(seed))) for seed in range(3000)}

    assert outcomes == {photo_fuzz.Outcome.REFUSED, photo_fuzz.Outcome.CLEAN}
