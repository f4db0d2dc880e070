//! List commands.
//!
//! `ends` has those that work on a list's ends, `blocking` those of them that wait, `positions` those that look at or change
//! elements anywhere. A list that has become empty is removed with its key.

pub mod blocking;
pub mod ends;
pub mod positions;

use std::ops::Range;

/// The elements from `start` to `stop`, both included, where negative indexes count from the end.
fn included_range(start: i64, stop: i64, len: usize) -> Range<usize> {
    // A list has fewer elements than an i64 can count.
    let len = len as i64;
    let from_end = |index: i64| if index < 0 { index + len } else { index };
    let start = from_end(start).max(0);
    let end = from_end(stop).saturating_add(1).min(len);
    if start < end {
        start as usize..end as usize
    } else {
        0..0
    }
}

/// The place of an index, negative ones counting from the end; none outside the list.
fn place(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index + len as i64 } else { index };
    usize::try_from(index).ok().filter(|&index| index < len)
}

#[test]
fn indexes_count_from_either_end() {
    let check = |start, stop, expected| assert_eq!(included_range(start, stop, 5), expected);
    check(0, -1, 0..5);
    check(1, 2, 1..3);
    check(-2, 100, 3..5);
    check(-100, 0, 0..1);
    check(3, 1, 0..0);
    check(5, 9, 0..0);
    check(i64::MIN, i64::MAX, 0..5);
    check(0, i64::MIN, 0..0);
    assert_eq!(included_range(0, -1, 0), 0..0);
    assert_eq!(
        [place(0, 5), place(-5, 5), place(-1, 5)],
        [Some(0), Some(0), Some(4)]
    );
    assert_eq!([place(5, 5), place(-6, 5), place(i64::MIN, 5)], [None; 3]);
}
