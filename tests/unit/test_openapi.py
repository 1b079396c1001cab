"""The OpenAPI of the HTTP face is valid, and says of every call what the contracts say."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from kith.errors.v1 import errors_pb2
from tests.support.over_http import (
    DOCUMENT,
    body_of,
    exposed,
    in_json,
    operation,
    path_fields,
    resolved,
)
from tests.support.rpcs import Rpc

_UUID = "9b2f6f0e-6d3c-4f0a-8a53-0c8d3c3f7d11"


def _schema(reference: Mapping[str, str]) -> Any:
    return DOCUMENT["components"]["schemas"][reference["$ref"].rpartition("/")[2]]


def _names(message: Descriptor) -> set[str]:
    return {in_json(field.name) for field in message.fields}


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)


def test_the_calls_with_a_path_are_in_it_and_no_others() -> None:
    documented = [
        call["operationId"] for path in DOCUMENT["paths"].values() for call in path.values()
    ]

    assert sorted(documented) == sorted(rpc.name for rpc in exposed())


@pytest.mark.parametrize("rpc", exposed(), ids=str)
def test_a_call_takes_and_answers_exactly_the_fields_of_its_messages(rpc: Rpc) -> None:
    call = operation(rpc)

    answer = _schema(call["responses"]["200"]["content"]["application/json"]["schema"])
    in_path = {in_json(field.split(".")[0]) for field in path_fields(rpc)}
    taken = in_path | {parameter["name"] for parameter in _parameters(rpc, "query")}
    body = body_of(rpc)
    if body is rpc.method.input_type:
        taken |= _sent(rpc).keys()
    elif body:
        taken.add(body.name.lower())
        assert _sent(rpc).keys() == _names(body)
    assert set(answer.get("properties", ())) == _names(rpc.method.output_type)
    assert taken == _names(rpc.method.input_type)


@pytest.mark.parametrize("rpc", exposed(), ids=str)
def test_a_parameter_of_a_path_is_named_by_the_last_part_of_its_field(rpc: Rpc) -> None:
    named = [parameter["name"] for parameter in _parameters(rpc, "path")]

    assert named == [in_json(field.split(".")[-1]) for field in path_fields(rpc)]


def test_paths_that_differ_in_the_names_of_parameters_alone_are_one_path() -> None:
    shapes = [re.sub(r"{\w+}", "{}", path) for path in DOCUMENT["paths"]]

    assert len(set(shapes)) == len(shapes)


def _parameters(rpc: Rpc, place: str) -> list[Any]:
    found = [resolved(parameter) for parameter in operation(rpc)["parameters"]]
    return [parameter for parameter in found if parameter["in"] == place]


def _sent(rpc: Rpc) -> dict[str, Any]:
    content = operation(rpc)["requestBody"]["content"]["application/json"]
    return dict(resolved(content["schema"]).get("properties", {}))


@pytest.mark.parametrize("rpc", exposed(), ids=str)
def test_a_call_is_described_and_so_is_each_of_its_parameters(rpc: Rpc) -> None:
    call = operation(rpc)

    assert call["description"].startswith(rpc.name)
    assert all(resolved(parameter)["description"] for parameter in call["parameters"])


@pytest.mark.parametrize(
    ("name", "required"),
    [
        ("CreatePost", ["audience"]),
        ("CreateTag", ["name"]),
        ("UpdateTag", []),
        ("CreateComment", ["body"]),
        ("BatchGetPosts", ["posts"]),
        ("RequestConnection", []),
    ],
)
def test_a_body_requires_what_a_call_cannot_do_without(name: str, required: list[str]) -> None:
    assert _body(name).get("required", []) == required


def test_what_only_answers_have_is_read_only() -> None:
    post = _body("UpdatePost")["properties"]

    assert [name for name, field in post.items() if field.get("readOnly")] == [
        "authorId",
        "postId",
        "createTime",
        "editTime",
        "commentCount",
        "deleteTime",
        "purgeTime",
        "moderated",
    ]


@pytest.mark.parametrize("rpc", exposed(), ids=str)
def test_errors_of_a_call_are_described_by_status(rpc: Rpc) -> None:
    responses = operation(rpc)["responses"]

    assert responses.keys() >= {"200", "400", "401", "403", "429", "503", "504", "default"}
    for status in ("429", "503"):
        assert "Retry-After" in resolved(responses[status])["headers"]
    assert ("404" in responses) >= ("NOT_FOUND" in operation(rpc)["description"])


def test_a_status_names_the_reasons_that_it_may_have() -> None:
    said = {name: each["description"] for name, each in DOCUMENT["components"]["responses"].items()}

    assert "`POST_NOT_FOUND`" in said["NotFound"]
    assert "`REQUEST_TOO_LARGE`" in said["ContentTooLarge"]
    assert "`RATE_LIMITED`" in said["TooManyRequests"]
    assert "`NOT_CONNECTED`" in said["BadRequest"]


def _body(name: str) -> Any:
    [rpc] = [rpc for rpc in exposed() if rpc.name == name]
    schema = operation(rpc)["requestBody"]["content"]["application/json"]["schema"]
    return {**resolved(schema), "components": DOCUMENT["components"]}


@pytest.mark.parametrize(
    ("name", "field", "within", "beyond"),
    [
        ("CreateTag", "name", ["x", "a b", "\U0001f600" * 50], ["", " x", "x ", "a\x00", "x" * 51]),
        ("CreateComment", "body", [" x\n\ty "], ["", " \n", "a\x7f", "x" * 2_001]),
        ("CreatePost", "photoKeys", [[], ["x"] * 10], [["x"] * 11, [""], ["x" * 201]]),
        (
            "BatchGetPosts",
            "posts",
            [[{"authorId": "1", "postId": "1"}]],
            [[], [{}] * 101, [{"postId": "0"}]],
        ),
        ("PreviewAudience", "pageSize", [0, 5_000], [-1]),
        (
            "CreateTag",
            "requestId",
            ["", _UUID, _UUID.upper(), f"urn:uuid:{_UUID}", f"{{{_UUID}}}", _UUID.replace("-", "")],
            [_UUID[1:], f"{{{_UUID}", f"{_UUID[:-1]}g", f" {_UUID}", f"{_UUID}0"],
        ),
    ],
)
def test_a_limit_of_a_field_is_one_of_its_schema(
    name: str, field: str, within: list[object], beyond: list[object]
) -> None:
    validator = OAS31Validator({**_body(name), "required": []})

    assert [value for value in within if not validator.is_valid({field: value})] == []
    assert [value for value in beyond if validator.is_valid({field: value})] == []


def test_a_call_names_who_may_make_it() -> None:
    assert {operation(rpc)["x-callers"] for rpc in exposed()} == {"USER"}


def test_every_reason_of_an_error_is_described() -> None:
    detail = DOCUMENT["components"]["schemas"]["Error"]["properties"]["details"]["items"]
    reasons = detail["properties"]["reason"]["description"]

    for name in errors_pb2.ErrorReason.keys()[1:]:
        assert f"`{name.removeprefix('ERROR_REASON_')}`" in reasons
