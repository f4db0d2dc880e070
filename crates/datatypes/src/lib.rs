//! The value types of the server: lists, sets, hashes, sorted sets and streams in Redis's encodings, and the rules by
//! which Redis reads and prints numbers and matches glob patterns.
//!
//! Nothing here knows of keys, expiry, clients, the clock or files. Randomness and thresholds come from the
//! caller ([`Rng`], [`Limits`]). The compact encodings are byte-exact, so that a snapshot stores them verbatim;
//! every constructor that takes foreign bytes checks them and returns [`FormatError`], never panics.

pub mod bits;
pub mod geo;
pub mod glob;
pub mod hash;
pub mod hyperloglog;
pub mod intset;
pub mod legacy;
pub mod limits;
pub mod list;
pub mod listpack;
pub mod number;
pub mod ptr_table;
mod record;
pub mod rng;
pub mod set;
pub mod stream;
pub mod value;
pub mod zset;

pub use hash::Hash;
pub use intset::IntSet;
pub use limits::Limits;
pub use list::List;
pub use listpack::{Element, IntBuffer, Listpack};
pub use rng::Rng;
pub use set::Set;
pub use stream::{Stream, StreamId};
pub use value::{Encoding, Value, ValueType};
pub use zset::{LexBound, ScoreBound, SortedSet};

/// A stored blob that is not what its type says; `reason` names the first rule it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatError {
    pub reason: &'static str,
}

impl FormatError {
    pub(crate) const fn new(reason: &'static str) -> FormatError {
        FormatError { reason }
    }
}

impl std::fmt::Display for FormatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason)
    }
}

impl std::error::Error for FormatError {}
