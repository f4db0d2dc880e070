//! One file of a simulated disk: what is read from it, what is durable, and every state its pages had in between.
//!
//! The page is the unit in which a system writes back, in any order and as of any moment since the last datasync: so
//! each write records what the touched pages look like after it. The length is kept apart in the same way.

use std::collections::BTreeMap;

pub(super) const PAGE: usize = 4096;
const SECTOR: u64 = 512;
/// States kept of one page; beyond, one in the middle is forgotten that no running datasync needs.
const STATES_MAX: usize = 6;

/// A state, with the moment from which on the file was in it.
type At<T> = (u64, T);

#[derive(Default)]
pub(super) struct Node {
    pub(super) live: Vec<u8>,
    durable: Vec<u8>,
    /// By page: its states since the last datasync, oldest first; a page at the end of the file may be short.
    pages: BTreeMap<u64, Vec<At<Box<[u8]>>>>,
    lens: Vec<At<u64>>,
}

/// How much of what is not durable a crash leaves.
#[derive(Clone, Copy, Debug)]
enum Left {
    Nothing,
    Everything,
    /// Everything up to a moment.
    UpTo(u64),
    /// Each page as it was at some moment of its own, perhaps torn.
    Scattered,
}

impl Node {
    /// The same live contents, which count as durable.
    pub(super) fn settled(live: Vec<u8>) -> Node {
        Node {
            durable: live.clone(),
            live,
            ..Node::default()
        }
    }

    /// `since`: when the datasyncs that are running began.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], now: u64, since: &[u64]) {
        let (from, end) = (offset as usize, offset as usize + bytes.len());
        if self.live.len() < end {
            self.live.resize(end, 0);
            self.lens.push((now, end as u64));
        }
        self.live[from..end].copy_from_slice(bytes);
        if end > from {
            self.note_pages(from / PAGE, (end - 1) / PAGE, now, since);
        }
    }

    pub(super) fn truncate(&mut self, len: u64, now: u64, since: &[u64]) {
        let before = self.live.len();
        self.live.resize(len as usize, 0);
        if before != len as usize {
            self.lens.push((now, len));
            let (low, high) = (before.min(len as usize), before.max(len as usize));
            self.note_pages(low / PAGE, (high - 1) / PAGE, now, since);
        }
    }

    fn note_pages(&mut self, first: usize, last: usize, now: u64, since: &[u64]) {
        for page in first..=last {
            let from = (page * PAGE).min(self.live.len());
            let end = (from + PAGE).min(self.live.len());
            let states = self.pages.entry(page as u64).or_default();
            if states.len() >= STATES_MAX {
                forget_one(states, since);
            }
            states.push((now, self.live[from..end].into()));
        }
    }

    /// Makes durable what was there at `upto`.
    pub(super) fn sync(&mut self, upto: u64) {
        let mut image = std::mem::take(&mut self.durable);
        let len = last_until(&self.lens, upto).copied();
        let len = len.unwrap_or(image.len() as u64);
        for (page, states) in &mut self.pages {
            if let Some(state) = last_until(states, upto) {
                put(&mut image, *page, state);
            }
            states.retain(|(at, _)| *at > upto);
        }
        self.pages.retain(|_, states| !states.is_empty());
        self.lens.retain(|(at, _)| *at > upto);
        image.resize(len as usize, 0);
        self.durable = image;
    }

    /// A datasync failed: what it was to write may or may not be durable, and nobody will try again.
    pub(super) fn lose(&mut self, random: &mut dyn FnMut() -> u64) {
        self.durable = self.after_crash(random);
        self.pages.clear();
        self.lens.clear();
    }

    /// What a crash of the operating system leaves.
    pub(super) fn after_crash(&self, random: &mut dyn FnMut() -> u64) -> Vec<u8> {
        let left = match random() % 8 {
            0 | 1 => Left::Nothing,
            2 => Left::Everything,
            3 | 4 => {
                let moments: Vec<u64> = self.pages.values().flatten().map(|(at, _)| *at).collect();
                match moments.len() {
                    0 => Left::Nothing,
                    n => Left::UpTo(moments[(random() % n as u64) as usize]),
                }
            }
            _ => Left::Scattered,
        };
        let mut image = self.durable.clone();
        for (page, states) in &self.pages {
            match left {
                Left::Nothing => {}
                Left::Everything => put(&mut image, *page, &states[states.len() - 1].1),
                Left::UpTo(moment) => {
                    if let Some(state) = last_until(states, moment) {
                        put(&mut image, *page, state);
                    }
                }
                Left::Scattered => put_any(&mut image, *page, states, random),
            }
        }
        let len = match left {
            Left::Nothing => None,
            Left::Everything => self.lens.last().map(|(_, len)| *len),
            Left::UpTo(moment) => last_until(&self.lens, moment).copied(),
            Left::Scattered => match random() % (self.lens.len() as u64 + 1) {
                0 => None,
                // More often than not the longest: then there is something in the pages to find fault with.
                n if n.is_multiple_of(2) => self.lens.iter().map(|(_, len)| *len).max(),
                n => Some(self.lens[n as usize - 1].1),
            },
        };
        image.resize(len.unwrap_or(self.durable.len() as u64) as usize, 0);
        image
    }
}

/// Forgets a state from the middle on that no datasync is to make durable.
fn forget_one<T>(states: &mut Vec<At<T>>, since: &[u64]) {
    let is_needed = |index: usize| {
        let next = states.get(index + 1).map_or(u64::MAX, |(at, _)| *at);
        since
            .iter()
            .any(|moment| (states[index].0..next).contains(moment))
    };
    let forgotten = (STATES_MAX / 2..states.len()).find(|index| !is_needed(*index));
    if let Some(index) = forgotten {
        states.remove(index);
    }
}

/// The last state not after `moment`.
fn last_until<T>(states: &[At<T>], moment: u64) -> Option<&T> {
    let until = states.iter().rev().find(|(at, _)| *at <= moment)?;
    Some(&until.1)
}

fn put(image: &mut Vec<u8>, page: u64, state: &[u8]) {
    let from = page as usize * PAGE;
    if image.len() < from + PAGE {
        image.resize(from + PAGE, 0);
    }
    image[from..from + PAGE].fill(0);
    image[from..from + state.len()].copy_from_slice(state);
}

/// One of the page's states or the durable one, and a quarter of the time only a part of it: up to any byte, or
/// sectors here and there.
fn put_any(
    image: &mut Vec<u8>,
    page: u64,
    states: &[At<Box<[u8]>>],
    random: &mut dyn FnMut() -> u64,
) {
    let Some(chosen) = (random() % (states.len() as u64 + 1)).checked_sub(1) else {
        return;
    };
    let from = page as usize * PAGE;
    let mut before = [0; PAGE];
    let there = image.len().saturating_sub(from).min(PAGE);
    before[..there].copy_from_slice(&image[from.min(image.len())..][..there]);
    put(image, page, &states[chosen as usize].1);
    match random() % 8 {
        0 => {
            let kept = (random() % PAGE as u64) as usize;
            image[from + kept..from + PAGE].copy_from_slice(&before[kept..]);
        }
        1 => {
            for sector in (0..PAGE).step_by(SECTOR as usize) {
                if random().is_multiple_of(2) {
                    let range = sector..sector + SECTOR as usize;
                    image[from..][range.clone()].copy_from_slice(&before[range]);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(mut seed: u64) -> impl FnMut() -> u64 {
        move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed >> 33
        }
    }

    #[test]
    fn what_was_synced_survives_and_nothing_else_must() {
        let mut lost = 0;
        let mut kept = 0;
        for seed in 0..200 {
            let mut node = Node::default();
            node.write(0, &[1; 6000], 1, &[]);
            node.sync(1);
            node.write(6000, &[2; 6000], 2, &[]);
            let image = node.after_crash(&mut numbers(seed));
            assert_eq!(image[..6000], [1; 6000]);
            lost += usize::from(image.len() == 6000);
            kept += usize::from(image == node.live);
        }
        assert!(lost > 20 && kept > 20, "lost {lost}, kept {kept}");
    }

    #[test]
    fn a_sync_covers_what_was_there_when_it_began() {
        let mut node = Node::default();
        node.write(0, &[1; 10], 1, &[]);
        node.write(10, &[2; 10], 2, &[]);
        node.sync(1);
        assert_eq!(node.durable, [1; 10]);
        node.truncate(5, 3, &[]);
        node.sync(3);
        assert_eq!(node.durable, [1; 5]);
    }

    #[test]
    fn a_slow_sync_covers_its_beginning_however_often_the_page_changes_meanwhile() {
        let mut node = Node::default();
        let began = 4;
        for now in 1..=50u8 {
            let since: &[u64] = if now > 4 { &[began] } else { &[] };
            node.write(u64::from(now) - 1, &[now], u64::from(now), since);
        }
        node.sync(began);
        assert_eq!(node.durable, [1, 2, 3, 4]);
        assert!(node.pages[&0].len() <= STATES_MAX);
    }

    #[test]
    fn a_page_written_again_leaves_the_file_as_long_as_it_was() {
        let mut node = Node::default();
        node.write(0, &[1; 10], 1, &[]);
        node.sync(1);
        node.write(5, &[2; 5], 2, &[]);
        node.sync(2);
        assert_eq!(node.durable, [1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
    }

    #[test]
    fn pages_go_out_of_order() {
        let found = (0..500).any(|seed| {
            let mut node = Node::default();
            node.write(0, &[1; PAGE], 1, &[]);
            node.write(PAGE as u64, &[2; PAGE], 2, &[]);
            let image = node.after_crash(&mut numbers(seed));
            image.len() == 2 * PAGE && image[0] == 0 && image[PAGE] == 2
        });
        assert!(found);
    }
}
