//! [`Storage`] in memory, for tests: each file has a live image and a durable one, and both can be made to fail.
//!
//! A crash of the process keeps the live images. A crash of the operating system keeps, per file, the durable image
//! and any part of what was appended since, chosen by a seed, perhaps with its last bytes torn or zeroed; and of
//! renames and removals only those before the last `sync_dir` of their directory.

use super::{Open, Storage, StorageFile};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Default)]
struct Contents {
    live: Vec<u8>,
    durable: Vec<u8>,
}

type Node = Arc<Mutex<Contents>>;

#[derive(Default)]
struct Disk {
    names: BTreeMap<PathBuf, Node>,
    names_durable: BTreeMap<PathBuf, Node>,
    /// Bytes that may still be written before ENOSPC; `None` is no limit.
    space_left: Option<u64>,
    datasync_error: Option<i32>,
    datasync_count: u64,
}

/// A disk in memory. Clones share it.
#[derive(Clone, Default)]
pub struct SimulatedStorage(Arc<Mutex<Disk>>);

struct SimulatedFile {
    disk: SimulatedStorage,
    node: Node,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl SimulatedStorage {
    pub fn new() -> Self {
        Self::default()
    }

    /// After this many more bytes, writes fail with ENOSPC.
    pub fn set_space_left(&self, bytes: Option<u64>) {
        locked(&self.0).space_left = bytes;
    }

    /// Every datasync fails with this errno until `None` is set.
    pub fn set_datasync_error(&self, errno: Option<i32>) {
        locked(&self.0).datasync_error = errno;
    }

    pub fn datasync_count(&self) -> u64 {
        locked(&self.0).datasync_count
    }

    /// The live bytes of a file.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let node = locked(&self.0).names.get(path)?.clone();
        let bytes = locked(&node).live.clone();
        Some(bytes)
    }

    /// Changes the live bytes of a file: the way to damage it.
    pub fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let node = locked(&self.0).names.get(path).cloned();
        if let Some(node) = node {
            change(&mut locked(&node).live);
        }
    }

    /// The disk as it is found after the operating system died. `random` yields any numbers; the same ones give the
    /// same disk.
    pub fn after_os_crash(&self, mut random: impl FnMut() -> u64) -> SimulatedStorage {
        let disk = locked(&self.0);
        let mut names = BTreeMap::new();
        for (path, node) in &disk.names_durable {
            let contents = locked(node);
            let mut bytes = contents.durable.clone();
            if contents.live.len() > bytes.len() && contents.live.starts_with(&bytes) {
                let extra = contents.live.len() - bytes.len();
                let kept = (random() % (extra as u64 + 1)) as usize;
                let from = bytes.len();
                bytes.extend_from_slice(&contents.live[from..from + kept]);
                if kept > 0 && random().is_multiple_of(4) {
                    let zeroed = (random() % kept as u64) as usize;
                    let len = bytes.len();
                    bytes[len - zeroed..].fill(0);
                }
            }
            names.insert(
                path.clone(),
                Arc::new(Mutex::new(Contents {
                    live: bytes.clone(),
                    durable: bytes,
                })),
            );
        }
        let fresh = Disk {
            names_durable: names.clone(),
            names,
            ..Disk::default()
        };
        SimulatedStorage(Arc::new(Mutex::new(fresh)))
    }
}

impl Storage for SimulatedStorage {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = locked(&self.0);
        let node = match (disk.names.get(path), how) {
            (None, Open::Read | Open::ReadDirect | Open::Write | Open::WriteDirect) => {
                return Err(io::ErrorKind::NotFound.into())
            }
            (Some(node), Open::Create | Open::CreateDirect) => {
                locked(node).live.clear();
                node.clone()
            }
            (Some(node), _) => node.clone(),
            (None, _) => {
                let node = Node::default();
                disk.names.insert(path.to_owned(), node.clone());
                node
            }
        };
        drop(disk);
        Ok(Arc::new(SimulatedFile {
            disk: self.clone(),
            node,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = locked(&self.0);
        let node = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        locked(&self.0)
            .names
            .remove(path)
            .map(|_| ())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = locked(&self.0);
        if disk.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = disk.names.get(from).ok_or(io::ErrorKind::NotFound)?.clone();
        disk.names.insert(to.to_owned(), node);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = locked(&self.0);
        let Disk {
            names,
            names_durable,
            ..
        } = &mut *disk;
        names_durable.retain(|name, _| name.parent() != Some(path));
        for (name, node) in names.iter().filter(|(name, _)| name.parent() == Some(path)) {
            names_durable.insert(name.clone(), node.clone());
        }
        Ok(())
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        let node = locked(&self.0).names.get(path).cloned();
        Ok(node.map(|node| locked(&node).live.len() as u64))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let disk = locked(&self.0);
        let inside = disk.names.keys().filter(|name| name.parent() == Some(dir));
        Ok(inside
            .filter_map(|name| name.file_name().map(OsString::from))
            .collect())
    }
}

impl SimulatedFile {
    fn take_space(&self, wanted: usize) -> io::Result<usize> {
        let mut disk = locked(&self.disk.0);
        let Some(left) = disk.space_left else {
            return Ok(wanted);
        };
        let granted = (wanted as u64).min(left);
        if granted == 0 && wanted > 0 {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        disk.space_left = Some(left - granted);
        Ok(granted as usize)
    }
}

impl StorageFile for SimulatedFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.take_space(bytes.len())?;
        locked(&self.node).live.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let n = self.take_space(bytes.len())?;
        let mut contents = locked(&self.node);
        let end = offset as usize + n;
        if contents.live.len() < end {
            contents.live.resize(end, 0);
        }
        contents.live[offset as usize..end].copy_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let contents = locked(&self.node);
        let from = (offset as usize).min(contents.live.len());
        let n = into.len().min(contents.live.len() - from);
        into[..n].copy_from_slice(&contents.live[from..from + n]);
        Ok(n)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        locked(&self.node).live.resize(len as usize, 0);
        Ok(())
    }

    fn datasync(&self) -> io::Result<()> {
        {
            let mut disk = locked(&self.disk.0);
            disk.datasync_count += 1;
            if let Some(errno) = disk.datasync_error {
                return Err(io::Error::from_raw_os_error(errno));
            }
        }
        let mut contents = locked(&self.node);
        contents.durable = contents.live.clone();
        Ok(())
    }

    fn write_back(&self, _offset: u64, _len: u64) {}

    fn len(&self) -> io::Result<u64> {
        Ok(locked(&self.node).live.len() as u64)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
