"""Random lives of a few people, step by step compared with the oracle.

The number of lives is that of KITH_LIVES; `make oracle` lives for longer than `make test` does.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kith.feed.v1 import feed_pb2 as feed
from kith.graph.v1 import graph_pb2 as graph
from tests.support.bounds import posts_left_out
from tests.support.citus import URL
from tests.support.comparison import POLICIES, Comparison
from tests.support.errors import refusal
from tests.support.oracle import ALL, HELD, HIDDEN, NOBODY, PRIVATE, TAGS, VISIBLE, Oracle, Post
from tests.support.pair import Databases, Pair, running_fenced_pair
from tests.support.people import People
from tests.support.processes import until

_PEOPLE = 5
_LIVES = int(os.environ.get("KITH_LIVES", "3"))
_CHANGES = {
    "request": "RequestConnection",
    "accept": "AcceptConnection",
    "decline": "DeclineConnection",
    "cancel": "CancelConnectionRequest",
    "remove": "RemoveConnection",
    "block": "BlockUser",
    "unblock": "UnblockUser",
}
_STEPS_BETWEEN_COMPARISONS = 10
_CHEAP_COMPARISONS = 2
# A digest by these rules leaves nothing out.
_ENVIRONMENT = {
    "DIGEST_MIN_IMPORTANCE": "0",
    "DIGEST_POSTS_PER_AUTHOR_PER_DAY": "100",
    "DIGEST_MAX_POSTS": "100",
}

_person = st.integers(0, _PEOPLE - 1)
_any = st.integers(0, 99)
_kind = st.sampled_from([ALL, ALL, TAGS, TAGS, PRIVATE])
_moderation = st.sampled_from([VISIBLE, VISIBLE, HIDDEN, HELD])
# All lives are shorter.
_END_OF_HOLDS = Timestamp(seconds=int(time.time()) + 86_400)


class Lives(RuleBasedStateMachine):
    """Commands for people that no other test uses, and comparisons of everything they can see."""

    pair: Pair

    def __init__(self) -> None:
        super().__init__()
        self._people = People(self.pair)
        self._ids = self._people.new(_PEOPLE)
        self._oracle = Oracle()
        self._tag_ids = dict[str, int]()
        self._post_ids = dict[str, int]()
        self._comment_ids = dict[str, int]()
        self._compare = Comparison(
            pair=self.pair,
            oracle=self._oracle,
            people=self._ids,
            tag_ids=self._tag_ids,
            post_ids=self._post_ids,
            comment_ids=self._comment_ids,
        )
        self._steps = 0

    @initialize(
        pairs=st.sets(st.tuples(_person, _person), min_size=4, max_size=10),
        owners=st.lists(_person, min_size=3, max_size=6),
        gifts=st.sets(st.tuples(_any, _person), min_size=4, max_size=12),
        posts=st.lists(st.tuples(_person, _kind), min_size=6, max_size=20),
        data=st.data(),
    )
    def begin_in_the_middle_of_life(
        self,
        pairs: set[tuple[int, int]],
        owners: list[int],
        gifts: set[tuple[int, int]],
        posts: list[tuple[int, str]],
        data: st.DataObject,
    ) -> None:
        for user, peer in sorted(pairs):
            self.connect(user, peer)
        for owner in owners:
            self.create_tag(owner)
        for tag, person in sorted(gifts):
            self.give_tag(tag, person)
        for author, kind in posts:
            self.post(author, kind, data)

    @rule(change=st.sampled_from(sorted(_CHANGES)), user=_person, peer=_person)
    def change_a_pair(self, change: str, user: int, peer: int) -> None:
        self._change(change, self._ids[user], self._ids[peer])

    @rule(user=_person, peer=_person)
    def connect(self, user: int, peer: int) -> None:
        for change, by, other in (("request", user, peer), ("accept", peer, user)):
            self._change(change, self._ids[by], self._ids[other])

    @rule(user=_person, peer=_person)
    def part_and_connect_again(self, user: int, peer: int) -> None:
        self._change("remove", self._ids[user], self._ids[peer])
        self.connect(user, peer)

    @rule(person=_person)
    def suspend_or_restore(self, person: int) -> None:
        user = self._ids[person]
        if user in self._oracle.suspended:
            self._people.restore(user)
            self._oracle.restore(user)
            until(lambda: self._refusals(user) == {""})
        else:
            self._people.suspend(user)
            self._oracle.suspend(user)
            until(lambda: self._refusals(user) == {"USER_SUSPENDED"})

    @rule(owner=_person)
    def create_tag(self, owner: int) -> None:
        if self._ids[owner] in self._oracle.suspended:
            return
        name = f"tag {len(self._tag_ids)}"
        self._tag_ids[name] = self._people.tag(self._ids[owner], name)
        self._oracle.create_tag(name, self._ids[owner])

    @rule(any_tag=_any, label=st.sampled_from(["Family", "family", "work"]))
    def rename_tag(self, any_tag: int, label: str) -> None:
        tag = _one_of(self._tag_ids, any_tag)
        if self._oracle.owners[tag] in self._oracle.suspended:
            return
        request = feed.UpdateTagRequest(
            user_id=self._oracle.owners[tag],
            tag=feed.Tag(tag_id=self._tag_ids[tag], name=label),
            update_mask=FieldMask(paths=["name"]),
        )
        refused = refusal(self.pair.feed.UpdateTag, request)
        assert refused == self._oracle.rename_tag(tag, label)

    @rule(any_tag=_any, muted=st.booleans())
    def mute_tag(self, any_tag: int, *, muted: bool) -> None:
        tag = _one_of(self._tag_ids, any_tag)
        if self._oracle.owners[tag] in self._oracle.suspended:
            return
        request = feed.UpdateTagRequest(
            user_id=self._oracle.owners[tag],
            tag=feed.Tag(tag_id=self._tag_ids[tag], muted=muted),
            update_mask=FieldMask(paths=["muted"]),
        )
        refused = refusal(self.pair.feed.UpdateTag, request)
        assert refused == self._oracle.set_muted(tag, muted=muted)

    @rule(any_tag=_any)
    def delete_tag(self, any_tag: int) -> None:
        tag = _one_of(self._tag_ids, any_tag)
        owner = self._oracle.owners[tag]
        if owner in self._oracle.suspended:
            return
        expected = "TAG_NOT_FOUND" if tag in self._oracle.deleted_tags else ""
        self._oracle.delete_tag(tag)
        request = feed.DeleteTagRequest(user_id=owner, tag_id=self._tag_ids[tag])
        assert refusal(self.pair.feed.DeleteTag, request) == expected

    @rule(any_tag=_any, person=_person)
    def give_tag(self, any_tag: int, person: int) -> None:
        tag = _one_of(self._tag_ids, any_tag)
        owner, target = self._oracle.owners[tag], self._ids[person]
        if owner == target or owner in self._oracle.suspended:
            return
        request = feed.AddTagMembersRequest(
            user_id=owner, tag_id=self._tag_ids[tag], target_user_ids=[target]
        )
        had, expected = target in self._oracle.members[tag], self._oracle.give(tag, target)
        if not expected:
            assert self.pair.feed.AddTagMembers(request).added_count == (not had)
            return
        # When both hold, either may be told first.
        either = {expected}
        if tag in self._oracle.deleted_tags and target not in self._oracle.connections(owner):
            either.add("NOT_CONNECTED")
        assert refusal(self.pair.feed.AddTagMembers, request) in either

    @rule(any_tag=_any, person=_person)
    def take_tag(self, any_tag: int, person: int) -> None:
        tag = _one_of(self._tag_ids, any_tag)
        owner, target = self._oracle.owners[tag], self._ids[person]
        if owner == target or owner in self._oracle.suspended:
            return
        request = feed.RemoveTagMembersRequest(
            user_id=owner, tag_id=self._tag_ids[tag], target_user_ids=[target]
        )
        had, expected = target in self._oracle.given_ever[tag], self._oracle.take(tag, target)
        if expected:
            assert refusal(self.pair.feed.RemoveTagMembers, request) == expected
        else:
            assert self.pair.feed.RemoveTagMembers(request).removed_count == had

    @rule(author=_person, kind=_kind, data=st.data())
    def post(self, author: int, kind: str, data: st.DataObject) -> None:
        if self._ids[author] in self._oracle.suspended:
            return
        name = f"post {len(self._post_ids)}"
        kind, tags, excluded = self._audience(self._ids[author], kind, data)
        post = Post(
            author=self._ids[author], audience=kind, tags=tags, excluded=excluded, body=name
        )
        self._oracle.posts[name] = post
        audience = self._compare.audience_of(name)
        self._post_ids[name] = self._people.post(post.author, audience, body=name)

    def _audience(
        self, author: int, kind: str, data: st.DataObject
    ) -> tuple[str, frozenset[str], frozenset[str]]:
        own = sorted(self._oracle.tags_of(author))
        some = st.lists(st.sampled_from(own), max_size=2) if own else st.just([])
        chosen, excluded = (frozenset(data.draw(some)) for _ in range(2))
        if kind == PRIVATE or (kind == TAGS and not chosen):
            return PRIVATE, frozenset(), frozenset()
        return kind, chosen if kind == TAGS else frozenset(), excluded - chosen

    @rule(any_post=_any)
    def edit_post(self, any_post: int) -> None:
        post = _one_of(self._post_ids, any_post)
        if self._is_suspended_author(post):
            return
        request = feed.UpdatePostRequest(
            user_id=self._oracle.posts[post].author,
            post=feed.Post(post_id=self._post_ids[post], body=f"{post} again"),
            update_mask=FieldMask(paths=["body"]),
        )
        refused = refusal(self.pair.feed.UpdatePost, request)
        assert refused == self._oracle.edit_post(post, f"{post} again")

    @rule(any_post=_any, kind=_kind, data=st.data())
    def change_audience(self, any_post: int, kind: str, data: st.DataObject) -> None:
        post = _one_of(self._post_ids, any_post)
        if self._is_suspended_author(post):
            return
        author = self._oracle.posts[post].author
        kind, tags, excluded = self._audience(author, kind, data)
        expected = self._oracle.change_audience(post, kind, tags, excluded)
        if expected == "POST_NOT_FOUND":
            return
        request = feed.UpdatePostRequest(
            user_id=author,
            post=feed.Post(post_id=self._post_ids[post], audience=self._compare.audience_of(post)),
            update_mask=FieldMask(paths=["audience"]),
        )
        assert refusal(self.pair.feed.UpdatePost, request) == expected

    @rule(any_post=_any)
    def write_an_audience_back(self, any_post: int) -> None:
        post = _one_of(self._post_ids, any_post)
        is_held = self._oracle.posts[post].moderation == HELD
        if self._oracle.posts[post].deleted or is_held or self._is_suspended_author(post):
            return
        author = self._oracle.posts[post].author
        name = feed.GetPostRequest(user_id=author, author_id=author, post_id=self._post_ids[post])
        read = self.pair.feed.GetPost(name).post
        request = feed.UpdatePostRequest(
            user_id=author, post=read, update_mask=FieldMask(paths=["audience"])
        )
        assert self.pair.feed.UpdatePost(request).post.audience == read.audience

    @rule(any_post=_any)
    def delete_post(self, any_post: int) -> None:
        post = _one_of(self._post_ids, any_post)
        if self._is_suspended_author(post):
            return
        self._oracle.delete_post(post)
        self.pair.feed.DeletePost(
            feed.DeletePostRequest(
                user_id=self._oracle.posts[post].author, post_id=self._post_ids[post]
            )
        )

    @rule(any_post=_any)
    def undelete_post(self, any_post: int) -> None:
        post = _one_of(self._post_ids, any_post)
        if self._is_suspended_author(post):
            return
        self._oracle.undelete_post(post)
        self.pair.feed.UndeletePost(
            feed.UndeletePostRequest(
                user_id=self._oracle.posts[post].author, post_id=self._post_ids[post]
            )
        )

    @rule(
        any_post=_any,
        kind=st.sampled_from([ALL, NOBODY, TAGS]),
        locked=st.booleans(),
        data=st.data(),
    )
    def admit_comments(self, any_post: int, kind: str, locked: bool, data: st.DataObject) -> None:  # noqa: FBT001 -- drawn by hypothesis
        post = _one_of(self._post_ids, any_post)
        if self._is_suspended_author(post):
            return
        author = self._oracle.posts[post].author
        own = sorted(self._oracle.tags_of(author))
        if kind == TAGS and not own:
            return
        some = st.lists(st.sampled_from(own or [""]), min_size=1, max_size=2)
        tags = frozenset(data.draw(some)) if kind == TAGS else frozenset[str]()
        expected = self._oracle.admit(post, kind, tags, locked=locked)
        changed = feed.Post(
            post_id=self._post_ids[post],
            comment_policy=feed.CommentPolicy(
                kind=POLICIES[kind], tag_ids=[self._tag_ids[tag] for tag in tags]
            ),
            comments_locked=locked,
        )
        request = feed.UpdatePostRequest(
            user_id=author,
            post=changed,
            update_mask=FieldMask(paths=["comment_policy", "comments_locked"]),
        )
        assert refusal(self.pair.feed.UpdatePost, request) == expected

    @rule(any_post=_any, person=_person)
    def comment(self, any_post: int, person: int) -> None:
        self._comment(_one_of(self._post_ids, any_post), self._ids[person])

    @precondition(lambda self: self._comment_ids)
    @rule(any_comment=_any, person=_person)
    def reply(self, any_comment: int, person: int) -> None:
        parent = _one_of(self._comment_ids, any_comment)
        self._comment(self._oracle.comments[parent].post, self._ids[person], parent)

    def _comment(self, post: str, user: int, parent: str = "") -> None:
        name = f"comment {len(self._oracle.comments)}"
        if user in self._oracle.suspended:
            return
        expected = self._oracle.comment(name, post, user, name, parent)
        request = feed.CreateCommentRequest(
            user_id=user,
            post=self._compare.name_of(post),
            body=name,
            parent_comment_id=self._comment_ids[parent] if parent else 0,
        )
        if expected:
            assert refusal(self.pair.feed.CreateComment, request) == expected
        else:
            created = self.pair.feed.CreateComment(request).comment
            self._comment_ids[name] = created.comment_id

    @precondition(lambda self: self._comment_ids)
    @rule(any_comment=_any, person=_person)
    def edit_comment(self, any_comment: int, person: int) -> None:
        comment = _one_of(self._comment_ids, any_comment)
        user, body = self._ids[person], f"{comment} again"
        if user in self._oracle.suspended:
            return
        request = feed.UpdateCommentRequest(
            user_id=user,
            comment=feed.Comment(
                post=self._compare.name_of(self._oracle.comments[comment].post),
                comment_id=self._comment_ids[comment],
                body=body,
            ),
            update_mask=FieldMask(paths=["body"]),
        )
        refused = refusal(self.pair.feed.UpdateComment, request)
        assert refused == self._oracle.edit_comment(comment, user, body)

    @precondition(lambda self: self._comment_ids)
    @rule(any_comment=_any, person=_person)
    def delete_comment(self, any_comment: int, person: int) -> None:
        comment = _one_of(self._comment_ids, any_comment)
        user = self._ids[person]
        if user in self._oracle.suspended:
            return
        request = feed.DeleteCommentRequest(
            user_id=user,
            post=self._compare.name_of(self._oracle.comments[comment].post),
            comment_id=self._comment_ids[comment],
        )
        refused = refusal(self.pair.feed.DeleteComment, request)
        assert refused == self._oracle.delete_comment(comment, user)

    @precondition(lambda self: self._comment_ids)
    @rule(any_comment=_any, person=_person, hidden=st.booleans())
    def hide_comment(self, any_comment: int, person: int, hidden: bool) -> None:  # noqa: FBT001 -- drawn by hypothesis
        comment = _one_of(self._comment_ids, any_comment)
        post = self._oracle.comments[comment].post
        author = self._oracle.posts[post].author
        # Often by the author of the post, for nobody else can.
        user = author if person % 2 else self._ids[person]
        if user in self._oracle.suspended:
            return
        request, call = (
            (feed.HideCommentRequest, self.pair.feed.HideComment)
            if hidden
            else (feed.UnhideCommentRequest, self.pair.feed.UnhideComment)
        )
        refused = refusal(
            call,
            request(
                user_id=user,
                post_id=self._post_ids[post],
                comment_id=self._comment_ids[comment],
            ),
        )
        assert refused == self._oracle.hide_comment(comment, user, hidden=hidden)

    @rule(any_post=_any, state=_moderation)
    def moderate_post(self, any_post: int, state: str) -> None:
        post = _one_of(self._post_ids, any_post)
        self._moderate(post, state, self._compare.name_of(post))

    @precondition(lambda self: self._comment_ids)
    @rule(any_comment=_any, state=_moderation)
    def moderate_comment(self, any_comment: int, state: str) -> None:
        comment = _one_of(self._comment_ids, any_comment)
        post = self._compare.name_of(self._oracle.comments[comment].post)
        self._moderate(comment, state, post, self._comment_ids[comment])

    @rule(any_post=_any, person=_person)
    def mark_read(self, any_post: int, person: int) -> None:
        post = _one_of(self._post_ids, any_post)
        user = self._ids[person]
        if user in self._oracle.suspended:
            return
        request = feed.MarkFeedReadRequest(user_id=user, post=self._compare.name_of(post))
        refused = refusal(self.pair.feed.MarkFeedRead, request)
        assert refused == self._oracle.mark_read(user, post)

    @rule(any_post=_any)
    def list_viewers(self, any_post: int) -> None:
        post = _one_of(self._post_ids, any_post)
        self._compare.viewers_of(post)

    @rule(any_post=_any)
    def preview(self, any_post: int) -> None:
        post = _one_of(self._post_ids, any_post)
        known = self._oracle.posts[post]
        if not known.deleted and known.moderation == VISIBLE:
            self._compare.preview_of(post)

    @precondition(lambda self: self._is_time_to_compare())
    @invariant()
    def everybody_sees_what_the_oracle_says(self) -> None:
        self._compare.what_is_cheap()
        if self._steps % (_STEPS_BETWEEN_COMPARISONS * _CHEAP_COMPARISONS) == 0:
            self._compare.one_by_one()

    @rule(user=_person, page_size=st.integers(1, 4), data=st.data())
    def filter_a_feed(self, user: int, page_size: int, data: st.DataObject) -> None:
        viewer = self._ids[user]
        if viewer in self._oracle.suspended:
            return
        authors = data.draw(st.lists(st.sampled_from(self._ids), unique=True, max_size=3))
        tags = (
            data.draw(st.lists(st.sampled_from(sorted(self._tag_ids)), unique=True, max_size=2))
            if self._tag_ids
            else []
        )
        chosen = {viewer}.union(
            *(
                self._oracle.members[tag]
                for tag in tags
                if self._oracle.owners[tag] == viewer and tag not in self._oracle.deleted_tags
            )
        )
        is_filtered = bool(authors or tags)
        expected = [
            name
            for name in (self._oracle.visible(viewer) if is_filtered else self._oracle.feed(viewer))
            if (not authors or self._oracle.posts[name].author in authors)
            and (not tags or self._oracle.posts[name].author in chosen)
        ]
        request = feed.GetFeedRequest(
            user_id=viewer,
            page_size=page_size,
            author_ids=authors,
            tag_ids=[self._tag_ids[tag] for tag in tags],
        )
        found = [post.post_id for post in self._compare.all_pages(request)]
        assert found == [self._post_ids[name] for name in expected]

    def _is_time_to_compare(self) -> bool:
        self._steps += 1
        return self._steps % _STEPS_BETWEEN_COMPARISONS == 0

    def _moderate(self, name: str, state: str, post: feed.PostName, comment_id: int = 0) -> None:
        self._oracle.moderate(name, state)
        self.pair.feed.SetModeration(
            feed.SetModerationRequest(
                post=post,
                comment_id=comment_id,
                state=feed.ModerationState.Value(f"MODERATION_STATE_{state}"),
                reason="" if state == VISIBLE else "rude",
                expire_time=_END_OF_HOLDS if state == HELD else None,
            )
        )

    def _change(self, change: str, user: int, peer: int) -> None:
        if user == peer:
            return
        method = _CHANGES[change]
        request = getattr(graph, f"{method}Request")(user_id=user, peer_id=peer)
        refused = refusal(getattr(self.pair.graph, method), request)
        if user in self._oracle.suspended:
            assert refused == "USER_SUSPENDED"
            return
        assert refused == getattr(self._oracle, change)(user, peer)

    def _refusals(self, user: int) -> set[str]:
        """Return how the services, each of which learns it by itself, refuse calls of a user."""
        calls = self.pair
        return {
            refusal(calls.graph.ListConnections, graph.ListConnectionsRequest(user_id=user)),
            refusal(calls.feed.ListTags, feed.ListTagsRequest(user_id=user)),
        }

    def _is_suspended_author(self, post: str) -> bool:
        return self._oracle.posts[post].author in self._oracle.suspended


def _one_of(names: Iterable[str], number: int) -> str:
    """Return one of the names, so that a draw always hits something that is there."""
    known = list(names)
    return known[number % len(known)]


@pytest.fixture(scope="module")
def own_pair(databases: Databases) -> Iterator[Pair]:
    """A pair with fences, as it is deployed, for these people alone."""
    with running_fenced_pair(databases, _ENVIRONMENT) as (running, _):
        yield running


@pytest.mark.timeout(300 + 10 * _LIVES)
def test_every_page_and_list_is_what_the_oracle_says(own_pair: Pair) -> None:
    machine = type("LivesOnThisPair", (Lives,), {"pair": own_pair})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=_LIVES,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            # Every step is a call over a socket: shrinking would take longer than reading them.
            phases=(Phase.generate,),
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )

    if not URL:
        assert posts_left_out(own_pair.feed_url) == []
    sys.stdout.write(f"{Comparison.decisions:,} decisions compared in {_LIVES:,} lives\n")
