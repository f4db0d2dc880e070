//! Going over an RDB without keeping anything: whether it would load.

use super::load::{
    load_rdb, KeyReceiver, LoadOptions, LoadSink, LoadStats, LoadedKey, RdbLoadError,
};
use crate::progress::Progress;
use crate::storage::Storage;
use keyspace::UnixMillis;
use std::path::Path;

struct Nowhere;

impl LoadSink for Nowhere {
    fn key_receiver(&self) -> Box<dyn KeyReceiver + '_> {
        Box::new(Nowhere)
    }
}

impl KeyReceiver for Nowhere {
    fn key(&mut self, _: LoadedKey<'_>) -> Result<(), String> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Reads the whole file as a load does, checksum included, with so many threads.
pub fn check_rdb(
    storage: &dyn Storage,
    path: &Path,
    threads: usize,
) -> Result<LoadStats, RdbLoadError> {
    let options = LoadOptions {
        threads,
        limits: Default::default(),
        now: UnixMillis(0),
        skip_expired: false,
        databases: u32::MAX,
        verify_checksum: true,
    };
    load_rdb(storage, path, &options, &Nowhere, &Progress::default())
}

/// The Unix second at which the file says it was written.
pub fn written_at(stats: &LoadStats) -> Option<i64> {
    let (_, value) = stats.aux.iter().find(|(key, _)| key == b"ctime")?;
    std::str::from_utf8(value).ok()?.parse().ok()
}
