//! What the conformance files cannot see: effects, and strings in different shards.

use crate::testing::World;

#[test]
fn a_bit_that_stays_as_it_is_changes_nothing() {
    let mut w = World::new(3);
    w.check(&[("SETBIT b 9 1", "0")]);
    assert_eq!(w.effects(), ["SETBIT b 9 1"]);
    w.check(&[("SETBIT b 9 1", "1")]);
    assert_eq!((w.effects().len(), w.dirty()), (0, 1));
    w.check(&[
        ("SETBIT empty 0 0", "0"),
        ("STRLEN empty", "1"),
        ("SETBIT b 9 0", "1"),
    ]);
    w.assert_replays();
}

#[test]
fn results_of_strings_in_several_shards_are_logged_whole() {
    for shards in [1, 3, 8] {
        let mut w = World::new(shards);
        w.check(&[
            ("MSET a \"\\xf0\\x01\" b \"\\x3c\" c \"\"", "OK"),
            ("BITOP AND d a b", "2"),
            ("GET d", "\"0\\x00\""),
            ("BITOP OR d a b c", "2"),
            ("GET d", "\"\\xfc\\x01\""),
        ]);
        assert!(w.effects().is_empty());
        w.check(&[
            ("BITOP XOR d a b", "2"),
            ("BITOP NOT e d", "2"),
            ("BITOP AND d c", "0"),
            ("EXISTS d", "0"),
        ]);
        w.assert_replays();
    }
}

#[test]
fn a_field_that_fails_still_makes_the_string_reach_to_its_end() {
    let mut w = World::new(1);
    w.check(&[
        ("BITFIELD f OVERFLOW FAIL INCRBY u8 8 300", "[nil]"),
        ("STRLEN f", "2"),
        (
            "BITFIELD f GET u8 64 OVERFLOW SAT INCRBY i5 3 -100 GET i5 3",
            "[0, -16, -16]",
        ),
        ("STRLEN f", "2"),
    ]);
    w.assert_replays();
}
