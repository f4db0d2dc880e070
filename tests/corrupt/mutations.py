"""Changes to bytes, the kind that disks, bugs and attackers make. All from one random.Random."""

from __future__ import annotations

import random
import struct

INTERESTING = (0, 1, 2, 3, 5, 11, 12, 0x3F, 0x40, 0x7F, 0x80, 0x81, 0xBF, 0xC0, 0xC1, 0xC2, 0xC3, 0xDF, 0xE0, 0xEF,
               0xF0, 0xF1, 0xF4, 0xF5, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF)
LENGTHS = (0, 1, 2, 0x7F, 0xFF, 0x3FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)


def flip_bit(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def set_byte(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] = chance.choice(INTERESTING)


def nudge_byte(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    data[at] = data[at] + chance.choice((-2, -1, 1, 2)) & 0xFF


def edit_length(data: bytearray, chance: random.Random) -> None:
    """Something that may be a length: two, four or eight bytes, of either order."""
    form = chance.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(form)
    if len(data) > size:
        at = chance.randrange(len(data) - size)
        value = chance.choice(LENGTHS) & (1 << 8 * size) - 1
        data[at:at + size] = struct.pack(form, value)


def truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)):]


def delete(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    del data[at:at + chance.randint(1, 8)]


def insert(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    data[at:at] = bytes(chance.choice(INTERESTING) for _ in range(chance.randint(1, 6)))


def repeat(data: bytearray, chance: random.Random) -> None:
    """A stretch once more: elements twice, entries twice."""
    at = chance.randrange(len(data))
    piece = data[at:at + chance.randint(1, 24)]
    data[at:at] = piece


def swap(data: bytearray, chance: random.Random) -> None:
    """Two neighbouring stretches change places: order is part of several encodings."""
    size = chance.randint(1, 12)
    if len(data) > 2 * size:
        at = chance.randrange(len(data) - 2 * size)
        data[at:at + 2 * size] = data[at + size:at + 2 * size] + data[at:at + size]


ALL = (flip_bit, flip_bit, set_byte, set_byte, nudge_byte, nudge_byte, edit_length, truncate, delete, insert, repeat,
       swap)


def mutated(data: bytes, chance: random.Random, most: int = 3) -> bytes:
    """`data` after one to `most` changes."""
    out = bytearray(data)
    for _ in range(chance.randint(1, most)):
        if out:
            chance.choice(ALL)(out, chance)
    return bytes(out)
