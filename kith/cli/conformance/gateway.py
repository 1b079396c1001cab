"""The gateway: HTTP with JSON for what has a path, and nothing for what is internal."""

from typing import Any, Final

import grpc

from kith.cli.conformance.deployments import Answer, Deployment, Gateway
from kith.cli.conformance.evidence import (
    BrokenPromiseError,
    is_withheld,
    require,
    status_of,
)
from kith.exceptions import DOMAIN, AppException
from kith.feed.v1 import feed_pb2

_INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"
_SECONDS: Final = 30.0
_MANY: Final = 2**53 + 1


def health_is_answered_over_http(deployment: Deployment) -> str:
    """Try what load balancers ask."""
    answer = deployment.through_gateway().call("GET", "/healthz")
    return _status(answer, 200)


def an_answer_is_json_in_lower_camel_case(deployment: Deployment) -> str:
    """Try a feed."""
    gateway = deployment.through_gateway()
    [user] = deployment.world.people(1)
    answer = gateway.call("GET", f"/v1/users/{user}/feed")
    _status(answer, 200)
    missing = {"posts", "nextPageToken"} - {*answer.json}
    require(not missing, f"lacks {', '.join(sorted(missing))}")
    return "200 with posts and nextPageToken"


def ids_past_the_numbers_of_javascript_are_texts(deployment: Deployment) -> str:
    """Try one past 2 to the power of 53."""
    gateway = deployment.through_gateway()
    path = f"/v1/users/{_MANY}/connections:count"
    answer = gateway.call("POST", path, {"userIds": [str(_MANY)]})
    _status(answer, 200)
    [count] = answer.json["counts"]
    require(count["userId"] == str(_MANY), f"came as {count['userId']!r}")
    return f"{count['userId']!r}"


def an_error_over_http_is_json_with_its_reason(deployment: Deployment) -> str:
    """Try a user that there cannot be, and a post that there is not."""
    gateway = deployment.through_gateway()
    [user] = deployment.world.people(1)
    return "; ".join(
        (
            _error(gateway.call("GET", "/v1/users/0/feed"), 400, "INVALID_FIELD"),
            _error(
                gateway.call("GET", f"/v1/users/{user}/authors/{user}/posts/{2**62}"),
                404,
                "POST_NOT_FOUND",
            ),
        )
    )


def an_unknown_path_is_not_found(deployment: Deployment) -> str:
    """Try one that there is not."""
    answer = deployment.through_gateway().call("GET", "/v1/nothing")
    return _error(answer, 404, "NO_SUCH_PATH")


def a_method_that_a_path_does_not_have_is_refused_with_those_that_it_has(
    deployment: Deployment,
) -> str:
    """Try to PUT a feed."""
    answer = deployment.through_gateway().call("PUT", "/v1/users/1/feed", {})
    allowed = answer.headers.get("allow", "")
    require("GET" in allowed, f"was {answer.status} and allows {allowed or 'nothing'}")
    return f"{_status(answer, 405)}, allow: {allowed}"


def a_body_that_is_no_json_is_refused(deployment: Deployment) -> str:
    """Try text/plain, which a page of any origin can send; nobody is named who could be changed."""
    answer = deployment.through_gateway().call(
        "POST",
        "/v1/users/0/tags",
        b'{"name": "tag"}',
        headers={"content-type": "text/plain"},
    )
    return _status(answer, 415)


def a_request_id_comes_back(deployment: Deployment) -> str:
    """Try one with an answer and one with an error."""
    gateway = deployment.through_gateway()
    for path in ("/v1/users/1/feed", "/v1/users/0/feed"):
        answer = gateway.call("GET", path, headers={"x-request-id": "a-check-of-conformance"})
        found = answer.headers.get("x-request-id")
        require(found == "a-check-of-conformance", f"came back as {found!r}")
    return "in the header x-request-id"


def a_post_is_read_over_http_by_those_who_may_see_it_alone(deployment: Deployment) -> str:
    """Try one for all connections, by one of them and by a stranger."""
    gateway = deployment.through_gateway()
    cast = deployment.world.cast
    path = f"authors/{cast.author}/posts/{cast.posts['all'].post_id}"
    seen = gateway.call("GET", f"/v1/users/{cast.viewers['a friend']}/{path}")
    hidden = gateway.call("GET", f"/v1/users/{cast.viewers['a stranger']}/{path}")
    _error(hidden, 404, "POST_NOT_FOUND")
    return f"{_status(seen, 200)} for a friend, 404 for a stranger"


def internal_calls_are_not_exposed(deployment: Deployment) -> str:
    """Try one over HTTP and over gRPC."""
    gateway = deployment.through_gateway()
    over_http = gateway.call("POST", "/kith.feed.v1.FeedService/ListViewers", {})
    _status(over_http, 404)
    return f"404 over HTTP, {_natively(gateway)} over gRPC"


CHECKS: Final = (
    health_is_answered_over_http,
    an_answer_is_json_in_lower_camel_case,
    ids_past_the_numbers_of_javascript_are_texts,
    an_error_over_http_is_json_with_its_reason,
    an_unknown_path_is_not_found,
    a_method_that_a_path_does_not_have_is_refused_with_those_that_it_has,
    a_body_that_is_no_json_is_refused,
    a_request_id_comes_back,
    a_post_is_read_over_http_by_those_who_may_see_it_alone,
    internal_calls_are_not_exposed,
)


def _natively(gateway: Gateway) -> str:
    with gateway.natively() as kith:
        try:
            kith.feed.ListViewers(feed_pb2.ListViewersRequest(), timeout=_SECONDS)
        except AppException as error:
            code = status_of(error)
            if is_withheld(error):
                raise
            require(code is grpc.StatusCode.UNIMPLEMENTED, f"was {code.name} over gRPC")
            return code.name
    raise BrokenPromiseError("ListViewers was answered over gRPC")


def _status(answer: Answer, expected: int) -> str:
    body = answer.body[:80].decode(errors="replace")
    require(answer.status == expected, f"was {answer.status} instead of {expected}: {body}")
    return str(answer.status)


def _error(answer: Answer, status: int, reason: str) -> str:
    _status(answer, status)
    details: list[dict[str, Any]] = answer.json.get("details", [])
    infos = [detail for detail in details if detail.get("@type") == _INFO]
    found = [(info.get("domain"), info.get("reason")) for info in infos]
    require(found == [(DOMAIN, reason)], f"was {status} with {found or 'no ErrorInfo'}")
    return f"{status} {reason}"
