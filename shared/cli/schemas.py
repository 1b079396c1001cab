"""Brings the schemas of the databases to a revision, or says what that would do."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rich.console import Console

from kith.cli.terminal import CommandError, UsageError
from shared.cli import databases
from shared.database import schema

_MOST_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class _Way:
    """The way of a database from its revision to another: forward, back, or none."""

    current: str | None
    forward: Sequence[str] = ()
    back: Sequence[str] = ()


def require_revision(service: str | None, revision: str) -> None:
    """Raise UsageError unless the service's history has this revision, by its whole name."""
    if service is None:
        raise UsageError("--to needs --service: each service has its own revisions")
    known = schema.revisions(service)
    if revision not in known:
        shown = repr(revision[:_MOST_SHOWN])
        raise UsageError(f"{service} has no revision {shown}; it has {known[0]} to {known[-1]}")


def check(services: Sequence[str], console: Console, *, revision: str | None) -> None:
    """Print where each database is and what would be done, and do nothing.

    Raises CommandError when there is something to do. The embedded PostgreSQL is not started for
    this, for that writes files.
    """
    behind = list[str]()
    for name, database in databases.settings(services).items():
        if not database.url:
            _print(console, f"{name}: the embedded database; its service migrates it")
            continue
        way = _way(name, database.url, revision)
        if way.forward or way.back:
            behind.append(name)
        _print(console, f"{name}: {_at(name, way.current)}; {_prospect(way)}")
    if behind:
        raise CommandError(f"not at the revision: {', '.join(behind)}")


def migrate(services: Sequence[str], console: Console, *, revision: str | None) -> None:
    """Bring each database to a revision, None for its newest, and print what was done."""
    with ExitStack() as stack:
        for name, database in databases.settings(services).items():
            url = databases.url(name, database, stack)
            way = _way(name, url, revision)
            target = revision or schema.head(name)
            if way.forward:
                with _told(f"{name}: applied", console) as done:
                    schema.upgrade(name, url, target, progress=done.append)
            elif way.back:
                with _told(f"{name}: reverted", console) as done:
                    schema.downgrade(name, url, target, progress=done.append)
            else:
                _print(console, f"{name}: {_at(name, way.current)}; nothing to do")


@contextmanager
def _told(what: str, console: Console) -> Iterator[list[str]]:
    """Print which revisions were listed meanwhile, also if a later one fails."""
    done = list[str]()
    try:
        yield done
    finally:
        # Another process may have been faster.
        _print(console, f"{what} {', '.join(done) or 'nothing'}")


def _way(service: str, url: str, revision: str | None) -> _Way:
    current = schema.current(url)
    known = schema.revisions(service)
    if revision is None and schema.is_later(service, current):
        return _Way(current=current)
    if current is not None and current not in known:
        raise CommandError(
            f"the database of {service} is at {current}, which this version does not know; "
            "run the version that does"
        )
    found = known.index(current) + 1 if current else 0
    wanted = known.index(revision) + 1 if revision else len(known)
    return _Way(current=current, forward=known[found:wanted], back=known[wanted:found][::-1])


def _at(service: str, revision: str | None) -> str:
    if revision is None:
        return "never migrated"
    return f"at {revision}" + (" of a later version" * schema.is_later(service, revision))


def _prospect(way: _Way) -> str:
    if way.forward:
        return f"would apply {', '.join(way.forward)}"
    if way.back:
        return f"would revert {', '.join(way.back)}"
    return "nothing to do"


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
