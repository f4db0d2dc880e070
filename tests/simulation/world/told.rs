//! Histories that are told and not drawn, for what few seeds come by.

use super::World;
use crate::client::Request;

/// A server that starts on an empty disk, with this directive; nothing goes wrong, and nobody sends anything.
fn quiet(directive: &str, value: &str) -> World {
    let mut world = World::new(1, false, true);
    world.with_trouble = false;
    world.is_over = true;
    let options = &mut world.setup.options;
    match options.iter().position(|option| option == directive) {
        Some(at) => options[at + 1] = value.into(),
        None => options.extend([directive.into(), value.into()]),
    }
    *world.trouble.get() = crate::disk::Trouble::default();
    world.set_clock();
    world.start(None).expect("nothing is there");
    world
}

#[test]
fn a_wall_clock_that_is_set_back_puts_no_snapshot_off() {
    let mut world = quiet("--save", "1 1");
    world.clock_ahead_ms = -3_600_000;
    world.ask("SET s0 1", Request::Command).expect("replied to");
    for _ in 0..3000 {
        assert_eq!(world.step(), Ok(None));
        if world.counts.snapshots > 0 {
            return;
        }
    }
    panic!("no snapshot within {} ms", world.now);
}
