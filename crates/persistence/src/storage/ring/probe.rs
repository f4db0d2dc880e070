//! Whether rings can serve here, and whether they are to be trusted with what was acknowledged.

use super::layout::{DATA_LEN_MAX, DATA_LEN_MIN, PAGE};
use super::total_bytes;
use crate::storage::{Open, Storage};
use nix::sys::statfs::{statfs, TMPFS_MAGIC};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The identity of the first pid namespace of a system. In any other one, that is in a container, the tmpfs may vanish
/// together with the processes, while the boot id stays.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";
/// logind removes what regular users leave in /dev/shm when they log out (`RemoveIPC`).
const REGULAR_USERS_FROM: u32 = 1000;
const LOGIND_USERS: &str = "/run/systemd/users";

/// The length of a ring's data for the size that was asked for: a power of two.
pub fn data_len(wanted: u64) -> u64 {
    wanted
        .clamp(DATA_LEN_MIN, DATA_LEN_MAX)
        .next_power_of_two()
        .min(DATA_LEN_MAX)
}

/// What tells a directory from all others, also when it is moved.
pub fn dir_id(dir: &Path) -> io::Result<String> {
    let meta = std::fs::metadata(dir)?;
    Ok(format!("{}:{}", meta.dev(), meta.ino()))
}

/// Why rings in `ring_dir` are no place to be relied on, by what is known of this system; `None` if they are.
pub fn objection(ring_dir: &Path, shard_count: u16, data_len: u64) -> Option<String> {
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    match namespace {
        Ok(name) if name.as_os_str() == INITIAL_PID_NAMESPACE => {}
        Ok(_) => return Some("this is a container, whose memory may end with the process".into()),
        Err(error) => return Some(format!("cannot tell whether this is a container: {error}")),
    }
    let dir = ring_dir.display();
    let stat = match statfs(ring_dir) {
        Ok(stat) => stat,
        Err(error) => return Some(format!("{dir}: {error}")),
    };
    if stat.filesystem_type() != TMPFS_MAGIC {
        return Some(format!("{dir} is not tmpfs"));
    }
    let free = stat.blocks_available() * stat.block_size() as u64;
    let wanted = total_bytes(shard_count, data_len) * 2;
    if free < wanted {
        return Some(format!(
            "{dir} has {free} bytes free, and should have {wanted}"
        ));
    }
    if nix::unistd::geteuid().as_raw() >= REGULAR_USERS_FROM && Path::new(LOGIND_USERS).exists() {
        return Some(format!(
            "logind may remove a regular user's files in {dir} at logout"
        ));
    }
    None
}

/// Whether files in `dir` can be written past the page cache, by trying. Not with rings' memory: that is aligned as this is.
pub fn direct_io(storage: &dyn Storage, dir: &Path) -> io::Result<()> {
    #[repr(C, align(4096))]
    struct Block([u8; PAGE as usize]);

    let path = dir.join(format!("temp-direct-{}", std::process::id()));
    let tried = storage.open(&path, Open::CreateDirect).and_then(|file| {
        let block = Box::new(Block([0; PAGE as usize]));
        file.write_at(&block.0, 0)
    });
    // Gone or not there: there is nothing to say about it.
    let _ = storage.remove(&path);
    match tried? {
        n if n == PAGE as usize => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_size_becomes_one_that_a_ring_can_have() {
        for (wanted, expected) in [
            (0, DATA_LEN_MIN),
            (65537, 131072),
            (16 << 20, 16 << 20),
            (u64::MAX, DATA_LEN_MAX),
        ] {
            assert_eq!(data_len(wanted), expected, "{wanted}");
        }
    }
}
