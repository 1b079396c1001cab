"""A promise, and what became of it when it was tried."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from kith.cli.clients import sentence
from kith.cli.conformance.deployments import Deployment
from kith.cli.conformance.evidence import BrokenPromiseError, NotTriedError, is_withheld
from kith.exceptions import AppException

Check: TypeAlias = Callable[[Deployment], str]
"""Tries a promise and returns the evidence that it is kept. Its name is the promise."""


class Result(StrEnum):
    """What became of a promise."""

    KEPT = "kept"
    BROKEN = "broken"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of a promise, and how that is known."""

    area: str
    promise: str
    result: Result
    evidence: str


def tried(check: Check, deployment: Deployment) -> Finding:
    """Try a promise."""

    def found(result: Result, evidence: str) -> Finding:
        return Finding(
            area=check.__module__.rpartition(".")[2],
            promise=check.__name__.replace("_", " "),
            result=result,
            evidence=" ".join(evidence.split()),
        )

    try:
        return found(Result.KEPT, check(deployment))
    except BrokenPromiseError as error:
        return found(Result.BROKEN, str(error))
    except NotTriedError as error:
        return found(Result.NOT_TRIED, str(error))
    except AppException as error:
        return found(Result.NOT_TRIED if is_withheld(error) else Result.BROKEN, sentence(error))
    except Exception as error:  # noqa: BLE001 -- an answer that no check foresees keeps no promise
        return found(Result.BROKEN, f"{type(error).__name__}: {error}")
