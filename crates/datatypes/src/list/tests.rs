use super::*;
use crate::Rng;

fn limits(fill: i32) -> Limits {
    Limits {
        list_max_listpack_size: fill,
        ..Limits::default()
    }
}

/// Bytes that are not a number.
fn value(len: usize) -> Vec<u8> {
    vec![b'v'; len]
}

/// Sizes of the nodes; plain ones negative.
fn node_sizes(list: &List) -> Vec<isize> {
    list.nodes()
        .map(|node| match node {
            Node::Packed(pack) => pack.byte_len() as isize,
            Node::Plain(bytes) => -(bytes.len() as isize),
        })
        .collect()
}

fn check(fill: i32, lens: &[usize], encoding: Encoding, sizes: &[isize]) {
    let mut list = List::new();
    lens.iter()
        .for_each(|len| list.push_back(&value(*len), &limits(fill)));
    assert_eq!(
        (list.encoding(), node_sizes(&list).as_slice()),
        (encoding, sizes),
        "fill {fill}, {lens:?}"
    );
}

/// Facts read off a Redis 8 server with OBJECT ENCODING and DUMP.
#[test]
fn one_by_one_nodes_fill_as_in_redis() {
    use Encoding::{Listpack, Quicklist};
    check(-2, &[8185], Listpack, &[8199]);
    check(-2, &[8190], Quicklist, &[8204]);
    check(-2, &[8192], Quicklist, &[8206]);
    check(-2, &[8193], Quicklist, &[-8193]);
    check(-2, &[4000, 4180], Listpack, &[8198]);
    check(-2, &[4000, 4185], Quicklist, &[4011, 4199]);
    check(-2, &[100, 8092], Quicklist, &[110, 8106]);
    check(-2, &[1, 8193], Quicklist, &[10, -8193]);
    check(-2, &[64; 128], Quicklist, &[8181, 409]);
    check(-2, &[100; 82], Quicklist, &[8144, 316]);
    check(4, &[10; 4], Listpack, &[55]);
    check(4, &[10; 5], Quicklist, &[55, 19]);
    check(4, &[3000; 3], Quicklist, &[6015, 3011]);
    check(0, &[10], Listpack, &[19]);
    check(0, &[10; 3], Quicklist, &[19, 19, 19]);
    check(-1, &[3000; 2], Quicklist, &[3011, 3011]);
    check(-1, &[4097], Quicklist, &[-4097]);
    check(-3, &[8193], Listpack, &[8207]);
    check(1000, &[3000; 3], Quicklist, &[6015, 3011]);
}

#[test]
fn one_command_is_judged_as_a_whole() {
    for (count, len, sizes) in [
        (81, 100, vec![8350]),
        (82, 100, vec![8144, 316]),
        (128, 63, vec![8327]),
        (85, 96, vec![8422]),
        (86, 96, vec![8125, 403]),
    ] {
        let values = vec![value(len); count];
        let mut list = List::new();
        list.extend_back(values.iter().map(Vec::as_slice), &limits(-2));
        assert_eq!(node_sizes(&list), sizes);
        let single = sizes.len() == 1;
        assert_eq!(
            list.encoding(),
            if single {
                Encoding::Listpack
            } else {
                Encoding::Quicklist
            }
        );
    }
}

#[test]
fn half_a_node_is_a_listpack_again() {
    for (fill, len, count, left) in [(-2, 100, 200, 39), (10, 10, 40, 5), (100, 1500, 12, 2)] {
        let limits = limits(fill);
        let values = vec![value(len); count];
        let mut list = List::new();
        list.extend_back(values.iter().map(Vec::as_slice), &limits);
        while list.encoding() == Encoding::Quicklist {
            list.pop_front(&limits);
        }
        assert_eq!(list.len(), left, "fill {fill}");
    }
}

#[test]
fn replacing_moves_between_encodings() {
    let limits = limits(-2);
    let mut list = List::new();
    list.extend_back([b"a".as_slice(), b"b", b"c"].into_iter(), &limits);
    assert!(list.set(1, &value(9000), &limits));
    assert_eq!(node_sizes(&list), [10, -9000, 10]);
    assert!(list.set(1, b"x", &limits));
    assert_eq!(node_sizes(&list), [10, 13]);
    assert!(!list.set(3, b"x", &limits));
    let mut list = List::new();
    list.push_back(&value(9000), &limits);
    assert!(list.set(0, b"x", &limits));
    assert_eq!(
        (list.encoding(), node_sizes(&list)),
        (Encoding::Listpack, vec![10])
    );
    // A pivot that is not there does not keep the list from making room.
    assert!(!list.insert_before(b"absent", &value(9000), &limits));
    assert_eq!(
        (list.encoding(), node_sizes(&list)),
        (Encoding::Quicklist, vec![10])
    );
}

#[test]
fn stored_nodes_load_into_the_encoding_of_redis() {
    let pack = |count: usize| {
        let mut pack = Listpack::new();
        (0..count).for_each(|_| pack.push_back(&value(100)));
        Node::Packed(pack)
    };
    let load = |nodes: Vec<Node>| {
        List::from_nodes(nodes, &limits(-2)).map(|list| (list.encoding(), list.len()))
    };
    assert_eq!(load(vec![pack(79)]), Ok((Encoding::Listpack, 79)));
    assert_eq!(load(vec![pack(80)]), Ok((Encoding::Quicklist, 80)));
    assert_eq!(
        load(vec![pack(1), pack(0), pack(1)]),
        Ok((Encoding::Quicklist, 2))
    );
    assert_eq!(
        load(vec![Node::Plain(value(9).into())]),
        Ok((Encoding::Quicklist, 1))
    );
    assert!(load(vec![]).is_err() && load(vec![pack(0)]).is_err());
}

fn random_value(rng: &mut Rng) -> Vec<u8> {
    match rng.below(10) {
        0 => value(rng.below(3_000)),
        1 => value(4_000 + rng.below(200)),
        2 => Vec::new(),
        _ => rng.below(20).to_string().into_bytes(),
    }
}

/// Every operation against a vector; `fill` decides how often encodings and nodes change.
fn run(seed: u64, fill: i32) {
    let limits = limits(fill);
    let mut rng = Rng::from_seed(seed);
    let (mut list, mut model) = (List::new(), Vec::<Vec<u8>>::new());
    for step in 0..1_200 {
        let value = random_value(&mut rng);
        let index = rng.below(model.len());
        let growing = (step / 200) % 2 == 0;
        let pivot = model.get(index).cloned().unwrap_or_default();
        let first = model.iter().position(|v| *v == pivot);
        match if growing {
            rng.below(9)
        } else {
            4 + rng.below(9)
        } {
            0 | 1 => {
                list.extend_back([value.as_slice(), b"7"].into_iter(), &limits);
                model.extend([value, b"7".to_vec()]);
            }
            2 => {
                list.extend_front([value.as_slice(), b"8"].into_iter(), &limits);
                model.splice(0..0, [b"8".to_vec(), value]);
            }
            3 => {
                list.insert_at(index, &value, &limits);
                model.insert(index, value);
            }
            4 => {
                let after = rng.below(2);
                let done = if after == 1 {
                    list.insert_after(&pivot, &value, &limits)
                } else {
                    list.insert_before(&pivot, &value, &limits)
                };
                assert_eq!(done, first.is_some());
                if let Some(at) = first {
                    model.insert(at + after, value);
                }
            }
            5 => {
                assert_eq!(list.set(index, &value, &limits), index < model.len());
                if let Some(slot) = model.get_mut(index) {
                    *slot = value;
                }
            }
            6 | 7 => {
                let expected = if model.is_empty() {
                    None
                } else {
                    Some(model.remove(0))
                };
                assert_eq!(list.pop_front(&limits), expected);
            }
            8 => assert_eq!(list.pop_back(&limits), model.pop()),
            9 => {
                let (max, from_tail) = (rng.below(3), rng.below(2) == 0);
                let mut hits: Vec<usize> =
                    (0..model.len()).filter(|i| model[*i] == pivot).collect();
                if from_tail {
                    hits.reverse();
                }
                hits.truncate(max);
                assert_eq!(
                    list.remove_value(&pivot, max, from_tail, &limits),
                    hits.len()
                );
                hits.sort_unstable();
                hits.into_iter().rev().for_each(|i| {
                    model.remove(i);
                });
            }
            10 => {
                let end = index + rng.below(4);
                list.remove_range(index..end, &limits);
                model.drain(index..end.min(model.len()));
            }
            11 => {
                let end = model.len() - rng.below(3).min(model.len());
                let start = rng.below(3).min(end);
                list.trim(start..end, &limits);
                model = model[start..end].to_vec();
            }
            _ => {
                let mut found = Vec::new();
                list.positions(&pivot, true, usize::MAX, |i| {
                    found.push(i);
                    found.len() < 3
                });
                let expected = (0..model.len())
                    .rev()
                    .filter(|i| model[*i] == pivot)
                    .take(3);
                assert!(expected.eq(found));
            }
        }
        let context = format!("seed {seed} fill {fill} step {step}");
        assert_eq!(list.len(), model.len(), "{context}");
        assert!(
            list.iter().map(|e| e.to_vec()).eq(model.iter().cloned()),
            "{context}"
        );
        assert!(
            list.iter()
                .rev()
                .map(|e| e.to_vec())
                .eq(model.iter().rev().cloned()),
            "{context}"
        );
        assert_eq!(
            list.get(index).map(|e| e.to_vec()),
            model.get(index).cloned(),
            "{context}"
        );
        assert_eq!(
            list.front().map(|e| e.to_vec()),
            model.first().cloned(),
            "{context}"
        );
        assert_eq!(
            list.back().map(|e| e.to_vec()),
            model.last().cloned(),
            "{context}"
        );
        assert!(
            list.range(index..index + 5).map(|e| e.to_vec()).eq(model
                .iter()
                .skip(index)
                .take(5)
                .cloned()),
            "{context}"
        );
        assert!(
            list.is_empty() || list.nodes().all(|node| !node.is_empty()),
            "{context}"
        );
        if !list.is_empty() {
            let copy =
                List::from_nodes(list.nodes().cloned(), &limits).expect("the nodes are sound");
            assert!(copy.iter().eq(list.iter()), "{context}");
        }
    }
}

#[test]
fn agrees_with_a_vector_in_every_node_size() {
    for (seed, fill) in [
        (1, -2),
        (2, -1),
        (3, -5),
        (4, 1),
        (5, 4),
        (6, 128),
        (7, -2),
        (8, 3),
    ] {
        run(seed, fill);
    }
}

#[test]
fn both_ends_of_an_iterator_meet() {
    let mut list = List::new();
    let numbers: Vec<Vec<u8>> = (0..100).map(|i: i32| i.to_string().into_bytes()).collect();
    list.extend_back(numbers.iter().map(Vec::as_slice), &limits(3));
    let mut iter = list.range(10..90);
    let mut seen = Vec::new();
    while let Some(front) = iter.next() {
        seen.extend(front.as_int());
        seen.extend(iter.next_back().and_then(|e| e.as_int()));
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(10..90));
}
