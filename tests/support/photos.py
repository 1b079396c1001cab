"""Photos as people upload them: plain ones, and ones that tell their location and author."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from typing import Final, NamedTuple

from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational

SECRET: Final = "Anna's-garden-52.5163N-13.3777E"
"""What every text of a telling photo says."""
LATITUDE: Final = struct.pack(">II", 525_163, 10_007)
"""A latitude as EXIF has it, in the byte order of the samples."""
CONTENT_TYPES: Final = ("image/jpeg", "image/png", "image/webp", "image/avif")
SIZE: Final = (48, 32)
TURNED: Final = 6
"""The orientation of telling photos: a quarter turn."""
_GPS: Final = 0x8825
_FORMATS: Final = dict(zip(CONTENT_TYPES, ("JPEG", "PNG", "WEBP", "AVIF"), strict=True))


@cache
def plain(content_type: str = "image/jpeg", size: tuple[int, int] = SIZE, number: int = 0) -> bytes:
    """Return a photo without metadata; photos of different numbers look different."""
    return _encoded(_picture(size, number), content_type)


@cache
def telling(content_type: str) -> bytes:
    """Return a photo with its place, its author and a thumbnail wherever its format has room."""
    picture = _picture(SIZE, 1)
    exif = _exif().tobytes()
    profile = personal_profile()
    match content_type:
        case "image/jpeg":
            encoded = _encoded(
                picture,
                content_type,
                exif=exif,
                icc_profile=profile,
                xmp=_xmp(),
                comment=SECRET.encode(),
                progressive=True,
            )
            return _with_jpeg_segments(encoded) + plain() + SECRET.encode()
        case "image/png":
            texts = PngInfo()
            texts.add_text("Author", SECRET)
            texts.add_text("Comment", SECRET, zip=True)
            texts.add_itxt("XML:com.adobe.xmp", _xmp().decode())
            encoded = _encoded(picture, content_type, pnginfo=texts, exif=exif, icc_profile=profile)
            return _with_png_chunks(encoded) + f"<script>{SECRET}</script>".encode()
        case "image/webp":
            encoded = _encoded(picture, content_type, exif=exif, icc_profile=profile, xmp=_xmp())
            return encoded + SECRET.encode()
        case _:
            free = struct.pack(">I4s", 8 + len(SECRET), b"free") + SECRET.encode()
            encoded = _encoded(picture, content_type, exif=exif, icc_profile=profile, xmp=_xmp())
            return encoded + free


@cache
def variants() -> tuple[tuple[str, bytes], ...]:
    """Return photos of every format in its several shapes, each with its content type."""
    return tuple(_variants())


@cache
def personal_profile() -> bytes:
    """Return sRGB under the name of a person's screen."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    name = "sRGB built-in".encode("utf-16-be")
    assert name in profile
    return profile.replace(name, SECRET[:13].encode("utf-16-be"))


def told(content: bytes) -> list[str]:
    """Return what a file tells of what telling photos have planted in them."""
    traces = {
        "text": SECRET.encode(),
        "name": SECRET[:13].encode("utf-16-be"),
        "place": LATITUDE,
    }
    return [name for name, trace in traces.items() if trace in content]


def pixels(content: bytes) -> tuple[tuple[int, int], bytes]:
    """Return the size and the colours of a photo as Pillow decodes it, before its orientation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a telling JPEG has a list of pictures that names none
        image = Image.open(BytesIO(content))
    with image:
        return image.size, image.convert("RGBA").tobytes()


def _variants() -> Iterator[tuple[str, bytes]]:
    for content_type in CONTENT_TYPES:
        yield content_type, plain(content_type)
        yield content_type, telling(content_type)
    colourful, exif = _picture(SIZE, 2), _exif().tobytes()
    alpha = colourful.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(SIZE))
    grey = colourful.convert("L")
    for mode in ("1", "L", "P", "LA", "RGBA", "I;16"):
        shaped = {"I;16": grey.convert("I;16"), "LA": alpha.convert("LA"), "RGBA": alpha}
        yield "image/png", _encoded(shaped.get(mode) or colourful.convert(mode), "image/png")
    for subsampling in (0, 1, 2):
        yield "image/jpeg", _encoded(colourful, "image/jpeg", subsampling=subsampling, exif=exif)
    yield "image/jpeg", _encoded(grey, "image/jpeg", restart_marker_rows=1, comment=SECRET)
    yield "image/jpeg", _encoded(colourful.convert("CMYK"), "image/jpeg", exif=exif)
    yield "image/webp", _encoded(alpha, "image/webp", exif=exif, xmp=_xmp())
    yield "image/webp", _encoded(alpha, "image/webp", lossless=True, exif=exif, xmp=_xmp())
    yield "image/webp", _encoded(colourful, "image/webp", lossless=True)
    yield "image/avif", _encoded(alpha, "image/avif", exif=exif, xmp=_xmp())
    yield "image/avif", _encoded(grey, "image/avif", exif=exif)
    yield "image/avif", avif_of_tiles()


def _picture(size: tuple[int, int], number: int) -> Image.Image:
    gradient = Image.linear_gradient("L").resize(size)
    return Image.merge(
        "RGB",
        (gradient, gradient.transpose(Image.Transpose.ROTATE_180), Image.new("L", size, number)),
    )


def _encoded(picture: Image.Image, content_type: str, **options: object) -> bytes:
    written = BytesIO()
    picture.save(written, _FORMATS[content_type], **options)
    return written.getvalue()


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = TURNED
    exif[0x010E] = SECRET
    exif[0x927C] = SECRET.encode()
    exif.get_ifd(_GPS)[1] = "N"
    exif.get_ifd(_GPS)[2] = (IFDRational(525_163, 10_007), 0.0, 0.0)
    return exif


def _xmp() -> bytes:
    return f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{SECRET}</x:xmpmeta>".encode()


def _with_jpeg_segments(encoded: bytes) -> bytes:
    """Put behind the start what Pillow does not write: IPTC, a list of pictures, a comment."""
    segments = [
        (0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + SECRET.encode()),
        (0xE2, b"MPF\0" + SECRET.encode()),
        (0xEF, SECRET.encode()),
        (0xFE, SECRET.encode()),
    ]
    written = [
        struct.pack(">BBH", 0xFF, code, 2 + len(parameters)) + parameters
        for code, parameters in segments
    ]
    return encoded[:2] + b"".join(written) + encoded[2:]


def _with_png_chunks(encoded: bytes) -> bytes:
    """Put behind the header what Pillow does not write: a named palette, private chunks."""
    chunks = [
        (b"sPLT", SECRET.encode() + b"\0\x08"),
        (b"tIME", bytes((7, 234, 11, 28, 7, 0, 0))),
        (b"prVt", SECRET.encode()),
    ]
    written = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    ]
    header = 8 + 12 + 13
    return encoded[:header] + b"".join(written) + encoded[header:]


def avif_of_tiles(*, crop: bool = False) -> bytes:
    """Return an AVIF of two tiles side by side, turned, with EXIF; or one that is cropped."""
    tiles = [_avif_tile(number) for number in (1, 2)]
    exif = struct.pack(">I", 0) + _exif().tobytes()[6:]
    names = [b"grid", b"av01", b"av01", b"Exif"]
    described = [
        _full_box(b"ispe", struct.pack(">II", 128, 64)),
        _full_box(b"ispe", struct.pack(">II", 64, 64)),
        _full_box(b"pixi", b"\3\x08\x08\x08"),
        _box(b"av1C", tiles[0].configuration),
        _box(b"irot", b"\1"),
        _box(b"clap", struct.pack(">8I", 32, 1, 32, 1, 0, 1, 0, 1)),
    ]
    of_grid = [1, 3, 0x8006] if crop else [1, 3, 0x8005]
    properties = {1: of_grid, 2: [2, 3, 0x8004], 3: [2, 3, 0x8004]}
    data = [tile.coded for tile in tiles] + [exif]

    def meta(start: int) -> bytes:
        locations = [struct.pack(">HHHHII", 1, 1, 0, 1, 0, 8)]
        for number, each in enumerate(data, 2):
            locations.append(struct.pack(">HHHHII", number, 0, 0, 1, start, len(each)))
            start += len(each)
        return _full_box(
            b"meta",
            _full_box(b"hdlr", bytes(4) + b"pict" + bytes(12) + SECRET.encode() + b"\0"),
            _full_box(b"pitm", struct.pack(">H", 1)),
            _full_box(b"iloc", b"\x44\0" + struct.pack(">H", 4), *locations, version=1),
            _full_box(
                b"iinf",
                struct.pack(">H", 4),
                *(
                    _full_box(
                        b"infe",
                        struct.pack(">HH", number, 0) + name + SECRET.encode() + b"\0",
                        version=2,
                    )
                    for number, name in enumerate(names, 1)
                ),
            ),
            _full_box(
                b"iref",
                _box(b"dimg", struct.pack(">HHHH", 1, 2, 2, 3)),
                _box(b"cdsc", struct.pack(">HHH", 4, 1, 1)),
            ),
            _box(
                b"iprp",
                _box(b"ipco", *described),
                _full_box(
                    b"ipma",
                    struct.pack(">I", len(properties)),
                    *(
                        struct.pack(f">HB{len(numbers)}H", item, len(numbers), *numbers)
                        for item, numbers in properties.items()
                    ),
                    flags=1,
                ),
            ),
            _box(b"idat", struct.pack(">BBBBHH", 0, 0, 0, 1, 128, 64)),
        )

    beginning = _box(b"ftyp", b"avif" + bytes(4) + b"avifmif1miafMA1B")
    start = len(beginning) + len(meta(0)) + 8
    return beginning + meta(start) + _box(b"mdat", *data)


class _Tile(NamedTuple):
    configuration: bytes
    coded: bytes


def _avif_tile(number: int) -> _Tile:
    encoded = _encoded(_picture((64, 64), number), "image/avif", speed=10)
    configuration = encoded.index(b"av1C") + 4
    return _Tile(encoded[configuration : configuration + 4], encoded.partition(b"mdat")[2])


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full_box(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)
