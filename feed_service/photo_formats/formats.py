"""The formats that photos may have, by their content types."""

from collections.abc import Callable, Mapping
from typing import Final

from feed_service.photo_formats import avif, jpeg, png, webp
from feed_service.photo_formats.clean_photo import CleanPhoto

_CLEANED_BY: Final[Mapping[str, Callable[[bytes], CleanPhoto]]] = {
    "image/jpeg": jpeg.cleaned,
    "image/png": png.cleaned,
    "image/webp": webp.cleaned,
    "image/avif": avif.cleaned,
}


def cleaned(content: bytes, *, content_type: str) -> CleanPhoto:
    """Return a photo of this content type without metadata.

    Raises UnfitPhotoError for what is not of the type, is damaged, too large or animated, or has
    something that can be neither kept nor left out.
    """
    return _CLEANED_BY[content_type](content)
