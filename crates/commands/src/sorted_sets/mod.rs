//! Sorted set commands.
//!
//! `members` has those about given members, `ranges` those about members in a range of ranks,
//! scores or names, `ends` those that take the lowest or highest members, or random ones,
//! `blocking` those that wait for members to take, and `algebra` unions, intersections and differences. A sorted set that has become empty is
//! removed with its key.

pub mod algebra;
pub mod blocking;
pub mod ends;
pub mod members;
pub mod ranges;

mod replies;
mod store;
#[cfg(test)]
mod tests;

pub use store::store_at;
