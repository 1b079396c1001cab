from collections import Counter

import pytest

from kith.feed.v1 import feed_pb2
from shared.cli.sample import FEWEST_PEOPLE, Sample, make_sample


@pytest.fixture(scope="module")
def sample() -> Sample:
    return make_sample(2_000)


def neighbours(sample: Sample) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {person: set() for person in range(1, sample.people + 1)}
    for first, second in sample.pairs:
        found[first].add(second)
        found[second].add(first)
    return found


def test_a_seed_always_gives_the_same_sample(sample: Sample) -> None:
    assert make_sample(2_000) == sample
    assert make_sample(2_000, seed=2) != sample


def test_people_have_about_twelve_connections_and_none_with_themselves(sample: Sample) -> None:
    assert len(set(sample.pairs)) == len(sample.pairs)
    assert all(1 <= first < second <= 2_000 for first, second in sample.pairs)
    assert 11.5 < 2 * len(sample.pairs) / sample.people < 12.5


def test_everybody_is_a_few_steps_from_everybody_and_friends_know_each_other(
    sample: Sample,
) -> None:
    peers = neighbours(sample)
    reached, steps = {17}, 0
    while len(reached) < sample.people:
        reached = reached.union(*(peers[person] for person in reached))
        steps += 1
        assert steps < 10
    friends = sorted(peers[17])
    acquainted = sum(b in peers[a] for a in friends for b in friends if a < b)
    assert acquainted > len(friends) * (len(friends) - 1) / 2 / 4


@pytest.mark.parametrize("people", [FEWEST_PEOPLE, 2_000])
def test_only_connections_are_tagged(people: int) -> None:
    sample = make_sample(people)
    peers = neighbours(sample)
    for owner_id, tags in sample.tags.items():
        assert len({tag.name for tag in tags}) == len(tags)
        for tag in tags:
            assert tag.member_ids
            assert set(tag.member_ids) <= peers[owner_id]
            assert len(set(tag.member_ids)) == len(tag.member_ids)


@pytest.mark.parametrize("people", [FEWEST_PEOPLE, 2_000])
def test_an_audience_names_only_tags_of_the_author_and_each_once(people: int) -> None:
    sample = make_sample(people)
    for post in sample.posts:
        own = {tag.name for tag in sample.tags.get(post.author_id, [])}
        named = [*post.tag_names, *post.excluded_tag_names]
        assert set(named) <= own
        assert len(set(named)) == len(named)
        assert bool(post.tag_names) == (post.kind == feed_pb2.AUDIENCE_KIND_TAGS)


def test_audiences_are_shared_out_as_documented(sample: Sample) -> None:
    shares = Counter((post.kind, bool(post.excluded_tag_names)) for post in sample.posts)
    total = len(sample.posts)
    assert total == 4_000
    assert shares[feed_pb2.AUDIENCE_KIND_ALL, False] / total == pytest.approx(0.60, abs=0.03)
    assert shares[feed_pb2.AUDIENCE_KIND_TAGS, False] / total == pytest.approx(0.20, abs=0.03)
    assert shares[feed_pb2.AUDIENCE_KIND_PRIVATE, False] / total == pytest.approx(0.08, abs=0.03)


def test_people_say_different_things(sample: Sample) -> None:
    assert len({post.body for post in sample.posts}) > len(sample.posts) / 3
    assert not any("{" in post.body for post in sample.posts)
