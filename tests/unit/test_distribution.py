"""The feed's schema and statements can be distributed by whose rows they are about."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Index, PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.sql.elements import TextClause

from feed_service import queries
from feed_service.models import DISTRIBUTED_BY, metadata
from shared.api import idempotency
from shared.database.reader import Statement
from tests.support.joins import loose_tables

# What is not joined on an owner, and why that does no harm.
_ALLOWED = {
    # A digest lies with its reader, and its posts with their authors: the form for a single
    # database. In a distributed one it is read in two steps.
    "digests._FROZEN_CHOICE": {"posts"},
}
_NOW_IN_A_CASE = re.compile(r"\bCASE\b((?!\bEND\b).)*\bnow\(\)", re.DOTALL)

_EXAMPLES: dict[str, set[str]] = {
    """SELECT FROM posts AS p JOIN post_photos AS photo ON photo.post_id = p.id""": {
        "posts",
        "post_photos",
    },
    """SELECT FROM posts AS p JOIN comments AS c
       ON c.post_author_id = :author_id AND c.author_id = p.author_id""": {"posts"},
    """SELECT (SELECT count(*) FROM comments AS c WHERE c.post_id = p.id)
       FROM posts AS p WHERE p.author_id = :author_id""": {"comments"},
    """WITH old AS (SELECT author_id, id FROM posts)
       DELETE FROM posts AS p USING old WHERE p.author_id = old.id""": {"posts"},
    """UPDATE tags AS t SET version = 1 FROM user_tags AS given
       WHERE given.owner_user_id = :user_id AND t.owner_user_id = given.target_user_id""": {"tags"},
    """INSERT INTO post_stats (author_id, post_id) SELECT id, author_id FROM posts""": {
        "post_stats"
    },
    """SELECT FROM authors CROSS JOIN LATERAL (
           SELECT FROM posts WHERE author_id = authors.author_id OR audience = 'all') AS p
       WHERE authors.author_id = :author_id""": {"posts"},
    # These are bound by what a query in WITH, or a list of parameters, passes on.
    """WITH old AS (SELECT author_id AS owner_id, id FROM posts)
       DELETE FROM posts AS p USING old WHERE p.author_id = old.owner_id""": set(),
    """SELECT FROM unnest(CAST(:ids AS bigint[])) AS author (id) CROSS JOIN LATERAL (
           SELECT FROM posts AS p WHERE p.author_id = author.id) AS post""": set(),
}


def _statements() -> Iterator[tuple[str, str]]:
    """Each statement by its name, also those of which there are several forms."""
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(queries.__path__, f"{queries.__name__}.")
    ]
    for module in (*modules, idempotency):
        module_name = module.__name__.removeprefix(f"{queries.__name__}.")
        for name, value in vars(module).items():
            forms = value if isinstance(value, dict) else {"": value}
            for form, statement in forms.items():
                full_name = f"{module_name}.{name} {form}".rstrip()
                if isinstance(statement, TextClause):
                    yield full_name, statement.text
                if isinstance(statement, Statement):
                    yield full_name, statement.plain.replace("%%", "%")


STATEMENTS = dict(_statements())


def test_all_tables_but_a_few_small_ones_are_distributed() -> None:
    assert set(metadata.tables) - set(DISTRIBUTED_BY) == {
        "erased_content_events",
        "fence_keeper",
        "fences",
        "followed",
        "open_fences",
        "purged_content_events",
        "totals",
    }


@pytest.mark.parametrize("table", DISTRIBUTED_BY)
def test_whatever_is_unique_is_so_for_each_owner(table: str) -> None:
    found = metadata.tables[table]
    unique: list[PrimaryKeyConstraint | UniqueConstraint | Index] = [
        *(one for one in found.constraints if isinstance(one, UniqueConstraint)),
        *(one for one in found.indexes if one.unique),
        found.primary_key,
    ]

    for one in unique:
        assert DISTRIBUTED_BY[table] in {column.name for column in one.columns}, one.name


@pytest.mark.parametrize("table", metadata.tables)
def test_what_refers_to_a_table_refers_to_the_same_owner(table: str) -> None:
    for key in metadata.tables[table].foreign_key_constraints:
        pairs = {(element.parent.name, element.column.name) for element in key.elements}

        assert (DISTRIBUTED_BY[table], DISTRIBUTED_BY[key.referred_table.name]) in pairs, key.name


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_joins_on_the_owner(name: str) -> None:
    assert loose_tables(STATEMENTS[name]) == _ALLOWED.get(name, set())


@pytest.mark.parametrize(
    "name", [name for name, text in STATEMENTS.items() if re.match(r"\s*UPDATE\b", text)]
)
def test_an_update_has_no_moment_inside_a_case_which_citus_refuses(name: str) -> None:
    assert not _NOW_IN_A_CASE.search(STATEMENTS[name])


def test_every_exception_is_of_a_statement_that_there_is() -> None:
    assert set(_ALLOWED) <= set(STATEMENTS)


def test_what_is_joined_otherwise_is_found_wherever_it_stands() -> None:
    found = {statement: loose_tables(statement) for statement in _EXAMPLES}

    assert found == _EXAMPLES
