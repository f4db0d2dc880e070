//! A value beside a collection of the standard library: the same steps on both, then the same content.

use crate::content::fields;
use datatypes::stream::{Keep, Trim};
use datatypes::{
    Hash, LexBound, Limits, List, Rng, ScoreBound, Set, SortedSet, Stream, StreamId, Value,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

type Bytes = Vec<u8>;

const STEPS: usize = 16;
/// A longer value is only walked through: each step would compare all of it.
const LEN_MAX: usize = 200;

pub fn exercise(value: Value, limits: &Limits, rng: &mut Rng) {
    if value.len() > LEN_MAX {
        return;
    }
    match value {
        Value::List(list) => exercise_list(list, limits, rng),
        Value::Set(set) => exercise_set(set, limits, rng),
        Value::Hash(hash) => exercise_hash(hash, limits, rng),
        Value::SortedSet(zset) => exercise_zset(zset, limits, rng),
        Value::Stream(stream) => exercise_stream(*stream, limits, rng),
    }
}

fn exercise_stream(mut stream: Stream, limits: &Limits, rng: &mut Rng) {
    let entries = |stream: &Stream| -> Vec<(StreamId, Vec<Bytes>)> {
        stream.iter().map(|e| (e.id, fields(&e))).collect()
    };
    let mut model = entries(&stream);
    // No server makes a stream whose entries are not in order, but none refuses it either.
    let in_order = model.is_sorted_by(|a, b| a.0 < b.0);
    let below_last = model.last().is_none_or(|(id, _)| *id <= stream.last_id);
    if !in_order || !below_last {
        return;
    }
    for _ in 0..STEPS {
        match rng.below(4) {
            0 | 1 => {
                let Some(id) = stream.last_id.next() else {
                    return;
                };
                let count = 2 * (1 + rng.below(3));
                let pairs: Vec<Bytes> = (0..count).map(|_| item(rng, &[])).collect();
                let added = stream.append(id, pairs.iter().map(Vec::as_slice), limits);
                added.expect("the ID is greater than all before");
                model.push((id, pairs));
            }
            2 if !model.is_empty() => {
                let id = model.remove(rng.below(model.len())).0;
                assert_eq!(stream.delete([id].into_iter()), 1);
            }
            _ => {
                let kept = rng.below(model.len() + 1);
                let trim = Trim {
                    keep: Keep::Newest(kept as u64),
                    approximate: false,
                    limit: None,
                };
                let removed = model.len() - kept;
                assert_eq!(stream.trim(&trim), removed as u64);
                model.drain(..removed);
            }
        }
        assert_eq!(entries(&stream), model);
        let mut backward: Vec<_> = stream
            .range_rev(StreamId::MIN, StreamId::MAX)
            .map(|e| e.id)
            .collect();
        backward.reverse();
        assert!(backward.iter().eq(model.iter().map(|(id, _)| id)));
    }
}

/// Something that is there, or something new: short text, long text, integers at the edges of their encodings.
fn item(rng: &mut Rng, present: &[Bytes]) -> Bytes {
    const INTS: [i64; 12] = [
        0,
        -1,
        127,
        128,
        4095,
        -4096,
        32767,
        32768,
        8388607,
        2147483648,
        i64::MAX,
        i64::MIN,
    ];
    match rng.below(8) {
        0..=3 if !present.is_empty() => present[rng.below(present.len())].clone(),
        0 | 4 => INTS[rng.below(INTS.len())].to_string().into_bytes(),
        1 | 5 => vec![b'a' + rng.below(26) as u8; rng.below(5)],
        2 | 6 => vec![rng.next_u64() as u8; 60 + rng.below(80)],
        _ => vec![b'z'; [300, 4095, 4096, 9000][rng.below(4)]],
    }
}

fn exercise_list(mut list: List, limits: &Limits, rng: &mut Rng) {
    let mut model: VecDeque<Bytes> = list.iter().map(|e| e.to_vec()).collect();
    for _ in 0..STEPS {
        let new = item(rng, model.make_contiguous());
        let at = rng.below(model.len() + 1);
        match rng.below(10) {
            0 => {
                list.push_front(&new, limits);
                model.push_front(new);
            }
            1 => {
                list.push_back(&new, limits);
                model.push_back(new);
            }
            2 => assert_eq!(list.pop_front(limits), model.pop_front()),
            3 => assert_eq!(list.pop_back(limits), model.pop_back()),
            4 => {
                list.insert_at(at, &new, limits);
                model.insert(at, new);
            }
            5 => {
                assert_eq!(list.set(at, &new, limits), at < model.len());
                if at < model.len() {
                    model[at] = new;
                }
            }
            6 => {
                let count = rng.below(3);
                let before = model.len();
                let mut left = count;
                model.retain(|item| {
                    let goes = *item == new && left > 0;
                    left -= usize::from(goes);
                    !goes
                });
                let removed = list.remove_value(&new, count, false, limits);
                assert_eq!(removed, before - model.len());
            }
            7 => {
                let end = at + rng.below(model.len() - at + 1);
                list.remove_range(at..end, limits);
                model.drain(at..end);
            }
            8 => {
                let expected = model.iter().position(|item| *item == new);
                if let Some(i) = expected {
                    model.insert(i, b"before".to_vec());
                }
                assert_eq!(
                    list.insert_before(&new, b"before", limits),
                    expected.is_some()
                );
            }
            _ => {
                let expected: Vec<usize> = (0..model.len()).filter(|&i| model[i] == new).collect();
                let mut found = Vec::new();
                list.positions(&new, false, usize::MAX, |i| {
                    found.push(i);
                    true
                });
                assert_eq!(found, expected);
            }
        }
        assert_eq!(list.len(), model.len());
        assert!(list.iter().map(|e| e.to_vec()).eq(model.iter().cloned()));
        assert!(list
            .iter()
            .rev()
            .map(|e| e.to_vec())
            .eq(model.iter().rev().cloned()));
        assert_eq!(list.get(at).map(|e| e.to_vec()).as_ref(), model.get(at));
    }
}

fn exercise_set(mut set: Set, limits: &Limits, rng: &mut Rng) {
    let mut model: BTreeSet<Bytes> = set.iter().map(|e| e.to_vec()).collect();
    assert_eq!(model.len(), set.len(), "members are distinct");
    for _ in 0..STEPS {
        let present: Vec<Bytes> = model.iter().cloned().collect();
        let new = item(rng, &present);
        assert_eq!(set.contains(&new), model.contains(&new));
        match rng.below(5) {
            0 | 1 => assert_eq!(set.add(&new, limits), model.insert(new)),
            2 => assert_eq!(set.remove(&new), model.remove(&new)),
            3 => match set.pop(rng) {
                Some(member) => assert!(model.remove(&member)),
                None => assert!(model.is_empty()),
            },
            _ => set.compact(limits),
        }
        let found: BTreeSet<Bytes> = set.iter().map(|e| e.to_vec()).collect();
        assert_eq!((set.len(), &found), (model.len(), &model));
    }
    let mut scanned = BTreeSet::new();
    let mut cursor = 0;
    loop {
        cursor = set.scan(cursor, 10, |e| {
            scanned.insert(e.to_vec());
        });
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(scanned, model);
}

fn exercise_hash(mut hash: Hash, limits: &Limits, rng: &mut Rng) {
    let mut model: BTreeMap<Bytes, Bytes> =
        hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect();
    assert_eq!(model.len(), hash.len(), "fields are distinct");
    for _ in 0..STEPS {
        let present: Vec<Bytes> = model.keys().cloned().collect();
        let field = item(rng, &present);
        assert_eq!(
            hash.get(&field).map(|v| v.to_vec()).as_ref(),
            model.get(&field)
        );
        match rng.below(3) {
            0 => assert_eq!(hash.remove(&field), model.remove(&field).is_some()),
            _ => {
                let value = item(rng, &[]);
                assert_eq!(
                    hash.set(&field, &value, limits),
                    model.insert(field, value).is_none()
                );
            }
        }
        if let Some((field, value)) = hash.random(rng) {
            assert_eq!(model.get(&field.to_vec()), Some(&value.to_vec()));
        }
        let found: BTreeMap<Bytes, Bytes> =
            hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect();
        assert_eq!((hash.len(), &found), (model.len(), &model));
    }
    let mut scanned = BTreeMap::new();
    let mut cursor = 0;
    loop {
        cursor = hash.scan(cursor, 10, |f, v| {
            scanned.insert(f.to_vec(), v.to_vec());
        });
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(scanned, model);
}

fn exercise_zset(mut zset: SortedSet, limits: &Limits, rng: &mut Rng) {
    const SCORES: [f64; 9] = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        1e300,
        5e-324,
        f64::INFINITY,
        f64::NEG_INFINITY,
        4611686018427387904.0,
    ];
    let mut model: BTreeMap<Bytes, f64> = zset.iter().map(|(m, s)| (m.to_vec(), s)).collect();
    assert_eq!(model.len(), zset.len(), "members are distinct");
    for _ in 0..STEPS {
        let present: Vec<Bytes> = model.keys().cloned().collect();
        let member = item(rng, &present);
        assert_eq!(zset.score(&member), model.get(&member).copied());
        match rng.below(7) {
            0 => assert_eq!(zset.remove(&member), model.remove(&member)),
            1 => {
                if let Some((member, score)) = zset.pop_min() {
                    assert_eq!(model.remove(&member), Some(score));
                }
            }
            2 => {
                if let Some((member, score)) = zset.pop_max() {
                    assert_eq!(model.remove(&member), Some(score));
                }
            }
            3 => zset.compact(limits),
            _ => {
                let score = match rng.below(3) {
                    0 => model.values().next().copied().unwrap_or(7.0),
                    1 => rng.below(10) as f64 / 4.0,
                    _ => SCORES[rng.below(SCORES.len())],
                };
                assert_eq!(
                    zset.insert(&member, score, limits),
                    model.insert(member, score)
                );
            }
        }
        check_order(&zset, &model, rng);
    }
}

fn check_order(zset: &SortedSet, model: &BTreeMap<Bytes, f64>, rng: &mut Rng) {
    let mut ranked: Vec<(f64, &Bytes)> = model.iter().map(|(m, s)| (*s, m)).collect();
    ranked.sort_by(|a, b| a.partial_cmp(b).expect("no score is NaN"));
    assert_eq!(zset.len(), ranked.len());
    let expected = || ranked.iter().map(|(s, m)| (m.to_vec(), *s));
    assert!(
        zset.iter().map(|(m, s)| (m.to_vec(), s)).eq(expected()),
        "{zset:?} {ranked:?}"
    );
    assert!(zset
        .iter()
        .rev()
        .map(|(m, s)| (m.to_vec(), s))
        .eq(expected().rev()));
    if ranked.is_empty() {
        return;
    }
    let rank = rng.below(ranked.len());
    let (score, member) = ranked[rank];
    assert_eq!(zset.rank(member), Some((rank, score)));
    let by_score = zset.ranks_by_score(
        ScoreBound {
            score,
            exclusive: false,
        },
        ScoreBound::MAX,
    );
    let first = ranked.iter().position(|(s, _)| *s >= score);
    assert_eq!(Some(by_score.start), first);
    assert_eq!(by_score.end, ranked.len());
    if ranked[0].0 == ranked[ranked.len() - 1].0 {
        let by_lex = zset.ranks_by_lex(LexBound::Inclusive(member), LexBound::Max);
        assert_eq!(by_lex, rank..ranked.len());
    }
}
