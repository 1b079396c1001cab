"""The steps around every call that let it in, and that write down what was done to whose privacy.

Both stand inside `report_errors`, which answers what they raise.
"""

import logging
from collections.abc import Callable, Container, Mapping
from typing import Final

from google.protobuf.message import Message

from kith.errors.v1 import errors_pb2
from kith.exceptions import UnauthorizedError
from shared.access.callers import Caller
from shared.access.credentials import Credentials
from shared.access.rules import Access, Admits
from shared.access.suspended import user_suspended
from shared.server.handlers import Call, Hooks, Method, Step

# No call takes a longer list of ids, so what is cut off was refused.
_MAX_IDS: Final = 1_000
_log = logging.getLogger("kith.audit")
# An audit has no levels: it is written at every LOG_LEVEL.
_log.setLevel(logging.INFO)


def admit(credentials: Credentials, access: Access) -> Step:
    """Authenticate the caller, and admit only callers that the call's rule admits.

    Services need the call in their scope and, where this is demanded of them, the token of the user
    that they call for.
    """

    def step(method: Method) -> Hooks:
        rule = access.get(method.name)
        require = _nobody if rule is None else _REQUIREMENTS[rule.admits]
        is_for_users = rule is not None and rule.admits is Admits.THE_USER
        name = f"{method.service}.{method.name}"

        def begin(call: Call) -> None:
            caller = call.caller = credentials.caller(call.context)
            require(caller, call.request)
            if caller.is_service:
                _require_scope(caller, name)
                if is_for_users:
                    user_id = getattr(call.request, "user_id", None)
                    credentials.require_user(caller, call.context, user_id)

        return Hooks(begin=begin)

    return step


def refuse_suspended(suspended: Container[int], access: Access) -> Step:
    """Refuse the calls of suspended users, also those that services make for them.

    Internal calls about them are admitted.
    """

    def step(method: Method) -> Hooks:
        rule = access.get(method.name)
        if rule is None or rule.admits is not Admits.THE_USER or rule.also_suspended:
            return Hooks()

        def begin(call: Call) -> None:
            if getattr(call.request, "user_id", 0) in suspended:
                raise user_suspended()

        return Hooks(begin=begin)

    return step


def audit(access: Access) -> Step:
    """Write one line for each call that its rule wants written down, also for a refused one."""

    def step(method: Method) -> Hooks:
        rule = access.get(method.name)
        paths = None if rule is None else rule.audit
        if paths is None:
            return Hooks()

        def end(call: Call) -> None:
            _log.info(
                "audit",
                extra={
                    "grpc_service": method.service,
                    "action": method.name,
                    "caller": None if call.caller is None else call.caller.name,
                    "peer": call.context.peer(),
                    "user_id": getattr(call.request, "user_id", None),
                    "targets": _targets(call.request, paths),
                    "outcome": call.code,
                },
            )

        return Hooks(end=end)

    return step


def _require_the_user(caller: Caller, request: object) -> None:
    if not caller.is_service and caller.user_id != getattr(request, "user_id", None):
        raise UnauthorizedError("user_id must be the caller's own id")


def _require_a_service(caller: Caller, _request: object) -> None:
    if not caller.is_service:
        raise UnauthorizedError("only services may make this call")


def _require_scope(service: Caller, call: str) -> None:
    if service.scope is not None and call not in service.scope:
        raise UnauthorizedError(
            "the scope of this service does not have the call",
            reason=errors_pb2.ERROR_REASON_OUT_OF_SCOPE,
            metadata={"call": call},
        )


def _nobody(_caller: Caller, _request: object) -> None:
    raise UnauthorizedError("no caller is permitted to make this call")


_REQUIREMENTS: Mapping[Admits, Callable[[Caller, object], None]] = {
    Admits.THE_USER: _require_the_user,
    Admits.SERVICES: _require_a_service,
}


def _targets(request: object, paths: tuple[str, ...]) -> dict[str, object]:
    """Return what a request names by ids. Of a stream of requests nothing is known here."""
    if not isinstance(request, Message):
        return {}
    return {path: _value(request, path) for path in paths}


def _value(request: Message, path: str) -> object:
    *outer, last = path.split(".")
    for name in outer:
        request = getattr(request, name)
    value = getattr(request, last)
    if kinds := request.DESCRIPTOR.fields_by_name[last].enum_type:
        kind = kinds.values_by_number.get(value)
        return kind.name if kind else value
    return value if isinstance(value, int) else list(value)[:_MAX_IDS]
