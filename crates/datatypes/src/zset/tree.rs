//! A B+tree that knows how many items each subtree holds: an ordered sequence with O(log n) search, rank,
//! access by rank, insertion and removal. It stands where Redis has a skip list: 64 items share an allocation,
//! so an item costs its own size and little more, and a search touches a few cache lines.
//!
//! The tree does not know the order of its items. Callers pass a predicate that holds for a prefix of the
//! sequence ("is below this bound"); a predicate that does not gives an arbitrary position, never a panic.
//!
//! Invariants: all leaves are at one depth; no node but the root is empty; an inner node knows for each child
//! the first item (a separator) and the number of items below it.

use std::ops::Range;

const LEAF_MAX: usize = 64;
const FANOUT_MAX: usize = 64;
/// A node that has shrunk below this joins a neighbour if both fit in one node.
const LEAF_SPARSE: usize = LEAF_MAX / 3;
const FANOUT_SPARSE: usize = FANOUT_MAX / 3;
/// Leaves grow by this many items at a time, so that little capacity stays unused.
const LEAF_STEP: usize = 8;

/// See the module's head.
pub(super) struct Tree<T> {
    root: Node<T>,
    len: usize,
}

enum Node<T> {
    Leaf(Vec<T>),
    Inner(Box<Inner<T>>),
}

/// Parallel vectors: child i holds `counts[i]` items, the first of which is `firsts[i]`.
struct Inner<T> {
    firsts: Vec<T>,
    counts: Vec<usize>,
    children: Vec<Node<T>>,
}

impl<T: Copy> Inner<T> {
    fn with_capacity(children: usize) -> Inner<T> {
        Inner {
            firsts: Vec::with_capacity(children),
            counts: Vec::with_capacity(children),
            children: Vec::with_capacity(children),
        }
    }

    fn insert_child(&mut self, at: usize, child: Node<T>) {
        self.firsts
            .insert(at, child.first().expect("a new node has items"));
        self.counts.insert(at, child.count());
        self.children.insert(at, child);
    }

    fn remove_child(&mut self, at: usize) -> Node<T> {
        self.firsts.remove(at);
        self.counts.remove(at);
        self.children.remove(at)
    }

    fn split_off(&mut self, at: usize) -> Inner<T> {
        Inner {
            firsts: self.firsts.split_off(at),
            counts: self.counts.split_off(at),
            children: self.children.split_off(at),
        }
    }

    /// The child that holds `rank`, and the rank within it; past the end, the end of the last child.
    #[inline]
    fn locate(&self, mut rank: usize) -> (usize, usize) {
        let last = self.counts.len() - 1;
        for (i, &count) in self.counts[..last].iter().enumerate() {
            if rank < count {
                return (i, rank);
            }
            rank -= count;
        }
        (last, rank)
    }

    /// Drops empty children and joins sparse ones with a neighbour, around `at`.
    fn tidy(&mut self, at: usize) {
        if self.counts[at] == 0 {
            self.remove_child(at);
            return;
        }
        if !self.children[at].is_sparse() {
            return;
        }
        let joins = |i: usize| {
            i + 1 < self.children.len() && self.children[i].fits_with(&self.children[i + 1])
        };
        let left = if joins(at) {
            at
        } else if at > 0 && joins(at - 1) {
            at - 1
        } else {
            return;
        };
        let right = self.remove_child(left + 1);
        self.children[left].append(right);
        // While a range is removed, the left one may have been empty.
        self.refresh(left);
    }

    fn refresh(&mut self, at: usize) {
        self.counts[at] = self.children[at].count();
        if let Some(first) = self.children[at].first() {
            self.firsts[at] = first;
        }
    }
}

impl<T: Copy> Node<T> {
    /// Items below this node.
    fn count(&self) -> usize {
        match self {
            Node::Leaf(items) => items.len(),
            Node::Inner(inner) => inner.counts.iter().sum(),
        }
    }

    fn first(&self) -> Option<T> {
        match self {
            Node::Leaf(items) => items.first().copied(),
            Node::Inner(inner) => inner.firsts.first().copied(),
        }
    }

    fn is_sparse(&self) -> bool {
        match self {
            Node::Leaf(items) => items.len() < LEAF_SPARSE,
            Node::Inner(inner) => inner.children.len() < FANOUT_SPARSE,
        }
    }

    /// Whether this node and its right neighbour may become one.
    fn fits_with(&self, right: &Node<T>) -> bool {
        match (self, right) {
            (Node::Leaf(a), Node::Leaf(b)) => a.len() + b.len() <= LEAF_MAX,
            (Node::Inner(a), Node::Inner(b)) => a.children.len() + b.children.len() <= FANOUT_MAX,
            _ => unreachable!("neighbours are at one depth"),
        }
    }

    fn append(&mut self, right: Node<T>) {
        match (self, right) {
            (Node::Leaf(a), Node::Leaf(b)) => a.extend_from_slice(&b),
            (Node::Inner(a), Node::Inner(mut b)) => {
                a.firsts.append(&mut b.firsts);
                a.counts.append(&mut b.counts);
                a.children.append(&mut b.children);
            }
            _ => unreachable!("neighbours are at one depth"),
        }
    }

    /// Inserts behind the items that are `before`. A full node splits and returns its new right half.
    fn insert(&mut self, item: T, before: &mut impl FnMut(&T) -> bool) -> Option<Node<T>> {
        match self {
            Node::Leaf(items) => insert_into_leaf(items, item, before),
            Node::Inner(inner) => {
                let at = inner.firsts.partition_point(&mut *before).saturating_sub(1);
                let split = inner.children[at].insert(item, before);
                let Some(right) = split else {
                    inner.counts[at] += 1;
                    if at == 0 {
                        inner.firsts[0] = inner.children[0]
                            .first()
                            .expect("an item was just inserted");
                    }
                    return None;
                };
                inner.refresh(at);
                inner.insert_child(at + 1, right);
                if inner.children.len() <= FANOUT_MAX {
                    return None;
                }
                // When the last child keeps splitting, items arrive in order: leave the left node full.
                let split_at = if at + 2 == inner.children.len() {
                    inner.children.len() - 1
                } else {
                    inner.children.len() / 2
                };
                Some(Node::Inner(Box::new(inner.split_off(split_at))))
            }
        }
    }

    /// Removes and returns the item at `rank`, which exists.
    fn remove(&mut self, rank: usize) -> T {
        match self {
            Node::Leaf(items) => {
                let item = items.remove(rank);
                if items.capacity() - items.len() >= 3 * LEAF_STEP {
                    items.shrink_to(items.len() + LEAF_STEP);
                }
                item
            }
            Node::Inner(inner) => {
                let (at, rank) = inner.locate(rank);
                let item = inner.children[at].remove(rank);
                inner.counts[at] -= 1;
                if rank == 0 {
                    inner.refresh(at);
                }
                inner.tidy(at);
                item
            }
        }
    }

    /// Removes the items with these ranks, showing each to `visit` in order.
    fn remove_range(&mut self, range: Range<usize>, visit: &mut impl FnMut(T)) {
        match self {
            Node::Leaf(items) => items.drain(range).for_each(visit),
            Node::Inner(inner) => {
                let mut start = 0;
                let mut touched = Vec::new();
                for at in 0..inner.children.len() {
                    let end = start + inner.counts[at];
                    let (from, to) = (range.start.max(start), range.end.min(end));
                    if from < to {
                        inner.children[at].remove_range(from - start..to - start, visit);
                        inner.refresh(at);
                        touched.push(at);
                    }
                    start = end;
                }
                // From the right, so that the places on the left stay what they were. Only the two ends of the
                // range can be partly filled; all between are empty.
                for &at in touched.iter().rev() {
                    if at < inner.children.len() {
                        inner.tidy(at);
                    }
                }
            }
        }
    }
}

fn insert_into_leaf<T: Copy>(
    items: &mut Vec<T>,
    item: T,
    before: &mut impl FnMut(&T) -> bool,
) -> Option<Node<T>> {
    let at = items.partition_point(before);
    if items.len() < LEAF_MAX {
        if items.len() == items.capacity() {
            items.reserve_exact(LEAF_STEP);
        }
        items.insert(at, item);
        return None;
    }
    // Items that arrive in order leave full leaves behind.
    let mut right = Vec::with_capacity(LEAF_MAX / 2 + LEAF_STEP);
    if at == items.len() {
        right.push(item);
        return Some(Node::Leaf(right));
    }
    let middle = LEAF_MAX / 2;
    right.extend_from_slice(&items[middle..]);
    items.truncate(middle);
    items.shrink_to(middle + LEAF_STEP);
    if at <= middle {
        items.insert(at, item);
    } else {
        right.insert(at - middle, item);
    }
    Some(Node::Leaf(right))
}

impl<T: Copy> Tree<T> {
    pub(super) const fn new() -> Tree<T> {
        Tree {
            root: Node::Leaf(Vec::new()),
            len: 0,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many items, from the first on, satisfy `before`.
    pub(super) fn partition_point(&self, mut before: impl FnMut(&T) -> bool) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(items) => return rank + items.partition_point(before),
                Node::Inner(inner) => {
                    let at = inner.firsts.partition_point(&mut before).saturating_sub(1);
                    rank += inner.counts[..at].iter().sum::<usize>();
                    node = &inner.children[at];
                }
            }
        }
    }

    pub(super) fn get(&self, rank: usize) -> Option<T> {
        let (items, offset) = self.leaf_at(rank);
        items.get(offset).copied()
    }

    /// The leaf that holds `rank`, and where in it.
    fn leaf_at(&self, rank: usize) -> (&[T], usize) {
        let (mut node, mut rank) = (&self.root, rank);
        loop {
            match node {
                Node::Leaf(items) => return (items, rank),
                Node::Inner(inner) => {
                    let (at, inside) = inner.locate(rank);
                    node = &inner.children[at];
                    rank = inside;
                }
            }
        }
    }

    /// Inserts behind the items that are `before`.
    pub(super) fn insert(&mut self, item: T, mut before: impl FnMut(&T) -> bool) {
        self.len += 1;
        let Some(right) = self.root.insert(item, &mut before) else {
            return;
        };
        let left = std::mem::replace(&mut self.root, Node::Leaf(Vec::new()));
        let mut inner = Inner::with_capacity(2);
        inner.insert_child(0, left);
        inner.insert_child(1, right);
        self.root = Node::Inner(Box::new(inner));
    }

    /// Removes and returns the item at `rank`.
    pub(super) fn remove(&mut self, rank: usize) -> Option<T> {
        if rank >= self.len {
            return None;
        }
        let item = self.root.remove(rank);
        self.len -= 1;
        self.collapse();
        Some(item)
    }

    /// Replaces the item at `rank` if the new one satisfies `fits` with its neighbours (`None` at an end).
    /// False when it does not and nothing was changed.
    pub(super) fn replace_in_place(
        &mut self,
        rank: usize,
        item: T,
        fits: impl FnOnce(Option<T>, Option<T>) -> bool,
    ) -> bool {
        let below = rank.checked_sub(1).and_then(|r| self.get(r));
        let above = self.get(rank + 1);
        if rank >= self.len || !fits(below, above) {
            return false;
        }
        let (mut node, mut rank) = (&mut self.root, rank);
        loop {
            match node {
                Node::Leaf(items) => {
                    items[rank] = item;
                    return true;
                }
                Node::Inner(inner) => {
                    let (at, inside) = inner.locate(rank);
                    if inside == 0 {
                        inner.firsts[at] = item;
                    }
                    node = &mut inner.children[at];
                    rank = inside;
                }
            }
        }
    }

    /// Removes the items with these ranks, showing each to `visit` in order.
    pub(super) fn remove_range(&mut self, range: Range<usize>, mut visit: impl FnMut(T)) {
        let range = range.start.min(self.len)..range.end.min(self.len);
        if range.is_empty() {
            return;
        }
        self.len -= range.len();
        self.root.remove_range(range, &mut visit);
        self.collapse();
    }

    /// Takes levels away that have but one child.
    fn collapse(&mut self) {
        while let Node::Inner(inner) = &mut self.root {
            match inner.children.len() {
                0 => self.root = Node::Leaf(Vec::new()),
                1 => {
                    let child = inner.remove_child(0);
                    self.root = child;
                }
                _ => return,
            }
        }
    }

    /// Items with these ranks, clamped to the sequence.
    pub(super) fn range(&self, range: Range<usize>) -> Iter<'_, T> {
        let end = range.end.min(self.len);
        Iter {
            tree: self,
            front: range.start.min(end),
            back: end,
            front_items: &[],
            back_items: &[],
        }
    }

    /// Heap bytes of the nodes.
    pub(super) fn bytes(&self) -> usize {
        fn of<T>(node: &Node<T>) -> usize {
            match node {
                Node::Leaf(items) => items.capacity() * size_of::<T>(),
                Node::Inner(inner) => {
                    size_of::<Inner<T>>()
                        + inner.firsts.capacity() * size_of::<T>()
                        + inner.counts.capacity() * size_of::<usize>()
                        + inner.children.capacity() * size_of::<Node<T>>()
                        + inner.children.iter().map(of).sum::<usize>()
                }
            }
        }
        of(&self.root)
    }
}

/// Items from either end. Each end keeps what is left of its leaf and looks the next one up by rank.
pub(super) struct Iter<'a, T> {
    tree: &'a Tree<T>,
    front: usize,
    back: usize,
    front_items: &'a [T],
    back_items: &'a [T],
}

impl<T: Copy> Iterator for Iter<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.front == self.back {
            return None;
        }
        if self.front_items.is_empty() {
            let (items, offset) = self.tree.leaf_at(self.front);
            self.front_items = &items[offset..];
        }
        let (&item, rest) = self.front_items.split_first()?;
        self.front_items = rest;
        self.front += 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.back - self.front, Some(self.back - self.front))
    }
}

impl<T: Copy> DoubleEndedIterator for Iter<'_, T> {
    #[inline]
    fn next_back(&mut self) -> Option<T> {
        if self.front == self.back {
            return None;
        }
        if self.back_items.is_empty() {
            let (items, offset) = self.tree.leaf_at(self.back - 1);
            self.back_items = &items[..=offset];
        }
        let (&item, rest) = self.back_items.split_last()?;
        self.back_items = rest;
        self.back -= 1;
        Some(item)
    }
}

impl<T: Copy> ExactSizeIterator for Iter<'_, T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    /// Depth of the leaves, after checking every invariant below `node`.
    fn checked_depth(node: &Node<u64>, root: bool) -> usize {
        assert!(root || node.count() > 0, "only the root may be empty");
        match node {
            Node::Leaf(items) => {
                assert!(items.len() <= LEAF_MAX);
                0
            }
            Node::Inner(inner) => {
                assert!(inner.children.len() <= FANOUT_MAX && (!root || inner.children.len() > 1));
                let depths: Vec<usize> = inner
                    .children
                    .iter()
                    .map(|c| checked_depth(c, false))
                    .collect();
                assert!(depths.windows(2).all(|d| d[0] == d[1]));
                for (i, child) in inner.children.iter().enumerate() {
                    assert_eq!(
                        (child.count(), child.first()),
                        (inner.counts[i], Some(inner.firsts[i]))
                    );
                }
                depths[0] + 1
            }
        }
    }

    fn check(tree: &Tree<u64>, model: &[u64]) {
        checked_depth(&tree.root, true);
        assert_eq!(tree.len(), model.len());
        assert!(tree.range(0..tree.len()).eq(model.iter().copied()));
        assert!(tree
            .range(0..tree.len())
            .rev()
            .eq(model.iter().rev().copied()));
    }

    fn run(seed: u64, steps: usize, span: usize) {
        let mut rng = Rng::from_seed(seed);
        let (mut tree, mut model) = (Tree::new(), Vec::<u64>::new());
        let mut growing = true;
        for step in 0..steps {
            let key = rng.below(span) as u64;
            let at = model.partition_point(|x| *x < key);
            assert_eq!(
                tree.partition_point(|x| *x < key),
                at,
                "seed {seed} step {step}"
            );
            if model.len() > span / 2 || model.is_empty() {
                growing = model.is_empty();
            }
            match rng.below(100) {
                0 => {
                    let end = at + rng.below(200);
                    let mut gone = Vec::new();
                    tree.remove_range(at..end, |x| gone.push(x));
                    assert!(
                        model.drain(at..end.min(model.len())).eq(gone),
                        "seed {seed} step {step}"
                    );
                }
                n if (n < 70) == growing => {
                    tree.insert(key, |x| *x < key);
                    model.insert(at, key);
                }
                _ => {
                    let gone = (at < model.len()).then(|| model.remove(at));
                    assert_eq!(tree.remove(at), gone, "seed {seed} step {step}");
                }
            }
            assert_eq!(tree.get(at), model.get(at).copied());
            if step % 500 == 0 {
                check(&tree, &model);
            }
        }
        check(&tree, &model);
    }

    #[test]
    fn agrees_with_a_sorted_vector() {
        (0..4).for_each(|seed| run(seed, 20_000, 20_000));
        (4..8).for_each(|seed| run(seed, 5_000, 300));
    }

    #[test]
    fn sequences_in_order_fill_their_leaves() {
        let mut tree = Tree::new();
        (0..100_000u64).for_each(|i| tree.insert(i, |x| *x < i));
        check(&tree, &(0..100_000).collect::<Vec<_>>());
        assert!(
            tree.bytes() < 100_000 * 10,
            "{} bytes for 800 000",
            tree.bytes()
        );
        tree.remove_range(10..99_990, |_| ());
        check(&tree, &(0..10).chain(99_990..100_000).collect::<Vec<_>>());
        tree.remove_range(0..usize::MAX, |_| ());
        check(&tree, &[]);
    }

    #[test]
    fn both_ends_of_an_iterator_meet() {
        let mut tree = Tree::new();
        (0..1_000u64).for_each(|i| tree.insert(i, |x| *x < i));
        let mut iter = tree.range(100..900);
        let mut seen = vec![];
        while let Some(front) = iter.next() {
            seen.push(front);
            seen.extend(iter.next_back());
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(100..900));
        assert_eq!(tree.range(2_000..3_000).len(), 0);
    }

    #[test]
    fn an_item_moves_in_place_only_between_its_neighbours() {
        let mut tree = Tree::new();
        (0..1_000u64).for_each(|i| tree.insert(i * 10, |x| *x < i * 10));
        let ordered = |new: u64| {
            move |below: Option<u64>, above: Option<u64>| {
                below.is_none_or(|b| b < new) && above.is_none_or(|a| new < a)
            }
        };
        for rank in [0, 63, 64, 500, 999] {
            let new = rank as u64 * 10 + 5;
            assert!(tree.replace_in_place(rank, new, ordered(new)));
            assert!(!tree.replace_in_place(rank, new + 20, ordered(new + 20)) || rank == 999);
        }
        assert!(!tree.replace_in_place(1_000, 1, |_, _| true));
        checked_depth(&tree.root, true);
    }
}
