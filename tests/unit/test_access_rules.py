"""Every call of the contracts has a rule, which fits its request."""

from collections.abc import Mapping

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from feed_service.access import ACCESS as FEED_ACCESS
from feed_service.access import FENCES
from graph_service.access import ACCESS as GRAPH_ACCESS
from kith.graph.v1 import fence_keeper_pb2
from kith.options.v1 import options_pb2
from shared.access.rules import Access, Admits, Rule
from tests.support.rpcs import RPCS, Rpc

_ACCESS: Mapping[str, Access] = {"graph": GRAPH_ACCESS, "feed": FEED_ACCESS}
_CALLERS = {
    Admits.THE_USER: options_pb2.CALLERS_USER,
    Admits.SERVICES: options_pb2.CALLERS_SERVICES,
}
_AUDITED = {
    "graph": {
        "RemoveConnection",
        "BlockUser",
        "UnblockUser",
        "ImportConnections",
        "ExportConnections",
        "ExportUser",
        "DeleteUser",
        "SuspendUser",
        "RestoreUser",
        "ListSuspendedUsers",
    },
    "feed": {
        "UpdatePost",
        "DeletePost",
        "UndeletePost",
        "DeleteTag",
        "AddTagMembers",
        "RemoveTagMembers",
        "DeleteComment",
        "HideComment",
        "UnhideComment",
        "ExplainVisibility",
        "PreviewAudience",
        "ListViewers",
        "ClaimDigests",
        "AcknowledgeDigests",
        "ImportTags",
        "SetModeration",
        "ListModerated",
        "InspectPost",
        "ImportPosts",
        "ImportComments",
        "ExportUser",
        "DeleteUser",
    },
}


@pytest.mark.parametrize("service", _ACCESS)
def test_every_call_has_a_rule_and_there_are_no_others(service: str) -> None:
    assert set(_ACCESS[service]) == {rpc.name for rpc in RPCS if rpc.service == service}


def test_every_call_of_the_keeper_of_fences_is_for_services() -> None:
    [contract] = fence_keeper_pb2.DESCRIPTOR.services_by_name.values()
    callers = {
        method.name: method.GetOptions().Extensions[options_pb2.callers]
        for method in contract.methods
    }

    assert {name: _CALLERS[rule.admits] for name, rule in FENCES.items()} == callers
    assert set(callers.values()) == {options_pb2.CALLERS_SERVICES}


@pytest.mark.parametrize("rpc", RPCS, ids=str)
def test_a_call_is_for_the_user_exactly_if_its_request_names_one_and_it_is_not_for_services(
    rpc: Rpc,
) -> None:
    rule = _rule(rpc)
    field = rpc.method.input_type.fields_by_name.get("user_id")
    names_a_user = (
        field is not None
        and field.type == FieldDescriptor.TYPE_INT64
        and not field.is_repeated
        and not rpc.method.client_streaming
    )

    if rule.admits is not Admits.SERVICES:
        assert (rule.admits is Admits.THE_USER) == names_a_user


@pytest.mark.parametrize("rpc", RPCS, ids=str)
def test_users_make_exactly_the_calls_that_have_a_path_and_streams(rpc: Rpc) -> None:
    options = rpc.method.GetOptions()
    is_exposed = options.HasExtension(annotations_pb2.http)  # type: ignore[arg-type]  # untyped stubs

    is_for_users = _rule(rpc).admits is not Admits.SERVICES
    assert is_exposed == (is_for_users and not rpc.method.server_streaming)


@pytest.mark.parametrize("rpc", RPCS, ids=str)
def test_a_call_is_for_those_whom_its_contract_names(rpc: Rpc) -> None:
    callers = rpc.method.GetOptions().Extensions[options_pb2.callers]

    assert callers == _CALLERS[_rule(rpc).admits]


@pytest.mark.parametrize("rpc", RPCS, ids=str)
def test_what_touches_the_privacy_of_others_is_audited(rpc: Rpc) -> None:
    assert (_rule(rpc).audit is not None) == (rpc.name in _AUDITED[rpc.service])


@pytest.mark.parametrize("rpc", RPCS, ids=str)
def test_the_audit_tells_ids_and_never_texts(rpc: Rpc) -> None:
    for path in _rule(rpc).audit or ():
        assert _type(rpc.method.input_type, path) in {
            FieldDescriptor.TYPE_INT64,
            FieldDescriptor.TYPE_ENUM,
        }


def _rule(rpc: Rpc) -> Rule:
    return _ACCESS[rpc.service][rpc.name]


def _type(message: Descriptor, path: str) -> int:
    *outer, last = path.split(".")
    for name in outer:
        inner = message.fields_by_name[name].message_type
        assert inner is not None
        message = inner
    return message.fields_by_name[last].type
