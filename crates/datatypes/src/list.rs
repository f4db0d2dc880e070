//! Lists: one listpack while it stays below the node limit (encoding "listpack"), else a row of nodes
//! ("quicklist"), each a listpack within the limit or one large element as it is.
//!
//! `list-max-listpack-size` sets the limit: -1 to -5 mean 4 to 64 KiB a node; a positive number counts elements,
//! with 8 KiB as a bound besides. Growth is judged before elements are added, on the bytes of the new ones; a
//! quicklist becomes a listpack again when one node is left that is at most half full.
//!
//! Invariants: no node is empty; a list in the listpack encoding has a packed node.

mod nodes;

use crate::listpack;
use crate::number::parse_i64;
use crate::{Element, Encoding, FormatError, Limits, Listpack};
use nodes::{NodeLimit, Nodes};
use std::ops::Range;

/// See the module's head.
#[derive(Clone)]
pub struct List {
    body: Body,
}

#[derive(Clone)]
enum Body {
    /// Always `Node::Packed`, and the only node that may be empty.
    Single(Node),
    Quick(Box<Nodes>),
}

/// A node as stored: a listpack of several elements, or one large element as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Packed(Listpack),
    Plain(Box<[u8]>),
}

impl Node {
    /// Number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Node::Packed(pack) => pack.len(),
            Node::Plain(_) => 1,
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Node::Packed(pack) if pack.is_empty())
    }

    fn get(&self, index: usize) -> Option<Element<'_>> {
        match self {
            Node::Packed(pack) => pack.get(index),
            Node::Plain(bytes) => (index == 0).then_some(Element::Bytes(bytes)),
        }
    }

    /// The first or the last element.
    fn end(&self, front: bool) -> Option<Element<'_>> {
        match self {
            Node::Packed(pack) => {
                let pos = if front { pack.first() } else { pack.last() };
                pos.map(|pos| pack.element(pos))
            }
            Node::Plain(bytes) => Some(Element::Bytes(bytes)),
        }
    }

    /// Elements of the node from `start` to before `end`.
    fn elements(&self, start: usize, end: usize) -> NodeIter<'_> {
        match self {
            Node::Packed(pack) => NodeIter::Packed(pack.range(start, end.saturating_sub(start))),
            Node::Plain(bytes) => NodeIter::Plain((start == 0 && end > 0).then_some(bytes)),
        }
    }

    /// Removes up to `max` elements equal to `value`; returns how many went.
    fn remove_value(&mut self, value: &Needle<'_>, max: usize, from_tail: bool) -> usize {
        let pack = match self {
            Node::Packed(pack) => pack,
            // A large element has its own node, which goes as a whole: leave an empty one in its place.
            Node::Plain(bytes) => {
                let found = max > 0 && value.bytes == &**bytes;
                if found {
                    *self = Node::Packed(Listpack::new());
                }
                return usize::from(found);
            }
        };
        let mut removed = 0;
        let mut at = if from_tail { pack.last() } else { pack.first() };
        while let Some(pos) = at {
            if removed == max {
                break;
            }
            // What stands before `pos` keeps its position when `pos` goes.
            let before = if from_tail { pack.prev(pos) } else { None };
            let found = value.is(pack.element(pos));
            removed += usize::from(found);
            at = match (found, from_tail) {
                (true, false) => pack.remove(pos),
                (true, true) => {
                    pack.remove(pos);
                    before
                }
                (false, false) => pack.next(pos),
                (false, true) => before,
            };
        }
        removed
    }
}

/// A value to compare elements with.
struct Needle<'v> {
    bytes: &'v [u8],
    int: Option<i64>,
}

impl<'v> Needle<'v> {
    fn new(bytes: &'v [u8]) -> Self {
        Needle {
            bytes,
            int: parse_i64(bytes),
        }
    }

    #[inline]
    fn is(&self, element: Element<'_>) -> bool {
        match element {
            Element::Bytes(bytes) => bytes == self.bytes,
            Element::Int(int) => self.int == Some(int),
        }
    }
}

impl List {
    /// Empty, in the listpack encoding.
    pub fn new() -> List {
        List {
            body: Body::Single(Node::Packed(Listpack::new())),
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Single(node) => node.len(),
            Body::Quick(nodes) => nodes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn encoding(&self) -> Encoding {
        match &self.body {
            Body::Single(_) => Encoding::Listpack,
            Body::Quick(_) => Encoding::Quicklist,
        }
    }

    /// Heap bytes; `samples` nodes stand for all, 0 looks at each.
    pub fn approximate_bytes(&self, samples: usize) -> usize {
        let of = |node: &Node| match node {
            Node::Packed(pack) => pack.capacity(),
            Node::Plain(bytes) => bytes.len(),
        };
        match &self.body {
            Body::Single(node) => of(node),
            Body::Quick(nodes) => {
                let count = nodes.count();
                let samples = if samples == 0 {
                    count
                } else {
                    samples.min(count)
                };
                let sampled: usize = (0..samples).map(|i| of(nodes.node(i))).sum();
                nodes.own_bytes()
                    + (sampled as u128 * count as u128)
                        .checked_div(samples as u128)
                        .unwrap_or(0) as usize
            }
        }
    }

    /// How many allocations the elements take.
    pub fn node_count(&self) -> usize {
        match &self.body {
            Body::Single(_) => 1,
            Body::Quick(nodes) => nodes.count(),
        }
    }

    #[inline]
    fn node(&self, index: usize) -> &Node {
        match &self.body {
            Body::Single(node) => node,
            Body::Quick(nodes) => nodes.node(index),
        }
    }

    /// Pushes all, each before the last (LPUSH). The encoding is chosen for all of them together.
    pub fn extend_front<'v>(
        &mut self,
        values: impl Iterator<Item = &'v [u8]> + Clone,
        limits: &Limits,
    ) {
        self.extend(values, true, limits);
    }

    /// Pushes all, each behind the last (RPUSH). The encoding is chosen for all of them together.
    pub fn extend_back<'v>(
        &mut self,
        values: impl Iterator<Item = &'v [u8]> + Clone,
        limits: &Limits,
    ) {
        self.extend(values, false, limits);
    }

    fn extend<'v>(
        &mut self,
        values: impl Iterator<Item = &'v [u8]> + Clone,
        front: bool,
        limits: &Limits,
    ) {
        let (count, bytes) = values
            .clone()
            .fold((0, 0usize), |(n, b), v| (n + 1, b + v.len()));
        self.prepare(count, bytes, limits);
        let limit = NodeLimit::of(limits);
        match &mut self.body {
            Body::Single(Node::Packed(pack)) if front => values.for_each(|v| pack.push_front(v)),
            Body::Single(Node::Packed(pack)) => values.for_each(|v| pack.push_back(v)),
            Body::Single(Node::Plain(_)) => {
                unreachable!("a listpack-encoded list has a packed node")
            }
            Body::Quick(nodes) => values.for_each(|v| nodes.push(v, front, limit)),
        }
    }

    pub fn push_front(&mut self, value: &[u8], limits: &Limits) {
        self.extend(std::iter::once(value), true, limits);
    }

    pub fn push_back(&mut self, value: &[u8], limits: &Limits) {
        self.extend(std::iter::once(value), false, limits);
    }

    /// Leaves the listpack encoding if `count` more elements of `bytes` together would exceed the limit.
    fn prepare(&mut self, count: usize, bytes: usize, limits: &Limits) {
        let Body::Single(Node::Packed(pack)) = &mut self.body else {
            return;
        };
        if NodeLimit::of(limits).exceeded(pack.byte_len().saturating_add(bytes), pack.len() + count)
        {
            let pack = std::mem::take(pack);
            self.body = Body::Quick(Box::new(Nodes::from_pack(pack)));
        }
    }

    /// Returns to the listpack encoding when one node is left that is at most half full.
    fn shrink(&mut self, limits: &Limits) {
        let Body::Quick(nodes) = &mut self.body else {
            return;
        };
        if nodes.count() == 0 {
            self.body = Body::Single(Node::Packed(Listpack::new()));
            return;
        }
        if nodes.count() > 1 {
            return;
        }
        if let Node::Packed(pack) = nodes.node(0) {
            if NodeLimit::of(limits).half_holds(pack.byte_len(), pack.len()) {
                let node = nodes.take_only();
                self.body = Body::Single(node);
            }
        }
    }

    pub fn front(&self) -> Option<Element<'_>> {
        match &self.body {
            Body::Single(node) => node.end(true),
            Body::Quick(nodes) => nodes.end_node(true)?.end(true),
        }
    }

    pub fn back(&self) -> Option<Element<'_>> {
        match &self.body {
            Body::Single(node) => node.end(false),
            Body::Quick(nodes) => nodes.end_node(false)?.end(false),
        }
    }

    pub fn pop_front(&mut self, limits: &Limits) -> Option<Vec<u8>> {
        let value = self.front()?.to_vec();
        self.drop_end(true, limits);
        Some(value)
    }

    pub fn pop_back(&mut self, limits: &Limits) -> Option<Vec<u8>> {
        let value = self.back()?.to_vec();
        self.drop_end(false, limits);
        Some(value)
    }

    /// Removes the first element, if any: after a look at [`List::front`], a pop that copies nothing.
    pub fn drop_front(&mut self, limits: &Limits) {
        self.drop_end(true, limits);
    }

    /// Removes the last element, if any.
    pub fn drop_back(&mut self, limits: &Limits) {
        self.drop_end(false, limits);
    }

    fn drop_end(&mut self, front: bool, limits: &Limits) {
        match &mut self.body {
            Body::Single(Node::Packed(pack)) => {
                let end = if front { pack.first() } else { pack.last() };
                if let Some(pos) = end {
                    pack.remove(pos);
                }
            }
            Body::Single(Node::Plain(_)) => {
                unreachable!("a listpack-encoded list has a packed node")
            }
            Body::Quick(nodes) => {
                nodes.drop_end(front);
                self.shrink(limits);
            }
        }
    }

    pub fn get(&self, index: usize) -> Option<Element<'_>> {
        match &self.body {
            Body::Single(node) => node.get(index),
            Body::Quick(nodes) => {
                let (node, offset) = nodes.locate(index)?;
                nodes.node(node).get(offset)
            }
        }
    }

    /// LSET. False when `index` is out of range (the encoding may change even then, as in Redis).
    pub fn set(&mut self, index: usize, value: &[u8], limits: &Limits) -> bool {
        self.prepare(1, value.len(), limits);
        let done = match &mut self.body {
            Body::Single(Node::Packed(pack)) => pack
                .seek(index)
                .map(|pos| pack.replace(pos, value))
                .is_some(),
            Body::Single(Node::Plain(_)) => {
                unreachable!("a listpack-encoded list has a packed node")
            }
            Body::Quick(nodes) => nodes.set(index, value, NodeLimit::of(limits)),
        };
        if done {
            self.shrink(limits);
        }
        done
    }

    /// LINSERT BEFORE. False when `pivot` is absent (the encoding may change even then, as in Redis).
    pub fn insert_before(&mut self, pivot: &[u8], value: &[u8], limits: &Limits) -> bool {
        self.insert_beside(pivot, value, false, limits)
    }

    /// LINSERT AFTER. False when `pivot` is absent (the encoding may change even then, as in Redis).
    pub fn insert_after(&mut self, pivot: &[u8], value: &[u8], limits: &Limits) -> bool {
        self.insert_beside(pivot, value, true, limits)
    }

    fn insert_beside(&mut self, pivot: &[u8], value: &[u8], after: bool, limits: &Limits) -> bool {
        self.prepare(1, value.len(), limits);
        let mut found = None;
        self.positions(pivot, false, usize::MAX, |index| {
            found = Some(index);
            false
        });
        let Some(index) = found else { return false };
        match &mut self.body {
            Body::Single(node) => insert_into_pack(node, index + usize::from(after), value),
            Body::Quick(nodes) => nodes.insert_beside(index, after, value, NodeLimit::of(limits)),
        }
        true
    }

    /// Inserts so that the new element has `index`; at the end when there are fewer.
    pub fn insert_at(&mut self, index: usize, value: &[u8], limits: &Limits) {
        self.prepare(1, value.len(), limits);
        let limit = NodeLimit::of(limits);
        match &mut self.body {
            Body::Single(node) => insert_into_pack(node, index, value),
            Body::Quick(nodes) if index >= nodes.len() => nodes.push(value, false, limit),
            Body::Quick(nodes) => nodes.insert_beside(index, false, value, limit),
        }
    }

    /// LREM: removes at most `max` elements equal to `value`, from the tail when `from_tail`. Returns how many went.
    pub fn remove_value(
        &mut self,
        value: &[u8],
        max: usize,
        from_tail: bool,
        limits: &Limits,
    ) -> usize {
        let needle = Needle::new(value);
        match &mut self.body {
            Body::Single(node) => node.remove_value(&needle, max, from_tail),
            Body::Quick(nodes) => {
                let removed = nodes.remove_value(&needle, max, from_tail);
                self.shrink(limits);
                removed
            }
        }
    }

    /// Removes the elements of `range`, clamped to the list.
    pub fn remove_range(&mut self, range: Range<usize>, limits: &Limits) {
        let range = self.clamp(range);
        match &mut self.body {
            Body::Single(Node::Packed(pack)) => pack.remove_range(range.start, range.len()),
            Body::Single(Node::Plain(_)) => {
                unreachable!("a listpack-encoded list has a packed node")
            }
            Body::Quick(nodes) => {
                nodes.remove_range(range);
                self.shrink(limits);
            }
        }
    }

    /// Keeps only the elements of `range`.
    pub fn trim(&mut self, range: Range<usize>, limits: &Limits) {
        let range = self.clamp(range);
        self.remove_range(range.end..usize::MAX, limits);
        self.remove_range(0..range.start, limits);
    }

    fn clamp(&self, range: Range<usize>) -> Range<usize> {
        let end = range.end.min(self.len());
        range.start.min(end)..end
    }

    pub fn iter(&self) -> Iter<'_> {
        self.range(0..usize::MAX)
    }

    /// Elements of `range` (clamped to the list), from either end.
    pub fn range(&self, range: Range<usize>) -> Iter<'_> {
        let range = self.clamp(range);
        Iter {
            list: self,
            remaining: range,
            front: None,
            back: None,
        }
    }

    /// LPOS: calls `found` with the index of each element equal to `value`, in the direction of travel, until it
    /// returns false. Looks at `max_compared` elements at most.
    pub fn positions(
        &self,
        value: &[u8],
        from_tail: bool,
        max_compared: usize,
        mut found: impl FnMut(usize) -> bool,
    ) {
        let needle = Needle::new(value);
        let len = self.len();
        if from_tail {
            for (steps, element) in self.iter().rev().take(max_compared).enumerate() {
                if needle.is(element) && !found(len - 1 - steps) {
                    return;
                }
            }
        } else {
            for (index, element) in self.iter().take(max_compared).enumerate() {
                if needle.is(element) && !found(index) {
                    return;
                }
            }
        }
    }

    /// Nodes from head to tail, for a snapshot. A list in the listpack encoding is one packed node.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> + '_ {
        (0..self.node_count()).map(|index| self.node(index))
    }

    /// From stored nodes; empty ones are skipped, none at all is an error. The encoding is the one Redis picks on load.
    pub fn from_nodes(
        nodes: impl IntoIterator<Item = Node>,
        limits: &Limits,
    ) -> Result<List, FormatError> {
        let nodes = Nodes::from_stored(nodes.into_iter().filter(|node| !node.is_empty()));
        if nodes.count() == 0 {
            return Err(FormatError::new("list without elements"));
        }
        let mut list = List {
            body: Body::Quick(Box::new(nodes)),
        };
        if let Body::Quick(nodes) = &mut list.body {
            if let (1, Node::Packed(pack)) = (nodes.count(), nodes.node(0)) {
                if !NodeLimit::of(limits).exceeded(pack.byte_len(), pack.len()) {
                    let node = nodes.take_only();
                    list.body = Body::Single(node);
                }
            }
        }
        Ok(list)
    }
}

/// Inserts into the packed node of a list in the listpack encoding.
fn insert_into_pack(node: &mut Node, index: usize, value: &[u8]) {
    let Node::Packed(pack) = node else {
        unreachable!("a listpack-encoded list has a packed node")
    };
    match pack.seek(index) {
        Some(pos) => {
            pack.insert_before(pos, value);
        }
        None => pack.push_back(value),
    }
}

impl Default for List {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[derive(Clone)]
enum NodeIter<'a> {
    Packed(listpack::Iter<'a>),
    Plain(Option<&'a [u8]>),
}

impl<'a> NodeIter<'a> {
    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        match self {
            NodeIter::Packed(pack) => pack.next(),
            NodeIter::Plain(bytes) => bytes.take().map(Element::Bytes),
        }
    }

    #[inline]
    fn next_back(&mut self) -> Option<Element<'a>> {
        match self {
            NodeIter::Packed(pack) => pack.next_back(),
            NodeIter::Plain(bytes) => bytes.take().map(Element::Bytes),
        }
    }
}

/// Elements from either end. Each end looks up its node when first used, then walks from node to node.
#[derive(Clone)]
pub struct Iter<'a> {
    list: &'a List,
    remaining: Range<usize>,
    front: Option<(usize, NodeIter<'a>)>,
    back: Option<(usize, NodeIter<'a>)>,
}

impl<'a> Iter<'a> {
    /// The node of the element with this index, and its offset there.
    fn locate(&self, index: usize) -> (usize, usize) {
        match &self.list.body {
            Body::Single(_) => (0, index),
            Body::Quick(nodes) => nodes.locate(index).expect("a range is clamped to the list"),
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        if self.remaining.is_empty() {
            return None;
        }
        if self.front.is_none() {
            let (node, offset) = self.locate(self.remaining.start);
            self.front = Some((node, self.list.node(node).elements(offset, usize::MAX)));
        }
        self.remaining.start += 1;
        let (node, elements) = self.front.as_mut()?;
        if let Some(element) = elements.next() {
            return Some(element);
        }
        *node += 1;
        *elements = self.list.node(*node).elements(0, usize::MAX);
        elements.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining.len(), Some(self.remaining.len()))
    }
}

impl<'a> DoubleEndedIterator for Iter<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<Element<'a>> {
        if self.remaining.is_empty() {
            return None;
        }
        self.remaining.end -= 1;
        if self.back.is_none() {
            let (node, offset) = self.locate(self.remaining.end);
            self.back = Some((node, self.list.node(node).elements(0, offset + 1)));
        }
        let (node, elements) = self.back.as_mut()?;
        if let Some(element) = elements.next_back() {
            return Some(element);
        }
        *node -= 1;
        *elements = self.list.node(*node).elements(0, usize::MAX);
        elements.next_back()
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
#[path = "list/tests.rs"]
mod tests;
