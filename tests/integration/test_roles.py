"""A stolen connection to a service's database can read and change rows, and no more.

That this is enough for the services, every test shows that starts them as `tests.support.pair`
does; and every migration is made there by the owner alone.
"""

import re
from collections.abc import Callable

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege

from shared.database import schema
from shared.database.embedded_postgres import EmbeddedPostgres
from tests.support.processes import Session
from tests.support.roles import make_auditor, make_roles, owner, serving

_SERVICES = ("graph", "feed")
_FORBIDDEN = {
    "to empty a table": "TRUNCATE users",
    "to drop a table": "DROP TABLE users",
    "to change a table": "ALTER TABLE users ADD COLUMN stolen text",
    "to create a table": "CREATE TABLE stolen (id int)",
    "to create a temporary table": "CREATE TEMPORARY TABLE stolen (id int)",
    "to create a schema": "CREATE SCHEMA stolen",
    "to create a function": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "to drop an index": "DROP INDEX idx_connection_lookup",
    "to make a role": "CREATE ROLE stolen",
    "to become the owner": "SET ROLE kith_graph_owner",
    "to read files": "SELECT pg_read_file('/etc/passwd')",
    "to run programs": "COPY users FROM PROGRAM 'true'",
    "to switch off triggers and foreign keys": "SET session_replication_role = 'replica'",
    "to publish changes": "CREATE PUBLICATION stolen",
    "to create a large object": "SELECT lo_create(0)",
    "to fill a large object": "SELECT lo_from_bytea(0, 'stolen')",
    "to set a sequence": "SELECT setval(oid::regclass, 1) FROM pg_class WHERE relkind = 'S'",
    "to read another schema": "SELECT * FROM apart.secrets",
    "to forget which migrations have run": "DELETE FROM alembic_version",
    "to say that other migrations have run": "UPDATE alembic_version SET version_num = 'stolen'",
    "to keep others from reading which migrations have run": "LOCK TABLE alembic_version",
    "to read secrets": "SELECT rolpassword FROM pg_authid",
}


@pytest.fixture(scope="module")
def urls(cluster: EmbeddedPostgres) -> dict[str, str]:
    """The databases of both services, migrated by another role before there were these."""
    urls = {service: cluster.url(f"roles_{service}") for service in _SERVICES}
    for service, url in urls.items():
        schema.upgrade(service, url)
        for _ in range(2):
            make_roles(service, url)
    with Session(urls["graph"]) as session:
        session.rows("CREATE SCHEMA apart CREATE TABLE secrets (id int)")
        session.commit()
    return urls


def _tables(url: str) -> list[tuple[str, str]]:
    with Session(url) as session:
        return [
            (name, owner_name)
            for name, owner_name in session.rows(
                "SELECT relname, relowner::regrole::text FROM pg_class"
                " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            )
        ]


@pytest.mark.parametrize("service", _SERVICES)
def test_a_database_that_was_migrated_before_changes_hands(
    urls: dict[str, str], service: str
) -> None:
    url = urls[service]

    assert {owner_name for _, owner_name in _tables(url)} == {f"kith_{service}_owner"}
    schema.downgrade(service, owner(service, url), f"{service}_0001")
    schema.upgrade(service, owner(service, url))


@pytest.mark.parametrize("service", _SERVICES)
def test_the_serving_role_reads_and_changes_every_table(urls: dict[str, str], service: str) -> None:
    rights = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE, REFERENCES, TRIGGER")
    with Session(serving(service, urls[service])) as session:
        for table, _ in _tables(urls[service]):
            granted = [
                session.rows(f"SELECT has_table_privilege('{table}', '{right}')")
                for right in rights
            ]
            changes = [(table != "alembic_version",)]
            assert granted == [[(True,)], changes, changes, changes, [(False,)]], table


def test_the_record_of_migrations_is_also_read_only_when_roles_were_there_first(
    cluster: EmbeddedPostgres,
) -> None:
    url = cluster.url("roles_first")
    make_roles("graph", url)
    schema.upgrade("graph", owner("graph", url))

    with Session(serving("graph", url)) as session:
        assert session.rows("SELECT version_num FROM alembic_version") == [(schema.head("graph"),)]
        with pytest.raises(InsufficientPrivilege):
            session.rows("DELETE FROM alembic_version")


def test_databases_that_everybody_may_connect_to_are_told_with_what_forbids_it(
    cluster: EmbeddedPostgres, urls: dict[str, str]
) -> None:
    open_to_all = cluster.url("open_to_all")
    with Session(serving("graph", open_to_all)):
        pass

    told = make_roles("graph", urls["graph"])

    [forbidding] = re.findall(r"REVOKE CONNECT, TEMPORARY ON DATABASE .* FROM PUBLIC", told)
    assert "open_to_all" in forbidding
    assert "roles_graph" not in forbidding
    with Session(cluster.url("postgres")) as session:
        session.rows("REVOKE CONNECT, TEMPORARY ON DATABASE open_to_all FROM PUBLIC")
        session.commit()
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        Session(serving("graph", open_to_all))
    assert "open_to_all" not in make_roles("graph", urls["graph"])


@pytest.mark.parametrize("what", _FORBIDDEN)
def test_the_serving_role_has_no_right(urls: dict[str, str], what: str) -> None:
    with (
        Session(serving("graph", urls["graph"])) as session,
        pytest.raises(InsufficientPrivilege),
    ):
        session.rows(_FORBIDDEN[what])


@pytest.mark.parametrize("service", _SERVICES)
def test_the_auditor_cannot_lock_what_services_and_migrations_lock_by_a_number(
    urls: dict[str, str], service: str
) -> None:
    """It could keep all changes of connections waiting, which the lock of fences is for."""
    with Session(make_auditor(service, urls[service])) as session:
        permitted = session.rows(
            "SELECT oid::regprocedure::text FROM pg_proc"
            " WHERE proname ~ 'advisory' AND has_function_privilege(oid, 'EXECUTE')"
        )
        assert permitted == []
        with pytest.raises(InsufficientPrivilege):
            session.rows("SELECT pg_advisory_lock(1)")


@pytest.mark.parametrize(("service", "other"), [_SERVICES, _SERVICES[::-1]])
def test_no_service_reaches_the_database_of_the_other(
    urls: dict[str, str], service: str, other: str
) -> None:
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        Session(serving(service, urls[other]))


@pytest.mark.parametrize("service", _SERVICES)
@pytest.mark.parametrize("role", [owner, serving])
def test_postgresql_logs_no_rows_and_no_statements_of_either_role(
    urls: dict[str, str], service: str, role: Callable[[str, str], str]
) -> None:
    with Session(role(service, urls[service])) as session:
        assert session.rows("SHOW log_error_verbosity") == [("terse",)]
        assert session.rows("SHOW log_min_error_statement") == [("panic",)]
        assert session.rows(
            "SELECT unnest(setconfig) FROM pg_db_role_setting"
            " WHERE setrole = session_user::regrole ORDER BY 1"
        ) == [
            ("log_error_verbosity=terse",),
            ("log_min_error_statement=panic",),
            ("log_parameter_max_length=0",),
        ]
