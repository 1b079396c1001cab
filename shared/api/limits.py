"""The limits of fields, as the contracts state them in the option `kith.options.v1.limits`."""

from google.protobuf.message import Message

from kith.options.v1 import options_pb2


def limits(message: type[Message], field: str) -> options_pb2.Limits:
    """Return the limits of a field of a message; without a limit each of them is 0.

    For constants: it costs more than reading a field.
    """
    return message.DESCRIPTOR.fields_by_name[field].GetOptions().Extensions[options_pb2.limits]
