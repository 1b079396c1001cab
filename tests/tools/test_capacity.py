"""What so many people take follows from what was measured, and the page says what it is."""

from dataclasses import replace

import pytest

from benchmarks.capacity import PAGE, PEOPLE, Assumptions, markdown, sizing
from benchmarks.costs import Costs, last_costs


@pytest.fixture(scope="module")
def costs() -> Costs:
    return last_costs()


def test_the_page_quotes_what_the_command_prints(costs: Costs) -> None:
    assert markdown(costs, Assumptions(), PEOPLE) in PAGE.read_text()


def test_ten_times_the_people_make_ten_times_the_calls_and_bytes(costs: Costs) -> None:
    few, many = (sizing(people, costs, Assumptions()) for people in (1_000_000, 10_000_000))

    assert many.calls == pytest.approx(10 * few.calls)
    assert many.graph_bytes == pytest.approx(10 * few.graph_bytes)
    assert many.feed_cores == pytest.approx(10 * few.feed_cores)


def test_a_few_people_need_neither_replicas_nor_shards(costs: Costs) -> None:
    little = sizing(1_000, costs, Assumptions())

    assert (little.graph_replicas, little.feed_replicas) == (0, 0)
    assert (little.feed_nodes, little.feed_shards) == (1, 0)


def test_what_one_node_does_not_hold_is_spread_over_several(costs: Costs) -> None:
    small_machines = replace(Assumptions(), database_tib=0.001)

    spread = sizing(1_000_000, costs, small_machines)

    assert spread.feed_nodes * 0.001 * 2**40 >= spread.feed_bytes
    assert spread.feed_shards >= spread.feed_nodes * small_machines.node_shards
    assert spread.feed_postgres_cores > sizing(1_000_000, costs, Assumptions()).feed_postgres_cores


def test_reads_that_one_machine_cannot_answer_get_replicas(costs: Costs) -> None:
    few_cores = Assumptions(database_cores=0.1, database_tib=100)

    read_much = sizing(1_000_000, costs, few_cores)

    assert read_much.feed_nodes == 1
    assert (1 + read_much.feed_replicas) * 0.1 >= read_much.feed_postgres_cores
    assert read_much.graph_replicas * 0.1 >= read_much.graph_replica_cores


def test_a_busier_peak_takes_more_cores_and_no_more_bytes(costs: Costs) -> None:
    usual = sizing(1_000_000, costs, Assumptions())
    busy = sizing(1_000_000, costs, Assumptions(peak=6))

    assert busy.graph_primary_cores == pytest.approx(2 * usual.graph_primary_cores)
    assert busy.feed_bytes == usual.feed_bytes
