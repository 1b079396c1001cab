"""How important a post is when no scorer has said so: a heuristic, as one SQL expression.

2.0 for any post; up to 3.0 for the length of its text, growing with the logarithm and full at 500
characters; 1.0 for a photo and half a point for a second one. So it ends at 6.5, below the 7.0
from which a digest drops lesser posts: that a week had such a moment is for a scorer to say that
has read the texts.
"""

from typing import Final

_FULL_LENGTH: Final = 500


def heuristic(*, body: str, photo_count: str) -> str:
    """Return the expression for a text and a number of photos, both SQL themselves."""
    return f"""(2.0
        + 3.0 * least(1.0, ln(1.0 + char_length({body})) / ln(1.0 + {_FULL_LENGTH}))
        + CASE WHEN {photo_count} > 1 THEN 1.5 WHEN {photo_count} = 1 THEN 1.0 ELSE 0.0 END)"""
