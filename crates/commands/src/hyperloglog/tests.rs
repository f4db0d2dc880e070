//! Effects, and strings in different shards.

use crate::testing::World;

fn add_many(w: &mut World, key: &str, numbers: std::ops::Range<u32>) {
    for n in numbers {
        w.run(&format!("PFADD {key} element-{n}"));
    }
}

#[test]
fn elements_that_change_no_register_are_not_logged() {
    let mut w = World::new(3);
    w.check(&[("PFADD h a b c", "1")]);
    assert_eq!(w.effects(), ["PFADD h a b c"]);
    w.check(&[("PFADD h b a", "0")]);
    assert!(w.effects().is_empty());
    w.check(&[("PFCOUNT h", "3")]);
    assert_eq!(
        w.effects(),
        ["PFCOUNT h"],
        "the count is kept in the string"
    );
    w.check(&[("PFCOUNT h", "3")]);
    assert!(w.effects().is_empty());
    w.assert_replays();
}

#[test]
fn unions_are_the_same_wherever_the_strings_lie() {
    for shards in [1, 3, 8] {
        let mut w = World::new(shards);
        add_many(&mut w, "a", 0..600);
        add_many(&mut w, "b", 400..900);
        add_many(&mut w, "c", 0..4000);
        w.check(&[
            ("PFDEBUG ENCODING a", "sparse"),
            ("PFDEBUG ENCODING c", "dense"),
        ]);
        let count = w.run("PFCOUNT a b");
        w.check(&[("PFMERGE d a b", "OK"), ("PFCOUNT d", &count)]);
        w.check(&[
            ("EXPIRE d 100", "1"),
            ("PFMERGE d c nothing", "OK"),
            ("TTL d", "100"),
        ]);
        let count = w.run("PFCOUNT c");
        w.check(&[
            ("PFCOUNT d", &count),
            ("PFMERGE e", "OK"),
            ("PFCOUNT e", "0"),
        ]);
        w.check(&[("PFDEBUG TODENSE a", "1"), ("PFDEBUG TODENSE a", "0")]);
        w.assert_replays();
    }
}

#[test]
fn the_self_test_passes() {
    World::new(1).check(&[("PFSELFTEST", "OK")]);
}
