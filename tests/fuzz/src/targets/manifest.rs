//! Manifests. Input: the text. What is accepted is written and read back the same, also after every change that the
//! server makes to it.

use keyspace::ShardIndex;
use persistence::aof::manifest::{FileKind, Manifest};
use persistence::aof::SegmentId;
use std::ffi::OsStr;

pub fn run(input: &[u8]) {
    let Ok(manifest) = Manifest::parse(input) else {
        return;
    };
    assert_eq!(read_back(&manifest), manifest);
    let grouped: usize = manifest.generations().iter().map(Vec::len).sum();
    assert_eq!(grouped, manifest.incrs().count());
    if !manifest.can_grow() {
        return;
    }

    let prefix = OsStr::new("appendonly.aof");
    let id = |shard| SegmentId {
        shard: ShardIndex(shard),
        shard_count: 2,
        generation: manifest.generation_last() + 1,
    };
    let mut grown = manifest.clone();
    for shard in [0, 1] {
        grown.add_segment(prefix, id(shard));
    }
    let base = grown.next_base(prefix, true);
    let rewritten = grown.rewritten(base.clone(), id(0).generation);
    assert_eq!(rewritten.base(), Some(&base));
    let (clean, history) = rewritten.without_history();
    assert_eq!(clean.files.len() + history.len(), rewritten.files.len());
    assert!(clean
        .files
        .iter()
        .all(|file| file.kind != FileKind::History));
    for changed in [&grown, &rewritten, &clean] {
        assert_eq!(&read_back(changed), changed);
    }
}

fn read_back(manifest: &Manifest) -> Manifest {
    let text = manifest.format();
    match Manifest::parse(&text) {
        Ok(manifest) => manifest,
        Err((line, reason)) => {
            panic!("line {line}: {reason}\n{}", String::from_utf8_lossy(&text))
        }
    }
}
