//! The quicklist encoding: a deque of nodes. Positions inside are found by walking nodes from the nearer end, as
//! in Redis; both ends are O(1).
//!
//! Insertion goes where Redis's does: into the element's own node if there is room, else into the neighbour it
//! borders on, else into a new node, splitting the old one when the place is inside it.

use super::{Needle, Node};
use crate::{Limits, Listpack};
use std::collections::VecDeque;
use std::ops::Range;

/// Nodes counted in elements are bound to this many bytes besides.
const COUNTED_NODE_BYTES_MAX: usize = 8192;
const COUNT_MAX: i32 = (1 << 15) - 1;
/// What an entry is taken to add to its node besides its bytes.
const ENTRY_OVERHEAD_ESTIMATE: usize = 8;

/// How much one node may hold.
#[derive(Clone, Copy)]
pub(super) enum NodeLimit {
    Bytes(usize),
    Count(usize),
}

impl NodeLimit {
    pub(super) fn of(limits: &Limits) -> NodeLimit {
        match limits.list_max_listpack_size.clamp(-5, COUNT_MAX) {
            fill @ ..=-1 => NodeLimit::Bytes(2048 << -fill),
            fill => NodeLimit::Count((fill as usize).max(1)),
        }
    }

    /// Whether a node of so many bytes and elements is too much.
    #[inline]
    pub(super) fn exceeded(self, bytes: usize, count: usize) -> bool {
        match self {
            NodeLimit::Bytes(max) => bytes > max,
            NodeLimit::Count(max) => bytes > COUNTED_NODE_BYTES_MAX || count > max,
        }
    }

    /// Whether half a node would hold so much.
    pub(super) fn half_holds(self, bytes: usize, count: usize) -> bool {
        match self {
            NodeLimit::Bytes(max) => bytes <= max / 2,
            NodeLimit::Count(max) => count <= max / 2,
        }
    }

    /// Whether an element must stand alone.
    fn is_large(self, len: usize) -> bool {
        match self {
            NodeLimit::Bytes(max) => len > max,
            NodeLimit::Count(_) => len > COUNTED_NODE_BYTES_MAX,
        }
    }

    fn node_for(self, value: &[u8]) -> Node {
        if self.is_large(value.len()) {
            return Node::Plain(value.into());
        }
        let mut pack = Listpack::with_capacity(value.len());
        pack.push_back(value);
        Node::Packed(pack)
    }
}

/// See the module's head.
#[derive(Clone)]
pub(super) struct Nodes {
    nodes: VecDeque<Node>,
    len: usize,
}

impl Nodes {
    pub(super) fn from_pack(pack: Listpack) -> Nodes {
        Nodes::from_stored(
            Some(Node::Packed(pack))
                .into_iter()
                .filter(|node| !node.is_empty()),
        )
    }

    pub(super) fn from_stored(nodes: impl Iterator<Item = Node>) -> Nodes {
        let nodes: VecDeque<Node> = nodes.collect();
        let len = nodes.iter().map(Node::len).sum();
        Nodes { nodes, len }
    }

    /// Elements.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Nodes.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.nodes.len()
    }

    #[inline]
    pub(super) fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// The first or the last node.
    pub(super) fn end_node(&self, front: bool) -> Option<&Node> {
        if front {
            self.nodes.front()
        } else {
            self.nodes.back()
        }
    }

    /// Heap bytes without the elements.
    pub(super) fn own_bytes(&self) -> usize {
        size_of::<Nodes>() + self.nodes.capacity() * size_of::<Node>()
    }

    /// The only node; the list stays empty.
    pub(super) fn take_only(&mut self) -> Node {
        self.len = 0;
        self.nodes.pop_front().expect("the caller saw one node")
    }

    /// The node that holds this index, and the offset there.
    pub(super) fn locate(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        if index < self.len / 2 {
            let mut start = 0;
            for (at, node) in self.nodes.iter().enumerate() {
                let len = node.len();
                if index < start + len {
                    return Some((at, index - start));
                }
                start += len;
            }
        } else {
            let mut end = self.len;
            for (at, node) in self.nodes.iter().enumerate().rev() {
                let start = end - node.len();
                if index >= start {
                    return Some((at, index - start));
                }
                end = start;
            }
        }
        None
    }

    /// The listpack of node `at`, if it exists, is packed and takes `value` within the limit.
    fn room(&mut self, at: usize, value: &[u8], limit: NodeLimit) -> Option<&mut Listpack> {
        let Some(Node::Packed(pack)) = self.nodes.get_mut(at) else {
            return None;
        };
        let bytes = pack.byte_len() + value.len() + ENTRY_OVERHEAD_ESTIMATE;
        let fits = !limit.is_large(value.len()) && !limit.exceeded(bytes, pack.len() + 1);
        fits.then_some(pack)
    }

    pub(super) fn push(&mut self, value: &[u8], front: bool, limit: NodeLimit) {
        self.len += 1;
        let end = if front {
            0
        } else {
            self.nodes.len().wrapping_sub(1)
        };
        match (self.room(end, value, limit), front) {
            (Some(pack), true) => pack.push_front(value),
            (Some(pack), false) => pack.push_back(value),
            (None, true) => self.nodes.push_front(limit.node_for(value)),
            (None, false) => self.nodes.push_back(limit.node_for(value)),
        }
    }

    pub(super) fn drop_end(&mut self, front: bool) {
        let end = if front {
            self.nodes.front_mut()
        } else {
            self.nodes.back_mut()
        };
        let Some(node) = end else { return };
        self.len -= 1;
        if let Node::Packed(pack) = node {
            if let Some(pos) = if front { pack.first() } else { pack.last() } {
                pack.remove(pos);
            }
            if !pack.is_empty() {
                return;
            }
        }
        if front {
            self.nodes.pop_front();
        } else {
            self.nodes.pop_back();
        }
    }

    /// False when `index` is out of range.
    pub(super) fn set(&mut self, index: usize, value: &[u8], limit: NodeLimit) -> bool {
        let Some((at, offset)) = self.locate(index) else {
            return false;
        };
        let large = limit.is_large(value.len());
        match &mut self.nodes[at] {
            Node::Packed(pack) if !large => {
                let pos = pack.seek(offset).expect("located in this node");
                pack.replace(pos, value);
                self.split_oversized(at, limit);
            }
            Node::Plain(bytes) if large => *bytes = value.into(),
            Node::Plain(_) => {
                self.insert_beside(index, true, value, limit);
                self.remove_range(index..index + 1);
            }
            Node::Packed(pack) => {
                // The large value stands alone between what was before and what was behind the old element.
                let right = pack.split_off(offset + 1);
                let pos = pack.last().expect("located in this node");
                pack.remove(pos);
                if !right.is_empty() {
                    self.nodes.insert(at + 1, Node::Packed(right));
                }
                self.nodes.insert(at + 1, limit.node_for(value));
                if self.nodes[at].is_empty() {
                    self.nodes.remove(at);
                } else {
                    self.join_around(at + 1, limit);
                }
            }
        }
        true
    }

    /// Replacements may grow a node without end: halve it when it holds twice its limit.
    fn split_oversized(&mut self, at: usize, limit: NodeLimit) {
        let Node::Packed(pack) = &mut self.nodes[at] else {
            return;
        };
        let count = pack.len();
        if count > 1 && limit.exceeded(pack.byte_len() / 2, 1) {
            let right = pack.split_off(count / 2);
            self.nodes.insert(at + 1, Node::Packed(right));
        }
    }

    /// Inserts before or behind the element at `index`, which exists.
    pub(super) fn insert_beside(
        &mut self,
        index: usize,
        after: bool,
        value: &[u8],
        limit: NodeLimit,
    ) {
        let (at, offset) = self.locate(index).expect("the caller found this element");
        self.len += 1;
        let place = offset + usize::from(after);
        if let Some(pack) = self.room(at, value, limit) {
            match pack.seek(place) {
                Some(pos) => {
                    pack.insert_before(pos, value);
                }
                None => pack.push_back(value),
            }
            return;
        }
        let count = self.nodes[at].len();
        if place == count {
            match self.room(at + 1, value, limit) {
                Some(pack) if after => pack.push_front(value),
                _ => self.nodes.insert(at + 1, limit.node_for(value)),
            }
        } else if place == 0 {
            match self.room(at.wrapping_sub(1), value, limit) {
                Some(pack) => pack.push_back(value),
                None => self.nodes.insert(at, limit.node_for(value)),
            }
        } else {
            let Node::Packed(pack) = &mut self.nodes[at] else {
                unreachable!("a plain node has no inside")
            };
            let right = pack.split_off(place);
            self.nodes.insert(at + 1, Node::Packed(right));
            // The value joins the part that does not hold the element it was put beside.
            if limit.is_large(value.len()) {
                self.nodes.insert(at + 1, limit.node_for(value));
            } else {
                let part = if after { at + 1 } else { at };
                if let Node::Packed(pack) = &mut self.nodes[part] {
                    if after {
                        pack.push_front(value);
                    } else {
                        pack.push_back(value);
                    }
                }
                self.join_around(if after { at } else { at + 1 }, limit);
            }
        }
    }

    /// After a split, joins nodes around `center` where two fit in one: the two before it, the two behind it, then
    /// itself with either side. Without this, insertions at random places would leave many small nodes.
    fn join_around(&mut self, center: usize, limit: NodeLimit) {
        let mut center = center;
        if center >= 2 && self.join(center - 2, limit) {
            center -= 1;
        }
        self.join(center + 1, limit);
        if center >= 1 && self.join(center - 1, limit) {
            center -= 1;
        }
        self.join(center, limit);
    }

    /// Joins node `at` with the next one if both are packed and fit in one.
    fn join(&mut self, at: usize, limit: NodeLimit) -> bool {
        let (Some(Node::Packed(left)), Some(Node::Packed(right))) =
            (self.nodes.get(at), self.nodes.get(at + 1))
        else {
            return false;
        };
        let bytes = left.byte_len() + right.byte_len() - Listpack::OVERHEAD;
        if limit.exceeded(bytes, left.len() + right.len()) {
            return false;
        }
        let Some(Node::Packed(right)) = self.nodes.remove(at + 1) else {
            unreachable!("seen above")
        };
        if let Node::Packed(left) = &mut self.nodes[at] {
            left.append(&right);
        }
        true
    }

    pub(super) fn remove_value(
        &mut self,
        value: &Needle<'_>,
        max: usize,
        from_tail: bool,
    ) -> usize {
        let mut removed = 0;
        let count = self.nodes.len();
        for step in 0..count {
            if removed == max {
                break;
            }
            let at = if from_tail { count - 1 - step } else { step };
            removed += self.nodes[at].remove_value(value, max - removed, from_tail);
        }
        if removed > 0 {
            self.nodes.retain(|node| !node.is_empty());
            self.len -= removed;
        }
        removed
    }

    /// Removes the elements of `range`, which lies within the list.
    pub(super) fn remove_range(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let (first, start) = self
            .locate(range.start)
            .expect("the range lies within the list");
        let (last, end) = self
            .locate(range.end - 1)
            .expect("the range lies within the list");
        self.len -= range.len();
        // Whole nodes from `drop_from` to before `drop_to`.
        let (mut drop_from, mut drop_to) = (first, last + 1);
        let cut = |node: &mut Node, from: usize, to: usize| {
            if let Node::Packed(pack) = node {
                pack.remove_range(from, to - from);
            }
        };
        let (first_len, last_len) = (self.nodes[first].len(), self.nodes[last].len());
        if first == last {
            if end + 1 - start < first_len {
                cut(&mut self.nodes[first], start, end + 1);
                return;
            }
        } else {
            if start > 0 {
                cut(&mut self.nodes[first], start, first_len);
                drop_from += 1;
            }
            if end + 1 < last_len {
                cut(&mut self.nodes[last], 0, end + 1);
                drop_to -= 1;
            }
        }
        self.nodes.drain(drop_from..drop_to);
    }
}
