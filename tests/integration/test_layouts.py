"""A service whose setting and database disagree about the layout gets no calls."""

from contextlib import closing

import pytest

from feed_service.auditor.primaries import Primary
from feed_service.layouts import LayoutCheck
from kith.environment import Environment
from kith.exceptions import UnavailableError
from shared.database.settings import DatabaseSettings
from tests.support import citus
from tests.support.pair import LAYOUT, Pair, another_feed, tapped
from tests.support.processes import is_ready, until
from tests.support.reading import new_reader
from tests.support.roles import make_auditor

_OTHER = "single" if citus.URL else "distributed"


def test_a_service_that_was_told_another_layout_than_its_database_has_is_not_ready(
    pair: Pair,
) -> None:
    with another_feed(pair, {"FEED_LAYOUT": _OTHER}) as (misled, _):
        with another_feed(pair) as (other, _):
            until(lambda: is_ready(other.address))
            until(lambda: is_ready(pair.feed_server.address))

        assert not is_ready(misled.address)


def test_a_layout_that_was_right_is_not_asked_for_again_at_once(pair: Pair) -> None:
    with tapped(pair.feed_url) as (tap, url), closing(new_reader(url)) as reader:
        check = LayoutCheck(reader, LAYOUT)
        check()
        tap.reset()

        check()

        assert tap.statements == []


@pytest.mark.usefixtures("citus")
def test_an_auditor_that_was_not_told_of_a_distributed_database_is_not_ready(pair: Pair) -> None:
    settings = DatabaseSettings.read(Environment({}), "FEED")
    url = make_auditor("feed", pair.feed_url)
    with (
        closing(Primary(settings, url)) as primary,
        pytest.raises(UnavailableError, match="distributed"),
    ):
        primary.check()
