"""Protobuf wire format by hand, for what a well-behaved library refuses to produce. Source: protobuf encoding spec."""


def varint(value):
    out = bytearray()
    while value > 0x7f:
        out.append((value & 0x7f) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field_varint(number, value):
    return varint(number << 3) + varint(value)


def field_fixed64(number, value):
    return varint(number << 3 | 1) + value.to_bytes(8, "little")


def field_bytes(number, value):
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def read_varint(data, at):
    """(the varint that stands at `at`, where it ends)"""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7f) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def read_varints(data):
    """The varints that stand one after the other in data."""
    values, at = [], 0
    while at < len(data):
        value, at = read_varint(data, at)
        values.append(value)
    return values


def read_fields(data):
    """(number, value) of a message: int for varint and fixed, bytes for length-delimited."""
    fields, at = [], 0

    while at < len(data):
        tag, at = read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = read_varint(data, at)
        elif kind == 2:
            length, at = read_varint(data, at)
            value = data[at:at + length]
            at += length
        else:
            size = {1: 8, 5: 4}[kind]
            value = int.from_bytes(data[at:at + size], "little")
            at += size
        fields.append((tag >> 3, value))
    return fields
