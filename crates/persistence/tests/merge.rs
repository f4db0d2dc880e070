//! Two generations into one: what is loaded afterwards, and what is left alone.

mod common;

use common::segments::{dir, sorted, Segments, PREFIX};
use persistence::aof::merge::merge_generations;
use std::ffi::OsStr;

/// Three generations of two shards.
fn three() -> Segments {
    let mut set = Segments::new(2);
    for generation in 1..=3u64 {
        if generation > 1 {
            set.next_generation();
        }
        for shard in 0..2 {
            let command = format!("RPUSH list:{shard} {generation}");
            set.append(shard, generation, &["SELECT 0", &command]);
            set.append(shard, generation, &[]);
        }
        set.append_transaction(0, generation, generation, "INCR a");
        set.append_transaction(1, generation, generation, "INCR b");
    }
    set
}

fn merge(set: &mut Segments) -> bool {
    let merged = merge_generations(&set.disk, &dir(), OsStr::new(PREFIX), &set.manifest).unwrap();
    let happened = merged.is_some();
    if let Some(merged) = merged {
        set.manifest = merged.manifest.without_history().0;
    }
    happened
}

#[test]
fn a_merged_generation_loads_as_the_two_did() {
    let mut set = three();
    let (before, loaded_before) = set.load().unwrap();
    assert!(merge(&mut set));
    assert_eq!(set.manifest.generations().len(), 2);
    let (after, loaded) = set.load().unwrap();
    assert_eq!(sorted(after), sorted(before));
    assert!(loaded.cuts.is_empty());
    assert_eq!(loaded.epoch_last, loaded_before.epoch_last);
    assert!(!merge(&mut set), "one generation and the newest");
    set.next_generation();
    assert!(merge(&mut set));
    assert_eq!(set.manifest.generations().len(), 2);
}

#[test]
fn what_is_damaged_is_left_alone() {
    let mut set = three();
    let second = dir().join(&set.manifest.generations()[1][0].name);
    set.disk.edit(&second, |bytes| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    });
    let before = set.manifest.clone();
    assert!(!merge(&mut set));
    assert_eq!(set.manifest, before);
}

#[test]
fn a_merge_that_fails_leaves_no_file() {
    let set = three();
    set.disk.set_space_left(Some(300));
    let failed = merge_generations(&set.disk, &dir(), OsStr::new(PREFIX), &set.manifest);
    assert!(failed.is_err());
    for file in &set.manifest.files {
        assert!(set.disk.contents(&dir().join(&file.name)).is_some());
    }
    let names = persistence::storage::Storage::list(&set.disk, &dir()).unwrap();
    assert_eq!(names.len(), set.manifest.files.len());
}
