"""What errors say: the status, the reason and the domain, and the field with its limit."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from kith.cli.conformance.deployments import Deployment
from kith.cli.conformance.evidence import (
    BrokenPromiseError,
    NotTriedError,
    is_withheld,
    refusal,
    require,
    require_field,
    require_refused,
    status_of,
)
from kith.exceptions import (
    AppException,
    DeadlineError,
    PreconditionError,
    ResourceNotFoundError,
    ValidationError,
)
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from kith.options.v1 import options_pb2

_SECONDS: Final = 30.0
_INVALID: Final = "INVALID_FIELD"


def every_call_of_a_user_refuses_the_user_0_by_name(deployment: Deployment) -> str:
    """Try all calls that users make."""
    refused = withheld = 0
    for call in _calls(deployment):
        try:
            error = refusal(call.on, call.request, timeout=_SECONDS)
            require_refused(error, ValidationError, _INVALID)
            named = [violation.field for violation in error.violations]
            require("user_id" in named, f"names {', '.join(named)} alone")
        except BrokenPromiseError as problem:
            raise BrokenPromiseError(f"{call.name} {problem}") from problem
        except AppException as problem:
            if not is_withheld(problem):
                raise
            withheld += 1
        else:
            refused += 1
    if not refused:
        raise NotTriedError("the caller may make no call of a user")
    return f"{refused} calls" + (f"; {withheld} are not for this caller" if withheld else "")


def a_text_that_is_too_long_is_refused_with_its_limit(deployment: Deployment) -> str:
    """Try the body of a post."""
    [author] = deployment.world.people(1)
    most = _limits(feed_pb2.CreatePostRequest, "body").max_length
    request = feed_pb2.CreatePostRequest(
        user_id=author,
        body="x" * (most + 1),
        audience=feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_ALL),
    )
    error = refusal(deployment.kith.feed.CreatePost, request)
    require_refused(error, ValidationError, _INVALID)
    return require_field(error, "body", limit=f"{most:,}")


def a_list_that_is_too_long_is_refused_with_its_limit(deployment: Deployment) -> str:
    """Try the people of CheckConnections."""
    most = _limits(graph_pb2.CheckConnectionsRequest, "peer_ids").max_items
    request = graph_pb2.CheckConnectionsRequest(user_id=1, peer_ids=range(2, most + 3))
    error = refusal(deployment.kith.graph.CheckConnections, request)
    require_refused(error, ValidationError, _INVALID)
    return require_field(error, "peer_ids", limit=f"{most:,}")


def a_request_id_that_is_no_uuid_is_refused_by_name(deployment: Deployment) -> str:
    """Try one of a tag."""
    [owner] = deployment.world.people(1)
    request = feed_pb2.CreateTagRequest(user_id=owner, name="tag", request_id="1234")
    error = refusal(deployment.kith.feed.CreateTag, request)
    require_refused(error, ValidationError, _INVALID)
    return require_field(error, "request_id")


def what_does_not_exist_is_not_found_with_a_reason_of_its_own(deployment: Deployment) -> str:
    """Try a post and a tag."""
    feed = deployment.kith.feed
    [user] = deployment.world.people(1)
    post = feed_pb2.GetPostRequest(user_id=user, author_id=user, post_id=2**62)
    tag = feed_pb2.ListTagMembersRequest(user_id=user, tag_id=2**62)
    told = (
        require_refused(refusal(feed.GetPost, post), ResourceNotFoundError, "POST_NOT_FOUND"),
        require_refused(refusal(feed.ListTagMembers, tag), ResourceNotFoundError, "TAG_NOT_FOUND"),
    )
    return "; ".join(told)


def what_the_state_of_things_forbids_is_refused_with_its_reason(deployment: Deployment) -> str:
    """Try to give a tag to a stranger."""
    owner, friend = deployment.world.connected(2)
    [stranger] = deployment.world.people(1)
    tag_id = deployment.world.tag(owner, "tag", friend)
    request = feed_pb2.AddTagMembersRequest(
        user_id=owner, tag_id=tag_id, target_user_ids=[stranger]
    )
    error = refusal(deployment.kith.feed.AddTagMembers, request)
    return require_refused(error, PreconditionError, "NOT_CONNECTED")


def a_call_that_there_is_not_is_unimplemented(deployment: Deployment) -> str:
    """Try one of each service."""
    for service in deployment.services:
        call = service.channel.unary_unary(
            f"/{service.name}/NoSuchCall", request_serializer=bytes, response_deserializer=bytes
        )
        try:
            call(b"", timeout=_SECONDS)
        except AppException as error:
            code = status_of(error)
            require(code is grpc.StatusCode.UNIMPLEMENTED, f"{service.name} says {code.name}")
        else:
            raise BrokenPromiseError(f"{service.name} answers NoSuchCall")
    return "UNIMPLEMENTED by both services"


def a_call_ends_when_its_deadline_expires(deployment: Deployment) -> str:
    """Try a stream that has no end of its own."""
    [user] = deployment.world.people(1)
    watch = deployment.kith.graph.WatchConnections(
        graph_pb2.WatchConnectionsRequest(user_ids=[user]), timeout=deployment.short_seconds
    )
    try:
        for _ in watch:
            pass
    except DeadlineError:
        return f"DEADLINE_EXCEEDED after {deployment.short_seconds} s"
    raise BrokenPromiseError("the stream ended before its deadline")


CHECKS: Final = (
    every_call_of_a_user_refuses_the_user_0_by_name,
    a_text_that_is_too_long_is_refused_with_its_limit,
    a_list_that_is_too_long_is_refused_with_its_limit,
    a_request_id_that_is_no_uuid_is_refused_by_name,
    what_does_not_exist_is_not_found_with_a_reason_of_its_own,
    what_the_state_of_things_forbids_is_refused_with_its_reason,
    a_call_that_there_is_not_is_unimplemented,
    a_call_ends_when_its_deadline_expires,
)


@dataclass(frozen=True, kw_only=True)
class _Call:
    """A call, with a request that has nothing in it."""

    name: str
    on: Any
    request: Any


def _calls(deployment: Deployment) -> Iterator[_Call]:
    """Yield the calls that users make, and that must name a user."""
    for stub, contract in (
        (deployment.kith.graph, graph_pb2.DESCRIPTOR.services_by_name["GraphService"]),
        (deployment.kith.feed, feed_pb2.DESCRIPTOR.services_by_name["FeedService"]),
    ):
        for method in contract.methods:
            if _is_of_a_user(method):
                request = GetMessageClass(method.input_type)()
                call = getattr(stub, method.name)
                yield _Call(
                    name=method.name,
                    on=_first_of(call) if method.server_streaming else call,
                    request=request,
                )


def _first_of(call: Any) -> Any:
    """Return a call of a stream that is answered with the first message."""
    return lambda request, timeout: next(call(request, timeout=timeout))


def _is_of_a_user(method: MethodDescriptor) -> bool:
    callers: Any = options_pb2.callers  # as an extension, which its stub does not say
    user = method.input_type.fields_by_name.get("user_id")
    return (
        method.GetOptions().Extensions[callers] == options_pb2.CALLERS_USER
        and user is not None
        and _of_field(user).minimum == 1
    )


def _limits(request: Any, field: str) -> options_pb2.Limits:
    return _of_field(request.DESCRIPTOR.fields_by_name[field])


def _of_field(field: FieldDescriptor) -> options_pb2.Limits:
    limits: Any = options_pb2.limits  # as above
    found: options_pb2.Limits = field.GetOptions().Extensions[limits]
    return found
