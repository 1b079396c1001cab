"""Random lives of a few people, step by step compared with the oracle."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.gen.kith.feed.v1 import feed_pb2 as feed
from shared.gen.kith.graph.v1 import graph_pb2 as graph
from tests.support.errors import reason_of
from tests.support.oracle import ALL, PRIVATE, TAGS, Oracle, Post
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import People

_PEOPLE = 5
_CHANGES = {
    "request": "RequestConnection",
    "accept": "AcceptConnection",
    "decline": "DeclineConnection",
    "cancel": "CancelConnectionRequest",
    "remove": "RemoveConnection",
    "block": "BlockUser",
    "unblock": "UnblockUser",
}
_KINDS = {
    ALL: feed.AUDIENCE_KIND_ALL,
    TAGS: feed.AUDIENCE_KIND_TAGS,
    PRIVATE: feed.AUDIENCE_KIND_PRIVATE,
}
_STEPS_BETWEEN_COMPARISONS = 5

_person = st.integers(0, _PEOPLE - 1)


class Lives(RuleBasedStateMachine):
    """Commands for people nobody else knows, and comparisons of everything they can see."""

    pair: Pair
    tags = Bundle("tags")
    posts = Bundle("posts")

    def __init__(self) -> None:
        super().__init__()
        self._people = People(self.pair)
        self._ids = self._people.new(_PEOPLE)
        self._oracle = Oracle()
        self._tag_ids = dict[str, int]()
        self._post_ids = dict[str, int]()
        self._steps = 0

    @initialize(
        target=tags,
        pairs=st.sets(st.tuples(_person, _person), max_size=8),
        owners=st.lists(_person, min_size=3, max_size=6),
        gifts=st.sets(st.tuples(st.integers(0, 5), _person), max_size=12),
    )
    def begin_with_some_people_connected_and_tagged(
        self, pairs: set[tuple[int, int]], owners: list[int], gifts: set[tuple[int, int]]
    ) -> "MultipleResults[str]":
        for user, peer in sorted(pairs):
            self._become_connected(user, peer)
        names = [self._create_tag(owner) for owner in owners]
        for place, person in sorted(gifts):
            self._give(names[place % len(names)], person)
        return multiple(*names)

    @rule(change=st.sampled_from(sorted(_CHANGES)), user=_person, peer=_person)
    def change_a_pair(self, change: str, user: int, peer: int) -> None:
        self._change(change, self._ids[user], self._ids[peer])

    @rule(user=_person, peer=_person)
    def connect(self, user: int, peer: int) -> None:
        self._become_connected(user, peer)

    def _become_connected(self, user: int, peer: int) -> None:
        for change, by, other in (("request", user, peer), ("accept", peer, user)):
            self._change(change, self._ids[by], self._ids[other])

    @rule(target=tags, owner=_person)
    def create_tag(self, owner: int) -> str:
        return self._create_tag(owner)

    def _create_tag(self, owner: int) -> str:
        name = f"tag {len(self._tag_ids)}"
        self._tag_ids[name] = self._people.tag(self._ids[owner], name)
        self._oracle.create_tag(name, self._ids[owner])
        return name

    @rule(tag=tags)
    def delete_tag(self, tag: str) -> None:
        owner = self._oracle.owners[tag]
        expected = "TAG_NOT_FOUND" if tag in self._oracle.deleted_tags else ""
        self._oracle.delete_tag(tag)
        request = feed.DeleteTagRequest(user_id=owner, tag_id=self._tag_ids[tag])
        assert _refusal(self.pair.feed.DeleteTag, request) == expected

    @rule(tag=tags, person=_person)
    def give_tag(self, tag: str, person: int) -> None:
        self._give(tag, person)

    def _give(self, tag: str, person: int) -> None:
        owner, target = self._oracle.owners[tag], self._ids[person]
        if owner == target:
            return
        request = feed.AddTagMembersRequest(
            user_id=owner, tag_id=self._tag_ids[tag], target_user_ids=[target]
        )
        refusal = _refusal(self.pair.feed.AddTagMembers, request)
        # When both hold, either may be told first.
        expected = {self._oracle.give(tag, target)}
        if tag in self._oracle.deleted_tags and not self._oracle.are_connected(owner, target):
            expected.add("NOT_CONNECTED")
        assert refusal in expected

    @rule(tag=tags, person=_person)
    def take_tag(self, tag: str, person: int) -> None:
        owner, target = self._oracle.owners[tag], self._ids[person]
        if owner == target:
            return
        request = feed.RemoveTagMembersRequest(
            user_id=owner, tag_id=self._tag_ids[tag], target_user_ids=[target]
        )
        refusal = _refusal(self.pair.feed.RemoveTagMembers, request)
        assert refusal == self._oracle.take(tag, target)

    @rule(
        target=posts,
        author=_person,
        kind=st.sampled_from([ALL, ALL, TAGS, PRIVATE]),
        data=st.data(),
    )
    def post(self, author: int, kind: str, data: st.DataObject) -> str:
        own = sorted(self._oracle.tags_of(self._ids[author]))
        chosen = (
            frozenset(data.draw(st.lists(st.sampled_from(own), max_size=2)))
            if own
            else frozenset[str]()
        )
        excluded = (
            frozenset(data.draw(st.lists(st.sampled_from(own), max_size=1)))
            if own
            else frozenset[str]()
        )
        if kind == TAGS and not chosen:
            kind = PRIVATE
        post = Post(
            author=self._ids[author],
            audience=kind,
            tags=chosen if kind == TAGS else frozenset(),
            excluded=frozenset() if kind == PRIVATE else excluded - chosen,
        )
        return self._publish(post)

    @rule(post=posts)
    def delete_post(self, post: str) -> None:
        self._oracle.delete_post(post)
        self.pair.feed.DeletePost(
            feed.DeletePostRequest(
                user_id=self._oracle.posts[post].author, post_id=self._post_ids[post]
            )
        )

    @precondition(lambda self: self._is_time_to_compare())
    @invariant()
    def everybody_sees_what_the_oracle_says(self) -> None:
        for user in self._ids:
            self._compare_graph(user)
            self._compare_feed(user)
            self._compare_single_posts(user)

    @rule(user=_person, page_size=st.integers(1, 4), data=st.data())
    def filter_a_feed(self, user: int, page_size: int, data: st.DataObject) -> None:
        viewer = self._ids[user]
        authors = data.draw(st.lists(st.sampled_from(self._ids), unique=True, max_size=3))
        tags = (
            data.draw(st.lists(st.sampled_from(sorted(self._tag_ids)), unique=True, max_size=2))
            if self._tag_ids
            else []
        )
        chosen = {viewer}.union(
            *(self._oracle.members[tag] for tag in tags if self._oracle.owners[tag] == viewer)
        )
        expected = [
            name
            for name in self._oracle.feed(viewer)
            if (not authors or self._oracle.posts[name].author in authors)
            and (not tags or self._oracle.posts[name].author in chosen)
        ]
        request = feed.GetFeedRequest(
            user_id=viewer,
            page_size=page_size,
            author_ids=authors,
            tag_ids=[self._tag_ids[tag] for tag in tags if tag not in self._oracle.deleted_tags],
        )
        if any(tag in self._oracle.deleted_tags for tag in tags):
            return
        assert self._all_pages(request) == [self._post_ids[name] for name in expected]

    def _is_time_to_compare(self) -> bool:
        self._steps += 1
        return self._steps % _STEPS_BETWEEN_COMPARISONS == 0

    def _change(self, change: str, user: int, peer: int) -> None:
        if user == peer:
            return
        method = _CHANGES[change]
        request = getattr(graph, f"{method}Request")(user_id=user, peer_id=peer)
        refusal = _refusal(getattr(self.pair.graph, method), request)
        assert refusal == getattr(self._oracle, change)(user, peer)

    def _publish(self, post: Post) -> str:
        name = f"post {len(self._post_ids)}"
        audience = feed.Audience(
            kind=_KINDS[post.audience],
            tag_ids=[self._tag_ids[tag] for tag in post.tags],
            excluded_tag_ids=[self._tag_ids[tag] for tag in post.excluded],
        )
        self._post_ids[name] = self._people.post(post.author, audience, body=name)
        self._oracle.posts[name] = post
        return name

    def _compare_graph(self, user: int) -> None:
        calls, oracle = self.pair.graph, self._oracle
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
        count = calls.CountConnections(graph.CountConnectionsRequest(user_ids=[user])).counts[0]
        assert count.connection_count == len(oracle.connections(user))
        query = graph.GetConnectedUserIdsRequest.UserQuery(user_id=user)
        answer = calls.GetConnectedUserIds(graph.GetConnectedUserIdsRequest(users=[query])).users[0]
        assert set(answer.connected_user_ids) == oracle.connections(user)

    def _compare_feed(self, user: int) -> None:
        request = feed.GetFeedRequest(user_id=user, page_size=3)
        expected = [self._post_ids[name] for name in self._oracle.feed(user)]
        assert self._all_pages(request) == expected

    def _compare_single_posts(self, user: int) -> None:
        for name, post_id in self._post_ids.items():
            request = feed.GetPostRequest(
                user_id=user, author_id=self._oracle.posts[name].author, post_id=post_id
            )
            expected = "" if self._oracle.may_see(user, name) else "POST_NOT_FOUND"
            assert _refusal(self.pair.feed.GetPost, request) == expected

    def _all_pages(self, request: feed.GetFeedRequest) -> list[int]:
        found = list[int]()
        while True:
            response = self.pair.feed.GetFeed(request)
            found += [post.post_id for post in response.posts]
            if not response.next_page_token:
                return found
            assert len(response.posts) == request.page_size
            request.page_token = response.next_page_token


def _refusal(call: Callable[[Any], object], request: object) -> str:
    try:
        call(request)
    except grpc.RpcError as error:
        return reason_of(error)
    return ""


@pytest.fixture(scope="module")
def own_pair(databases: Databases) -> Iterator[Pair]:
    """A pair for these people alone."""
    with running_pair(databases) as running:
        yield running


@pytest.mark.timeout(300)
def test_every_page_and_list_is_what_the_oracle_says(own_pair: Pair) -> None:
    machine = type("LivesOnThisPair", (Lives,), {"pair": own_pair})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            # Every step is a call over a socket: shrinking would take longer than reading them.
            phases=(Phase.generate,),
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
