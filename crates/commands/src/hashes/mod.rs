//! Hash commands.
//!
//! `fields` has those about given fields, `numbers` those that count in a field, `whole` those
//! about all fields or random ones. A hash that has become empty is removed with its key.

pub mod fields;
pub mod numbers;
pub mod whole;
