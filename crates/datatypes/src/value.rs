//! The sum of the collection types. Strings are not here: they live inline in the keyspace's entries.

use crate::{Hash, List, Set, SortedSet, Stream};

/// A collection value.
#[derive(Clone)]
pub enum Value {
    List(List),
    Set(Set),
    Hash(Hash),
    SortedSet(SortedSet),
    /// Boxed, so that it does not make the others larger.
    Stream(Box<Stream>),
}

/// What TYPE reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    String,
    List,
    Set,
    Hash,
    SortedSet,
    Stream,
}

impl ValueType {
    /// The word TYPE replies.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::String => "string",
            ValueType::List => "list",
            ValueType::Set => "set",
            ValueType::Hash => "hash",
            ValueType::SortedSet => "zset",
            ValueType::Stream => "stream",
        }
    }
}

/// What OBJECT ENCODING reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    Int,
    EmbStr,
    Raw,
    Listpack,
    /// A listpack with the times at which fields expire.
    ListpackEx,
    Quicklist,
    IntSet,
    HashTable,
    SkipList,
    Stream,
}

impl Encoding {
    /// The word OBJECT ENCODING replies.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Int => "int",
            Encoding::EmbStr => "embstr",
            Encoding::Raw => "raw",
            Encoding::Listpack => "listpack",
            Encoding::ListpackEx => "listpackex",
            Encoding::Quicklist => "quicklist",
            Encoding::IntSet => "intset",
            Encoding::HashTable => "hashtable",
            Encoding::SkipList => "skiplist",
            Encoding::Stream => "stream",
        }
    }
}

impl Value {
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::List(_) => ValueType::List,
            Value::Set(_) => ValueType::Set,
            Value::Hash(_) => ValueType::Hash,
            Value::SortedSet(_) => ValueType::SortedSet,
            Value::Stream(_) => ValueType::Stream,
        }
    }

    pub fn encoding(&self) -> Encoding {
        match self {
            Value::List(v) => v.encoding(),
            Value::Set(v) => v.encoding(),
            Value::Hash(v) => v.encoding(),
            Value::SortedSet(v) => v.encoding(),
            Value::Stream(v) => v.encoding(),
        }
    }

    /// Elements, members, fields or entries.
    pub fn len(&self) -> usize {
        match self {
            Value::List(v) => v.len(),
            Value::Set(v) => v.len(),
            Value::Hash(v) => v.len(),
            Value::SortedSet(v) => v.len(),
            Value::Stream(v) => v.len(),
        }
    }

    /// Whether there is no reason to keep it. A stream is kept without entries, too: it has a history.
    pub fn is_empty(&self) -> bool {
        !matches!(self, Value::Stream(_)) && self.len() == 0
    }

    /// Heap bytes for MEMORY USAGE. `samples` elements are looked at and the rest extrapolated; 0 looks at all.
    pub fn approximate_bytes(&self, samples: usize) -> usize {
        match self {
            Value::List(v) => v.approximate_bytes(samples),
            Value::Set(v) => v.approximate_bytes(samples),
            Value::Hash(v) => v.approximate_bytes(samples),
            Value::SortedSet(v) => v.approximate_bytes(samples),
            Value::Stream(v) => v.approximate_bytes(samples),
        }
    }

    /// How many allocations freeing this costs; compact encodings are one.
    pub fn free_effort(&self) -> usize {
        match self {
            Value::List(v) => v.node_count(),
            Value::Stream(v) => v.free_effort(),
            Value::Set(_) | Value::Hash(_) | Value::SortedSet(_) => match self.encoding() {
                Encoding::HashTable | Encoding::SkipList => self.len(),
                _ => 1,
            },
        }
    }
}
