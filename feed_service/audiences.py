"""Audiences: whose tags they may name, why one person sees a post, who sees it or would see it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from feed_service import queries
from feed_service.queries.audiences import Explanation
from feed_service.queries.posts import Audience, CommentPolicy, PostName
from feed_service.resources import Resources
from feed_service.safe_read import steady_read
from feed_service.viewers import Viewer
from kith.errors.v1 import errors_pb2
from kith.exceptions import FieldViolation, ResourceNotFoundError, ValidationError
from shared.api.paging import BELOW_ALL_IDS, ById, Page, Scope

WITHOUT_TAGS: Final = "must have at least 1 item if kind is TAGS"
"""What is said of `tag_ids` when the audience is TAGS and there are none."""


MOST_COUNTED: Final = 10_000
"""How many people who see a post are counted."""


@dataclass(frozen=True, kw_only=True)
class Viewers:
    """How many people see a post or would see a draft, and a page of them, by id."""

    total_count: int
    page: Page[int]


class Audiences:
    """Answers authors, and services, who want to know who sees what."""

    def __init__(self, resources: Resources) -> None:
        self._database = resources.database
        self._reads = resources.reads
        self._graph = resources.graph
        self._tokens = resources.tokens

    def explain(self, viewer_id: int, name: PostName) -> Explanation:
        """Return why the viewer sees the post or not."""
        found = steady_read(
            self._graph,
            viewer_id,
            lambda viewer: self._database.read(
                lambda connection: queries.audiences.explanation(
                    connection, viewer=viewer, name=name
                )
            ),
            is_caller=False,
        )
        if found is None:
            raise ResourceNotFoundError(
                "the user has no such post", reason=errors_pb2.ERROR_REASON_POST_NOT_FOUND
            )
        return found

    def preview(
        self, author_id: int, audience: Audience, *, page_size: int, page_token: str
    ) -> Viewers:
        """Return who would see a draft with this audience now."""
        scope = Scope.of(
            "preview",
            author_id,
            audience.kind,
            sorted(audience.tag_ids),
            sorted(audience.excluded_tag_ids),
        )
        after = self._tokens.read(scope, page_token, start=BELOW_ALL_IDS)
        if wanted := named_tags(audience):
            owned = self._database.read(
                lambda connection: queries.tags.owned_tags(
                    connection, owner_user_id=author_id, tag_ids=wanted
                )
            )
            undeleted = {tag_id for tag_id, is_deleted in owned.items() if not is_deleted}
            _require_owned(undeleted, audience, field="audience", excluding=owned)

        def read(author: Viewer) -> tuple[int, list[int]]:
            return self._database.read(
                lambda connection: queries.audiences.preview(
                    connection,
                    author=author,
                    audience=audience,
                    after_id=after.id,
                    limit=page_size + 1,
                )
            )

        return self._page(scope, page_size, steady_read(self._graph, author_id, read))

    def viewers(self, name: PostName, *, page_size: int, page_token: str) -> Viewers:
        """Return who sees a post now, its author among them; no users if there is no such post.

        Posts of a suspended author have no viewers. At most MOST_COUNTED are counted.
        """
        author_id, post_id = name
        scope = Scope.of("viewers", author_id, post_id)
        after = self._tokens.read(scope, page_token, start=BELOW_ALL_IDS)

        def read(author: Viewer) -> tuple[int, list[int]]:
            if author.is_suspended:
                return 0, []
            return self._reads.read(
                lambda connection: queries.audiences.viewers(
                    connection,
                    author=author,
                    post_id=post_id,
                    after_id=after.id,
                    limit=page_size + 1,
                    most_counted=MOST_COUNTED,
                ),
                since=author.since,
            )

        found = steady_read(self._graph, author_id, read, is_caller=False)
        return self._page(scope, page_size, found)

    def _page(self, scope: Scope, page_size: int, found: tuple[int, list[int]]) -> Viewers:
        total_count, viewer_ids = found
        page = self._tokens.cut(scope, viewer_ids, size=page_size, position=ById)
        return Viewers(total_count=total_count, page=page)


def lock_own_tags(
    connection: Connection,
    author_id: int,
    audience: Audience,
    *,
    field: str,
    excluding: Collection[int] = (),
) -> None:
    """Keep the audience's tags from being deleted until the transaction ends.

    Raises ValidationError naming those in `field` that are neither the author's own nor among the
    tags that the post is `excluding` by already, which may be deleted.
    """
    if wanted := named_tags(audience):
        owned = queries.tags.lock_owned_tag_ids(connection, owner_user_id=author_id, tag_ids=wanted)
        _require_owned(owned, audience, field=field, excluding=excluding)


def lock_policy_tags(
    connection: Connection, author_id: int, policy: CommentPolicy, *, field: str
) -> None:
    """Keep the tags of a policy from being deleted until the transaction ends.

    Raises ValidationError naming those in `field` that are not the author's own.
    """
    named = Audience(kind=policy.kind, tag_ids=policy.tag_ids)
    lock_own_tags(connection, author_id, named, field=field)


def foreign_tags(
    owned: Collection[int], audience: Audience, *, field: str, excluding: Collection[int] = ()
) -> list[FieldViolation]:
    """Return a violation for each tag of the audience that is not among those owned.

    Those that exclude may be among `excluding` instead.
    """
    lists = {
        "tag_ids": (audience.tag_ids, owned),
        "excluded_tag_ids": (audience.excluded_tag_ids, {*owned, *excluding}),
    }
    return [
        FieldViolation(
            field=f"{field}.{name}[{index}]", description="must be one of the user's own tags"
        )
        for name, (tag_ids, allowed) in lists.items()
        for index, tag_id in enumerate(tag_ids)
        if tag_id not in allowed
    ]


def named_tags(audience: Audience) -> set[int]:
    """Return the tags of an audience, those that exclude among them."""
    return {*audience.tag_ids, *audience.excluded_tag_ids}


def _require_owned(
    owned: Collection[int], audience: Audience, *, field: str, excluding: Collection[int]
) -> None:
    if violations := foreign_tags(owned, audience, field=field, excluding=excluding):
        raise ValidationError.of_all(violations)
