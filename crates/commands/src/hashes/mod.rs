//! Hash commands.
//!
//! `fields` has those about given fields, `numbers` those that count in a field, `whole` those
//! about all fields or random ones, `expiry` those about
//! when fields expire, `with_expiry` those that read or write fields and that together. A hash that has become empty is removed with its key.

pub mod expiry;
pub mod fields;
pub mod numbers;
pub mod whole;
pub mod with_expiry;
