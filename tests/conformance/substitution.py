"""`${...}` in commands and expectations.

    ${name}      a variable: what `!let` stored, the counter of `!for`, or one of
                 now (unix seconds), now_ms, port
    ${name+N}    an integer variable plus N, also with -
    ${text*N}    text N times; text is anything without `*` and `}`
"""

from __future__ import annotations

import re
import time
from typing import Callable

Variables = dict[str, "bytes | Callable[[], bytes]"]

_PLACE = re.compile(rb"\$\{([^}]*)\}")
_REPEAT = re.compile(rb"(.*)\*(\d+)$", re.DOTALL)
_SUM = re.compile(rb"([a-z_][a-z0-9_]*)([-+]\d+)?$")


def fresh_variables(port: int) -> Variables:
    return {
        "now": lambda: b"%d" % int(time.time()),
        "now_ms": lambda: b"%d" % int(time.time() * 1000),
        "port": b"%d" % port,
    }


def substitute(text: bytes, variables: Variables) -> bytes:
    if b"${" not in text:
        return text
    return _PLACE.sub(lambda found: _value(found.group(1), variables), text)


def _value(inside: bytes, variables: Variables) -> bytes:
    repeat = _REPEAT.match(inside)
    if repeat:
        return repeat.group(1) * int(repeat.group(2))
    found = _SUM.match(inside)
    if not found or found.group(1).decode() not in variables:
        raise KeyError(f"unknown variable ${{{inside.decode()}}}")
    value = variables[found.group(1).decode()]
    data = value() if callable(value) else value
    return b"%d" % (int(data) + int(found.group(2))) if found.group(2) else data
