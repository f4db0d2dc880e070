//! Payloads of RESTORE. Input: a byte of choices, and a payload without version and checksum. What decodes is used the
//! way commands use it, beside a model made of the standard library's collections, then written and read again.

mod model;

use crate::content::{entry, Content};
use datatypes::{Limits, Rng, Value};
use keyspace::{NewValue, UnixMillis};
use persistence::rdb::dump::{dump_value, load_dump, DumpError};
use persistence::rdb::encode::Encoder;

/// Every collection leaves its compact encoding at once.
pub const TINY: Limits = Limits {
    hash_max_listpack_entries: 1,
    hash_max_listpack_value: 3,
    set_max_intset_entries: 1,
    set_max_listpack_entries: 1,
    set_max_listpack_value: 3,
    zset_max_listpack_entries: 1,
    zset_max_listpack_value: 3,
    hll_sparse_max_bytes: 20,
    list_max_listpack_size: 2,
    list_compress_depth: 0,
    stream_node_max_bytes: 40,
    stream_node_max_entries: 2,
};

/// None does.
pub const HUGE: Limits = Limits {
    hash_max_listpack_entries: 1 << 20,
    hash_max_listpack_value: 1 << 20,
    set_max_intset_entries: 1 << 20,
    set_max_listpack_entries: 1 << 20,
    set_max_listpack_value: 1 << 20,
    zset_max_listpack_entries: 1 << 20,
    zset_max_listpack_value: 1 << 20,
    hll_sparse_max_bytes: 1 << 20,
    list_max_listpack_size: -5,
    list_compress_depth: 0,
    stream_node_max_bytes: 0,
    stream_node_max_entries: 0,
};

pub fn run(input: &[u8]) {
    let Some((&choice, body)) = input.split_first() else {
        return;
    };
    let mut payload = body.to_vec();
    let version: u16 = if choice & 1 == 0 { 11 } else { 80 };
    payload.extend_from_slice(&version.to_le_bytes());
    // A checksum of zero is not checked.
    payload.extend_from_slice(&[0; 8]);

    let all_limits = [Limits::default(), TINY, HUGE];
    let results = all_limits.map(|limits| load_dump(&payload, &limits).map(content));
    let content = match results {
        [Ok(first), Ok(second), Ok(third)] => {
            assert_eq!(first, second, "limits change the encoding, not the content");
            assert_eq!(first, third, "limits change the encoding, not the content");
            first
        }
        [Err(a), Err(b), Err(c)] => return [a, b, c].into_iter().for_each(shown),
        mixed => panic!("what one limit accepts, all do: {mixed:?}"),
    };
    let limits = all_limits[usize::from(choice >> 1) % 3];
    read_back(&payload, &limits, &content);
    let Ok(NewValue::Object(value)) = load_dump(&payload, &limits) else {
        return;
    };
    let mut rng = Rng::from_seed(persistence::crc::jones(input));
    for limits in &all_limits {
        use_value(&value_of(&payload, limits), &content);
    }
    model::exercise(value_of(&payload, &limits), &limits, &mut rng);
    // Limits may change while a value is there.
    model::exercise(*value, &all_limits[rng.below(3)], &mut rng);
}

fn value_of(payload: &[u8], limits: &Limits) -> Value {
    match load_dump(payload, limits) {
        Ok(NewValue::Object(value)) => *value,
        _ => unreachable!("it decoded before"),
    }
}

fn content(value: NewValue<'_>) -> Content {
    let entry = entry(value, Some(UnixMillis(1)));
    assert!(entry.as_ref().memory_bytes(0) > 0);
    Content::of(entry.as_ref().value())
}

fn shown(error: DumpError) {
    match error {
        DumpError::VersionOrChecksum => {}
        DumpError::Value(error) => drop(error.to_string()),
    }
}

/// What DUMP gives of the value decodes to the same, and gives the same bytes again.
fn read_back(payload: &[u8], limits: &Limits, content: &Content) {
    for compress in [true, false] {
        let mut encoder = Encoder::new(compress);
        let value = entry(load_dump(payload, limits).expect("it decoded before"), None);
        let mut first = Vec::new();
        dump_value(&mut encoder, value.as_ref().value(), &mut first);
        let again = entry(
            load_dump(&first, limits).expect("what DUMP gives, RESTORE takes"),
            None,
        );
        assert_eq!(&Content::of(again.as_ref().value()), content);
        assert_eq!(
            value.as_ref().encoding_name(),
            again.as_ref().encoding_name()
        );
        // Sets and hashes in a table have no order to keep.
        if !["hashtable"].contains(&value.as_ref().encoding_name()) {
            let mut second = Vec::new();
            dump_value(&mut encoder, again.as_ref().value(), &mut second);
            assert_eq!(first, second);
        }
    }
}

/// Reads the value every way there is.
fn use_value(value: &Value, content: &Content) {
    assert!(!value.is_empty());
    let len = match content {
        Content::String(_) => unreachable!("a string is no object"),
        Content::List(items) | Content::Set(items) => items.len(),
        Content::Hash(pairs) => pairs.len(),
        Content::SortedSet(pairs) => pairs.len(),
        Content::Stream(entries, _) => entries.len(),
    };
    assert_eq!(value.len(), len);
    assert!(value.free_effort() > 0);
    value.approximate_bytes(0);
    value.approximate_bytes(5);
}
