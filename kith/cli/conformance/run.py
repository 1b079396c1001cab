"""Trying all promises of a deployment, and printing what became of them."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kith.cli.conformance import (
    changes,
    errors,
    gateway,
    health,
    paging,
    reflection,
    retries,
    visibility,
)
from kith.cli.conformance.deployments import Deployment
from kith.cli.conformance.promises import Check, Finding, Result, tried
from kith.cli.conformance.world import World
from kith.cli.terminal import CommandError

CHECKS: Final[Sequence[Check]] = (
    *health.CHECKS,
    *reflection.CHECKS,
    *errors.CHECKS,
    *paging.CHECKS,
    *retries.CHECKS,
    *visibility.CHECKS,
    *changes.CHECKS,
    *gateway.CHECKS,
)
_STYLES: Final = {Result.KEPT: "green", Result.BROKEN: "bold red", Result.NOT_TRIED: "yellow"}


def check_conformance(
    deployment: Deployment,
    console: Console,
    *,
    as_json: bool,
    checks: Sequence[Check] = CHECKS,
) -> None:
    """Try promises and print the findings. Everybody who was made is erased, however this ends.

    Raises CommandError if a promise is broken, if none could be tried, or if people are left over,
    and an AppException, before anything is tried, if a service cannot be reached.
    """
    deployment.require_reachable()
    findings = list(_findings(deployment, checks))
    if as_json:
        print(json.dumps(_document(findings), indent=2))
    else:
        _print_table(findings, console)
    counts = Counter(finding.result for finding in findings)
    if counts[Result.BROKEN]:
        raise CommandError(f"broken promises: {counts[Result.BROKEN]}")
    if not counts[Result.KEPT]:
        raise CommandError("no promise could be tried")


def _findings(deployment: Deployment, checks: Sequence[Check]) -> Iterator[Finding]:
    try:
        for check in checks:
            yield tried(check, deployment)
    finally:
        problems = _erased(deployment.world)
    told = [f"person {user_id}: {problem}" for user_id, problem in problems.items()]
    yield Finding(
        area="erasure",
        promise="all people that were made are erased",
        result=Result.BROKEN if problems else Result.KEPT,
        evidence="; ".join(told) or "all of them",
    )


def _erased(world: World) -> dict[int, str]:
    """Erase everybody; says who is left, also when it is interrupted."""
    try:
        return world.erase()
    finally:
        if world.made:
            ids = " ".join(map(str, world.made))
            sys.stderr.write(f"kith: people who are not erased, see `kith erase`: {ids}\n")


def _document(findings: Sequence[Finding]) -> dict[str, object]:
    counts = Counter(finding.result for finding in findings)
    return {
        **{result.name.lower(): counts[result] for result in Result},
        "findings": [asdict(finding) for finding in findings],
    }


def _print_table(findings: Sequence[Finding], console: Console) -> None:
    table = Table("area", "promise", "result", "evidence")
    area = ""
    for finding in findings:
        if area and finding.area != area:
            table.add_section()
        style = _STYLES[finding.result]
        table.add_row(
            "" if finding.area == area else finding.area,
            escape(finding.promise),
            f"[{style}]{finding.result}[/{style}]",
            escape(finding.evidence),
        )
        area = finding.area
    console.print(table)
    counts = Counter(finding.result for finding in findings)
    listing = ", ".join(f"{counts[result]} {result}" for result in Result)
    console.print(f"{listing}.", highlight=False)
