"""Mutes: people that a viewer's own feed leaves out, although the viewer may see their posts.

A mute is a property of a tag: it lasts until `muted_until`, which is infinity where it has no end,
and covers the people who have the tag now. It is the viewer's taste and no part of the rule of
`visibility`: feeds, counts of unread posts and digests leave these people out, and reads that name
a post, an author or a tag do not.

The query is a part of the statements that read posts. So a mute counts from the moment at which it
is stored, ends by the clock of the database, and takes an empty probe of `idx_tag_muted` for a
viewer without mutes.
"""

from typing import Final

from feed_service.visibility import tag_holds

MUTED: Final = f"""
        SELECT given.target_user_id
        FROM tags AS tag
        JOIN user_tags AS given
          ON given.owner_user_id = tag.owner_user_id AND given.tag_id = tag.id
        WHERE tag.owner_user_id = :viewer_id AND tag.muted_until > now() AND tag.deleted_at IS NULL
          AND {tag_holds("given", peer="given.target_user_id", revisions=":own_revisions")}"""
"""The query for the people that the viewer has muted. To be bound to `Viewer.parameters`."""


def not_muted(user: str) -> str:
    """Return whether a connection of the viewer is not muted.

    `IS NOT TRUE` keeps PostgreSQL from joining, so that it reads the muted people once.
    """
    return f"(({user} IN ({MUTED})) IS NOT TRUE)"
