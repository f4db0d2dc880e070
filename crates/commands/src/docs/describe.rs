//! The replies of COMMAND INFO and COMMAND DOCS about one command.

use resp::Reply;

use crate::command::{Command, Flags, Group};
use crate::docs::syntax::{self, Argument, Kind};
use crate::docs::words;
use crate::key_spec::{Begin, Find, KeySpec};

/// The ten elements of COMMAND INFO.
pub fn info(reply: &mut Reply<'_>, command: &Command) {
    let range = KeyRange::of(command.keys);
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.integer(command.arity.into());
    let names = flag_names(command.flags, range.is_partial);
    words(reply, names.iter().map(String::as_str));
    for n in [range.first, range.last, range.step] {
        reply.integer(n);
    }
    let categories: Vec<String> = command.acl_categories().names().collect();
    reply.set(categories.len());
    for category in categories {
        reply.simple(&format!("@{category}"));
    }
    reply.set(command.tips.len());
    command
        .tips
        .iter()
        .for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.set(command.keys.len());
    command.keys.iter().for_each(|spec| key_spec(reply, spec));
    // An array of commands, which is a set only where it is empty.
    if command.subcommands.is_empty() {
        reply.set(0);
    } else {
        reply.array(command.subcommands.len());
    }
    command.subcommands.iter().for_each(|sub| info(reply, sub));
}

fn flag_names(flags: Flags, keys_movable: bool) -> Vec<String> {
    let shown = flags - Flags::DANGEROUS - Flags::MAY_REPLICATE;
    let shown = if keys_movable {
        shown | Flags::MOVABLEKEYS
    } else {
        shown
    };
    shown
        .iter_names()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect()
}

/// First key, last key and step: as much of the key specs as three numbers can say.
struct KeyRange {
    first: i64,
    last: i64,
    step: i64,
    /// There are keys elsewhere.
    is_partial: bool,
}

impl KeyRange {
    fn of(specs: &[KeySpec]) -> KeyRange {
        let mut range = KeyRange {
            first: 0,
            last: 0,
            step: 0,
            is_partial: false,
        };
        for spec in specs {
            let (
                Begin::Index(begin),
                Find::Range {
                    last,
                    step,
                    limit: 0,
                },
            ) = (spec.begin, spec.find)
            else {
                range.is_partial = true;
                continue;
            };
            let (begin, last, step) = (begin as i64, i64::from(last), step as i64);
            let last = if last >= 0 { begin + last } else { last };
            if range.first == 0 {
                (range.first, range.last, range.step) = (begin, last, step);
            } else if range.step == 1 && step == 1 && begin == range.last + 1 {
                range.last = last;
            } else {
                range.is_partial = true;
            }
        }
        range
    }
}

fn key_spec(reply: &mut Reply<'_>, spec: &KeySpec) {
    reply.map(if spec.notes.is_empty() { 3 } else { 4 });
    if !spec.notes.is_empty() {
        reply.bulk(b"notes");
        reply.bulk(spec.notes.as_bytes());
    }
    reply.bulk(b"flags");
    words(reply, spec.flags.iter().copied());
    match spec.begin {
        Begin::Index(index) => {
            step(reply, "begin_search", "index", 1);
            number(reply, "index", index as i64);
        }
        Begin::Unknown => step(reply, "begin_search", "unknown", 0),
        Begin::Keyword { word, from } => {
            step(reply, "begin_search", "keyword", 2);
            reply.bulk(b"keyword");
            reply.bulk(word.as_bytes());
            number(reply, "startfrom", from.into());
        }
    }
    match spec.find {
        Find::Range {
            last,
            step: by,
            limit,
        } => {
            step(reply, "find_keys", "range", 3);
            number(reply, "lastkey", last.into());
            number(reply, "keystep", by as i64);
            number(reply, "limit", limit as i64);
        }
        Find::Unknown => step(reply, "find_keys", "unknown", 0),
        Find::Count {
            count_at,
            first,
            step: by,
        } => {
            step(reply, "find_keys", "keynum", 3);
            number(reply, "keynumidx", count_at as i64);
            number(reply, "firstkey", first as i64);
            number(reply, "keystep", by as i64);
        }
    }
}

/// One step of finding keys: its type, and the head of a map of `fields` numbers.
fn step(reply: &mut Reply<'_>, name: &str, kind: &str, fields: usize) {
    reply.bulk(name.as_bytes());
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(fields);
}

fn number(reply: &mut Reply<'_>, name: &str, value: i64) {
    reply.bulk(name.as_bytes());
    reply.integer(value);
}

fn group_name(group: Group) -> &'static str {
    match group {
        Group::Generic => "generic",
        Group::String => "string",
        Group::List => "list",
        Group::Set => "set",
        Group::SortedSet => "sorted-set",
        Group::Hash => "hash",
        Group::Bitmap => "bitmap",
        Group::HyperLogLog => "hyperloglog",
        Group::Geo => "geo",
        Group::Stream => "stream",
        Group::Connection => "connection",
        Group::Server => "server",
        Group::Transactions => "transactions",
        Group::Pubsub => "pubsub",
        Group::Scripting => "scripting",
    }
}

fn text(reply: &mut Reply<'_>, name: &str, value: &str) {
    reply.bulk(name.as_bytes());
    reply.bulk(value.as_bytes());
}

/// The map of COMMAND DOCS from names to documentation.
pub fn docs<'c>(reply: &mut Reply<'_>, commands: impl ExactSizeIterator<Item = &'c Command>) {
    reply.map(commands.len());
    for command in commands {
        reply.bulk(command.name.as_bytes());
        doc(reply, command);
    }
}

fn doc(reply: &mut Reply<'_>, command: &Command) {
    let arguments =
        syntax::parse(command.syntax, command.name).expect("a test parses the syntax of every row");
    let fields = 3
        + usize::from(!command.complexity.is_empty())
        + if command.deprecated.is_some() { 3 } else { 0 }
        + usize::from(!arguments.is_empty())
        + usize::from(!command.subcommands.is_empty());
    reply.map(fields);
    text(reply, "summary", command.summary);
    text(reply, "since", command.since);
    text(reply, "group", group_name(command.group));
    if !command.complexity.is_empty() {
        text(reply, "complexity", command.complexity);
    }
    if let Some(deprecated) = command.deprecated {
        reply.bulk(b"doc_flags");
        words(reply, ["deprecated"].into_iter());
        text(reply, "deprecated_since", deprecated.since);
        text(reply, "replaced_by", deprecated.replaced_by);
    }
    if !arguments.is_empty() {
        reply.bulk(b"arguments");
        let mut keys = KeyCounter {
            specs: command.keys.len(),
            seen: 0,
        };
        list(reply, &arguments, &mut keys);
    }
    if !command.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        docs(reply, command.subcommands.iter());
    }
}

/// Tells which key spec an argument that is a key belongs to: the next one each time, the last
/// one for all that are left.
struct KeyCounter {
    specs: usize,
    seen: usize,
}

impl KeyCounter {
    fn next(&mut self) -> Option<usize> {
        let index = self.seen.min(self.specs.checked_sub(1)?);
        self.seen += 1;
        Some(index)
    }
}

fn list(reply: &mut Reply<'_>, arguments: &[Argument], keys: &mut KeyCounter) {
    reply.array(arguments.len());
    arguments.iter().for_each(|a| argument(reply, a, keys));
}

fn argument(reply: &mut Reply<'_>, argument: &Argument, keys: &mut KeyCounter) {
    let inner = argument.kind.arguments();
    let spec = (argument.kind == Kind::Key).then(|| keys.next()).flatten();
    let flags = [
        (argument.optional, "optional"),
        (argument.multiple, "multiple"),
        (argument.multiple_token, "multiple_token"),
    ];
    let flags: Vec<&str> = flags.iter().filter(|f| f.0).map(|f| f.1).collect();
    let fields = 2
        + usize::from(inner.is_empty())
        + usize::from(spec.is_some())
        + usize::from(argument.token.is_some())
        + usize::from(!flags.is_empty())
        + usize::from(!inner.is_empty());
    reply.map(fields);
    text(reply, "name", &argument.name);
    text(reply, "type", argument.kind.name());
    if inner.is_empty() {
        text(reply, "display_text", &argument.name);
    }
    if let Some(index) = spec {
        number(reply, "key_spec_index", index as i64);
    }
    if let Some(token) = &argument.token {
        text(reply, "token", token);
    }
    if !flags.is_empty() {
        reply.bulk(b"flags");
        words(reply, flags.iter().copied());
    }
    if !inner.is_empty() {
        reply.bulk(b"arguments");
        list(reply, inner, keys);
    }
}
