"""How many messages a call costs each database, counted on the wire."""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import sqlalchemy
from google.protobuf.timestamp_pb2 import Timestamp

from feed_service.layouts import SINGLE
from kith.feed.v1 import feed_pb2 as feed
from kith.graph.v1 import graph_pb2 as graph
from tests.support.pair import LAYOUT, Databases, Pair, running_fenced_pair
from tests.support.people import ALL, People, tagged
from tests.support.processes import until
from tests.support.wire import WireTap

# On a Citus what is chosen and counted comes from many shards, and takes a look at something first:
# the people that the viewer has muted, and for a digest also how much there is.
_PAGE, _CHOICE, _UNREAD = (1, 1, 1) if LAYOUT is SINGLE else (2, 3, 2)
_OF_CHECKS = (
    *("alembic_version", "has_citus", "distributed_tables", "pg_dist_partition"),
    # Asked once a second beside the calls.
    "all_suspended_ids",
)
# And the viewer's own posts on a page come by themselves, with their tags.
_OWN_POSTS = 0 if LAYOUT is SINGLE else 1
# Lock the authors, look at what is there, and commit both.
_FREEZING = 4


def _counts(pair: Pair, call: Callable[[], object]) -> tuple[int, int]:
    """Return what a call sends to the feed's database and to the graph's."""
    pair.feed_tap.reset()
    pair.graph_tap.reset()
    call()
    # The readiness checks share the connections.
    seen = [
        [text for text in tap.statements if not any(name in text for name in _OF_CHECKS)]
        for tap in (pair.feed_tap, pair.graph_tap)
    ]
    return len(seen[0]), len(seen[1])


def _world(people: People, *, size: int) -> int:
    """Return a viewer with `size` connections, each with two tags and two posts."""
    viewer, *authors = people.connected(size + 1)
    for author in authors:
        tags = [people.tag(author, name, viewer) for name in ("one", "two")]
        people.post(author)
        people.post(author, tagged(*tags))
    return viewer


def _add_photos(pair: Pair, viewer: int) -> None:
    """Give every post that a viewer sees two photos."""
    page = pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer, page_size=100))
    engine = sqlalchemy.create_engine(pair.feed_url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("""
                INSERT INTO post_photos (author_id, post_id, place, object_key)
                SELECT author_id, id, place, 'photos/' || id || '/' || place
                FROM posts, generate_series(1, 2) AS place WHERE id = ANY (:ids)"""),
            {"ids": [post.post_id for post in page.posts]},
        )


def test_connected_ids_of_a_hundred_users_are_one_statement(pair: Pair, people: People) -> None:
    user_ids = people.new(100)
    people.connect(user_ids[0], *user_ids[1:])
    queries = [graph.GetConnectedUserIdsRequest.UserQuery(user_id=user_id) for user_id in user_ids]
    request = graph.GetConnectedUserIdsRequest(users=queries)

    assert _counts(pair, lambda: pair.graph.GetConnectedUserIds(request)) == (0, 1)


def test_a_feed_is_one_statement_in_each_database_when_the_cache_is_warm(
    pair: Pair, people: People
) -> None:
    viewer = _world(people, size=5)
    people.feed(viewer)

    assert _counts(pair, lambda: people.feed(viewer)) == (_PAGE, 1)


def test_a_feed_is_one_more_statement_in_the_graph_when_the_cache_is_cold(
    pair: Pair, people: People
) -> None:
    viewer = _world(people, size=5)

    assert _counts(pair, lambda: people.feed(viewer)) == (_PAGE, 2)


def test_twice_the_connections_tags_and_page_size_cost_the_same(pair: Pair, people: People) -> None:
    small, large = _world(people, size=5), _world(people, size=10)
    people.feed(small)
    people.feed(large)

    assert _counts(pair, lambda: people.feed(small, page_size=10)) == _counts(
        pair, lambda: people.feed(large, page_size=20)
    )


def _digest(pair: Pair, viewer: int, *, week_of: Timestamp | None = None) -> Callable[[], object]:
    request = feed.GetDigestRequest(user_id=viewer, week_of=week_of, include_own_posts=True)
    return lambda: pair.feed.GetDigest(request)


def test_a_digest_is_one_statement_in_each_database_whatever_it_is_chosen_from(
    pair: Pair, people: People
) -> None:
    small, large = _world(people, size=5), _world(people, size=10)
    _add_photos(pair, small)
    _add_photos(pair, large)

    assert _counts(pair, _digest(pair, small)) == (_CHOICE, 1)
    assert _counts(pair, _digest(pair, large)) == (_CHOICE, 1)


def test_a_week_that_is_over_is_looked_for_chosen_and_frozen_once(
    pair: Pair, people: People
) -> None:
    viewer = _world(people, size=5)
    people.feed(viewer)
    digest = _digest(pair, viewer, week_of=Timestamp(seconds=1_700_000_000))

    # Of nothing, a distributed choice is a look at how much there is.
    looked, chosen, frozen = (1, 1, 1) if LAYOUT is SINGLE else (1, 2, _FREEZING)
    assert _counts(pair, digest) == (looked + chosen + frozen, 1)
    assert _counts(pair, digest) == (looked, 1)


def test_no_read_opens_a_transaction(pair: Pair, people: People) -> None:
    viewer = _world(people, size=2)
    [post] = pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer, page_size=1)).posts
    pair.feed_tap.reset()
    pair.graph_tap.reset()

    pair.feed.GetFeed(feed.GetFeedRequest(user_id=viewer))
    pair.feed.GetPost(
        feed.GetPostRequest(user_id=viewer, author_id=post.author_id, post_id=post.post_id)
    )
    pair.feed.ListTags(feed.ListTagsRequest(user_id=viewer))
    _digest(pair, viewer)()
    if LAYOUT is SINGLE:
        _digest(pair, viewer, week_of=Timestamp(seconds=1_700_000_000))()
    pair.graph.ListConnections(graph.ListConnectionsRequest(user_id=viewer))
    pair.graph.SuggestConnections(graph.SuggestConnectionsRequest(user_id=viewer))

    sent = [*pair.feed_tap.statements, *pair.graph_tap.statements]
    assert sent
    bare = [re.sub(r"^SET LOCAL statement_timeout = \d+; (?=\w)", "", text) for text in sent]
    assert not [text for text in bare if text.startswith(("BEGIN", "COMMIT", "ROLLBACK", "SET"))]


def test_who_is_suspended_is_looked_at_by_the_statement_that_looks_at_the_schema(
    databases: Databases,
) -> None:
    with running_fenced_pair(databases) as (pair, _):
        looks = {"suspension_changes": pair.graph_tap}
        if LAYOUT is SINGLE:
            looks["FROM fences"] = pair.feed_tap
        for what, tap in looks.items():
            tap.reset()
            until(lambda: _texts(tap, "alembic_version"))  # noqa: B023 -- called at once

            assert all(what in text for text in _texts(tap, "alembic_version"))


def _texts(tap: WireTap, part: str) -> list[str]:
    return [text for text in tap.statements if part in text]


def test_lookups_are_one_statement_each(pair: Pair, people: People) -> None:
    user, *peers = people.connected(4)
    calls: list[Callable[[], object]] = [
        lambda: pair.graph.CheckConnections(
            graph.CheckConnectionsRequest(user_id=user, peer_ids=peers)
        ),
        lambda: pair.graph.ListConnections(graph.ListConnectionsRequest(user_id=user)),
        lambda: pair.graph.ListMutualConnections(
            graph.ListMutualConnectionsRequest(user_id=peers[0], peer_id=peers[1])
        ),
        lambda: pair.graph.CountConnections(
            graph.CountConnectionsRequest(user_id=user, user_ids=peers)
        ),
        lambda: pair.graph.SuggestConnections(graph.SuggestConnectionsRequest(user_id=user)),
    ]

    assert [_counts(pair, call) for call in calls] == [(0, 1)] * len(calls)


def _checks(
    viewers: Sequence[int], *names: tuple[feed.PostName, int]
) -> feed.CheckVisibilityRequest:
    return feed.CheckVisibilityRequest(
        checks=[
            feed.CheckVisibilityRequest.VisibilityCheck(
                viewer_id=viewer, post=post, comment_id=comment_id
            )
            for post, comment_id in names
            for viewer in viewers
        ]
    )


def test_who_sees_what_is_one_statement_in_each_database_whoever_is_asked_about(
    pair: Pair, people: People
) -> None:
    author, *friends = people.connected(101)
    other, friend = people.connected(2)
    people.connect(other, friends[0])
    posts = [feed.PostName(author_id=user, post_id=people.post(user)) for user in (author, other)]
    comment = feed.CreateCommentRequest(user_id=friends[0], post=posts[0], body="hello")
    comment_id = pair.feed.CreateComment(comment).comment.comment_id
    calls: list[Callable[[], object]] = [
        partial(pair.feed.CheckVisibility, request)
        for request in (
            _checks([*friends, friend], (posts[0], 0)),
            _checks([*friends, friend], *((post, 0) for post in posts)),
            _checks(friends[:1], *((post, 0) for post in posts)),
            _checks([*friends[:98], author, friend], (posts[0], 0), (posts[0], comment_id)),
        )
    ]
    calls.append(lambda: pair.feed.ListViewers(feed.ListViewersRequest(post=posts[0])))
    for call in calls:
        call()

    assert [_counts(pair, call) for call in calls] == [(1, 1)] * len(calls)


def test_to_check_a_hundred_people_more_is_one_statement_more_in_the_graph(
    pair: Pair, people: People
) -> None:
    authors, [viewer, *others] = people.new(200), people.new(200)
    names = [(feed.PostName(author_id=author, post_id=1), 0) for author in authors]
    by_viewer, by_many = _checks([viewer], *names), _checks([viewer, *others[:3]], *names)
    both = feed.CheckVisibilityRequest(
        checks=[
            feed.CheckVisibilityRequest.VisibilityCheck(viewer_id=one, post=name)
            for one, (name, _) in zip([viewer, *others], names, strict=True)
        ]
    )

    # No user has a revision, so nothing is in the cache twice.
    assert _counts(pair, lambda: pair.feed.CheckVisibility(by_viewer)) == (1, 2)
    assert _counts(pair, lambda: pair.feed.CheckVisibility(by_many)) == (1, 2)
    assert _counts(pair, lambda: pair.feed.CheckVisibility(both)) == (1, 4)
    assert _counts(pair, lambda: pair.feed.CheckVisibility(both)) == (1, 2)


def test_comments_and_unread_posts_are_one_statement_in_each_database(
    pair: Pair, people: People
) -> None:
    viewer, author = people.connected(2)
    post = feed.PostName(author_id=author, post_id=people.post(author))
    for _ in range(3):
        pair.feed.CreateComment(feed.CreateCommentRequest(user_id=viewer, post=post, body="hello"))
    pair.feed.ListComments(feed.ListCommentsRequest(user_id=viewer, post=post))
    newest = feed.COMMENT_ORDER_NEWEST_FIRST
    [comment, *_] = pair.feed.ListComments(
        feed.ListCommentsRequest(user_id=viewer, post=post)
    ).comments
    replies = feed.ListCommentsRequest(
        user_id=viewer, post=post, parent_comment_id=comment.comment_id
    )
    own = feed.PostName(author_id=viewer, post_id=people.post(viewer))
    of_two = [feed.CommentName(post=name, comment_id=comment.comment_id) for name in (post, own)]
    calls: list[Callable[[], object]] = [
        lambda: pair.feed.ListComments(feed.ListCommentsRequest(user_id=viewer, post=post)),
        lambda: pair.feed.ListComments(
            feed.ListCommentsRequest(user_id=viewer, post=post, order=newest)
        ),
        lambda: pair.feed.ListComments(replies),
        lambda: pair.feed.GetComment(
            feed.GetCommentRequest(user_id=viewer, post=post, comment_id=comment.comment_id)
        ),
        lambda: pair.feed.BatchGetComments(
            feed.BatchGetCommentsRequest(user_id=viewer, comments=of_two)
        ),
        lambda: pair.feed.CountUnreadPosts(feed.CountUnreadPostsRequest(user_id=viewer)),
    ]

    assert [_counts(pair, call) for call in calls] == [(1, 1)] * 5 + [(_UNREAD, 1)]


def test_ones_own_comments_are_one_statement_and_ask_the_graph_nothing(
    pair: Pair, people: People
) -> None:
    [author] = people.new(1)
    request = feed.ListOwnCommentsRequest(user_id=author)

    assert _counts(pair, lambda: pair.feed.ListOwnComments(request)) == (1, 0)


def test_comments_are_one_more_statement_in_the_graph_until_the_blocks_are_known(
    pair: Pair, people: People
) -> None:
    author, _ = people.connected(2)
    people.feed(author)
    post = feed.PostName(author_id=author, post_id=people.post(author))
    request = feed.ListCommentsRequest(user_id=author, post=post)

    assert _counts(pair, lambda: pair.feed.ListComments(request)) == (1, 2)
    assert _counts(pair, lambda: pair.feed.ListComments(request)) == (1, 1)
    assert _counts(pair, lambda: people.feed(author)) == (_PAGE + _OWN_POSTS, 1)


def test_giving_a_tag_asks_the_graph_once_when_the_cache_is_warm(
    pair: Pair, people: People
) -> None:
    owner, friend = people.connected(2)
    people.feed(owner)
    tag = people.tag(owner, "family")

    _, asked = _counts(pair, lambda: people.give(owner, tag, friend))

    assert asked == 1


def test_writing_a_comment_is_a_look_at_the_post_and_a_transaction_of_three_messages(
    pair: Pair, people: People
) -> None:
    viewer, author = people.connected(2)
    people.feed(viewer)
    post = feed.PostName(author_id=author, post_id=people.post(author))
    request = feed.CreateCommentRequest(user_id=viewer, post=post, body="hello")

    # BEGIN and the locks come with the second look, the count with the comment, and COMMIT.
    assert _counts(pair, lambda: pair.feed.CreateComment(request)) == (1 + 3, 1)


def test_a_reply_costs_no_more_messages_than_a_comment(pair: Pair, people: People) -> None:
    viewer, author = people.connected(2)
    post = feed.PostName(author_id=author, post_id=people.post(author))
    request = feed.CreateCommentRequest(user_id=viewer, post=post, body="hello")
    comment = pair.feed.CreateComment(request).comment
    pair.feed.ListComments(feed.ListCommentsRequest(user_id=viewer, post=post))
    request.parent_comment_id = comment.comment_id

    assert _counts(pair, lambda: pair.feed.CreateComment(request)) == (1 + 3, 1)


def test_deleting_a_comment_is_a_lock_the_deletion_and_a_commit(pair: Pair, people: People) -> None:
    viewer, author = people.connected(2)
    post = feed.PostName(author_id=author, post_id=people.post(author))
    request = feed.CreateCommentRequest(user_id=viewer, post=post, body="hello")
    comment = pair.feed.CreateComment(request).comment
    delete = feed.DeleteCommentRequest(user_id=viewer, post=post, comment_id=comment.comment_id)

    assert _counts(pair, lambda: pair.feed.DeleteComment(delete)) == (3, 0)


def test_who_has_a_tag_is_one_statement_in_each_database(pair: Pair, people: People) -> None:
    owner, *friends = people.connected(4)
    tag = people.tag(owner, "friends", *friends)
    calls: list[Callable[[], object]] = [
        lambda: pair.feed.ListTagMembers(feed.ListTagMembersRequest(user_id=owner, tag_id=tag)),
        lambda: pair.feed.ListTagMembers(
            feed.ListTagMembersRequest(user_id=owner, tag_id=tag, show_former=True)
        ),
        lambda: pair.feed.ListUserTags(
            feed.ListUserTagsRequest(user_id=owner, target_user_id=friends[0])
        ),
    ]

    assert [_counts(pair, call) for call in calls] == [(1, 1)] * len(calls)


def test_what_marks_a_feed_read_looks_for_an_earlier_answer_first(
    pair: Pair, people: People
) -> None:
    viewer, author = people.connected(2)
    people.feed(viewer)
    post = feed.PostName(author_id=author, post_id=people.post(author))
    request = feed.MarkFeedReadRequest(user_id=viewer, post=post, request_id=str(uuid.uuid4()))
    pair.feed.MarkFeedRead(request)

    assert _counts(pair, lambda: pair.feed.MarkFeedRead(request)) == (1, 0)


def test_changing_a_pair_is_a_look_at_it_and_a_commit_with_the_change(
    pair: Pair, people: People
) -> None:
    user, peer = people.new(2)
    calls: list[Callable[[], object]] = [
        lambda: pair.graph.RequestConnection(
            graph.RequestConnectionRequest(user_id=user, peer_id=peer)
        ),
        lambda: pair.graph.AcceptConnection(
            graph.AcceptConnectionRequest(user_id=peer, peer_id=user)
        ),
        lambda: people.remove(user, peer),
        lambda: people.block(user, peer),
        lambda: pair.graph.UnblockUser(graph.UnblockUserRequest(user_id=user, peer_id=peer)),
    ]

    assert [_counts(pair, call) for call in calls] == [(0, 2)] * len(calls)
    # The last has taken effect already.
    assert _counts(pair, calls[-1]) == (0, 2)


def test_a_change_that_can_be_repeated_costs_what_it_costs_without_a_request_id(
    pair: Pair, people: People
) -> None:
    user, peer = people.new(2)
    ask = graph.RequestConnectionRequest(user_id=user, peer_id=peer, request_id=str(uuid.uuid4()))
    delete = feed.DeletePostRequest(
        user_id=user, post_id=people.post(user), request_id=str(uuid.uuid4())
    )
    plain = feed.DeletePostRequest(user_id=user, post_id=people.post(user))

    assert _counts(pair, lambda: pair.graph.RequestConnection(ask)) == (0, 2)
    assert _counts(pair, lambda: pair.feed.DeletePost(delete)) == _counts(
        pair, lambda: pair.feed.DeletePost(plain)
    )
    # A repeat fails at its first statement, is rolled back, and looks for the answer.
    assert _counts(pair, lambda: pair.graph.RequestConnection(ask)) == (0, 3)


def test_a_comment_that_can_be_repeated_costs_what_it_costs_without_a_request_id(
    pair: Pair, people: People
) -> None:
    viewer, author = people.connected(2)
    people.feed(viewer)
    post = feed.PostName(author_id=author, post_id=people.post(author))
    plain = feed.CreateCommentRequest(user_id=viewer, post=post, body="hello")
    repeatable = feed.CreateCommentRequest(
        user_id=viewer, post=post, body="hello", request_id=str(uuid.uuid4())
    )
    of_feed, of_graph = _counts(pair, lambda: pair.feed.CreateComment(plain))

    assert _counts(pair, lambda: pair.feed.CreateComment(repeatable)) == (of_feed, of_graph)
    # A repeat looks at the post, fails at its first statement, is rolled back, and looks for the
    # answer and whether the comment is still there.
    assert _counts(pair, lambda: pair.feed.CreateComment(repeatable)) == (1 + 2 + 2, of_graph)


def test_a_post_is_a_statement_and_a_commit_with_tags_costing_extra_and_a_request_id_nothing(
    pair: Pair, people: People
) -> None:
    [author] = people.new(1)
    tags = [people.tag(author, name) for name in ("one", "two", "three")]
    plain = feed.CreatePostRequest(user_id=author, body="hello", audience=ALL)
    repeatable = feed.CreatePostRequest(
        user_id=author, body="hello", audience=ALL, request_id=str(uuid.uuid4())
    )

    # In a distributed database its author, the totals and its tags are written by themselves.
    more, of_tags = (0, 0) if LAYOUT is SINGLE else (2, 1)

    assert _counts(pair, lambda: pair.feed.CreatePost(plain)) == (2 + more, 0)
    assert _counts(pair, lambda: people.post(author, tagged(*tags))) == (3 + more + of_tags, 0)
    assert _counts(pair, lambda: pair.feed.CreatePost(repeatable)) == (2 + more, 0)
    # A repeat fails, is rolled back, and looks for the answer and whether the post is there.
    assert _counts(pair, lambda: pair.feed.CreatePost(repeatable)) == (4, 0)


def _imports(
    pair: Pair, owner: int, friends: list[int], made: str
) -> Mapping[str, Callable[[], object]]:
    """Return imports of as many rows of each kind as there are friends, in the order to make them.

    `made` is in the names of everything, so that it is new.
    """
    moment = Timestamp(seconds=1_600_000_000)
    names = [f"{made} {number}" for number in range(len(friends))]
    graph_rows = graph.ImportConnectionsRequest(
        requests=[
            graph.ImportConnectionsRequest.OpenRequest(
                requester_id=friend, addressee_id=friend + 10_000_000
            )
            for friend in friends
        ],
        blocks=[
            graph.ImportConnectionsRequest.Block(blocker_id=friend, blocked_id=friend + 20_000_000)
            for friend in friends
        ],
    )
    tags = feed.ImportTagsRequest(
        tags=[
            feed.ImportTagsRequest.ImportedTag(
                owner_id=owner, external_id=name, name=name, create_time=moment
            )
            for name in names
        ],
        members=[
            feed.ImportTagsRequest.ImportedMember(
                owner_id=owner, tag_external_id=name, target_user_id=friend, create_time=moment
            )
            for name, friend in zip(names, friends, strict=True)
        ],
    )
    posts = feed.ImportPostsRequest(
        posts=[
            feed.ImportPostsRequest.ImportedPost(
                author_id=owner,
                external_id=name,
                body=name,
                create_time=moment,
                audience=ALL,
                excluded_tag_external_ids=[name],
            )
            for name in names
        ]
    )
    comments = feed.ImportCommentsRequest(
        comments=[
            feed.ImportCommentsRequest.ImportedComment(
                author_id=friend,
                external_id=name,
                post_author_id=owner,
                post_external_id=name,
                body=name,
                create_time=moment,
            )
            for name, friend in zip(names, friends, strict=True)
        ]
    )
    return {
        "ImportConnections": lambda: pair.graph.ImportConnections(iter([graph_rows])),
        "ImportTags": lambda: pair.feed.ImportTags(iter([tags])),
        "ImportPosts": lambda: pair.feed.ImportPosts(iter([posts])),
        "ImportComments": lambda: pair.feed.ImportComments(iter([comments])),
    }


def test_imports_take_as_many_statements_for_one_row_as_for_forty(
    pair: Pair, people: People
) -> None:
    owner, *friends = people.connected(41)
    # What is cached of the owner is read anew after the connections have changed.
    people.feed(owner)

    one, many = (
        {name: _counts(pair, call) for name, call in _imports(pair, owner, rows, made).items()}
        for rows, made in ((friends[:1], "one"), (friends, "many"))
    )

    assert one == many
