"""AVIF, see "AV1 Image File Format (AVIF)" and ISO/IEC 23008-12 for items and their properties.

A file is a list of items: pictures, and what is told of them. The one that is shown, the tiles it
is put together from and its transparency are written anew, with the properties that are needed to
show them; other items, as EXIF, XMP, thumbnails, depths and gain maps, stay behind.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple

from feed_service.photo_formats import av1, icc
from feed_service.photo_formats.binary import Reader, big_endian
from feed_service.photo_formats.clean_photo import (
    MAX_PIXELS,
    CleanPhoto,
    UnfitPhotoError,
    require_parts,
    require_size,
)

_MOST_ITEMS: Final = 1024
_MOST_PROPERTIES: Final = 4096
_MOST_EXTENTS: Final = 64
# By ISO/IEC 23000-22, which viewers insist on.
_LEAST_TILE_SIDE: Final = 64
# Twice, since the tiles may go beyond the picture, and once more for its transparency.
_MOST_DECODED_PIXELS: Final = 3 * MAX_PIXELS
_CODED: Final = b"av01"
_GRID: Final = b"grid"
_ALPHA: Final = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
_ALPHAS: Final = frozenset({_ALPHA, b"urn:mpeg:hevc:2015:auxid:1"})
# Properties that turn a picture, and which bits of theirs say how.
_TURNS: Final = {b"irot": 3, b"imir": 1}
# What every reader needs to show a picture.
_ESSENTIAL: Final = frozenset({b"av1C", b"irot", b"imir", b"a1op", b"lsel"})
_CONFIGURATION_VERSION: Final = 0x81
_CROP: Final = b"clap"
_FILE, _IDAT = 0, 1
"""Where the data of an item can be: in the file, in the box of the items."""


class _Range(NamedTuple):
    method: int
    start: int
    end: int


class _Property(NamedTuple):
    kind: bytes
    data: bytes


@dataclass(kw_only=True)
class _Item:
    kind: bytes
    ranges: list[_Range] = field(default_factory=list)
    properties: list[tuple[int, bool]] = field(default_factory=list)
    """The numbers of properties in their order, from 1 on, and whether each is essential."""


@dataclass(kw_only=True)
class _Items:
    """What a file says of its items."""

    primary: int = 0
    items: dict[int, _Item] = field(default_factory=dict)
    properties: list[_Property] = field(default_factory=list)
    references: list[tuple[bytes, int, Sequence[int]]] = field(default_factory=list)
    idat: memoryview = field(default_factory=lambda: memoryview(b""))

    def property_of(self, item_id: int, kind: bytes) -> bytes | None:
        """Return the first property of a kind that an item has."""
        for number, _ in self.items[item_id].properties:
            if self.properties[number - 1].kind == kind:
                return self.properties[number - 1].data
        return None

    def referred(self, kind: bytes, item_id: int) -> Sequence[int]:
        """Return the items to which an item refers in such a way."""
        return [
            target
            for name, source, targets in self.references
            if (name, source) == (kind, item_id)
            for target in targets
        ]


def cleaned(content: bytes) -> CleanPhoto:
    """Return the picture alone; raises UnfitPhotoError."""
    view = memoryview(content)
    if content[4:8] != b"ftyp":
        raise UnfitPhotoError("is not an AVIF")
    boxes = list(_boxes(view, last_may_be_open=True))
    brands = _brands(boxes[0].data)
    if b"avif" not in brands:
        raise UnfitPhotoError("is not an AVIF")
    if any(box.kind == b"moov" for box in boxes):
        raise UnfitPhotoError("is animated; a photo is a still picture")
    metas = [box.data for box in boxes if box.kind == b"meta"]
    if len(metas) != 1:
        raise UnfitPhotoError("is cut off or damaged")
    items = _items(metas[0])
    kept = _needed(items)
    data = _data(items, kept, view, [box for box in boxes if box.kind == b"mdat"])
    width, height = _checked_size(items, kept, data)
    profiles = sorted(brands & {b"MA1A", b"MA1B"})
    return CleanPhoto(
        content=_written(items, kept, data, profiles=profiles), width=width, height=height
    )


class _Box(NamedTuple):
    kind: bytes
    data: memoryview
    start: int
    """Where the data begin, from the start of what contains the box."""


def _boxes(content: memoryview, *, last_may_be_open: bool = False) -> Iterator[_Box]:
    reader = Reader(content)
    for number in count(1):
        if not reader.left:
            return
        require_parts(number)
        start = reader.position
        size, kind = reader.number(4), reader.code()
        if size == 1:
            size = reader.number(8)
        elif size == 0 and last_may_be_open:
            size = len(content) - start
        data = reader.take(size - (reader.position - start))
        yield _Box(kind, data, reader.position - len(data))


def _full(box: memoryview) -> tuple[Reader, int, int]:
    """Return the contents of a box that has a version and flags."""
    reader = Reader(box)
    return reader, reader.number(1), reader.number(3)


def _brands(data: memoryview) -> set[bytes]:
    reader = Reader(data)
    brands = {reader.code()}
    reader.take(4)
    while reader.left:
        brands.add(reader.code())
    return brands


def _items(meta: memoryview) -> _Items:
    found = _Items()
    boxes = {box.kind: box.data for box in reversed(list(_boxes(_full_data(meta))))}
    if not {b"hdlr", b"pitm", b"iinf", b"iloc", b"iprp"} <= set(boxes):
        raise UnfitPhotoError("is cut off or damaged")
    reader, _, _ = _full(boxes[b"hdlr"])
    reader.take(4)
    if reader.code() != b"pict":
        raise UnfitPhotoError("is not an AVIF")
    reader, version, _ = _full(boxes[b"pitm"])
    found.primary = reader.number(4 if version else 2)
    _read_entries(found, boxes[b"iinf"])
    _read_locations(found, boxes[b"iloc"])
    _read_properties(found, boxes[b"iprp"])
    if b"iref" in boxes:
        _read_references(found, boxes[b"iref"])
    found.idat = boxes.get(b"idat", found.idat)
    return found


def _full_data(box: memoryview) -> memoryview:
    reader, _, _ = _full(box)
    return reader.take(reader.left)


def _read_entries(found: _Items, box: memoryview) -> None:
    reader, version, _ = _full(box)
    reader.take(4 if version else 2)
    for _, data, _ in _boxes(reader.take(reader.left)):
        entry, version, _ = _full(data)
        if version not in (2, 3) or len(found.items) >= _MOST_ITEMS:
            raise UnfitPhotoError("is a kind of AVIF that browsers do not show")
        item_id, protection = entry.number(2 if version == 2 else 4), entry.number(2)  # noqa: PLR2004 -- the version with short ids
        kind = entry.code()
        # Protected ones cannot be shown, so they are as good as unknown.
        found.items.setdefault(item_id, _Item(kind=b"" if protection else kind))


def _read_locations(found: _Items, box: memoryview) -> None:
    reader, version, _ = _full(box)
    sizes = reader.number(2)
    offset_size, length_size, base_size, index_size = (
        sizes >> shift & 15 for shift in (12, 8, 4, 0)
    )
    if version not in (0, 1, 2):
        raise UnfitPhotoError("is a kind of AVIF that browsers do not show")
    id_size = 4 if version == 2 else 2  # noqa: PLR2004 -- the version with long ids
    for _ in range(_bounded(reader.number(id_size), _MOST_ITEMS)):
        item_id = reader.number(id_size)
        method = reader.number(2) & 15 if version else _FILE
        is_elsewhere = reader.number(2) != 0
        base = reader.number(base_size)
        ranges = list[_Range]()
        for _ in range(_bounded(reader.number(2), _MOST_EXTENTS)):
            reader.take(index_size if version else 0)
            start = base + reader.number(offset_size)
            ranges.append(_Range(method, start, start + reader.number(length_size)))
        if (item := found.items.get(item_id)) is not None:
            if item.ranges:
                raise UnfitPhotoError("is cut off or damaged")
            item.ranges = ranges
            item.kind = b"" if is_elsewhere else item.kind


def _read_properties(found: _Items, box: memoryview) -> None:
    for kind, data, _ in _boxes(box):
        if kind == b"ipco":
            found.properties += [_Property(each.kind, bytes(each.data)) for each in _boxes(data)]
        elif kind == b"ipma":
            _read_associations(found, data)
    used = [number for item in found.items.values() for number, _ in item.properties]
    if len(found.properties) > _MOST_PROPERTIES or any(
        number > len(found.properties) for number in used
    ):
        raise UnfitPhotoError("is cut off or damaged")


def _bounded(number: int, most: int) -> int:
    """Return how many of something there are; raises UnfitPhotoError for more than anybody has."""
    if number > most:
        raise UnfitPhotoError("is a kind of AVIF that browsers do not show")
    return number


def _read_associations(found: _Items, box: memoryview) -> None:
    reader, version, flags = _full(box)
    size = 2 if flags & 1 else 1
    for _ in range(_bounded(reader.number(4), _MOST_ITEMS)):
        item_id = reader.number(4 if version else 2)
        for _ in range(reader.number(1)):
            value = reader.number(size)
            essential = 1 << (8 * size - 1)
            # Number 0 is none.
            if item_id in found.items and value & ~essential:
                properties = found.items[item_id].properties
                properties.append((value & ~essential, bool(value & essential)))


def _read_references(found: _Items, box: memoryview) -> None:
    reader, version, _ = _full(box)
    size = 4 if version else 2
    for kind, data, _ in _boxes(reader.take(reader.left)):
        reference = Reader(data)
        source = reference.number(size)
        count_of_targets = _bounded(reference.number(2), _MOST_ITEMS)
        targets = [reference.number(size) for _ in range(count_of_targets)]
        found.references.append((kind, source, targets))


def _needed(items: _Items) -> list[int]:
    """Return the items of the picture: what is shown, its transparency, and the tiles of both."""
    shown = [items.primary]
    for kind, source, targets in items.references:
        if kind == b"auxl" and items.primary in targets and _is_alpha(items, source):
            shown.append(source)
    tiles = [tile for item_id in shown for tile in items.referred(b"dimg", item_id)]
    # A tile has one position in one picture: viewers refuse others.
    if len(set(tiles)) < len(tiles):
        raise UnfitPhotoError("is cut off or damaged")
    needed = list(dict.fromkeys(shown + tiles))
    # The transparency of tiles, where each has its own.
    needed += dict.fromkeys(
        source
        for kind, source, targets in items.references
        if kind == b"auxl" and set(tiles) & set(targets) and _is_alpha(items, source)
    )
    needed = list(dict.fromkeys(needed))
    _require_kinds(items, needed, shown)
    if len({_turns(items, item_id) for item_id in shown}) > 1:
        raise UnfitPhotoError("is cut off or damaged")
    return needed


def _require_kinds(items: _Items, needed: Sequence[int], shown: Sequence[int]) -> None:
    for item_id in needed:
        is_grid = items.referred(b"dimg", item_id)
        kinds = {_GRID} if is_grid and item_id in shown else {_CODED}
        if item_id not in items.items or items.items[item_id].kind not in kinds:
            raise UnfitPhotoError("is a kind of AVIF that browsers do not show")


def _turns(items: _Items, item_id: int) -> tuple[_Property, ...]:
    """Return how an item is turned, which is to be the same for a picture and its transparency."""
    properties = [items.properties[number - 1] for number, _ in items.items[item_id].properties]
    return tuple(
        _Property(found.kind, bytes((found.data[0] & _TURNS[found.kind],)))
        for found in properties
        if found.kind in _TURNS and found.data
    )


def _is_alpha(items: _Items, item_id: int) -> bool:
    if item_id not in items.items:
        return False
    data = items.property_of(item_id, b"auxC") or b""
    return data[4:].partition(b"\0")[0] in _ALPHAS


def _data(
    items: _Items, kept: Sequence[int], content: memoryview, media: Sequence[_Box]
) -> dict[int, bytes]:
    """Return the data of each item, as they are to be written."""
    _require_apart(items, kept)
    whole = {_FILE: content, _IDAT: items.idat}
    inside = [(box.start, box.start + len(box.data)) for box in media]
    joined = dict[int, bytes]()
    for item_id in kept:
        ranges = items.items[item_id].ranges
        for method, start, end in ranges:
            if method not in whole or not 0 <= start < end <= len(whole[method]):
                raise UnfitPhotoError("is cut off or damaged")
            if method == _FILE and not any(a <= start and end <= b for a, b in inside):
                raise UnfitPhotoError("is cut off or damaged")
        joined[item_id] = b"".join(whole[method][start:end] for method, start, end in ranges)
        # Items may share their data; no photo needs to share more than this.
        if sum(map(len, joined.values())) > 2 * len(content):
            raise UnfitPhotoError("is cut off or damaged")
    return joined


def _require_apart(items: _Items, kept: Sequence[int]) -> None:
    """Raise UnfitPhotoError where what is kept contains something of what is not."""
    ranges = sorted(
        (each.method, each.start, each.end, item_id in kept)
        for item_id, item in items.items.items()
        for each in item.ranges
    )
    reach = {False: (-1, 0), True: (-1, 0)}
    """How far the data of either kind go, of the ranges so far."""
    for method, start, end, is_kept in ranges:
        other_method, other_end = reach[not is_kept]
        if method == other_method and start < other_end:
            raise UnfitPhotoError("is cut off or damaged")
        reach[is_kept] = max(reach[is_kept], (method, end))


def _checked_size(items: _Items, kept: Sequence[int], data: dict[int, bytes]) -> tuple[int, int]:
    """Return the size of the picture as shown; makes the data clean.

    What decoders make of the data is to have the size that the file says, which viewers go by.
    """
    decoded = 0
    for item_id in kept:
        size = _stated_size(items, item_id)
        if items.items[item_id].kind == _GRID:
            tiles = [_stated_size(items, tile) for tile in items.referred(b"dimg", item_id)]
            data[item_id], actual = _grid(data[item_id], tiles)
        else:
            _require_configuration(items, item_id)
            picture = av1.cleaned(data[item_id])
            data[item_id], actual = picture.coded, (picture.width, picture.height)
            decoded += size[0] * size[1]
        require_size(*size)
        if size != actual:
            raise UnfitPhotoError("is cut off or damaged")
    if decoded > _MOST_DECODED_PIXELS:
        raise UnfitPhotoError("is cut off or damaged")
    width, height = _stated_size(items, items.primary)
    rotation = items.property_of(items.primary, b"irot") or b"\0"
    return (height, width) if rotation[0] & 1 else (width, height)


def _require_configuration(items: _Items, item_id: int) -> None:
    """Raise UnfitPhotoError where a file does not say what samples it has, or says two things."""
    reader = Reader(memoryview(items.property_of(item_id, b"av1C") or b""))
    version, _, samples = (reader.number(1) for _ in range(3))
    is_high, is_twelve, is_grey = (bool(samples & bit) for bit in (0x40, 0x20, 0x10))
    depth = 8 + 2 * is_high + 2 * is_twelve
    channels = items.property_of(item_id, b"pixi")
    stated = bytes(4) + (b"\x01" if is_grey else b"\x03") + bytes((depth,)) * (1 if is_grey else 3)
    if (
        version != _CONFIGURATION_VERSION
        or (is_twelve and not is_high)
        or channels not in (None, stated)
    ):
        raise UnfitPhotoError("is cut off or damaged")


def _stated_size(items: _Items, item_id: int) -> tuple[int, int]:
    reader = Reader(memoryview(items.property_of(item_id, b"ispe") or b""))
    reader.take(4)
    return reader.number(4), reader.number(4)


def _grid(data: bytes, tiles: Sequence[tuple[int, int]]) -> tuple[bytes, tuple[int, int]]:
    """Return what describes a grid, and the size of the picture that it makes of its tiles.

    The tiles are of one size, and no more of them than the picture needs.
    """
    reader = Reader(memoryview(data))
    version, flags = reader.number(1), reader.number(1)
    rows, columns = reader.number(1) + 1, reader.number(1) + 1
    size = 4 if flags & 1 else 2
    width, height = reader.number(size), reader.number(size)
    if version or rows * columns != len(tiles) or len(set(tiles)) != 1:
        raise UnfitPhotoError("is cut off or damaged")
    for side, tile, number in zip((width, height), tiles[0], (columns, rows), strict=True):
        if tile < _LEAST_TILE_SIDE or not (number - 1) * tile < side <= number * tile:
            raise UnfitPhotoError("is cut off or damaged")
    return data[: reader.position], (width, height)


def _written(
    items: _Items, kept: Sequence[int], data: Mapping[int, bytes], *, profiles: Iterable[bytes]
) -> bytes:
    """Return a file of these items, numbered from 1 on."""
    ids = {item_id: number for number, item_id in enumerate(kept, 1)}
    properties, associations = _used_properties(items, kept)
    beginning = _box(b"ftyp", b"avif", bytes(4), b"avifmif1miaf", *profiles)
    boxes = [
        _full_box(b"hdlr", bytes(4), b"pict", bytes(13)),
        _full_box(b"pitm", big_endian("H", ids[items.primary])),
        _full_box(
            b"iinf",
            big_endian("H", len(ids)),
            *(
                _full_box(
                    b"infe",
                    big_endian("HH", number, 0),
                    items.items[item_id].kind,
                    b"\0",
                    version=2,
                )
                for item_id, number in ids.items()
            ),
        ),
        _box(
            b"iprp",
            _box(b"ipco", *(_box(kind, content) for kind, content in properties)),
            _full_box(
                b"ipma",
                big_endian("I", len(ids)),
                *(
                    big_endian(f"HB{len(numbers)}H", ids[item_id], len(numbers), *numbers)
                    for item_id, numbers in associations.items()
                ),
                flags=1,
            ),
        ),
    ]
    if references := _written_references(items, ids):
        boxes.append(_full_box(b"iref", *references))
    # A location is 14 bytes long for any item, so where the data begin can be known before.
    location_size = 12 + 4 + 14 * len(ids)
    meta_size = 12 + sum(map(len, boxes)) + location_size
    position = len(beginning) + meta_size + 8
    locations = list[bytes]()
    for item_id, number in ids.items():
        size = len(data[item_id])
        locations.append(big_endian("HHHII", number, 0, 1, position, size))
        position += size
    boxes.append(_full_box(b"iloc", b"\x44\x00", big_endian("H", len(ids)), *locations))
    meta = _full_box(b"meta", *boxes)
    return b"".join((beginning, meta, _box(b"mdat", *data.values())))


def _used_properties(
    items: _Items, kept: Sequence[int]
) -> tuple[list[_Property], dict[int, list[int]]]:
    """Return the cleaned properties of these items, and the numbers that each item has of them."""
    used = dict[_Property, int]()
    cleaned_ones = dict[tuple[int, bool], _Property | None]()
    associations = dict[int, list[int]]()
    for item_id in kept:
        numbers = associations[item_id] = list[int]()
        seen = set[bytes]()
        for number, is_essential in items.items[item_id].properties:
            # Once each: a profile may belong to every tile.
            if (number, is_essential) not in cleaned_ones:
                property_ = items.properties[number - 1]
                cleaned_ones[number, is_essential] = _kept_property(
                    property_, is_essential=is_essential
                )
            found = cleaned_ones[number, is_essential]
            # Of a kind there is one, but of colours, which may be both named and described.
            if (
                found is not None
                and (name := found.kind + found.data[:4] * (found.kind == b"colr")) not in seen
            ):
                seen.add(name)
                number_now = used.setdefault(found, len(used) + 1)
                numbers.append(number_now | (found.kind in _ESSENTIAL) << 15)
    return list(used), associations


def _kept_property(found: _Property, *, is_essential: bool) -> _Property | None:
    if found.kind == _CROP:
        raise UnfitPhotoError("still contains the parts outside its crop; crop it permanently")
    least, kept = _KEPT.get(found.kind, _NOT_KEPT)
    if len(found.data) < least:
        raise UnfitPhotoError("is cut off or damaged")
    data = kept(found.data)
    if data is None and is_essential:
        raise UnfitPhotoError("is a kind of AVIF that browsers do not show")
    return None if data is None else _Property(found.kind, data)


def _colours(data: bytes) -> bytes | None:
    """Return a colr property, which names the colours or has a profile of them."""
    match data[:4]:
        case b"nclx":
            # Its last byte is one bit, and seven that mean nothing.
            return data[:10] + bytes((data[10] & 0x80,)) if len(data) > 10 else None  # noqa: PLR2004 -- how long it is
        case b"prof" | b"rICC":
            return data[:4] + icc.cleaned(data[4:])
        case _:
            return None


# How many bytes a property has at least, and what of it is kept.
_KEPT: Final[Mapping[bytes, tuple[int, Callable[[bytes], bytes | None]]]] = {
    b"ispe": (12, lambda data: bytes(4) + data[4:12]),
    b"pixi": (5, lambda data: bytes(4) + data[4 : 5 + data[4]]),
    # Without the units that the picture has itself.
    b"av1C": (4, lambda data: data[:4]),
    b"auxC": (4, lambda _: bytes(4) + _ALPHA + b"\0"),
    b"colr": (4, _colours),
    b"irot": (1, lambda data: bytes((data[0] & _TURNS[b"irot"],))),
    b"imir": (1, lambda data: bytes((data[0] & _TURNS[b"imir"],))),
    b"a1op": (1, lambda data: data[:1]),
    b"lsel": (2, lambda data: data[:2]),
    b"pasp": (8, lambda data: data[:8]),
    b"clli": (4, lambda data: data[:4]),
    b"mdcv": (24, lambda data: data[:24]),
}
_NOT_KEPT: Final = (0, lambda _: None)


def _written_references(items: _Items, ids: Mapping[int, int]) -> list[bytes]:
    written = list[bytes]()
    for kind, source, targets in items.references:
        numbers = [ids[target] for target in targets if target in ids]
        if kind in (b"dimg", b"auxl", b"prem") and source in ids and numbers:
            layout = f"HH{len(numbers)}H"
            written.append(_box(kind, big_endian(layout, ids[source], len(numbers), *numbers)))
    return written


def _box(kind: bytes, *parts: bytes) -> bytes:
    return b"".join((big_endian("I4s", 8 + sum(map(len, parts)), kind), *parts))


def _full_box(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, big_endian("I", version << 24 | flags), *parts)
