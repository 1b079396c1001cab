"""What a stranger can read in a page token without any key."""

import base64
import struct

_MAC_BYTES = 16


def integers_in(token: str) -> list[int]:
    """Return the integers that a token holds before its signature; none for the empty one."""
    payload = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))[:-_MAC_BYTES]
    return [number for (number,) in struct.iter_unpack(">q", payload)]
