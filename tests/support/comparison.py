"""Everything that people can ask of the pair, compared with what the oracle says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from kith.client import pages
from kith.feed.v1 import feed_pb2 as feed
from kith.graph.v1 import graph_pb2 as graph
from tests.support.errors import refusal
from tests.support.oracle import ALL, NOBODY, PRIVATE, TAGS, VISIBLE, Oracle
from tests.support.pair import Pair

KINDS = {
    ALL: feed.AUDIENCE_KIND_ALL,
    TAGS: feed.AUDIENCE_KIND_TAGS,
    PRIVATE: feed.AUDIENCE_KIND_PRIVATE,
}
POLICIES = {
    ALL: feed.COMMENT_POLICY_KIND_ALL,
    NOBODY: feed.COMMENT_POLICY_KIND_NOBODY,
    TAGS: feed.COMMENT_POLICY_KIND_TAGS,
}


@dataclass(kw_only=True)
class Comparison:
    """One group of people; the ids that the pair gave to what the oracle calls by names."""

    pair: Pair
    oracle: Oracle
    people: Sequence[int]
    tag_ids: Mapping[str, int] = field(default_factory=dict)
    post_ids: Mapping[str, int] = field(default_factory=dict)
    comment_ids: Mapping[str, int] = field(default_factory=dict)

    decisions: ClassVar[int] = 0
    """How often it was compared whether one viewer sees one post, by all comparisons together."""

    def what_is_cheap(self) -> None:
        """Compare what few calls tell of all posts."""
        for user in self.people:
            self.checks_for(user)
        for user in self._callers():
            in_feed = self.feed_of(user)
            self.lists_for(user)
            self.batch_for(user)
            self.digest_of(user, in_feed)
            self.unread_of(user)

    def one_by_one(self) -> None:
        """Compare what takes a call for each post, and what is behind it."""
        for user in self._callers():
            self.graph_of(user)
            self.tags_of(user)
            self.comments_for(user)
        for user in self.people:
            self.explanations_for(user)

    def graph_of(self, user: int) -> None:
        """Compare connections, requests, blocks and counts."""
        calls, oracle = self.pair.graph, self.oracle
        connected = calls.ListConnections(graph.ListConnectionsRequest(user_id=user)).connections
        assert {peer.peer_id for peer in connected} == oracle.connections(user)
        for direction, expected in (
            (graph.REQUEST_DIRECTION_INCOMING, oracle.incoming(user)),
            (graph.REQUEST_DIRECTION_OUTGOING, oracle.outgoing(user)),
        ):
            request = graph.ListConnectionRequestsRequest(user_id=user, direction=direction)
            listed = calls.ListConnectionRequests(request).connections
            assert {peer.peer_id for peer in listed} == expected
        blocked = calls.ListBlockedUsers(graph.ListBlockedUsersRequest(user_id=user)).connections
        assert {peer.peer_id for peer in blocked} == oracle.blocked(user)
        others = [peer for peer in self.people if peer != user]
        states = calls.CheckConnections(
            graph.CheckConnectionsRequest(user_id=user, peer_ids=others)
        ).connections
        assert [graph.ConnectionState.Name(peer.state) for peer in states] == [
            f"CONNECTION_STATE_{oracle.state(user, peer)}" for peer in others
        ]
        for other in others:
            self.counts_for(user, other)
        query = graph.GetConnectedUserIdsRequest.UserQuery(user_id=user)
        answer = calls.GetConnectedUserIds(
            graph.GetConnectedUserIdsRequest(users=[query], include_blocked=True)
        ).users[0]
        assert set(answer.connected_user_ids) == oracle.connections(user)
        assert set(answer.blocked_user_ids) == {
            peer for peer in others if oracle.is_block_between(user, peer)
        }
        suggested = calls.SuggestConnections(graph.SuggestConnectionsRequest(user_id=user))
        assert {one.suggested_user_id for one in suggested.suggestions} == {
            peer
            for peer in others
            if oracle.state(user, peer) == "NONE" and oracle.mutual(user, peer)
        }

    def counts_for(self, user: int, other: int) -> None:
        """Compare how many connections a user has, and which of them the two have in common."""
        calls, oracle = self.pair.graph, self.oracle
        request = graph.CountConnectionsRequest(user_id=user, user_ids=[user, other])
        if other in oracle.connections(user):
            assert [count.connection_count for count in calls.CountConnections(request).counts] == [
                len(oracle.connections(user)),
                len(oracle.connections(other)),
            ]
        else:
            assert refusal(calls.CountConnections, request) == "NOT_CONNECTED"
        mutual = calls.ListMutualConnections(
            graph.ListMutualConnectionsRequest(user_id=user, peer_id=other)
        )
        assert list(mutual.mutual_user_ids) == sorted(oracle.mutual(user, other))

    def tags_of(self, user: int) -> None:
        """Compare a user's tags, their names and mutes, and who has them or is kept out by them."""
        listed = self.pair.feed.ListTags(feed.ListTagsRequest(user_id=user, show_deleted=True)).tags
        owned = [tag for tag, owner in self.oracle.owners.items() if owner == user]
        assert {tag.tag_id: (tag.name, tag.HasField("delete_time")) for tag in listed} == {
            self.tag_ids[tag]: (self.oracle.labels[tag], tag in self.oracle.deleted_tags)
            for tag in owned
            if self.oracle.is_there(tag)
        }
        assert {tag.tag_id for tag in listed if tag.muted} == {
            self.tag_ids[tag] for tag in self.oracle.tags_of(user) & self.oracle.muted_tags
        }
        for tag in owned:
            self.members_of(user, tag)
        for person in self.people:
            if person != user:
                request = feed.ListUserTagsRequest(user_id=user, target_user_id=person)
                assert [found.tag_id for found in self.pair.feed.ListUserTags(request).tags] == [
                    self.tag_ids[tag]
                    for tag in owned
                    if tag not in self.oracle.deleted_tags
                    and person in self.oracle.members_in_sight(tag)
                ]

    def members_of(self, owner: int, tag: str) -> None:
        """Compare the members of a tag, with and without former ones that it still excludes."""
        for show_former in (False, True):
            request = feed.ListTagMembersRequest(
                user_id=owner, tag_id=self.tag_ids[tag], page_size=2, show_former=show_former
            )
            if not self.oracle.is_there(tag) or (
                tag in self.oracle.deleted_tags and not show_former
            ):
                assert refusal(self.pair.feed.ListTagMembers, request) == "TAG_NOT_FOUND"
                continue
            members = [
                (member.target_user_id, member.former)
                for page in pages(self.pair.feed.ListTagMembers, request)
                for member in page.members
            ]
            assert members == [
                (person, is_former)
                for person, is_former in sorted(self.oracle.former(tag).items())
                if show_former or not is_former
            ]

    def feed_of(self, user: int) -> list[str]:
        """Compare every page of a feed with what is in its posts; the names of the posts."""
        expected = self.oracle.feed(user)
        posts = self.all_pages(feed.GetFeedRequest(user_id=user, page_size=3))
        assert [post.post_id for post in posts] == self._ids(expected)
        for post, name in zip(posts, expected, strict=True):
            self._post(user, post, name)
        self._count(len(self.post_ids))
        return expected

    def lists_for(self, user: int) -> None:
        """Compare the list of each author's posts."""
        for author in self.people:
            request = feed.ListPostsRequest(user_id=user, author_id=author, page_size=100)
            listed = [post.post_id for post in self.pair.feed.ListPosts(request).posts]
            by_author = [
                name
                for name in self.oracle.visible(user)
                if self.oracle.posts[name].author == author
            ]
            assert listed == self._ids(by_author)
        self._count(len(self.post_ids))

    def batch_for(self, user: int) -> None:
        """Compare all posts read by name, together and one of them alone."""
        if not self.post_ids:
            return
        names = [self.name_of(post) for post in self.post_ids]
        request = feed.BatchGetPostsRequest(user_id=user, posts=names)
        response = self.pair.feed.BatchGetPosts(request)
        expected = [post for post in self.post_ids if self.oracle.may_see(user, post)]
        assert [post.post_id for post in response.posts] == self._ids(expected)
        assert len(response.not_found) == len(names) - len(expected)
        for post in list(self.post_ids)[-2:]:
            self.single_post(user, post)
        self._count(len(names))

    def single_post(self, user: int, post: str) -> None:
        """Compare one post read by its name."""
        name = self.name_of(post)
        request = feed.GetPostRequest(user_id=user, author_id=name.author_id, post_id=name.post_id)
        expected = "" if self.oracle.may_see(user, post) else "POST_NOT_FOUND"
        assert refusal(self.pair.feed.GetPost, request) == expected
        self._count(1)

    def digest_of(self, user: int, in_feed: Sequence[str]) -> None:
        """Compare the digest of this week, by rules that leave nothing out, with the feed."""
        request = feed.GetDigestRequest(user_id=user, include_own_posts=True)
        response = self.pair.feed.GetDigest(request)
        assert [item.post.post_id for item in response.items] == self._ids(in_feed[::-1])
        assert response.left_out_count == 0
        self._count(len(self.post_ids))

    def comments_for(self, user: int) -> None:
        """Compare the comments on every post."""
        for post in self.post_ids:
            request = feed.ListCommentsRequest(user_id=user, post=self.name_of(post), page_size=200)
            if not self.oracle.may_see(user, post):
                assert refusal(self.pair.feed.ListComments, request) == "POST_NOT_FOUND"
                continue
            listed = self.pair.feed.ListComments(request).comments
            expected = self.oracle.comments_for(user, post)
            for name, comment in zip(expected, listed, strict=True):
                self._comment(user, comment, name)
                self.replies_for(user, name)
        self.comments_by_name(user)
        self._count(len(self.post_ids))

    def replies_for(self, user: int, parent: str) -> None:
        """Compare the replies to a comment that the user sees, newest first."""
        post = self.oracle.comments[parent].post
        request = feed.ListCommentsRequest(
            user_id=user,
            post=self.name_of(post),
            page_size=2,
            parent_comment_id=self.comment_ids[parent],
            order=feed.COMMENT_ORDER_NEWEST_FIRST,
        )
        listed = [
            reply for page in pages(self.pair.feed.ListComments, request) for reply in page.comments
        ]
        expected = self.oracle.comments_for(user, post, parent)[::-1]
        for name, reply in zip(expected, listed, strict=True):
            self._comment(user, reply, name)

    def comments_by_name(self, user: int) -> None:
        """Compare comments read by their names, the newest alone, and the user's own."""
        calls, oracle = self.pair.feed, self.oracle
        own = calls.ListOwnComments(feed.ListOwnCommentsRequest(user_id=user, page_size=200))
        assert [comment.comment_id for comment in own.comments] == [
            self.comment_ids[name] for name in oracle.comments_by(user)
        ]
        asked = list(self.comment_ids)[-100:]
        if not asked:
            return
        names = {
            name: feed.CommentName(
                post=self.name_of(oracle.comments[name].post), comment_id=self.comment_ids[name]
            )
            for name in asked
        }
        request = feed.BatchGetCommentsRequest(user_id=user, comments=names.values())
        batch = calls.BatchGetComments(request)
        visible = [name for name in asked if oracle.may_see_comment(user, name)]
        for name, comment in zip(visible, batch.comments, strict=True):
            self._comment(user, comment, name)
        assert list(batch.not_found) == [names[name] for name in asked if name not in visible]
        last = names[asked[-1]]
        alone = feed.GetCommentRequest(user_id=user, post=last.post, comment_id=last.comment_id)
        expected = "" if asked[-1] in visible else "COMMENT_NOT_FOUND"
        assert refusal(calls.GetComment, alone) == expected
        self._count(len(asked))

    def explanations_for(self, viewer: int) -> None:
        """Compare the clause that decides about each post."""
        for post in self.post_ids:
            name = self.name_of(post)
            if name.author_id in self.oracle.suspended:
                continue
            request = feed.ExplainVisibilityRequest(
                user_id=name.author_id, post_id=name.post_id, viewer_id=viewer
            )
            response = self.pair.feed.ExplainVisibility(request)
            clause, tags = self.oracle.clause(viewer, post)
            assert feed.VisibilityClause.Name(response.clause) == f"VISIBILITY_CLAUSE_{clause}"
            assert list(response.tag_ids) == sorted(self.tag_ids[tag] for tag in tags)
            assert response.visible == self.oracle.may_see(viewer, post)
        self._count(len(self.post_ids))

    def unread_of(self, user: int) -> None:
        """Compare the number of unread posts."""
        response = self.pair.feed.CountUnreadPosts(feed.CountUnreadPostsRequest(user_id=user))
        assert response.unread_count == self.oracle.unread(user)

    def preview_of(self, post: str) -> None:
        """Compare who would see a post's audience with who sees the post."""
        author = self.oracle.posts[post].author
        if author in self.oracle.suspended:
            return
        request = feed.PreviewAudienceRequest(
            user_id=author, audience=self.audience_of(post), page_size=3
        )
        *_, last = previews = list(pages(self.pair.feed.PreviewAudience, request))
        found = [viewer for page in previews for viewer in page.viewer_ids]
        expected = {
            viewer
            for viewer in self.people
            if viewer != author and self.oracle.may_see(viewer, post)
        }
        assert found == sorted(expected)
        assert last.total_count == len(found)
        self._count(len(self.people))

    def checks_for(self, user: int) -> None:
        """Compare what services are told that a user sees, posts and comments."""
        names = [(post, "") for post in self.post_ids]
        names += [(self.oracle.comments[name].post, name) for name in self.comment_ids]
        if not names:
            return
        request = feed.CheckVisibilityRequest(
            checks=[
                feed.CheckVisibilityRequest.VisibilityCheck(
                    viewer_id=user,
                    post=self.name_of(post),
                    comment_id=self.comment_ids[comment] if comment else 0,
                )
                for post, comment in names
            ]
        )
        assert list(self.pair.feed.CheckVisibility(request).visible) == [
            self.oracle.may_see(user, post)
            and (not comment or self.oracle.may_see_comment(user, comment))
            for post, comment in names
        ]
        self._count(len(names))

    def viewers_of(self, post: str) -> None:
        """Compare the list of those who see a post, and what is told of each of them."""
        name = self.name_of(post)
        expected = sorted(user for user in self.people if self.oracle.may_see(user, post))
        *_, last = listed = list(
            pages(self.pair.feed.ListViewers, feed.ListViewersRequest(post=name, page_size=3))
        )
        assert [viewer for page in listed for viewer in page.viewer_ids] == expected
        assert last.total_count == len(expected)
        request = feed.CheckVisibilityRequest(
            checks=[
                feed.CheckVisibilityRequest.VisibilityCheck(viewer_id=user, post=name)
                for user in self.people
            ]
        )
        visible = self.pair.feed.CheckVisibility(request).visible
        assert list(visible) == [user in expected for user in self.people]
        self._count(2 * len(self.people))

    def audience_of(self, post: str) -> feed.Audience:
        """Return a post's audience as a message, as its author reads it."""
        asked = self.oracle.posts[post]
        return feed.Audience(
            kind=KINDS[asked.audience],
            tag_ids=[self.tag_ids[tag] for tag in asked.tags - self.oracle.deleted_tags],
            excluded_tag_ids=[self.tag_ids[tag] for tag in asked.excluded],
        )

    def policy_of(self, post: str) -> feed.CommentPolicy:
        """Return who may comment on a post, as its author reads it."""
        asked = self.oracle.posts[post]
        admitting = asked.commenting - self.oracle.deleted_tags
        return feed.CommentPolicy(
            kind=POLICIES[asked.policy], tag_ids=sorted(self.tag_ids[tag] for tag in admitting)
        )

    def name_of(self, post: str) -> feed.PostName:
        """Return a post's name as a message."""
        return feed.PostName(author_id=self.oracle.posts[post].author, post_id=self.post_ids[post])

    def all_pages(self, request: feed.GetFeedRequest) -> list[feed.Post]:
        """Return what all pages of a feed hold, each of which but the last has to be full."""
        *full, last = pages(self.pair.feed.GetFeed, request)
        assert all(len(page.posts) == request.page_size for page in full)
        return [post for page in (*full, last) for post in page.posts]

    def _callers(self) -> list[int]:
        """Return the people whose calls are answered."""
        return [user for user in self.people if user not in self.oracle.suspended]

    def _post(self, viewer: int, post: feed.Post, name: str) -> None:
        known = self.oracle.posts[name]
        assert post.body == known.body
        assert post.comment_count == self.oracle.comment_count(name)
        assert post.moderated == (known.moderation != VISIBLE)
        assert post.HasField("audience") == (viewer == known.author)
        assert post.HasField("comment_policy") == (viewer == known.author)
        assert post.comments_locked == known.locked
        if viewer == known.author:
            assert post.comment_policy == self.policy_of(name)
            assert set(post.audience.tag_ids) == {
                self.tag_ids[tag] for tag in known.tags - self.oracle.deleted_tags
            }
            assert set(post.audience.excluded_tag_ids) == {
                self.tag_ids[tag] for tag in known.excluded
            }

    def _comment(self, viewer: int, comment: feed.Comment, name: str) -> None:
        known = self.oracle.comments[name]
        is_of_post = viewer == self.oracle.posts[known.post].author
        assert comment.comment_id == self.comment_ids[name]
        assert (comment.author_id, comment.body) == (known.author, known.body)
        assert comment.parent_comment_id == (self.comment_ids[known.parent] if known.parent else 0)
        assert comment.hidden == (known.hidden and is_of_post)
        assert comment.moderated == (known.moderation != VISIBLE)
        # Whether people who reply are suspended is not asked to count them.
        shown = len(self.oracle.comments_for(viewer, known.post, name))
        assert shown <= comment.reply_count <= self.oracle.most_replies(viewer, name)

    def _ids(self, names: Sequence[str]) -> list[int]:
        return [self.post_ids[name] for name in names]

    def _count(self, decisions: int) -> None:
        Comparison.decisions += decisions
