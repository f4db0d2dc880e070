use super::*;
use crate::Rng;

fn pack(values: &[&[u8]]) -> Listpack {
    let mut pack = Listpack::new();
    values.iter().for_each(|value| pack.push_back(value));
    pack
}

fn texts(pack: &Listpack) -> Vec<Vec<u8>> {
    pack.iter().map(|element| element.to_vec()).collect()
}

/// The only entry of a listpack that holds `value`, as its bytes.
fn check(value: &[u8], entry: &[u8]) {
    let pack = pack(&[value]);
    let bytes = pack.as_bytes();
    assert_eq!(
        &bytes[HEADER..bytes.len() - 1],
        entry,
        "{}",
        String::from_utf8_lossy(value)
    );
    assert_eq!(pack.get(0).map(|e| e.to_vec()).as_deref(), Some(value));
}

#[test]
fn entries_are_encoded_as_redis_does() {
    check(b"0", b"\x00\x01");
    check(b"127", b"\x7F\x01");
    check(b"128", b"\xC0\x80\x02");
    check(b"-1", b"\xDF\xFF\x02");
    check(b"4095", b"\xCF\xFF\x02");
    check(b"-4096", b"\xD0\x00\x02");
    check(b"4096", b"\xF1\x00\x10\x03");
    check(b"-32768", b"\xF1\x00\x80\x03");
    check(b"32768", b"\xF2\x00\x80\x00\x04");
    check(b"-8388608", b"\xF2\x00\x00\x80\x04");
    check(b"8388608", b"\xF3\x00\x00\x80\x00\x05");
    check(b"-2147483648", b"\xF3\x00\x00\x00\x80\x05");
    check(b"2147483648", b"\xF4\x00\x00\x00\x80\x00\x00\x00\x00\x09");
    check(
        b"-9223372036854775808",
        b"\xF4\x00\x00\x00\x00\x00\x00\x00\x80\x09",
    );
    check(b"9223372036854775808", b"\x939223372036854775808\x14");
    check(b"", b"\x80\x01");
    check(b"-0", b"\x82-0\x03");
    check(b"01", b"\x8201\x03");
    check(b"+1", b"\x82+1\x03");
    check(b" 1", b"\x82 1\x03");
}

#[test]
fn lengths_change_their_encoding_where_redis_does() {
    for (len, head, back) in [
        (63, b"\xBF".as_slice(), b"\x40".as_slice()),
        (64, b"\xE0\x40", b"\x42"),
        (125, b"\xE0\x7D", b"\x7F"),
        (126, b"\xE0\x7E", b"\x01\x80"),
        (4095, b"\xEF\xFF", b"\x20\x81"),
        (4096, b"\xF0\x00\x10\x00\x00", b"\x20\x85"),
        (16_377, b"\xF0\xF9\x3F\x00\x00", b"\x7F\xFE"),
        // 16383 would fit in two bytes; Redis takes three.
        (16_378, b"\xF0\xFA\x3F\x00\x00", b"\x00\xFF\xFF"),
        (2_097_145, b"\xF0\xF9\xFF\x1F\x00", b"\x7F\xFF\xFE"),
        (2_097_146, b"\xF0\xFA\xFF\x1F\x00", b"\x00\xFF\xFF\xFF"),
    ] {
        let text = vec![b'x'; len];
        check(&text, &[head, text.as_slice(), back].concat());
    }
}

#[test]
fn header_holds_length_and_count() {
    let pack = pack(&[b"a", b"1"]);
    assert_eq!(
        pack.as_bytes(),
        b"\x0C\x00\x00\x00\x02\x00\x81a\x02\x01\x01\xFF"
    );
    assert_eq!(Listpack::new().as_bytes(), b"\x07\x00\x00\x00\x00\x00\xFF");
}

#[test]
fn more_than_65534_elements_are_counted_by_walking() {
    let mut pack = Listpack::new();
    (0..70_000).for_each(|i| pack.push_back_int(i % 100));
    assert_eq!(pack.as_bytes()[4..6], [0xFF, 0xFF]);
    assert_eq!(pack.len(), 70_000);
    assert_eq!(pack.get(69_999), Some(Element::Int(99)));
    assert_eq!(pack.get(70_000), None);
    pack.remove_range(10, 69_980);
    assert_eq!(pack.len(), 20);
    assert_eq!(
        Listpack::from_bytes_checked(pack.as_bytes().to_vec()).map(|p| p.len()),
        Ok(20)
    );
}

#[test]
fn elements_compare_by_their_text() {
    assert_eq!(Element::Int(12), Element::Bytes(b"12"));
    assert_ne!(Element::Int(12), Element::Bytes(b"012"));
    assert_ne!(Element::Int(12), Element::Bytes(b"12a"));
    assert_eq!(Element::Bytes(b"a"), Element::Bytes(b"a"));
    assert_eq!(Element::Bytes(b"-7").as_int(), Some(-7));
    for int in [0, 9, 10, -1, 99, 100, i64::MAX, i64::MIN] {
        assert_eq!(Element::Int(int).len(), int.to_string().len());
    }
}

fn random_value(rng: &mut Rng) -> Vec<u8> {
    match rng.below(8) {
        0 => vec![b'x'; [0, 62, 63, 64, 125, 126, 4095, 4096, 20_000][rng.below(9)]],
        1 => (rng.next_u64() as i64 >> rng.below(64))
            .to_string()
            .into_bytes(),
        2 => format!("0{}", rng.below(10)).into_bytes(),
        _ => rng.below(300).to_string().into_bytes(),
    }
}

/// Every operation against a vector of texts, and the blob checked from scratch after each.
fn run(seed: u64) {
    let mut rng = Rng::from_seed(seed);
    let (mut pack, mut model) = (Listpack::new(), Vec::<Vec<u8>>::new());
    for step in 0..1_500 {
        let value = random_value(&mut rng);
        let index = rng.below(model.len());
        let pos = pack.seek(index);
        assert_eq!(pos.is_some(), !model.is_empty());
        match (rng.below(10), pos) {
            (0 | 1, _) => {
                pack.push_back(&value);
                model.push(value);
            }
            (2, _) => {
                pack.push_front(&value);
                model.insert(0, value);
            }
            (3, Some(pos)) => {
                let at = pack.insert_before(pos, &value);
                assert!(pack.element(at).eq_bytes(&value));
                model.insert(index, value);
            }
            (4, Some(pos)) => {
                let at = pack.insert_after(pos, &value);
                assert!(pack.element(at).eq_bytes(&value));
                model.insert(index + 1, value);
            }
            (5, Some(pos)) => {
                let at = pack.replace(pos, &value);
                assert!(pack.element(at).eq_bytes(&value));
                model[index] = value;
            }
            (6, Some(pos)) => {
                model.remove(index);
                let next = pack.remove(pos).map(|at| pack.element(at).to_vec());
                assert_eq!(next, model.get(index).cloned());
            }
            (7, _) if step % 5 == 0 => {
                let count = rng.below(6);
                pack.remove_range(index, count);
                model.drain(index..(index + count).min(model.len()));
            }
            (8, Some(pos)) => {
                let skip = rng.below(3);
                let needle = model[rng.below(model.len())].clone();
                let expected = (index..model.len())
                    .step_by(skip + 1)
                    .find(|i| model[*i] == needle);
                let found = pack.find(pos, &needle, skip);
                assert_eq!(
                    found.map(|at| pack.index_of(at)),
                    expected,
                    "seed {seed} step {step}"
                );
            }
            (9, _) if step % 20 == 0 => {
                let tail = pack.split_off(index);
                assert_eq!(texts(&tail), model[index.min(model.len())..]);
                pack.append(&tail);
            }
            _ => {}
        }
        assert_eq!(texts(&pack), model, "seed {seed} step {step}");
        let backwards: Vec<Vec<u8>> = pack.iter().rev().map(|e| e.to_vec()).collect();
        assert!(
            backwards.iter().eq(model.iter().rev()),
            "seed {seed} step {step}"
        );
        assert_eq!(pack.len(), model.len());
        assert_eq!(
            Listpack::from_bytes_checked(pack.as_bytes().to_vec()).as_ref(),
            Ok(&pack),
            "seed {seed} step {step}"
        );
    }
}

#[test]
fn agrees_with_a_vector() {
    (0..6).for_each(run);
}

#[test]
fn ranges_are_clamped() {
    let pack = pack(&[b"a", b"b", b"c", b"d"]);
    let range = |index, count| {
        pack.range(index, count)
            .map(|e| e.to_vec())
            .collect::<Vec<_>>()
            .concat()
    };
    assert_eq!(range(0, 4), b"abcd");
    assert_eq!(range(1, 2), b"bc");
    assert_eq!(range(2, usize::MAX), b"cd");
    assert_eq!(range(4, 1), b"");
    assert_eq!(range(0, 0), b"");
    assert!(pack
        .range(1, 2)
        .rev()
        .eq([Element::Bytes(b"c"), Element::Bytes(b"b")]));
    assert_eq!(Listpack::new().range(0, 3).count(), 0);
}

#[test]
fn repeated_elements_are_noticed() {
    assert!(pack(&[b"a", b"1", b"b", b"1"]).is_distinct(2));
    assert!(!pack(&[b"a", b"1", b"b", b"1"]).is_distinct(1));
    assert!(!pack(&[b"7", b"x", b"7", b"y"]).is_distinct(2));
    assert!(Listpack::new().is_distinct(1));
}

/// Flips, cuts and overwrites; whatever is accepted must be usable without a panic.
#[test]
fn damaged_blobs_never_panic() {
    let long = vec![b'l'; 5_000];
    let medium = vec![b'm'; 300];
    let whole = pack(&[
        b"abc",
        b"1",
        b"-4000",
        &medium,
        b"70000",
        b"",
        b"9999999999",
        &long,
        b"-8388608",
        b"z",
    ])
    .into_bytes();
    let mut rng = Rng::from_seed(9);
    let mut accepted = 0;
    for _ in 0..60_000 {
        let mut blob = whole.clone();
        for _ in 0..=rng.below(3) {
            let at = if rng.below(2) == 0 {
                rng.below(24)
            } else {
                rng.below(blob.len())
            };
            blob[at] = rng.next_u64() as u8;
        }
        if rng.below(4) == 0 {
            blob.truncate(rng.below(blob.len()));
            let len = blob.len() as u32;
            if blob.len() > 4 {
                blob[..4].copy_from_slice(&len.to_le_bytes());
            }
        }
        if let Ok(mut pack) = Listpack::from_bytes_checked(blob) {
            accepted += 1;
            assert_eq!(pack.iter().rev().count(), pack.len());
            pack.push_front(b"front");
            pack.remove_range(1, 3);
            let first = pack.first().expect("it has an element");
            assert_eq!(pack.find(first, b"front", 1), Some(first));
        }
    }
    assert!(
        accepted > 1_000,
        "only {accepted} damaged blobs were accepted: the check compares too much"
    );
    for tiny in [
        b"".as_slice(),
        b"\xFF",
        b"\x07\x00\x00\x00\x00\x00",
        b"\x07\x00\x00\x00\x00\x00\x00",
        b"\x07\x00\x00\x00\x01\x00\xFF",
    ] {
        assert!(Listpack::from_bytes_checked(tiny.to_vec()).is_err());
    }
}
