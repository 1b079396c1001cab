"""Authors learn why a person sees a post, and who would see a draft."""

import grpc
import pytest

from kith.client import pages
from kith.feed.v1 import feed_pb2 as pb
from tests.support.errors import fields_of, reason_of
from tests.support.pair import Pair
from tests.support.people import ALL, PRIVATE, People, all_without, tagged


def _explain(pair: Pair, author_id: int, post_id: int, viewer_id: int) -> tuple[str, list[int]]:
    request = pb.ExplainVisibilityRequest(user_id=author_id, post_id=post_id, viewer_id=viewer_id)
    response = pair.feed.ExplainVisibility(request)
    clause = pb.VisibilityClause.Name(response.clause).removeprefix("VISIBILITY_CLAUSE_")
    assert response.visible == (clause in {"AUTHOR", "AUDIENCE_ALL", "HAS_TAG"})
    return clause, list(response.tag_ids)


def _preview(pair: Pair, author_id: int, audience: pb.Audience, page_size: int = 100) -> list[int]:
    request = pb.PreviewAudienceRequest(user_id=author_id, audience=audience, page_size=page_size)
    *full, last = pages(pair.feed.PreviewAudience, request)
    assert all(len(page.viewer_ids) == page_size for page in full)
    found = [viewer for page in (*full, last) for viewer in page.viewer_ids]
    assert last.total_count == len(found)
    return found


def test_an_explanation_names_the_clause_that_decided(pair: Pair, people: People) -> None:
    author, member, excluded, friend = people.connected(4)
    [stranger] = people.new(1)
    family = people.tag(author, "family", member, excluded)
    nobody = people.tag(author, "nobody", excluded)
    for_all, private = people.post(author), people.post(author, PRIVATE)
    for_family = people.post(author, tagged(family, without=(nobody,)))

    assert _explain(pair, author, for_all, author) == ("AUTHOR", [])
    assert _explain(pair, author, for_all, friend) == ("AUDIENCE_ALL", [])
    assert _explain(pair, author, for_all, stranger) == ("NOT_CONNECTED", [])
    assert _explain(pair, author, private, friend) == ("PRIVATE", [])
    assert _explain(pair, author, for_family, member) == ("HAS_TAG", [family])
    assert _explain(pair, author, for_family, excluded) == ("EXCLUDED", [nobody])
    assert _explain(pair, author, for_family, friend) == ("NO_TAG", [])
    pair.feed.DeletePost(pb.DeletePostRequest(user_id=author, post_id=for_all))
    assert _explain(pair, author, for_all, friend) == ("DELETED", [])


def test_a_tag_of_a_connection_that_has_ended_explains_nothing(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    family = people.tag(author, "family", friend)
    post_id = people.post(author, tagged(family))
    people.remove(author, friend)
    people.connect(author, friend)

    assert _explain(pair, author, post_id, friend) == ("NO_TAG", [])
    people.give(author, family, friend)
    assert _explain(pair, author, post_id, friend) == ("HAS_TAG", [family])


def test_only_the_author_gets_an_explanation(pair: Pair, people: People) -> None:
    author, friend = people.connected(2)
    post_id = people.post(author)

    with pytest.raises(grpc.RpcError) as caught:
        _explain(pair, friend, post_id, author)

    assert reason_of(caught.value) == "POST_NOT_FOUND"


def test_a_preview_lists_exactly_those_who_then_see_the_post(pair: Pair, people: People) -> None:
    author, *friends = people.connected(8)
    family = people.tag(author, "family", *friends[:5])
    work = people.tag(author, "work", friends[0], friends[6])
    audiences = [
        ALL,
        PRIVATE,
        tagged(family),
        tagged(family, work),
        tagged(work, without=(family,)),
        all_without(work),
    ]

    for audience in audiences:
        previewed = _preview(pair, author, audience, page_size=2)
        post_id = people.post(author, audience)
        assert previewed == [friend for friend in friends if post_id in people.feed(friend)]


def test_tags_from_an_earlier_connection_let_nobody_in_and_keep_them_out_in_a_preview(
    pair: Pair, people: People
) -> None:
    author, back, gone, friend = people.connected(4)
    family = people.tag(author, "family", back, gone, friend)
    people.remove(author, back)
    people.block(author, gone)
    people.connect(author, back)

    assert _preview(pair, author, tagged(family)) == [friend]
    assert _preview(pair, author, all_without(family)) == []
    people.take(author, family, back)
    assert _preview(pair, author, all_without(family)) == [back]


def test_a_preview_with_a_foreign_tag_is_refused(pair: Pair, people: People) -> None:
    author, other = people.new(2)
    foreign = people.tag(other, "theirs")

    with pytest.raises(grpc.RpcError) as caught:
        _preview(pair, author, tagged(foreign))

    assert fields_of(caught) == ["audience.tag_ids[0]"]


def test_a_preview_of_nobody_counts_nobody(pair: Pair, people: People) -> None:
    [author] = people.new(1)

    assert _preview(pair, author, ALL) == []
