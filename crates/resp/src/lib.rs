//! RESP, the protocol of Redis, versions 2 and 3: requests in, replies out.
//!
//! Requests are parsed where they lie; an argument is a span of the input buffer. Replies are
//! written straight into a connection's output buffer. Nothing here does I/O.
//!
//! Source: the Redis serialization protocol specification.

#![forbid(unsafe_code)]

mod argv;
mod inline;
mod parser;
mod reply;

pub use argv::{Argv, OwnedArgv, Span};
pub use inline::split_arguments;
pub use parser::{Parser, ParserLimits, ProtocolError, Step};
pub use reply::{Protocol, Reply};
