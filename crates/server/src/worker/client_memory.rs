//! `maxmemory-clients`: what the buffers of all clients may take together.
//!
//! While there is such a limit, each worker keeps the sum of what its connections take, counted anew whenever one of them
//! has received or sent something. A worker that finds the sum of these sums above the limit looks at all clients and
//! disconnects those that take most, wherever they are served, until the rest fits. Who asked by CLIENT NO-EVICT stays,
//! and counts.

use std::cmp::Reverse;
use std::sync::atomic::Ordering::Relaxed;

use reactor::Reactor;

use super::connection::Connection;
use super::Worker;
use crate::clients::flag;
use crate::log;

impl Worker {
    /// Takes the limit over from the configuration.
    pub(super) fn configure_client_memory(&mut self) {
        let config = &self.config;
        self.clients_bytes_max = config.maxmemory_clients.of(config.maxmemory_bytes);
        self.weighed_in_vain = false;
    }

    /// Counts what a connection takes, if that is limited.
    #[inline]
    pub(super) fn weigh(&self, c: &mut Connection) {
        if self.clients_bytes_max > 0 {
            c.update_output();
            self.count_bytes(c, c.memory_bytes());
        }
    }

    /// A connection takes so much from now on.
    pub(super) fn count_bytes(&self, c: &mut Connection, bytes: usize) {
        let change = bytes as i64 - c.weighed_bytes as i64;
        c.weighed_bytes = bytes;
        if change != 0 {
            let handle = &self.server.workers[self.index];
            handle.clients_bytes.fetch_add(change, Relaxed);
        }
    }

    /// Counts all connections again, those too that have been still since there is a limit.
    pub(super) fn weigh_all(&mut self) {
        if self.clients_bytes_max == 0 {
            return;
        }
        self.weighed_in_vain = false;
        let mut connections = std::mem::take(&mut self.connections);
        for c in connections.iter_mut().flatten() {
            self.weigh(c);
        }
        self.connections = connections;
    }

    /// Disconnects the largest clients while all together take more than they may.
    #[inline]
    pub(super) fn evict_clients(&mut self, reactor: &mut Reactor) {
        if self.clients_bytes_max > 0 && !self.weighed_in_vain {
            let workers = self.server.workers.iter();
            let bytes: i64 = workers.map(|w| w.clients_bytes.load(Relaxed)).sum();
            if bytes > self.clients_bytes_max as i64 {
                self.evict_largest(reactor);
            }
        }
    }

    #[cold]
    fn evict_largest(&mut self, reactor: &mut Reactor) {
        // One at a time: two would each evict what is too much.
        let Ok(_alone) = self.server.client_eviction.try_lock() else {
            return;
        };
        // Those that were killed already are not among them.
        let mut clients: Vec<_> = self.server.clients.all();
        clients.sort_by_cached_key(|record| Reverse(record.memory_bytes.load(Relaxed)));
        let weights = clients.iter();
        let mut bytes: u64 = weights.map(|r| r.memory_bytes.load(Relaxed) as u64).sum();
        let mut evictable = clients
            .iter()
            .filter(|record| record.flags.load(Relaxed) & flag::NO_EVICT == 0);
        while bytes > self.clients_bytes_max {
            let Some(record) = evictable.next() else {
                log!(
                    Warning,
                    "Over client maxmemory after evicting all evictable clients"
                );
                // Not again before the next look at everything.
                self.weighed_in_vain = true;
                return;
            };
            let own_bytes = record.memory_bytes.load(Relaxed) as u64;
            log!(
                Notice,
                "Evicting client: id={} addr={} tot-mem={own_bytes}",
                record.id,
                record.address
            );
            self.stats().clients_evicted.add(1);
            if record.worker == self.index {
                // Before what it has read is sent.
                self.disconnect(reactor, record.conn);
            } else {
                self.kill(record);
            }
            bytes -= own_bytes;
        }
    }
}
