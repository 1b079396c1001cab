"""The OpenAPI of the HTTP face is valid, and says of every call what the contracts say."""

from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from kith.errors.v1 import errors_pb2
from tests.support.over_http import DOCUMENT, exposed, in_json, operation
from tests.support.rpcs import Rpc


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
    taken = {parameter["name"].split(".")[0] for parameter in call["parameters"]}
    if "requestBody" in call:
        body = call["requestBody"]["content"]["application/json"]["schema"].get("properties", {})
        is_whole = not (body.keys() - _names(rpc.method.input_type))
        taken |= body.keys() if is_whole else set()
    assert set(answer.get("properties", ())) == _names(rpc.method.output_type)
    assert taken == _names(rpc.method.input_type)


@pytest.mark.parametrize("rpc", exposed(), ids=str)
def test_a_call_is_described_and_so_is_each_of_its_parameters(rpc: Rpc) -> None:
    call = operation(rpc)

    assert call["description"].startswith(rpc.name)
    assert all(parameter["description"] for parameter in call["parameters"])


def _body(name: str) -> Any:
    [rpc] = [rpc for rpc in exposed() if rpc.name == name]
    schema = operation(rpc)["requestBody"]["content"]["application/json"]["schema"]
    return {**schema, "components": DOCUMENT["components"]}


@pytest.mark.parametrize(
    ("name", "field", "within", "beyond"),
    [
        ("CreateTag", "name", ["x", "a b", "\U0001f600" * 50], ["", " x", "x ", "a\x00", "x" * 51]),
        ("CreateComment", "body", [" x\n\ty "], ["", " \n", "a\x7f", "x" * 2_001]),
        ("CreatePost", "photoKeys", [[], ["x"] * 10], [["x"] * 11, [""], ["x" * 201]]),
        ("BatchGetPosts", "posts", [[{"postId": "1"}]], [[], [{}] * 101, [{"postId": "0"}]]),
        ("PreviewAudience", "pageSize", [0, 5_000], [-1]),
    ],
)
def test_a_limit_of_a_field_is_one_of_its_schema(
    name: str, field: str, within: list[object], beyond: list[object]
) -> None:
    validator = OAS31Validator(_body(name))

    assert [value for value in within if not validator.is_valid({field: value})] == []
    assert [value for value in beyond if validator.is_valid({field: value})] == []


def test_a_call_names_who_may_make_it() -> None:
    assert {operation(rpc)["x-callers"] for rpc in exposed()} == {"USER"}


def test_every_reason_of_an_error_is_described() -> None:
    detail = DOCUMENT["components"]["schemas"]["Error"]["properties"]["details"]["items"]
    reasons = detail["properties"]["reason"]["description"]

    for name in errors_pb2.ErrorReason.keys()[1:]:
        assert f"`{name.removeprefix('ERROR_REASON_')}`" in reasons
