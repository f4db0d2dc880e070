//! SORT: the elements of a list, a set or a sorted set by their own value or that of other keys.
//!
//! BY and GET name keys by patterns, into which each element is put, so such a call may look at any
//! key: it runs on all shards. What is stored is logged whole, because it depends on these keys.

use std::cmp::Ordering;

use datatypes::{number, Encoding, List, Value};
use keyspace::{EntryRef, Expiry, Key, NewValue, ValueRef};
use resp::Argv;

use super::ROW;
use crate::acl::Categories;
use crate::args;
use crate::command::{Command, Flags, Run};
use crate::context::{Ctx, Effect, Keyspace};
use crate::effects;
use crate::errors::{
    before_zero_byte, CommandError, CommandResult, SORT_NOT_NUMBERS, SYNTAX, WRONG_TYPE,
};
use crate::key_spec::{Begin, Find, KeySpec};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "sort",
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::DANGEROUS),
        keys: &[
            KeySpec::at(1, &["RO", "access"]),
            BY_AND_GET,
            KeySpec {
                flags: &["OW", "update"],
                notes: "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in the argument array",
                ..BY_AND_GET
            },
        ],
        keys_in: Some(keys_of_sort),
        syntax: "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA] [STORE destination]",
        run: Run::Keys(sort),
        ..SORT
    },
    Command {
        name: "sort_ro",
        since: "7.0.0",
        flags: Flags::READONLY.union(Flags::DANGEROUS),
        keys: &[KeySpec::at(1, &["RO", "access"]), BY_AND_GET],
        keys_in: Some(keys_of_sort_ro),
        syntax: "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]",
        run: Run::Keys(sort_ro),
        ..SORT
    },
];

const SORT: Command = Command {
    summary: "Sorts the elements of a list, a set or a sorted set.",
    complexity:
        "O(N+M*log(M)) with N elements, of which M are replied; O(N) when they are not sorted",
    arity: -2,
    categories: Categories::SET
        .union(Categories::SORTEDSET)
        .union(Categories::LIST),
    ..ROW
};

const BY_AND_GET: KeySpec = KeySpec {
    flags: &["RO", "access"],
    begin: Begin::Unknown,
    find: Find::Unknown,
    notes: "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the key we sort",
};

fn keys_of_sort(argv: Argv<'_>, f: &mut dyn FnMut(usize, &'static [&'static str])) -> bool {
    let named = NamedKeys::find(argv);
    if argv.len() > 1 {
        f(1, &["RO", "access"]);
    }
    if let Some(index) = named.stored {
        f(index, &["OW", "update"]);
    }
    named.all
}

fn keys_of_sort_ro(argv: Argv<'_>, f: &mut dyn FnMut(usize, &'static [&'static str])) -> bool {
    if argv.len() > 1 {
        f(1, &["RO", "access"]);
    }
    NamedKeys::find(argv).all
}

/// What a call says about its keys, whether it is well formed or not.
struct NamedKeys {
    stored: Option<usize>,
    /// No pattern reaches for others.
    all: bool,
}

impl NamedKeys {
    fn find(argv: Argv<'_>) -> NamedKeys {
        let (mut found, mut i) = (
            NamedKeys {
                stored: None,
                all: true,
            },
            2,
        );
        while let Some(word) = argv.get(i) {
            i += 1;
            if args::is(word, "limit") {
                i += 2;
            } else if args::is(word, "by") || args::is(word, "get") {
                let reaches = argv
                    .get(i)
                    .is_some_and(|arg| Pattern::new(arg).reaches_for_keys());
                found.all &= !reaches;
                i += 1;
            } else if args::is(word, "store") && i < argv.len() {
                found.stored = Some(i);
                i += 1;
            }
        }
        found
    }
}

/// A key, or a field of one, that is named by an element.
#[derive(Clone, Copy)]
enum Pattern<'a> {
    /// `#`
    Element,
    /// No place for an element: nothing is there.
    Nothing,
    Key {
        before: &'a [u8],
        after: &'a [u8],
        field: Option<&'a [u8]>,
    },
}

impl<'a> Pattern<'a> {
    fn new(text: &'a [u8]) -> Pattern<'a> {
        if text == b"#" {
            return Pattern::Element;
        }
        let visible = before_zero_byte(text);
        let Some(star) = visible.iter().position(|byte| *byte == b'*') else {
            return Pattern::Nothing;
        };
        let (before, after) = (&text[..star], &text[star + 1..]);
        let arrow = visible[star + 1..]
            .windows(2)
            .position(|pair| pair == b"->");
        let arrow = arrow.filter(|arrow| after[arrow + 2..].first().is_some_and(|byte| *byte != 0));
        match arrow {
            Some(arrow) => Pattern::Key {
                before,
                after: &after[..arrow],
                field: Some(&after[arrow + 2..]),
            },
            None => Pattern::Key {
                before,
                after,
                field: None,
            },
        }
    }

    fn reaches_for_keys(self) -> bool {
        matches!(self, Pattern::Key { .. })
    }

    /// Runs `f` on the string that the pattern names for an element.
    fn look_up<R>(
        self,
        keys: &mut Keyspace<'_, '_>,
        element: &[u8],
        f: impl FnOnce(Option<&[u8]>) -> R,
    ) -> R {
        let (before, after, field) = match self {
            Pattern::Element => return f(Some(element)),
            Pattern::Nothing => return f(None),
            Pattern::Key {
                before,
                after,
                field,
            } => (before, after, field),
        };
        let name = [before, element, after].concat();
        let key = keys.key_of(&name);
        match (keys.read(key).map(EntryRef::value), field) {
            (Some(ValueRef::String(string)), None) => {
                f(Some(string.bytes(&mut itoa::Buffer::new())))
            }
            (Some(ValueRef::Object(Value::Hash(hash))), Some(field)) => match hash.get(field) {
                Some(value) => f(Some(&value.to_vec())),
                None => f(None),
            },
            _ => f(None),
        }
    }
}

struct Request<'a> {
    by: Option<Pattern<'a>>,
    get: Vec<Pattern<'a>>,
    descending: bool,
    alpha: bool,
    limit: Option<(i64, i64)>,
    /// The argument that is the key to store at.
    store_at: Option<usize>,
}

impl<'a> Request<'a> {
    fn read(argv: Argv<'a>, may_store: bool) -> Result<Request<'a>, CommandError> {
        let mut request = Request {
            by: None,
            get: Vec::new(),
            descending: false,
            alpha: false,
            limit: None,
            store_at: None,
        };
        let mut i = 2;
        while let Some(word) = argv.get(i) {
            let left = argv.len() - i - 1;
            i += 1;
            match word {
                _ if args::is(word, "asc") => request.descending = false,
                _ if args::is(word, "desc") => request.descending = true,
                _ if args::is(word, "alpha") => request.alpha = true,
                _ if args::is(word, "limit") && left >= 2 => {
                    let (offset, count) =
                        (args::integer(argv.arg(i))?, args::integer(argv.arg(i + 1))?);
                    request.limit = Some((offset, count));
                    i += 2;
                }
                _ if args::is(word, "store") && left >= 1 && may_store => {
                    request.store_at = Some(i);
                    i += 1;
                }
                _ if args::is(word, "by") && left >= 1 => {
                    request.by = Some(Pattern::new(argv.arg(i)));
                    i += 1;
                }
                _ if args::is(word, "get") && left >= 1 => {
                    request.get.push(Pattern::new(argv.arg(i)));
                    i += 1;
                }
                _ => return Err(SYNTAX),
            }
        }
        Ok(request)
    }

    /// The elements that the limit leaves of so many.
    fn range(&self, len: usize) -> std::ops::Range<usize> {
        let Some((offset, count)) = self.limit else {
            return 0..len;
        };
        let start = usize::try_from(offset).unwrap_or(0).min(len);
        let count = usize::try_from(count).unwrap_or(len);
        start..start.saturating_add(count).min(len)
    }
}

/// What an element is sorted by.
enum Weight {
    Number(f64),
    /// None: the key it is named by is not there.
    Text(Option<Vec<u8>>),
    /// The element itself, as text.
    Own,
}

struct Item {
    element: Vec<u8>,
    weight: Weight,
}

/// Texts are compared as C strings, which end at a zero byte, except when the result is stored.
fn compare(a: &Item, b: &Item, is_stored: bool) -> Ordering {
    let visible = |text| {
        if is_stored {
            text
        } else {
            before_zero_byte(text)
        }
    };
    match (&a.weight, &b.weight) {
        (Weight::Number(x), Weight::Number(y)) => {
            let order = x.partial_cmp(y).unwrap_or(Ordering::Equal);
            order.then_with(|| a.element.cmp(&b.element))
        }
        (Weight::Text(x), Weight::Text(y)) => {
            x.as_deref().map(visible).cmp(&y.as_deref().map(visible))
        }
        _ => visible(&a.element).cmp(visible(&b.element)),
    }
}

/// The elements of what a key holds, in its order, and whether that is a set.
fn elements(
    keys: &mut Keyspace<'_, '_>,
    key: Key<'_>,
) -> Result<(Vec<Vec<u8>>, bool), CommandError> {
    Ok(match keys.read(key).map(EntryRef::value) {
        None => (Vec::new(), false),
        Some(ValueRef::Object(Value::List(list))) => {
            (list.iter().map(|e| e.to_vec()).collect(), false)
        }
        Some(ValueRef::Object(Value::Set(set))) => (set.iter().map(|e| e.to_vec()).collect(), true),
        Some(ValueRef::Object(Value::SortedSet(set))) => (
            set.iter().map(|(member, _)| member.to_vec()).collect(),
            false,
        ),
        Some(_) => return Err(WRONG_TYPE),
    })
}

fn weigh(
    keys: &mut Keyspace<'_, '_>,
    element: &[u8],
    request: &Request<'_>,
) -> Result<Weight, CommandError> {
    let by = request.by.unwrap_or(Pattern::Element);
    match (request.alpha, request.by) {
        (true, None) => Ok(Weight::Own),
        (true, Some(by)) => {
            Ok(by.look_up(keys, element, |text| Weight::Text(text.map(<[u8]>::to_vec))))
        }
        (false, _) => by.look_up(keys, element, |text| match text {
            None => Ok(Weight::Number(0.0)),
            Some(text) => number::parse_f64_of_c(text)
                .map(Weight::Number)
                .ok_or(SORT_NOT_NUMBERS),
        }),
    }
}

fn sort(c: &mut Ctx<'_, '_>) -> CommandResult {
    run(c, true)
}

fn sort_ro(c: &mut Ctx<'_, '_>) -> CommandResult {
    run(c, false)
}

fn run(c: &mut Ctx<'_, '_>, may_store: bool) -> CommandResult {
    let mut request = Request::read(c.argv, may_store)?;
    let key = c.key(1);
    let (found, is_set) = elements(&mut c.keys, key)?;
    if let Ok(Some(set)) = c.keys.peek_sorted_set(key) {
        // Redis turns what it sorts into a skip list, and OBJECT ENCODING tells.
        if set.encoding() == Encoding::Listpack {
            if let Some(set) = c.keys.sorted_set_mut(key)? {
                set.prepare(usize::MAX, c.limits);
            }
        }
    }
    // BY with nowhere to put an element asks for no order.
    let mut keeps_order = request.by.is_some_and(|by| !by.reaches_for_keys());
    if keeps_order && is_set && request.store_at.is_some() {
        // A set has no order that every server would store alike.
        (keeps_order, request.alpha, request.by) = (false, true, None);
    }
    let range = request.range(found.len());
    let sorted: Vec<Vec<u8>> = if keeps_order {
        let mut found = found;
        if request.descending && !is_set {
            found.reverse();
        }
        found
    } else {
        let is_stored = request.store_at.is_some();
        let mut items = Vec::with_capacity(found.len());
        for element in found {
            let weight = weigh(&mut c.keys, &element, &request)?;
            items.push(Item { element, weight });
        }
        if request.descending {
            items.sort_by(|a, b| compare(b, a, is_stored));
        } else {
            items.sort_by(|a, b| compare(a, b, is_stored));
        }
        items.into_iter().map(|item| item.element).collect()
    };
    match request.store_at {
        None => reply(c, &request.get, &sorted[range]),
        Some(index) => store(c, &request.get, &sorted[range], index),
    }
    Ok(())
}

fn reply(c: &mut Ctx<'_, '_>, get: &[Pattern<'_>], elements: &[Vec<u8>]) {
    c.reply.array(elements.len() * get.len().max(1));
    for element in elements {
        if get.is_empty() {
            c.reply.bulk(element);
        }
        for pattern in get {
            let reply = &mut c.reply;
            pattern.look_up(&mut c.keys, element, |text| reply.bulk_or_null(text));
        }
    }
}

fn store(c: &mut Ctx<'_, '_>, get: &[Pattern<'_>], elements: &[Vec<u8>], index: usize) {
    let mut list = List::new();
    for element in elements {
        if get.is_empty() {
            list.push_back(element, c.limits);
        }
        for pattern in get {
            let limits = c.limits;
            pattern.look_up(&mut c.keys, element, |text| {
                list.push_back(text.unwrap_or_default(), limits);
            });
        }
    }
    let len = list.len();
    let destination = c.key(index);
    let deletion = [b"DEL", destination.bytes];
    let existed = c.keys.exists(destination);
    if len == 0 {
        if let Some(entry) = c.keys.remove(destination) {
            c.keys.free(destination, entry);
            let effect = Effect::Command(&deletion);
            c.keys.wrote(destination, "del", 1, effect);
        }
    } else {
        if existed {
            effects::log(&mut c.keys, destination, &deletion);
        }
        effects::log_elements(&mut c.keys, "RPUSH", destination, list.iter());
        let value = NewValue::Object(Box::new(Value::List(list)));
        let db = c.keys.db_of_mut(destination);
        if let Some(entry) = db.set(destination, value, Expiry::Set(None)) {
            c.keys.free(destination, entry);
        }
        c.keys
            .wrote(destination, "sortstore", len as u64, Effect::Covered);
    }
    c.reply.integer(len as i64);
}
