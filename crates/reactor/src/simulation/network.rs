//! What both ends of simulated connections share, and the source of all chance.

use std::collections::VecDeque;

use crate::notifier::Notifier;

/// Most bytes that one simulated receive delivers.
const RECEIVE_BYTES_MAX: usize = 16 << 10;

pub(super) struct Link {
    pub(super) to_server: VecDeque<u8>,
    pub(super) to_client: Vec<u8>,
    /// Most bytes that wait in `to_client`.
    pub(super) window: usize,
    pub(super) client_closed: bool,
    pub(super) reset: bool,
    pub(super) server_closed: bool,
    /// A reactor has the connection and wants its bytes.
    pub(super) receiving: bool,
    /// Bytes of a send that the reactor holds.
    pub(super) unsent: usize,
}

impl Link {
    fn new() -> Link {
        Link {
            to_server: VecDeque::new(),
            to_client: Vec::new(),
            window: usize::MAX,
            client_closed: false,
            reset: false,
            server_closed: false,
            receiving: false,
            unsent: 0,
        }
    }

    /// Takes as much of `bytes` as the window allows; how much.
    pub(super) fn transmit(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.to_client.extend_from_slice(&bytes[..taken]);
        taken
    }

    fn room(&self) -> usize {
        if self.client_closed {
            usize::MAX
        } else {
            self.window.saturating_sub(self.to_client.len())
        }
    }

    /// Bytes, or an end. The end of a client that closed shows only after what could be sent was sent, as on real
    /// backends.
    pub(super) fn can_receive(&self) -> bool {
        let ended = self.reset || (self.client_closed && !self.can_send());
        self.receiving && (ended || !self.to_server.is_empty())
    }

    pub(super) fn can_send(&self) -> bool {
        self.unsent > 0 && (self.reset || self.room() > 0)
    }
}

pub(super) struct Network {
    random: u64,
    pub(super) links: Vec<Link>,
    /// Connections not accepted yet, with their tags.
    pub(super) arriving: VecDeque<(u32, usize)>,
    /// The tags that reactors listen with; one entry per reactor and tag.
    pub(super) listening: Vec<u32>,
    pub(super) notifiers: Vec<Notifier>,
}

impl Network {
    pub(super) fn new(seed: u64) -> Network {
        Network {
            random: seed,
            links: Vec::new(),
            arriving: VecDeque::new(),
            listening: Vec::new(),
            notifiers: Vec::new(),
        }
    }

    /// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not zero.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(super) fn chance(&mut self, numerator: usize, denominator: usize) -> bool {
        self.below(denominator) < numerator
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }

    /// How much of `available` (not zero) moves now: often all, sometimes a few bytes, else anything between.
    pub(super) fn portion(&mut self, available: usize) -> usize {
        let most = available.min(RECEIVE_BYTES_MAX);
        match self.below(4) {
            0 | 1 => most,
            2 => 1 + self.below(most.min(8)),
            _ => 1 + self.below(most),
        }
    }

    pub(super) fn connect(&mut self, tag: u32) -> usize {
        let id = self.links.len();
        self.links.push(Link::new());
        if self.listening.contains(&tag) {
            self.arriving.push_back((tag, id));
        } else {
            self.links[id].server_closed = true;
        }
        id
    }

    pub(super) fn stop_listening(&mut self, tag: u32) {
        if let Some(at) = self.listening.iter().position(|&other| other == tag) {
            self.listening.swap_remove(at);
        }
        if !self.listening.contains(&tag) {
            let links = &mut self.links;
            self.arriving.retain(|&(other, id)| {
                links[id].server_closed |= other == tag;
                other != tag
            });
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.arriving.is_empty()
            && !self.notifiers.iter().any(|notifier| notifier.is_pending())
            && !self
                .links
                .iter()
                .any(|link| link.can_receive() || link.can_send())
    }
}
