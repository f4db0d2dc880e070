//! [`Storage`] in memory, for tests: a disk that can fail in every way of `docs/design/durability.md`.
//!
//! A crash of the process keeps everything that was written. A crash of the operating system keeps what was made
//! durable, and of the rest whatever the given random numbers say: see [`node`] for contents, [`names`] for names.
//! [`Faults`] judges each operation before it happens and may fail it, cut it short, or stop the machine in the middle
//! of it. Nothing here is random by itself, and nothing takes time: the same calls give the same disk.

mod names;
mod node;

use super::{Open, Storage, StorageFile};
use names::{plain, Change, Image, Names, NodeId};
use node::{Node, PAGE};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Nodes that a child makes are numbered from here on, each child in a range of its own.
const CHILD_NODES: NodeId = 1 << 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OperationKind {
    Open,
    Create,
    Read,
    Write,
    Truncate,
    Datasync,
    Rename,
    Remove,
    Link,
    SyncDirectory,
    CreateDirectory,
    List,
    /// Whether a name is there, and how long its file is.
    Look,
}

/// An operation about to happen.
#[derive(Debug)]
pub struct Operation<'a> {
    pub kind: OperationKind,
    /// For a rename or link: the new name.
    pub path: &'a Path,
    /// Of a read or write.
    pub bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Proceed,
    /// Fails with this errno and has no effect. A datasync has the effect that what it was to write may be lost.
    Fail(i32),
    /// A read or write of so many bytes only.
    Short(usize),
    /// A datasync that succeeds and does nothing.
    Lie,
    /// The machine stops: before the operation, or within a write after so many bytes.
    Stop(usize),
}

/// Judges operations.
pub type Faults = Box<dyn FnMut(&Operation<'_>) -> Verdict + Send>;

/// What unwinds the simulated process when its machine stops.
pub struct Stopped;

/// What a child did to its disk, to be done to its parent's.
#[derive(Clone, Debug)]
pub struct Deed(Done);

#[derive(Clone, Debug)]
enum Done {
    Name(Change),
    Write(NodeId, u64, Vec<u8>),
    Truncate(NodeId, u64),
    Datasync(NodeId),
    SyncDirectory(PathBuf),
}

#[derive(Default)]
struct Disk {
    names: Names,
    nodes: BTreeMap<NodeId, Node>,
    nodes_made: NodeId,
    children: NodeId,
    /// Counts changes; the moment of a state.
    now: u64,
    /// A datasync covers what was there at this moment.
    horizon: Option<u64>,
    /// When the datasyncs began that are running.
    since: Vec<u64>,
    capacity: Option<u64>,
    /// Bytes that may still be written before ENOSPC; `None` is no limit.
    space_left: Option<u64>,
    datasync_error: Option<i32>,
    datasync_count: u64,
    faults: Option<Faults>,
    chance: u64,
    stopped: bool,
    /// Of a child: what it did.
    deeds: Option<Vec<Deed>>,
}

/// A disk in memory. Clones share it.
#[derive(Clone, Default)]
pub struct SimulatedStorage(Arc<Mutex<Disk>>);

struct SimulatedFile {
    disk: SimulatedStorage,
    path: PathBuf,
    node: NodeId,
    direct: bool,
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

impl Disk {
    /// Asks whether an operation may happen; how many bytes of it.
    fn judge(&mut self, kind: OperationKind, path: &Path, bytes: usize) -> io::Result<Verdict> {
        if self.stopped {
            return Err(errno(libc::EIO));
        }
        let Some(faults) = &mut self.faults else {
            return Ok(Verdict::Proceed);
        };
        let verdict = faults(&Operation { kind, path, bytes });
        match verdict {
            Verdict::Fail(number) if kind != OperationKind::Datasync => Err(errno(number)),
            Verdict::Stop(done) if kind != OperationKind::Write || done == 0 => self.stop(),
            _ => Ok(verdict),
        }
    }

    fn stop(&mut self) -> ! {
        self.stopped = true;
        std::panic::resume_unwind(Box::new(Stopped))
    }

    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn next_chance(&mut self) -> u64 {
        // Knuth's multiplier; the low bits are the weak ones.
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.chance >> 32
    }

    fn record(&mut self, done: impl FnOnce() -> Done) {
        if let Some(deeds) = &mut self.deeds {
            deeds.push(Deed(done()));
        }
    }

    fn change_name(&mut self, change: Change) {
        self.record(|| Done::Name(change.clone()));
        self.names.change(change);
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.entry(id).or_default()
    }

    fn write(&mut self, id: NodeId, offset: u64, bytes: &[u8]) {
        self.record(|| Done::Write(id, offset, bytes.to_vec()));
        let now = self.tick();
        let node = self.nodes.entry(id).or_default();
        node.write(offset, bytes, now, &self.since);
    }

    fn truncate(&mut self, id: NodeId, len: u64) {
        self.record(|| Done::Truncate(id, len));
        let now = self.tick();
        let node = self.nodes.entry(id).or_default();
        node.truncate(len, now, &self.since);
    }

    fn used_bytes(&self) -> u64 {
        let named = self.names.live.files.values();
        let len = |id| self.nodes.get(id).map_or(0, |node| node.live.len() as u64);
        named.map(len).sum()
    }

    /// How many of `wanted` bytes behind `end` in a file there is room for.
    fn take_space(&mut self, id: NodeId, offset: u64, wanted: usize) -> io::Result<usize> {
        let mut granted = wanted as u64;
        if let Some(capacity) = self.capacity {
            let len = self.node(id).live.len() as u64;
            let free = capacity.saturating_sub(self.used_bytes());
            granted = granted.min(free + len.saturating_sub(offset));
        }
        granted = granted.min(self.space_left.unwrap_or(u64::MAX));
        if granted == 0 && wanted > 0 {
            return Err(errno(libc::ENOSPC));
        }
        if let Some(left) = &mut self.space_left {
            *left -= granted;
        }
        Ok(granted as usize)
    }
}

impl SimulatedStorage {
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// After this many more bytes, writes fail with ENOSPC.
    pub fn set_space_left(&self, bytes: Option<u64>) {
        self.disk().space_left = bytes;
    }

    /// All files together may hold so many bytes.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    pub fn used_bytes(&self) -> u64 {
        self.disk().used_bytes()
    }

    /// Every datasync fails with this errno until `None` is set.
    pub fn set_datasync_error(&self, errno: Option<i32>) {
        self.disk().datasync_error = errno;
    }

    /// Who judges operations from now on; `seed` decides what a failed datasync loses.
    pub fn set_faults(&self, faults: Option<Faults>, seed: u64) {
        let mut disk = self.disk();
        (disk.faults, disk.chance) = (faults, seed);
    }

    /// A datasync begins that takes time: the moment that it is about. Each needs its [`SimulatedStorage::end_datasync`].
    pub fn begin_datasync(&self) -> u64 {
        let mut disk = self.disk();
        let now = disk.now;
        disk.since.push(now);
        now
    }

    /// Runs the calls with which it ends: their datasyncs cover what was there at `began`, and nothing that is newer.
    pub fn end_datasync<R>(&self, began: u64, calls: impl FnOnce() -> R) -> R {
        self.disk().horizon = Some(began);
        let result = calls();
        let mut disk = self.disk();
        disk.horizon = None;
        if let Some(index) = disk.since.iter().position(|at| *at == began) {
            disk.since.remove(index);
        }
        result
    }

    pub fn datasync_count(&self) -> u64 {
        self.disk().datasync_count
    }

    /// The live bytes of a file.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        let id = disk.names.live.files.get(&plain(path))?;
        Some(disk.nodes.get(id)?.live.clone())
    }

    /// All names, with the lengths of the files.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let disk = self.disk();
        let len = |id| disk.nodes.get(id).map_or(0, |node| node.live.len() as u64);
        let named = disk.names.live.files.iter();
        named.map(|(path, id)| (path.clone(), len(id))).collect()
    }

    /// Changes the live bytes of a file: the way to damage it.
    pub fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.disk();
        if let Some(id) = disk.names.live.files.get(&plain(path)).copied() {
            change(&mut disk.node(id).live);
        }
    }

    /// Stops the machine: from here on nothing changes, and every operation fails.
    pub fn stop(&self) {
        self.disk().stopped = true;
    }

    /// The disk as the next process finds it after this one died. What has it open sees a disk that is stopped.
    pub fn after_process_crash(&self) -> SimulatedStorage {
        let mut disk = self.disk();
        let stopped = Disk {
            stopped: true,
            ..Disk::default()
        };
        let found = std::mem::replace(&mut *disk, stopped);
        SimulatedStorage(Arc::new(Mutex::new(Disk {
            stopped: false,
            faults: None,
            horizon: None,
            since: Vec::new(),
            ..found
        })))
    }

    /// The disk as it is found after the operating system died. `random` yields any numbers; the same ones give the
    /// same disk.
    pub fn after_os_crash(&self, mut random: impl FnMut() -> u64) -> SimulatedStorage {
        let disk = self.disk();
        let names = disk.names.after_crash(&mut random);
        let mut nodes = BTreeMap::new();
        for id in names.files.values() {
            if let (false, Some(node)) = (nodes.contains_key(id), disk.nodes.get(id)) {
                nodes.insert(*id, Node::settled(node.after_crash(&mut random)));
            }
        }
        SimulatedStorage(Arc::new(Mutex::new(Disk {
            names: Names::settled(names),
            nodes,
            nodes_made: disk.nodes_made,
            children: disk.children,
            capacity: disk.capacity,
            ..Disk::default()
        })))
    }

    /// A copy for a child that is being forked. What it does there is kept for [`SimulatedStorage::take_deeds`].
    pub fn fork(&self) -> SimulatedStorage {
        let mut disk = self.disk();
        disk.children += 1;
        let live = |(id, node): (&NodeId, &Node)| (*id, Node::settled(node.live.clone()));
        SimulatedStorage(Arc::new(Mutex::new(Disk {
            names: Names::settled(disk.names.live.clone()),
            nodes: disk.nodes.iter().map(live).collect(),
            nodes_made: disk.children * CHILD_NODES,
            capacity: disk.capacity,
            deeds: Some(Vec::new()),
            ..Disk::default()
        })))
    }

    /// What a child has done, in order.
    pub fn take_deeds(&self) -> Vec<Deed> {
        self.disk().deeds.take().unwrap_or_default()
    }

    /// Does what a child did.
    pub fn repeat(&self, deed: &Deed) {
        let mut disk = self.disk();
        match &deed.0 {
            Done::Name(change) => disk.change_name(change.clone()),
            Done::Write(id, offset, bytes) => disk.write(*id, *offset, bytes),
            Done::Truncate(id, len) => disk.truncate(*id, *len),
            Done::Datasync(id) => {
                let now = disk.now;
                disk.node(*id).sync(now);
            }
            Done::SyncDirectory(path) => disk.names.sync(path),
        }
    }
}

impl Deed {
    /// The new name, if it is a rename.
    pub fn renamed_to(&self) -> Option<&Path> {
        match &self.0 {
            Done::Name(Change::Rename(_, to, _)) => Some(to),
            _ => None,
        }
    }
}

impl Storage for SimulatedStorage {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StorageFile>> {
        let path = plain(path);
        let mut disk = self.disk();
        let found = disk.names.live.files.get(&path).copied();
        let creates = matches!(how, Open::Create | Open::CreateDirect | Open::Append);
        let kind = match found {
            None if creates => OperationKind::Create,
            _ => OperationKind::Open,
        };
        disk.judge(kind, &path, 0)?;
        let node = match (found, how) {
            (None, _) if !creates => return Err(errno(libc::ENOENT)),
            (Some(node), Open::Create | Open::CreateDirect) => {
                disk.truncate(node, 0);
                node
            }
            (Some(node), _) => node,
            (None, _) => {
                disk.nodes_made += 1;
                let node = disk.nodes_made;
                disk.change_name(Change::Put(path.clone(), node));
                node
            }
        };
        drop(disk);
        Ok(Arc::new(SimulatedFile {
            disk: self.clone(),
            path,
            node,
            direct: matches!(
                how,
                Open::CreateDirect | Open::ReadDirect | Open::WriteDirect
            ),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (plain(from), plain(to));
        let mut disk = self.disk();
        disk.judge(OperationKind::Rename, &to, 0)?;
        let files = &disk.names.live.files;
        let node = *files.get(&from).ok_or_else(|| errno(libc::ENOENT))?;
        if from.parent() == to.parent() {
            disk.change_name(Change::Rename(from, to, node));
        } else {
            disk.change_name(Change::Put(to, node));
            disk.change_name(Change::Remove(from));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = plain(path);
        let mut disk = self.disk();
        disk.judge(OperationKind::Remove, &path, 0)?;
        if !disk.names.live.files.contains_key(&path) {
            return Err(errno(libc::ENOENT));
        }
        disk.change_name(Change::Remove(path));
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (plain(from), plain(to));
        let mut disk = self.disk();
        disk.judge(OperationKind::Link, &to, 0)?;
        let files = &disk.names.live.files;
        if files.contains_key(&to) {
            return Err(errno(libc::EEXIST));
        }
        let node = *files.get(&from).ok_or_else(|| errno(libc::ENOENT))?;
        disk.change_name(Change::Put(to, node));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = plain(path);
        let mut disk = self.disk();
        match disk.judge(OperationKind::SyncDirectory, &path, 0)? {
            Verdict::Lie => {}
            _ => {
                disk.record(|| Done::SyncDirectory(path.clone()));
                disk.names.sync(&path);
            }
        }
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = plain(path);
        let mut disk = self.disk();
        disk.judge(OperationKind::CreateDirectory, &path, 0)?;
        if !disk.names.live.directories.contains(&path) {
            disk.change_name(Change::Directory(path));
        }
        Ok(())
    }

    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        let mut disk = self.disk();
        disk.judge(OperationKind::Look, &plain(path), 0)?;
        let node = disk.names.live.files.get(&plain(path));
        let node = node.and_then(|id| disk.nodes.get(id).map(|node| node.live.len() as u64));
        let known = disk.names.live.files.contains_key(&plain(path));
        Ok(node.or(known.then_some(0)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let dir = plain(dir);
        let mut disk = self.disk();
        disk.judge(OperationKind::List, &dir, 0)?;
        let Image { files, .. } = &disk.names.live;
        if !disk.names.live.has_directory(&dir) {
            return Err(errno(libc::ENOENT));
        }
        let inside = files.keys().filter(|name| name.parent() == Some(&dir));
        Ok(inside
            .filter_map(|name| name.file_name().map(OsString::from))
            .collect())
    }
}

impl SimulatedFile {
    fn put(&self, bytes: &[u8], offset: Option<u64>) -> io::Result<usize> {
        let mut disk = self.disk.disk();
        let verdict = disk.judge(OperationKind::Write, &self.path, bytes.len())?;
        let offset = offset.unwrap_or_else(|| disk.node(self.node).live.len() as u64);
        self.check_direct(bytes, offset)?;
        let wanted = match verdict {
            Verdict::Short(bytes) | Verdict::Stop(bytes) => bytes,
            _ => usize::MAX,
        };
        let space = disk.take_space(self.node, offset, bytes.len().min(wanted));
        if let (Err(_), Verdict::Stop(_)) = (&space, verdict) {
            disk.stop();
        }
        let mut n = space?;
        if self.direct {
            // Whole blocks or nothing.
            let short = matches!(verdict, Verdict::Short(_)) && bytes.len() >= PAGE;
            n = if short { n.max(PAGE) } else { n };
            n -= n % PAGE;
            let stops = matches!(verdict, Verdict::Stop(_));
            if n == 0 && !bytes.is_empty() && !stops {
                return Err(errno(libc::ENOSPC));
            }
        }
        disk.write(self.node, offset, &bytes[..n]);
        if matches!(verdict, Verdict::Stop(_)) {
            disk.stop();
        }
        Ok(n)
    }

    /// What the kernel asks of O_DIRECT.
    fn check_direct(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let unaligned = bytes.as_ptr().addr() | bytes.len() | offset as usize;
        if self.direct && !unaligned.is_multiple_of(PAGE) {
            return Err(errno(libc::EINVAL));
        }
        Ok(())
    }
}

impl StorageFile for SimulatedFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes, None)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.put(bytes, Some(offset))
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk.disk();
        let most = match disk.judge(OperationKind::Read, &self.path, into.len())? {
            Verdict::Short(bytes) => bytes.max(1),
            _ => usize::MAX,
        };
        self.check_direct(into, offset)?;
        let live = &disk.node(self.node).live;
        let from = (offset as usize).min(live.len());
        let n = into.len().min(live.len() - from).min(most);
        into[..n].copy_from_slice(&live[from..from + n]);
        Ok(n)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.judge(OperationKind::Truncate, &self.path, 0)?;
        disk.truncate(self.node, len);
        Ok(())
    }

    fn datasync(&self) -> io::Result<()> {
        let mut disk = self.disk.disk();
        let disk = &mut *disk;
        let verdict = disk.judge(OperationKind::Datasync, &self.path, 0)?;
        disk.datasync_count += 1;
        let failure = match verdict {
            Verdict::Fail(number) => Some(number),
            Verdict::Lie => return Ok(()),
            _ => disk.datasync_error,
        };
        if let Some(number) = failure {
            let mut node = disk.nodes.remove(&self.node).unwrap_or_default();
            node.lose(&mut || disk.next_chance());
            disk.nodes.insert(self.node, node);
            return Err(errno(number));
        }
        disk.record(|| Done::Datasync(self.node));
        let upto = disk.horizon.unwrap_or(disk.now);
        disk.node(self.node).sync(upto);
        Ok(())
    }

    fn write_back(&self, _offset: u64, _len: u64) {}

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.disk().node(self.node).live.len() as u64)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
