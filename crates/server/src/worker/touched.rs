//! The shards whose logs a turn's replies show, with how far each must be written.

use keyspace::{Lsn, ShardIndex};

pub struct Touched {
    /// By shard; zero where the shard is not on the list.
    ends: Box<[Lsn]>,
    list: Vec<ShardIndex>,
}

impl Touched {
    pub fn new(shards: usize) -> Touched {
        Touched {
            ends: vec![Lsn(0); shards].into(),
            list: Vec::new(),
        }
    }

    #[inline]
    pub fn note(&mut self, shard: ShardIndex, end: Lsn) {
        let noted = &mut self.ends[usize::from(shard.0)];
        if *noted == Lsn(0) && end > Lsn(0) {
            self.list.push(shard);
        }
        *noted = end.max(*noted);
    }

    pub fn drain(&mut self, mut f: impl FnMut(ShardIndex, Lsn)) {
        for shard in self.list.drain(..) {
            f(shard, std::mem::take(&mut self.ends[usize::from(shard.0)]));
        }
    }
}
