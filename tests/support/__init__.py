"""Shared harness of the Python tests: servers, a small RESP client, keyspace comparison.

    from support import Server, Client, dump_state, diff_states

Everything a test needs is importable from here; the modules below are how it is divided.
"""

from .client import Client, ConnectionClosed
from .resp import (
    BigNumber,
    Double,
    Map,
    Nil,
    NIL,
    NIL_ARRAY,
    NIL_BULK,
    ProtocolError,
    Push,
    ReplyError,
    Set,
    Simple,
    Verbatim,
    encode_command,
    plain,
    quote,
    split_args,
)
from .server import (
    Server,
    ServerDied,
    basalt_binary,
    free_port,
    peer_binary,
    redis_binary,
)
from .state import Entry, diff_states, dump_state, state_digest

__all__ = [
    "BigNumber", "Client", "ConnectionClosed", "Double", "Entry", "Map", "NIL", "NIL_ARRAY",
    "NIL_BULK", "Nil", "ProtocolError", "Push", "ReplyError", "Server", "ServerDied", "Set",
    "Simple", "Verbatim", "basalt_binary", "diff_states", "dump_state", "encode_command",
    "free_port", "peer_binary", "plain", "quote", "redis_binary", "split_args", "state_digest",
]
