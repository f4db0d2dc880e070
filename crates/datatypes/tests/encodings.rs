//! Every encoding of a type gives the same answers: seeded random operations on values with different limits, all
//! compared with one model. A failure prints its seed. Thresholds are those seen on Redis 8 with OBJECT ENCODING.

use datatypes::ptr_table::hash_bytes;
use datatypes::*;
use std::collections::{BTreeMap, BTreeSet};

/// Limits that keep values compact, that make them change on the way, and that never let them be compact.
fn limit_variants() -> [Limits; 3] {
    let with = |entries: usize, value: usize| Limits {
        hash_max_listpack_entries: entries,
        hash_max_listpack_value: value,
        set_max_intset_entries: entries,
        set_max_listpack_entries: entries,
        set_max_listpack_value: value,
        zset_max_listpack_entries: entries,
        zset_max_listpack_value: value,
        ..Limits::default()
    };
    [with(100_000, 100_000), with(60, 64), with(0, 0)]
}

fn random_name(rng: &mut Rng) -> Vec<u8> {
    match rng.below(6) {
        0 => vec![b'n'; rng.below(80)],
        1 => rng.below(400).to_string().into_bytes(),
        2 => (-(rng.below(40) as i64)).to_string().into_bytes(),
        3 => vec![0xFF, rng.below(256) as u8],
        _ => format!("name:{}", rng.below(200)).into_bytes(),
    }
}

/// Walks a scan to its end while `between` runs after each step; returns how often each item came.
fn scan_all<T>(
    value: &mut T,
    mut step: impl FnMut(&T, u64, &mut dyn FnMut(Vec<u8>)) -> u64,
    mut between: impl FnMut(&mut T),
) -> BTreeMap<Vec<u8>, usize> {
    let (mut seen, mut cursor) = (BTreeMap::new(), 0);
    loop {
        cursor = step(value, cursor, &mut |item| {
            *seen.entry(item).or_default() += 1
        });
        if cursor == 0 {
            return seen;
        }
        between(value);
    }
}

#[test]
fn sets_agree_in_all_encodings() {
    for seed in 0..12 {
        let limits = &limit_variants()[seed as usize % 3];
        let mut rng = Rng::from_seed(seed);
        let (mut set, mut model) = (Set::new(), BTreeSet::new());
        for step in 0..3_000 {
            let integers_only = seed % 2 == 0 && step < 1_000;
            let member = if integers_only {
                rng.below(300).to_string().into_bytes()
            } else {
                random_name(&mut rng)
            };
            match rng.below(if step / 500 % 2 == 0 { 4 } else { 7 }) {
                0 => assert_eq!(set.contains(&member), model.contains(&member)),
                1..=3 => assert_eq!(
                    set.add(&member, limits),
                    model.insert(member),
                    "seed {seed} step {step}"
                ),
                4 => {
                    let random = set.random(&mut rng).map(|e| e.to_vec());
                    assert_eq!(random.is_none(), model.is_empty());
                    assert!(random.is_none_or(|m| model.contains(&m)));
                }
                5 => {
                    let popped = set.pop(&mut rng);
                    assert_eq!(popped.is_none(), model.is_empty());
                    assert!(
                        popped.is_none_or(|m| model.remove(&m)),
                        "seed {seed} step {step}"
                    );
                }
                _ => assert_eq!(
                    set.remove(&member),
                    model.remove(&member),
                    "seed {seed} step {step}"
                ),
            }
            assert_eq!(set.len(), model.len());
            if step % 100 == 0 {
                let members: BTreeSet<Vec<u8>> = set.iter().map(|e| e.to_vec()).collect();
                assert_eq!(members, model, "seed {seed} step {step}");
                assert_eq!(set.iter().len(), model.len());
                assert!(set.iter().all(|e| set.contains_element(e)));
            }
        }
        let mut compact = Set::with_encoding(Encoding::HashTable);
        model.iter().for_each(|m| assert!(compact.add(m, limits)));
        compact.compact(&Limits {
            set_max_listpack_entries: 100_000,
            set_max_listpack_value: 100_000,
            ..Limits::default()
        });
        assert_eq!(
            compact.encoding(),
            if model.is_empty() {
                Encoding::IntSet
            } else {
                Encoding::Listpack
            }
        );
        assert_eq!(
            compact.iter().map(|e| e.to_vec()).collect::<BTreeSet<_>>(),
            model
        );
    }
}

#[test]
fn set_scans_miss_nothing_while_the_table_changes() {
    let limits = Limits {
        set_max_listpack_entries: 0,
        ..Limits::default()
    };
    for seed in 0..4 {
        let mut rng = Rng::from_seed(seed);
        let mut set = Set::with_encoding(Encoding::HashTable);
        (0..2_000).for_each(|i| assert!(set.add(format!("stays:{i}").as_bytes(), &limits)));
        let mut extra = 0;
        let seen = scan_all(
            &mut set,
            |set, cursor, visit| set.scan(cursor, 10, |e| visit(e.to_vec())),
            |set| {
                for _ in 0..rng.below(40) {
                    if seed % 2 == 0 {
                        set.add(format!("comes:{extra}").as_bytes(), &limits);
                        extra += 1;
                    } else if let Some(gone) = set.random(&mut rng).map(|e| e.to_vec()) {
                        if !gone.starts_with(b"stays:1") {
                            set.remove(&gone);
                        }
                    }
                }
            },
        );
        let stays = |i: &usize| seed % 2 == 0 || i.to_string().starts_with('1');
        for i in (0..2_000).filter(stays) {
            assert!(
                seen.contains_key(format!("stays:{i}").as_bytes()),
                "seed {seed}: {i} was missed"
            );
        }
    }
}

#[test]
fn hashes_agree_in_both_encodings() {
    for seed in 0..12 {
        let limits = &limit_variants()[seed as usize % 3];
        let mut rng = Rng::from_seed(seed);
        let (mut hash, mut model) = (Hash::new(), BTreeMap::<Vec<u8>, Vec<u8>>::new());
        for step in 0..3_000 {
            let (field, value) = (random_name(&mut rng), random_name(&mut rng));
            match rng.below(if step / 500 % 2 == 0 { 5 } else { 8 }) {
                0 => assert_eq!(
                    hash.get(&field).map(|e| e.to_vec()),
                    model.get(&field).cloned()
                ),
                1..=3 => {
                    let new = hash.set(&field, &value, limits);
                    assert_eq!(
                        new,
                        model.insert(field, value).is_none(),
                        "seed {seed} step {step}"
                    );
                }
                4 => {
                    let random = hash.random(&mut rng).map(|(f, v)| (f.to_vec(), v.to_vec()));
                    assert_eq!(random.is_none(), model.is_empty());
                    assert!(random.is_none_or(|(f, v)| model.get(&f) == Some(&v)));
                }
                _ => assert_eq!(
                    hash.remove(&field),
                    model.remove(&field).is_some(),
                    "seed {seed} step {step}"
                ),
            }
            assert_eq!(hash.len(), model.len());
            if step % 100 == 0 {
                let fields: BTreeMap<Vec<u8>, Vec<u8>> =
                    hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect();
                assert_eq!(fields, model, "seed {seed} step {step}");
                let seen = scan_all(
                    &mut hash,
                    |h, cursor, visit| h.scan(cursor, 7, |f, _| visit(f.to_vec())),
                    |_| (),
                );
                assert!(
                    seen.keys().eq(model.keys()) && seen.values().all(|n| *n == 1),
                    "seed {seed} step {step}"
                );
            }
        }
    }
}

type Scores = BTreeMap<Vec<u8>, f64>;

/// Members in the order of a sorted set.
fn ordered(model: &Scores) -> Vec<(Vec<u8>, f64)> {
    let mut all: Vec<(Vec<u8>, f64)> = model.iter().map(|(m, s)| (m.clone(), *s)).collect();
    all.sort_by(|a, b| {
        a.1.partial_cmp(&b.1)
            .expect("scores are numbers")
            .then_with(|| a.0.cmp(&b.0))
    });
    all
}

fn owned<'a>(items: impl Iterator<Item = (Element<'a>, f64)>) -> Vec<(Vec<u8>, f64)> {
    items
        .map(|(member, score)| (member.to_vec(), score))
        .collect()
}

fn random_score(rng: &mut Rng) -> f64 {
    match rng.below(12) {
        0 => f64::INFINITY,
        1 => f64::NEG_INFINITY,
        2 => rng.next_u64() as i64 as f64,
        3 => rng.unit_f64(),
        4 => 1e-300 * rng.unit_f64(),
        _ => rng.below(30) as f64 / 2.0 - 5.0,
    }
}

fn compare_ranges(set: &SortedSet, model: &Scores, rng: &mut Rng, context: &str) {
    let all = ordered(model);
    assert_eq!(owned(set.iter()), all, "{context}");
    assert_eq!(
        owned(set.iter().rev()),
        all.iter().rev().cloned().collect::<Vec<_>>(),
        "{context}"
    );
    for _ in 0..5 {
        let (start, end) = (rng.below(all.len() + 3), rng.below(all.len() + 3));
        let expected: Vec<_> = all.iter().take(end).skip(start).cloned().collect();
        assert_eq!(owned(set.range(start..end)), expected, "{context}");
        assert_eq!(set.range(start..end).len(), expected.len());
        let bound = |rng: &mut Rng| ScoreBound {
            score: random_score(rng),
            exclusive: rng.below(2) == 0,
        };
        let (min, max) = (bound(rng), bound(rng));
        let inside = |s: f64| {
            (if min.exclusive {
                s > min.score
            } else {
                s >= min.score
            }) && (if max.exclusive {
                s < max.score
            } else {
                s <= max.score
            })
        };
        let expected: Vec<_> = all.iter().filter(|(_, s)| inside(*s)).cloned().collect();
        let ranks = set.ranks_by_score(min, max);
        assert_eq!(ranks.len(), expected.len(), "{context} {min:?} {max:?}");
        assert_eq!(
            owned(set.range(ranks)),
            expected,
            "{context} {min:?} {max:?}"
        );
    }
    assert_eq!(
        set.first().map(|(m, s)| (m.to_vec(), s)),
        all.first().cloned()
    );
    assert_eq!(
        set.last().map(|(m, s)| (m.to_vec(), s)),
        all.last().cloned()
    );
    let seen = {
        let mut seen = BTreeMap::new();
        let mut cursor = 0;
        loop {
            cursor = set.scan(cursor, 10, |m, s| {
                assert!(seen.insert(m.to_vec(), s).is_none(), "{context}")
            });
            if cursor == 0 {
                break seen;
            }
        }
    };
    assert_eq!(&seen, model, "{context}");
}

#[test]
fn sorted_sets_agree_in_both_encodings() {
    for seed in 0..12 {
        let limits = &limit_variants()[seed as usize % 3];
        let mut rng = Rng::from_seed(seed);
        let (mut set, mut model) = (SortedSet::new(), Scores::new());
        for step in 0..3_000 {
            let member = random_name(&mut rng);
            let context = format!("seed {seed} step {step}");
            match rng.below(if step / 600 % 2 == 0 { 5 } else { 9 }) {
                0..=3 => {
                    // A set that holds 0 keeps it when told -0; the model would not.
                    let score = random_score(&mut rng);
                    assert_eq!(
                        set.insert(&member, score, limits),
                        model.insert(member, score),
                        "{context}"
                    );
                }
                4 => {
                    let all = ordered(&model);
                    let expected = all
                        .iter()
                        .position(|(m, _)| *m == member)
                        .map(|rank| (rank, all[rank].1));
                    assert_eq!(set.rank(&member), expected, "{context}");
                    assert_eq!(set.score(&member), model.get(&member).copied(), "{context}");
                }
                5 => {
                    let expected = ordered(&model).first().cloned();
                    let popped = set.pop_min();
                    assert_eq!(popped, expected, "{context}");
                    popped.map(|(m, _)| model.remove(&m));
                }
                6 => {
                    let expected = ordered(&model).last().cloned();
                    let popped = set.pop_max();
                    assert_eq!(popped, expected, "{context}");
                    popped.map(|(m, _)| model.remove(&m));
                }
                7 if step % 10 == 0 => {
                    let start = rng.below(model.len() + 2);
                    let end = start + rng.below(20);
                    let gone: Vec<_> = ordered(&model).into_iter().take(end).skip(start).collect();
                    assert_eq!(set.remove_ranks(start..end), gone.len(), "{context}");
                    gone.iter().for_each(|(m, _)| {
                        model.remove(m);
                    });
                }
                _ => assert_eq!(set.remove(&member), model.remove(&member), "{context}"),
            }
            assert_eq!(set.len(), model.len(), "{context}");
            if step % 200 == 0 {
                compare_ranges(&set, &model, &mut rng, &context);
                let random = set.random(&mut rng).map(|(m, s)| (m.to_vec(), s));
                assert_eq!(random.is_none(), model.is_empty());
                assert!(random.is_none_or(|(m, s)| model.get(&m) == Some(&s)));
            }
        }
        let large = Limits {
            zset_max_listpack_entries: 100_000,
            zset_max_listpack_value: 100_000,
            ..Limits::default()
        };
        let before = owned(set.iter());
        set.compact(&large);
        assert_eq!(
            (set.encoding(), owned(set.iter())),
            (Encoding::Listpack, before)
        );
        let blob = set.as_listpack().expect("it was just packed").clone();
        for limits in limit_variants() {
            let loaded =
                SortedSet::from_listpack(blob.clone(), &limits).expect("the blob is sound");
            assert_eq!(owned(loaded.iter()), owned(set.iter()));
        }
    }
}

#[test]
fn lexicographic_ranges_agree_in_both_encodings() {
    for limits in limit_variants() {
        let mut rng = Rng::from_seed(21);
        let (mut set, mut model) = (SortedSet::new(), BTreeSet::new());
        for _ in 0..300 {
            let member = random_name(&mut rng);
            set.insert(&member, 7.0, &limits);
            model.insert(member);
        }
        for _ in 0..300 {
            let (a, b) = (random_name(&mut rng), random_name(&mut rng));
            let pick = |name, rng: &mut Rng| match rng.below(6) {
                0 => LexBound::Min,
                1 => LexBound::Max,
                2 | 3 => LexBound::Inclusive(name),
                _ => LexBound::Exclusive(name),
            };
            let (min, max) = (pick(&a, &mut rng), pick(&b, &mut rng));
            let above = |m: &[u8]| match min {
                LexBound::Min => true,
                LexBound::Max => false,
                LexBound::Inclusive(x) => m >= x,
                LexBound::Exclusive(x) => m > x,
            };
            let below = |m: &[u8]| match max {
                LexBound::Min => false,
                LexBound::Max => true,
                LexBound::Inclusive(x) => m <= x,
                LexBound::Exclusive(x) => m < x,
            };
            let expected: Vec<&Vec<u8>> = model.iter().filter(|m| above(m) && below(m)).collect();
            let found: Vec<Vec<u8>> = set
                .range(set.ranks_by_lex(min, max))
                .map(|(m, _)| m.to_vec())
                .collect();
            assert!(found.iter().eq(expected), "{min:?} {max:?}");
        }
    }
}

#[test]
fn sets_change_their_encoding_where_redis_does() {
    let limits = Limits::default();
    let of = |members: &mut dyn Iterator<Item = String>| {
        let mut members = members.peekable();
        let first = members.peek().cloned().unwrap_or_default();
        let mut set = Set::for_members(first.as_bytes(), 1, &limits);
        members.for_each(|m| {
            set.add(m.as_bytes(), &limits);
        });
        set.encoding()
    };
    let numbers = |n: usize| (0..n).map(|i| i.to_string());
    let names = |n: usize| (0..n).map(|i| format!("m{i}"));
    assert_eq!(of(&mut numbers(512)), Encoding::IntSet);
    assert_eq!(of(&mut numbers(513)), Encoding::HashTable);
    assert_eq!(of(&mut names(128)), Encoding::Listpack);
    assert_eq!(of(&mut names(129)), Encoding::HashTable);
    assert_eq!(of(&mut numbers(127).chain(names(1))), Encoding::Listpack);
    assert_eq!(of(&mut numbers(128).chain(names(1))), Encoding::HashTable);
    assert_eq!(of(&mut ["x".repeat(64)].into_iter()), Encoding::Listpack);
    assert_eq!(of(&mut ["x".repeat(65)].into_iter()), Encoding::HashTable);
    let hinted = |first: &str, hint| Set::for_members(first.as_bytes(), hint, &limits).encoding();
    assert_eq!(hinted("1", 512), Encoding::IntSet);
    assert_eq!(hinted("1", 513), Encoding::HashTable);
    assert_eq!(hinted("a", 128), Encoding::Listpack);
    assert_eq!(hinted("a", 129), Encoding::HashTable);
}

#[test]
fn hashes_and_sorted_sets_change_their_encoding_where_redis_does() {
    let limits = Limits::default();
    let hash = |count: usize, value: &str| {
        let mut hash = Hash::new();
        (0..count)
            .for_each(|i| assert!(hash.set(format!("f{i}").as_bytes(), value.as_bytes(), &limits)));
        hash.encoding()
    };
    assert_eq!(hash(128, "v"), Encoding::Listpack);
    assert_eq!(hash(129, "v"), Encoding::HashTable);
    assert_eq!(hash(1, &"v".repeat(64)), Encoding::Listpack);
    assert_eq!(hash(1, &"v".repeat(65)), Encoding::HashTable);
    let mut announced = Hash::new();
    announced.prepare(129, &limits);
    assert_eq!(announced.encoding(), Encoding::HashTable);
    let zset = |count: usize, len: usize| {
        let mut set = SortedSet::for_members(1, 1, &limits);
        (0..count).for_each(|i| {
            assert_eq!(
                set.insert(format!("{i:0len$}").as_bytes(), 1.5, &limits),
                None
            )
        });
        set.encoding()
    };
    assert_eq!(zset(128, 3), Encoding::Listpack);
    assert_eq!(zset(129, 3), Encoding::SkipList);
    assert_eq!(zset(1, 64), Encoding::Listpack);
    assert_eq!(zset(1, 65), Encoding::SkipList);
    assert_eq!(
        SortedSet::for_members(129, 1, &limits).encoding(),
        Encoding::SkipList
    );
    assert_eq!(
        SortedSet::for_members(1, 65, &limits).encoding(),
        Encoding::SkipList
    );
}

#[test]
fn sorted_set_blobs_are_those_of_redis() {
    let limits = Limits::default();
    let mut set = SortedSet::new();
    for (member, score) in [
        ("b", 1.5),
        ("a", 1e21),
        ("10", 3.0),
        ("c", -0.0),
        ("inf", f64::INFINITY),
    ] {
        set.insert(member.as_bytes(), score, &limits);
    }
    let blob = set.as_listpack().expect("five members are few").as_bytes();
    assert_eq!(
        blob,
        b"\x2C\0\0\0\x0A\0\x81c\x02\x00\x01\x81b\x02\x831.5\x04\x0A\x01\x03\x01\x81a\x02\x851e+21\x06\x83inf\x04\x83inf\x04\xFF"
    );
}

#[test]
fn unsound_blobs_are_refused() {
    let limits = Limits::default();
    let pack = |elements: &[&str]| {
        let mut pack = Listpack::new();
        elements.iter().for_each(|e| pack.push_back(e.as_bytes()));
        pack
    };
    assert!(Set::from_listpack(pack(&["a", "b", "a"]), &limits).is_err());
    assert!(Set::from_listpack(pack(&["a", "b"]), &limits).is_ok());
    assert!(Hash::from_listpack(pack(&["f", "v", "g"]), &limits).is_err());
    assert!(Hash::from_listpack(pack(&["f", "v", "f", "w"]), &limits).is_err());
    assert!(Hash::from_listpack(pack(&["f", "f", "g", "f"]), &limits).is_ok());
    for bad in [
        &["a", "1", "b"][..],
        &["a", "x"],
        &["a", "nan"],
        &["a", "2", "b", "1"],
        &["b", "1", "a", "1"],
        &["a", "1", "a", "2"],
    ] {
        assert!(
            SortedSet::from_listpack(pack(bad), &limits).is_err(),
            "{bad:?}"
        );
    }
    assert!(SortedSet::from_listpack(pack(&["a", "1", "b", "1", "c", "inf"]), &limits).is_ok());
}

#[test]
fn values_of_a_large_set_are_equally_likely() {
    let mut rng = Rng::from_seed(5);
    let mut set = Set::with_encoding(Encoding::HashTable);
    (0..1_000).for_each(|i: i32| {
        set.add(i.to_string().as_bytes(), &Limits::default());
    });
    let mut counts = vec![0u32; 1_000];
    for _ in 0..100_000 {
        let member = set
            .random(&mut rng)
            .and_then(|e| e.as_int())
            .expect("the set has members");
        counts[member as usize] += 1;
    }
    // A hundred each on average; the deviation is ten.
    assert!(
        counts.iter().all(|n| (45..170).contains(n)),
        "{:?}..{:?}",
        counts.iter().min(),
        counts.iter().max()
    );
}

#[test]
fn values_may_move_between_threads() {
    let mut hash = Hash::new();
    hash.prepare(1_000, &Limits::default());
    hash.set(b"f", b"v", &Limits::default());
    let value = Value::Hash(hash);
    let moved = std::thread::spawn(move || {
        (
            value.len(),
            value.encoding().name(),
            value.value_type().name(),
            value.free_effort(),
        )
    })
    .join();
    assert_eq!(moved.ok(), Some((1, "hashtable", "hash", 1)));
    assert_ne!(hash_bytes(b"a"), hash_bytes(b"b"));
}
