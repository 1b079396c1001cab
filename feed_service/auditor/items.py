"""What a decision is about: a post, or a comment on it."""

from typing import NamedTuple


class Item(NamedTuple):
    """A post by its author's id and its own; with a `comment_id`, a comment on it."""

    author_id: int
    post_id: int
    comment_id: int = 0

    @property
    def post(self) -> "Item":
        """The post itself."""
        return Item(self.author_id, self.post_id)
