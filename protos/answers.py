"""What calls answer over HTTP besides their messages: errors by status, and headers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from google.protobuf.descriptor_pb2 import MethodDescriptorProto

from protos.schemas import Commented, Schema, Schemas

_PREFIX: Final = "ERROR_REASON_"
_CODE: Final = re.compile(r"[A-Z]+(?:_[A-Z]+)*")
_STATUS: Final = re.compile(r"\b4\d\d\b")
# As google.rpc.Code maps them.
_STATUSES: Final[Mapping[str, int]] = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_NAMES: Final[Mapping[int, str]] = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    406: "NotAcceptable",
    409: "Conflict",
    412: "PreconditionFailed",
    413: "ContentTooLarge",
    415: "UnsupportedMediaType",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
}
_ALWAYS: Final = (400, 401, 403, 406, 429, 503, 504)
_RETRIED: Final = (429, 503)
_CHALLENGED: Final = 401
_ERROR: Final = """\
An error. HTTP's status follows from `code`, which is a google.rpc.Code; the text of `message` may
change at any time, the `reason` of the detail ErrorInfo keeps its meaning."""

HEADERS: Final[Mapping[str, Schema]] = {
    "RequestId": {
        "description": "The id of the call, which the logs have too.",
        "schema": {"type": "string"},
    },
    "Position": {
        "description": "If there are replicas: a position with this change, for later reads.",
        "schema": {"type": "string"},
    },
    "Challenge": {
        "description": "`Bearer`, with what RFC 6750 has for it.",
        "schema": {"type": "string"},
    },
    "RetryAfter": {
        "description": "In how many seconds a repeat may succeed.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "ETag": {
        "description": (
            "Changes with every change of the answer. Its part before the dot is the `etag` in the"
            " answer, which changes with every change of the resource. Missing if that is empty."
        ),
        "schema": {"type": "string"},
    },
}
PARAMETERS: Final[Mapping[str, Schema]] = {
    "RequestId": {
        "name": "x-request-id",
        "in": "header",
        "description": (
            "The id of the call in the answer and in all logs: up to 128 letters, digits and any of"
            " `._:/+=-`. Another one is made instead of one that is not, or is left out."
        ),
        "schema": {"type": "string"},
    },
    "Timeout": {
        "name": "grpc-timeout",
        "in": "header",
        "description": "The time for the call: a number of up to 8 digits and H, M, S, m, u or n.",
        "schema": {"type": "string", "pattern": "^[1-9][0-9]{0,7}[HMSmun]$"},
    },
    "Position": {
        "name": "kith-position",
        "in": "header",
        "description": (
            "Positions that replicas must have replayed to answer, separated by commas; or `any`."
            " Without it the primary answers."
        ),
        "schema": {"type": "string"},
    },
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "description": (
            "An ETag, or `*`: the change is made only if the resource still has this ETag, of which"
            " only the part before a dot counts; otherwise 412."
        ),
        "schema": {"type": "string"},
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "ETags, separated by commas: 304 without a body if the answer has one.",
        "schema": {"type": "string"},
    },
}


def responses_of(
    method: MethodDescriptorProto, comment: str, schemas: Schemas, *, has_body: bool
) -> Schema:
    """Return the answers of a call by status."""
    is_change = _is_change(schemas, method)
    success: Schema = {"X-Request-Id": _header("RequestId")}
    if is_change:
        success["Kith-Position"] = _header("Position")
    if etag_field(schemas, method.output_type):
        success["ETag"] = _header("ETag")
    answers: Schema = {
        "200": {**content(schemas.reference(method.output_type), "The answer."), "headers": success}
    }
    if etag_field(schemas, method.output_type) and not is_change:
        answers["304"] = {"description": "The caller has the answer.", "headers": success}
    statuses = _statuses(schemas, method, comment, has_body=has_body)
    for status in sorted({*_ALWAYS, *statuses}):
        answers[str(status)] = {"$ref": f"#/components/responses/{_NAMES[status]}"}
    return {**answers, "default": {"$ref": "#/components/responses/Error"}}


def parameters_of(method: MethodDescriptorProto, schemas: Schemas) -> Sequence[Schema]:
    """Return the headers that a call may have."""
    names = ["RequestId", "Timeout"]
    if not _is_change(schemas, method):
        names.append("Position")
        if etag_field(schemas, method.output_type):
            names.append("IfNoneMatch")
    elif takes_etag(schemas, method.input_type):
        names.append("IfMatch")
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def etag_field(schemas: Schemas, type_name: str) -> str | None:
    """Return the field of an answer that is a resource with an etag, if the answer is only that."""
    fields = [field for field, _ in schemas.fields(type_name)]
    if len(fields) != 1 or fields[0].type_name not in schemas.named:
        return None
    is_single = fields[0].label != fields[0].LABEL_REPEATED
    return fields[0].name if is_single and _has_etag(schemas, fields[0].type_name) else None


def takes_etag(schemas: Schemas, type_name: str) -> bool:
    """Whether a request names the etag of what it changes: itself, or in a resource."""
    inner = [field.type_name for field, _ in schemas.fields(type_name)]
    return any(_has_etag(schemas, name) for name in [type_name, *inner] if name in schemas.named)


def _is_change(schemas: Schemas, method: MethodDescriptorProto) -> bool:
    """Whether a call changes something, which each such call can be asked to do once."""
    return any(field.name == "request_id" for field, _ in schemas.fields(method.input_type))


def _has_etag(schemas: Schemas, type_name: str) -> bool:
    return any(field.name == "etag" for field, _ in schemas.fields(type_name))


def error_responses(schemas: Schemas, reasons: Commented) -> Schema:
    """Return what calls answer instead of their messages, by the names of the statuses."""
    schemas.made["Error"] = _error(reasons)
    reference = {"$ref": "#/components/schemas/Error"}
    headers: Schema = {"X-Request-Id": _header("RequestId")}
    by_status = _by_status(reasons)
    answers = {}
    for status, name in _NAMES.items():
        lines = "\n".join(f"- `{reason}`" for reason in by_status.get(status, ()))
        retry = {"Retry-After": _header("RetryAfter")} if status in _RETRIED else {}
        challenge = {"WWW-Authenticate": _header("Challenge")} if status == _CHALLENGED else {}
        text = f"An error; see the schema for its reason:\n{lines}"
        answers[name] = {**content(reference, text), "headers": {**headers, **retry, **challenge}}
    answers["Error"] = {**content(reference, _ERROR), "headers": headers}
    return answers


def content(schema: Schema, description: str) -> Schema:
    """Return an answer that is JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _header(name: str) -> Schema:
    return {"$ref": f"#/components/headers/{name}"}


def _statuses(
    schemas: Schemas, method: MethodDescriptorProto, comment: str, *, has_body: bool
) -> Iterator[int]:
    """Yield the statuses that some calls have: of reasons that their comments name, and others."""
    if _is_change(schemas, method):
        # RESULT_DELETED and CONTENTION.
        yield from (404, 409)
        if takes_etag(schemas, method.input_type):
            yield 412
    if has_body:
        yield from (413, 415)
    if "NOT_FOUND" in comment:
        yield 404


def _by_status(reasons: Commented) -> Mapping[int, Sequence[str]]:
    """Return the reasons that each status may have."""
    found: dict[int, list[str]] = {}
    for name, comment in reasons.commented_values():
        code = _CODE.match(comment)
        statuses = {int(status) for status in _STATUS.findall(comment)}
        if code and code[0] in _STATUSES and not statuses:
            statuses = {_STATUSES[code[0]]}
        for status in statuses:
            found.setdefault(status, []).append(name.removeprefix(_PREFIX))
    return found


def _error(reasons: Commented) -> Schema:
    """Return the schema of google.rpc.Status with the detail that every error has."""
    _unspecified, *listed = reasons.values(prefix=_PREFIX)
    violation = {
        "type": "object",
        "required": ["field", "description"],
        "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
    }
    properties: Schema = {
        "@type": {"type": "string", "description": "Which of google.rpc's details it is."},
        "reason": {"type": "string", "description": "\n".join(listed)},
        "domain": {"type": "string", "description": "Of an ErrorInfo: `kith`."},
        "metadata": {
            "type": "object",
            "description": "Of an ErrorInfo: the variable values of the message.",
            "additionalProperties": {"type": "string"},
        },
        "fieldViolations": {
            "type": "array",
            "description": "Of a BadRequest: the fields that break their limits.",
            "items": violation,
        },
        "retryDelay": {
            "type": "string",
            "description": "Of a RetryInfo: after how long to retry, such as `1.5s`.",
        },
    }
    detail = {
        "type": "object",
        "required": ["@type"],
        "properties": properties,
        "additionalProperties": True,
    }
    return {
        "type": "object",
        "description": _ERROR,
        "required": ["code", "message", "details"],
        "properties": {
            "code": {"type": "integer", "format": "int32"},
            "message": {"type": "string"},
            "details": {"type": "array", "items": detail},
        },
    }
