//! Set commands.
//!
//! `members` has those about given members of one set, `draws` those about random ones,
//! `algebra` intersections, unions and differences. A set that has become empty is removed with
//! its key.

pub mod algebra;
pub mod draws;
pub mod members;
