"""The words on the wire by which a read says how much it has to see."""

from typing import Final

KEY: Final = "kith-position"
"""The metadata key of positions, in requests and in answers."""

ANY_WORD: Final = "any"
"""What a caller sends who takes what any replica has that is not far behind."""

MOST_TOKENS: Final = 8
"""How many positions a call may bring."""
