use super::*;
use crate::{Element, Rng};

fn limits(bytes: usize, entries: u64) -> Limits {
    Limits {
        stream_node_max_bytes: bytes,
        stream_node_max_entries: entries,
        ..Limits::default()
    }
}

fn add(stream: &mut Stream, ms: u64, pairs: &[&str], limits: &Limits) {
    let id = StreamId::new(ms, 0);
    let pairs = pairs.iter().map(|pair| pair.as_bytes());
    stream.append(id, pairs, limits).expect("IDs ascend");
}

fn ids(entries: impl Iterator<Item = StreamId>) -> Vec<u64> {
    entries.map(|id| id.ms).collect()
}

fn fields(entry: &Entry<'_>) -> Vec<String> {
    let text = |element: Element<'_>| String::from_utf8_lossy(&element.to_vec()).into_owned();
    entry
        .fields()
        .flat_map(|(field, value)| [text(field), text(value)])
        .collect()
}

#[test]
fn nodes_have_the_bytes_of_redis() {
    let mut stream = Stream::new();
    let limits = Limits::default();
    add(&mut stream, 1, &["f", "v", "n", "100"], &limits);
    add(&mut stream, 3, &["f", "w", "n", "-1"], &limits);
    add(&mut stream, 4, &["g", "x"], &limits);
    stream.delete([StreamId::new(3, 0)].into_iter());
    assert_eq!((stream.node_count(), stream.nodes().len()), (1, 1));
    let (key, pack) = stream.nodes().next().expect("there are entries");
    assert_eq!(key, StreamId::new(1, 0));
    let text: Vec<String> = pack
        .iter()
        .map(|e| String::from_utf8(e.to_vec()).unwrap())
        .collect();
    let expected = "2 1 2 f n 0 2 0 0 v 100 5 3 2 0 w -1 5 0 3 0 1 g x 6";
    assert_eq!(text.join(" "), expected);
    assert_eq!(node::check(pack).map_err(|e| e.reason), Ok(2));
}

/// What a stream answers is what a sorted list answers, whatever the nodes.
#[test]
fn a_stream_is_a_sorted_list() {
    let mut rng = Rng::from_seed(3);
    for limits in [
        limits(4096, 100),
        limits(60, 0),
        limits(0, 3),
        limits(0, 1),
        limits(200, 7),
    ] {
        let mut stream = Stream::new();
        let mut model: Vec<(u64, Vec<String>)> = Vec::new();
        let (mut ms, mut added) = (0, 0);
        for _ in 0..3_000 {
            match rng.below(10) {
                0..=5 => {
                    ms += 1 + rng.below(3) as u64;
                    let count = 1 + rng.below(3);
                    let pairs: Vec<String> = (0..count)
                        .flat_map(|i| {
                            [
                                format!("f{}", i * rng.below(2)),
                                format!("{}", rng.below(5000) as i64 - 100),
                            ]
                        })
                        .collect();
                    let refs: Vec<&str> = pairs.iter().map(String::as_str).collect();
                    add(&mut stream, ms, &refs, &limits);
                    model.push((ms, pairs));
                    added += 1;
                }
                6 | 7 => {
                    let id = rng.below(ms as usize + 2) as u64;
                    let deleted = stream.delete([StreamId::new(id, 0)].into_iter());
                    let before = model.len();
                    model.retain(|(ms, _)| *ms != id);
                    assert_eq!(deleted as usize, before - model.len());
                }
                8 if rng.below(4) == 0 => {
                    let keep = match rng.below(2) {
                        0 => Keep::Newest(rng.below(model.len() + 3) as u64),
                        _ => Keep::From(StreamId::new(
                            ms - rng.below(ms as usize + 1).min(40) as u64,
                            0,
                        )),
                    };
                    let trim = Trim {
                        keep,
                        approximate: false,
                        limit: None,
                    };
                    let removed = stream.trim(&trim);
                    let before = model.len();
                    match keep {
                        Keep::Newest(n) => drop(model.drain(..before.saturating_sub(n as usize))),
                        Keep::From(id) => model.retain(|(ms, _)| *ms >= id.ms),
                    }
                    assert_eq!(removed as usize, before - model.len());
                }
                _ => {
                    let (a, b) = (
                        rng.below(ms as usize + 2) as u64,
                        rng.below(ms as usize + 2) as u64,
                    );
                    let (start, end) = (StreamId::new(a.min(b), 0), StreamId::new(a.max(b), 0));
                    let expected: Vec<u64> = model
                        .iter()
                        .map(|(ms, _)| *ms)
                        .filter(|ms| (start.ms..=end.ms).contains(ms))
                        .collect();
                    assert_eq!(ids(stream.range(start, end).map(|e| e.id)), expected);
                    let mut backward = ids(stream.range_rev(start, end).map(|e| e.id));
                    backward.reverse();
                    assert_eq!(backward, expected);
                }
            }
            assert_eq!((stream.len(), stream.entries_added), (model.len(), added));
        }
        for (entry, (ms, pairs)) in stream.iter().zip(&model) {
            assert_eq!((entry.id.ms, &fields(&entry)), (*ms, pairs));
        }
        if let Some((ms, _)) = model.first() {
            assert_eq!(stream.first_id().ms, *ms);
        }
        check_rebuilt(&stream);
    }
}

/// A stream made of the nodes of another is that stream.
fn check_rebuilt(stream: &Stream) {
    let mut builder = Builder::default();
    for (key, pack) in stream.nodes() {
        let pack = Listpack::from_bytes_checked(pack.as_bytes().to_vec()).expect("our own bytes");
        builder.node(key, pack).expect("our own node");
    }
    let metadata = Metadata {
        len: stream.len() as u64,
        last_id: stream.last_id,
        history: None,
    };
    builder.metadata(metadata).expect("our own length");
    let copy = builder.finish();
    let all = |stream: &Stream| -> Vec<_> { stream.iter().map(|e| (e.id, fields(&e))).collect() };
    assert_eq!(all(&copy), all(stream));
}

#[test]
fn approximate_trims_take_whole_nodes() {
    let limits = limits(0, 4);
    let filled = || {
        let mut stream = Stream::new();
        (1..=10).for_each(|ms| add(&mut stream, ms, &["f", "v"], &limits));
        stream
    };
    let check = |keep, limit, expected| {
        let mut stream = filled();
        let trim = Trim {
            keep,
            approximate: true,
            limit,
        };
        assert_eq!(stream.trim(&trim), expected, "{trim:?}");
    };
    check(Keep::Newest(7), None, 0);
    check(Keep::Newest(6), None, 4);
    check(Keep::Newest(0), None, 10);
    check(Keep::Newest(0), Some(5), 4);
    check(Keep::Newest(0), Some(3), 0);
    check(Keep::From(StreamId::new(4, 0)), None, 0);
    check(Keep::From(StreamId::new(5, 0)), None, 4);
    check(Keep::From(StreamId::new(99, 0)), None, 10);
}

/// No bytes in a node bring anything but an error, or a stream that can be walked.
#[test]
fn broken_nodes_are_refused() {
    let mut stream = Stream::new();
    let limits = Limits::default();
    add(&mut stream, 1, &["f", "v"], &limits);
    add(&mut stream, 2, &["g", "300", "h", "x"], &limits);
    stream.delete([StreamId::new(2, 0)].into_iter());
    add(&mut stream, 9, &["f", "v"], &limits);
    let good = stream
        .nodes()
        .next()
        .expect("there are entries")
        .1
        .as_bytes()
        .to_vec();
    let mut refused = 0;
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            let Ok(pack) = Listpack::from_bytes_checked(bytes) else {
                continue;
            };
            let mut builder = Builder::default();
            if builder.node(StreamId::new(1, 0), pack).is_err() {
                refused += 1;
                continue;
            }
            let stream = builder.finish();
            let forward: Vec<_> = stream.iter().map(|e| (e.id, fields(&e).len())).collect();
            let mut backward: Vec<_> = stream
                .range_rev(StreamId::MIN, StreamId::MAX)
                .map(|e| (e.id, fields(&e).len()))
                .collect();
            backward.reverse();
            if forward.is_sorted() {
                assert_eq!(forward, backward);
            }
        }
    }
    assert!(refused > 20, "{refused}");
    let wrong = |elements: &[i64]| {
        let mut pack = Listpack::new();
        elements.iter().for_each(|&n| pack.push_back_int(n));
        assert!(node::check(&pack).is_err(), "{elements:?}");
    };
    wrong(&[]);
    wrong(&[0, 0, 0, 0]);
    wrong(&[1, 0, i64::MAX, 0]);
    wrong(&[1, 0, 1, 7, 0, 0, 0, 0, i64::MAX, 1]);
    wrong(&[1, 0, 1, 7, 0, 0, 0, 0, i64::MIN, 1]);
    wrong(&[2, 0, 1, 7, 0, 2, 0, 0, 5, 4]);
    wrong(&[1, 0, 1, 7, 0, 2, 0, 0, 5, 3]);
}

#[test]
fn pending_entries_change_hands() {
    let mut group = Group::new(StreamId::MIN, None);
    let (alice, created) = group.find_or_add(b"alice", 5);
    assert!(created);
    let (bob, _) = group.find_or_add(b"bob", 6);
    let pending = |consumer| Pending {
        consumer,
        delivered_at: 7,
        deliveries: 1,
    };
    let id = |ms| StreamId::new(ms, 0);
    (1..=3).for_each(|ms| group.assign(id(ms), pending(alice)));
    group.assign(id(2), pending(bob));
    assert!(group.consumer(alice).pending().iter().eq(&[id(1), id(3)]));
    assert!(group.consumer(bob).pending().iter().eq(&[id(2)]));
    assert!(group.acknowledge(id(1)) && !group.acknowledge(id(1)));
    assert_eq!(group.remove(b"alice"), Some(1));
    assert_eq!(group.remove(b"alice"), None);
    assert_eq!(ids(group.pending_range(..).map(|(id, _)| id)), [2]);
    let (carol, created) = group.find_or_add(b"aaron", 8);
    assert!(created && carol == alice, "the gap is filled");
    let names: Vec<&[u8]> = group.consumers().map(Consumer::name).collect();
    assert_eq!(names, [b"aaron".as_slice(), b"bob"]);
}
