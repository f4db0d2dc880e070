//! Rings on a simulated machine: what is in the file and what is found again, after any store.

use super::layout::{total_len, DATA_LEN_MIN};
use super::*;
use crate::aof::manifest::{AofFile, FileKind, Manifest, RingsMark, RunMark};
use crate::aof::ring_recover::{take_over_tails, RingPlace, TailFound};
use crate::aof::AofError;
use crate::storage::simulated::SimulatedStorage;
use crate::storage::write_all_at;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};

const DIR: &str = "/aof";
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const SHARD: ShardIndex = ShardIndex(0);

/// Something that changes what a crash leaves behind.
#[derive(Clone, Debug)]
enum Event {
    Ring(usize, Vec<u8>),
    /// A file is there, complete.
    Create(PathBuf, Vec<u8>),
    Write(PathBuf, u64, Vec<u8>),
    Truncate(PathBuf, u64),
    /// The test goes on to its next step.
    Step(usize),
}

/// What happens to a disk and a ring, in order; and a disk that can be bad.
#[derive(Clone, Default)]
struct Machine {
    disk: SimulatedStorage,
    rings: SimulatedRings,
    events: Arc<Mutex<Vec<Event>>>,
    /// Writes come back short, by this generator; 0: they do not.
    short: Arc<AtomicU64>,
    refuses_direct_open: Arc<AtomicBool>,
    refuses_direct_write: Arc<AtomicBool>,
    direct_writes: Arc<AtomicU64>,
    /// The last errno told, and how often one was.
    trouble: Arc<(AtomicI32, AtomicU64)>,
}

struct TappedFile {
    machine: Machine,
    path: PathBuf,
    direct: bool,
    file: Arc<dyn StorageFile>,
}

fn next(state: &AtomicU64) -> u64 {
    let mut x = state.load(SeqCst);
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    state.store(x, SeqCst);
    x
}

impl Machine {
    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    fn set(&self) -> RingSet {
        let spec = RingSpec {
            prefix: PathBuf::from("/ring/basalt-x"),
            run_id: "run".into(),
            boot_id: "boot".into(),
            dir_id: "dir".into(),
            manifest: PathBuf::from("/aof/m.manifest"),
            shard_count: 1,
            data_len: DATA_LEN_MIN,
        };
        let told = self.trouble.clone();
        let on_trouble = Arc::new(move |shard, errno| {
            assert_eq!(shard, SHARD);
            told.0.store(errno, SeqCst);
            told.1.fetch_add(1, SeqCst);
        });
        let taps = Tapping(self.clone());
        RingSet::create(Arc::new(taps), &spec, RingDriver::Manual, on_trouble).unwrap()
    }

    /// Puts a file with these contents behind the ring.
    fn attach(&self, set: &RingSet, name: &str, contents: &[u8]) -> Arc<RingFile> {
        let path = Path::new(DIR).join(name);
        let file = self.disk.open(&path, Open::Create).unwrap();
        write_all_at(&*file, contents, 0).unwrap();
        self.note(Event::Create(path.clone(), contents.to_vec()));
        let prepared = Prepared::open(self, &path, contents.len() as u64, true).unwrap();
        set.ring(SHARD).attach(prepared).unwrap()
    }

    fn contents(&self, name: &str) -> Vec<u8> {
        self.disk.contents(&Path::new(DIR).join(name)).unwrap()
    }
}

/// The machine's rings, with a tap.
struct Tapping(Machine);

impl RingStore for Tapping {
    fn create(&self, path: &Path, len: usize, first: &[u8]) -> io::Result<RingMemory> {
        let memory = self.0.rings.create(path, len, first)?;
        self.0.note(Event::Ring(0, first.to_vec()));
        let machine = self.0.clone();
        Ok(memory.tapped_by(Box::new(move |offset, bytes| {
            machine.note(Event::Ring(offset, bytes.to_vec()));
            None
        })))
    }

    fn open(&self, path: &Path) -> io::Result<RingMemory> {
        self.0.rings.open(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.rings.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.0.rings.list(dir)
    }
}

impl Storage for Machine {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StorageFile>> {
        let direct = how == Open::WriteDirect;
        if direct && self.refuses_direct_open.load(SeqCst) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(Arc::new(TappedFile {
            machine: self.clone(),
            path: path.to_owned(),
            direct,
            file: self.disk.open(path, how)?,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.link(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        self.disk.file_len(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(dir)
    }
}

impl StorageFile for TappedFile {
    fn append(&self, _bytes: &[u8]) -> io::Result<usize> {
        unreachable!("a ring writes at offsets")
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let machine = &self.machine;
        let mut len = bytes.len();
        if self.direct {
            machine.direct_writes.fetch_add(1, SeqCst);
            assert!(offset.is_multiple_of(PAGE) && len.is_multiple_of(PAGE as usize));
            assert!((bytes.as_ptr() as u64).is_multiple_of(PAGE), "aligned");
            if machine.refuses_direct_write.load(SeqCst) {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
        }
        if machine.short.load(SeqCst) != 0 {
            len = match self.direct {
                true => PAGE as usize * (1 + next(&machine.short) as usize % (len / PAGE as usize)),
                false => 1 + next(&machine.short) as usize % len,
            };
        }
        let written = self.file.write_at(&bytes[..len], offset)?;
        machine.note(Event::Write(
            self.path.clone(),
            offset,
            bytes[..written].to_vec(),
        ));
        Ok(written)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(into, offset)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.machine.note(Event::Truncate(self.path.clone(), len));
        self.file.truncate(len)
    }

    fn datasync(&self) -> io::Result<()> {
        self.file.datasync()
    }

    fn write_back(&self, _offset: u64, _len: u64) {}

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn manifest(names: &[&str]) -> Manifest {
    let files = names.iter().enumerate().map(|(i, name)| AofFile {
        name: OsString::from(*name),
        seq: i as u64 + 1,
        kind: FileKind::Incr,
        segment: None,
        closed: None,
        extra: Vec::new(),
    });
    let rings = RingsMark {
        prefix: PathBuf::from("/ring/basalt-x"),
        count: 1,
    };
    Manifest {
        files: files.collect(),
        run: Some(RunMark {
            boot_id: "boot".into(),
            run_id: "run".into(),
            rings: Some(rings),
        }),
    }
}

fn take_over(disk: &dyn Storage, rings: &SimulatedRings) -> Result<TailFound, AofError> {
    let place = RingPlace {
        rings,
        boot_id: "boot",
        dir_id: "dir",
    };
    let manifest = manifest(&NAMES);
    let tails = take_over_tails(disk, place, Path::new(DIR), &manifest)?;
    Ok(tails.0[0].found.clone())
}

/// A machine as the events up to a moment leave it.
#[derive(Clone, Default)]
struct Image {
    ring: Vec<u8>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Image {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Ring(offset, bytes) => {
                self.ring.resize(total_len(DATA_LEN_MIN), 0);
                self.ring[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Event::Write(path, offset, bytes) => {
                let file = self.files.entry(path.clone()).or_default();
                let end = *offset as usize + bytes.len();
                file.resize(file.len().max(end), 0);
                file[*offset as usize..end].copy_from_slice(bytes);
            }
            Event::Create(path, bytes) => drop(self.files.insert(path.clone(), bytes.clone())),
            Event::Truncate(path, len) => self.files.get_mut(path).unwrap().truncate(*len as usize),
            Event::Step(_) => {}
        }
    }

    /// The files after the next start has taken the ring over.
    fn recovered(&self) -> Vec<Vec<u8>> {
        let (disk, rings) = (SimulatedStorage::new(), SimulatedRings::new());
        for (path, bytes) in &self.files {
            let file = disk.open(path, Open::Create).unwrap();
            write_all_at(&*file, bytes, 0).unwrap();
        }
        rings.insert(Path::new("/ring/basalt-x.0.ring"), &self.ring);
        let found = take_over(&disk, &rings).unwrap();
        assert!(!matches!(found, TailFound::Lost(_)), "{found:?}");
        // Once more, as after a crash behind it: nothing is left to do.
        assert_eq!(take_over(&disk, &rings).unwrap(), TailFound::Nothing);
        let paths = NAMES.iter().map(|name| Path::new(DIR).join(name));
        paths.map_while(|path| disk.contents(&path)).collect()
    }
}

/// The halves of what can be half done.
fn parts(event: &Event) -> Vec<Event> {
    match event {
        Event::Ring(offset, bytes) if bytes.len() > 8 => {
            vec![Event::Ring(*offset, bytes[..bytes.len() / 2].to_vec())]
        }
        Event::Write(path, offset, bytes) if bytes.len() > 1 => {
            let cut = |len: usize| Event::Write(path.clone(), *offset, bytes[..len].to_vec());
            vec![cut(bytes.len() / 2), cut(bytes.len() - 1)]
        }
        _ => Vec::new(),
    }
}

fn pattern(from: u64, len: usize) -> Vec<u8> {
    let byte = |i: u64| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
    (from..from + len as u64).map(byte).collect()
}

/// Runs random steps on a ring, keeping what its files should hold.
struct Run {
    machine: Machine,
    set: RingSet,
    random: AtomicU64,
    file: Arc<RingFile>,
    /// By file; the last one is behind the ring.
    model: Vec<Vec<u8>>,
    /// For each step: what the files hold at least while it runs, and at most.
    bounds: Vec<[Vec<Vec<u8>>; 2]>,
    fresh: u64,
}

impl Run {
    fn new(seed: u64, first_len: usize, short: bool) -> Run {
        let machine = Machine::default();
        if short {
            machine.short.store(seed | 1, SeqCst);
        }
        let set = machine.set();
        let model = vec![pattern(seed, first_len)];
        let file = machine.attach(&set, NAMES[0], &model[0]);
        let mut run = Run {
            machine,
            set,
            random: AtomicU64::new((seed << 8) | 1),
            file,
            model,
            bounds: Vec::new(),
            fresh: seed,
        };
        run.begin(run.model.clone(), run.model.clone());
        run
    }

    fn below(&self, limit: usize) -> usize {
        (next(&self.random) >> 16) as usize % limit
    }

    fn begin(&mut self, least: Vec<Vec<u8>>, most: Vec<Vec<u8>>) {
        self.machine.note(Event::Step(self.bounds.len()));
        self.bounds.push([least, most]);
    }

    fn append(&mut self, len: usize) {
        let before = self.model.clone();
        self.fresh += 1 << 32;
        let bytes = pattern(self.fresh, len);
        self.model.last_mut().unwrap().extend(&bytes);
        self.begin(before, self.model.clone());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            rest = &rest[self.file.append(rest).unwrap()..];
        }
    }

    fn truncate(&mut self, cut: usize) {
        let before = self.model.clone();
        let current = self.model.last_mut().unwrap();
        current.truncate(current.len() - cut.min(current.len()));
        let len = current.len() as u64;
        self.begin(self.model.clone(), before);
        self.file.truncate(len).unwrap();
    }

    fn switch(&mut self, len: usize) {
        self.file.datasync().unwrap();
        let old = self.file.clone();
        self.fresh += 1 << 32;
        self.model.push(pattern(self.fresh, len));
        let name = NAMES[self.model.len() - 1];
        self.begin(self.model.clone(), self.model.clone());
        self.file = self
            .machine
            .attach(&self.set, name, self.model.last().unwrap());
        old.datasync().unwrap();
        assert!(old.append(b"late").is_err(), "the ring is another file's");
    }

    fn step(&mut self) {
        match self.below(18) {
            0..=6 => self.append(1 + self.below(9000)),
            7 => self.append(DATA_LEN_MIN as usize * (2 + self.below(3)) / 2),
            8 => self.truncate(self.below(90_000)),
            9 if self.model.len() < NAMES.len() => self.switch(self.below(9000)),
            10 => self.file.datasync().unwrap(),
            11 | 12 => drop(self.set.step(SHARD, Drain::Bulk).unwrap()),
            13 | 14 => drop(self.set.step(SHARD, Drain::Blocks).unwrap()),
            _ => drop(self.set.step(SHARD, Drain::All).unwrap()),
        }
        let current = self.model.last().unwrap();
        assert_eq!(self.file.len().unwrap(), current.len() as u64);
        let there = self.machine.contents(NAMES[self.model.len() - 1]);
        assert!(current.starts_with(&there), "an exact prefix");
        self.begin(self.model.clone(), self.model.clone());
    }

    /// Crashes between and within all stores and writes there were.
    fn crash_everywhere(&self) {
        let mut image = Image::default();
        let mut step = None;
        for event in self.machine.events.lock().unwrap().iter() {
            if let Event::Step(number) = event {
                step = Some(*number);
            }
            let mut moments = Vec::new();
            for part in parts(event) {
                let mut torn = image.clone();
                torn.apply(&part);
                moments.push(torn);
            }
            image.apply(event);
            moments.push(image.clone());
            if let Some(step) = step {
                for moment in moments {
                    self.check(step, &moment.recovered(), event);
                }
            }
        }
    }

    fn check(&self, step: usize, recovered: &[Vec<u8>], event: &Event) {
        let [least, most] = &self.bounds[step];
        for (i, found) in recovered.iter().enumerate() {
            assert!(
                found.starts_with(&least[i]) && most[i].starts_with(found),
                "file {i} has {} bytes, not {} to {}, at {event:?}",
                found.len(),
                least[i].len(),
                most[i].len()
            );
        }
    }
}

#[test]
fn a_kill_between_any_two_stores_loses_nothing_that_was_written() {
    for (seed, first_len) in [0, 1, 40, 4095, 4096, 4097, 20_000].into_iter().enumerate() {
        let mut run = Run::new(seed as u64 + 1, first_len, seed % 2 == 1);
        (0..20).for_each(|_| run.step());
        run.crash_everywhere();
    }
}

#[test]
fn positions_wrap_around_at_all_alignments() {
    for seed in 1..=24u64 {
        let mut run = Run::new(seed, (seed * 997 % 9000) as usize, seed % 3 == 0);
        for _ in 0..300 {
            run.step();
        }
        run.file.datasync().unwrap();
        let found = run.machine.contents(NAMES[run.model.len() - 1]);
        assert!(&found == run.model.last().unwrap(), "seed {seed}");
    }
}

fn check_trouble(machine: &Machine, errno: i32, count: u64) {
    assert_eq!(machine.trouble.0.load(SeqCst), errno);
    assert_eq!(machine.trouble.1.load(SeqCst), count);
}

#[test]
fn a_full_disk_is_told_at_once_and_the_ring_keeps_everything() {
    let machine = Machine::default();
    let set = machine.set();
    let file = machine.attach(&set, "a", b"head");
    machine.disk.set_space_left(Some(10_000));
    let all = pattern(5, 30_000);
    assert_eq!(file.append(&all).unwrap(), all.len());
    check_trouble(&machine, 0, 0);
    let error = set.step(SHARD, Drain::All).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    check_trouble(&machine, libc::ENOSPC, 1);
    assert!(set.ring(SHARD).error().is_some());
    assert_eq!(file.append(&all).unwrap(), all.len(), "there is room");
    // Told once, however often it fails; and what does not fit is refused whole.
    assert!(file.flush().is_err() && file.append(&all).is_err());
    check_trouble(&machine, libc::ENOSPC, 1);
    assert_eq!(file.len().unwrap(), 4 + 60_000);
    machine.disk.set_space_left(None);
    file.datasync().unwrap();
    check_trouble(&machine, 0, 2);
    assert_eq!(
        machine.contents("a"),
        [b"head", &all[..], &all[..]].concat()
    );
    assert_eq!(set.pending_bytes(), 0);
}

#[test]
fn where_direct_writes_are_refused_the_page_cache_serves() {
    for at_open in [true, false] {
        let machine = Machine::default();
        machine.refuses_direct_open.store(at_open, SeqCst);
        machine.refuses_direct_write.store(true, SeqCst);
        let set = machine.set();
        let file = machine.attach(&set, "a", b"");
        let bytes = pattern(1, 200_000);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            rest = &rest[file.append(rest).unwrap()..];
        }
        file.flush().unwrap();
        assert_eq!(machine.contents("a"), bytes);
        let tried = machine.direct_writes.load(SeqCst);
        assert_eq!(tried, u64::from(!at_open), "not tried again");
    }
}

#[test]
fn whole_blocks_go_past_the_page_cache() {
    let machine = Machine::default();
    let set = machine.set();
    let file = machine.attach(&set, "a", b"head");
    file.append(&pattern(1, 50_000)).unwrap();
    assert!(set.step(SHARD, Drain::Blocks).unwrap());
    assert!(machine.direct_writes.load(SeqCst) > 0);
    assert_eq!(machine.contents("a").len() % PAGE as usize, 0);
}

/// What a server left that was killed with `tail` behind `contents`; the file is "a".
fn killed(contents: &[u8], tail: &[u8]) -> Machine {
    let machine = Machine::default();
    let set = machine.set();
    let file = machine.attach(&set, "a", contents);
    file.append(tail).unwrap();
    drop((set, file));
    machine
}

#[test]
fn a_file_that_was_changed_is_not_appended_to() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 4] = [
        ("shorter", |file| file.truncate(5000)),
        ("longer", |file| file.extend(b"much more than the ring has")),
        ("near its end", |file| file[5998] ^= 1),
        ("near its end", |file| file.extend(b"other")),
    ];
    for (how, change) in changes {
        let machine = killed(&pattern(1, 6000), b"the tail");
        let path = Path::new(DIR).join("a");
        machine.disk.edit(&path, change);
        let before = machine.contents("a");
        match take_over(&machine, &machine.rings).unwrap_err() {
            AofError::RingMisfit {
                how: found,
                bytes: 8,
                ..
            } => assert!(found.contains(how)),
            other => panic!("{other}"),
        }
        assert_eq!(machine.contents("a"), before);
    }
}

#[test]
fn a_disk_too_full_for_the_tail_keeps_it_in_the_ring() {
    let machine = killed(&pattern(1, 6000), &pattern(2, 20_000));
    machine.disk.set_space_left(Some(5000));
    assert!(matches!(
        take_over(&machine, &machine.rings),
        Err(AofError::Io { .. })
    ));
    machine.disk.set_space_left(None);
    let expected = TailFound::Tail {
        file: "a".into(),
        offset: 6000,
        bytes: 20_000,
    };
    assert_eq!(take_over(&machine, &machine.rings).unwrap(), expected);
    assert_eq!(
        machine.contents("a"),
        [pattern(1, 6000), pattern(2, 20_000)].concat()
    );
}

#[test]
fn a_ring_that_is_gone_or_another_s_is_lost_and_one_that_is_held_is_an_error() {
    let machine = killed(b"head", b"tail");
    let place = |boot_id, dir_id| RingPlace {
        rings: &machine.rings,
        boot_id,
        dir_id,
    };
    let look = |place, manifest: &Manifest| {
        crate::aof::ring_recover::find_tails(&machine, place, Path::new(DIR), manifest)
    };
    let whole = manifest(&["a"]);
    let lost = |place, manifest: &Manifest, why: &str| {
        let tails = look(place, manifest).unwrap();
        let reasons: Vec<_> = tails.lost().map(|(_, reason)| reason.to_owned()).collect();
        assert!(
            reasons.len() == 1 && reasons[0].contains(why),
            "{reasons:?}"
        );
        assert!(tails.any_lost());
    };
    assert_eq!(look(place("boot", "dir"), &whole).unwrap().bytes(), 4);
    // After another boot nothing is to be expected of any ring.
    assert_eq!(look(place("later", "dir"), &whole).unwrap().0, []);
    lost(place("boot", "elsewhere"), &whole, "another directory");
    lost(place("boot", "dir"), &manifest(&["b"]), "does not name");
    let mut other_run = whole.clone();
    other_run.run.as_mut().unwrap().run_id = "other".into();
    lost(place("boot", "dir"), &other_run, "another run");
    let held = machine
        .rings
        .open(Path::new("/ring/basalt-x.0.ring"))
        .unwrap();
    assert!(matches!(
        look(place("boot", "dir"), &whole),
        Err(AofError::Io { .. })
    ));
    drop(held);
    machine
        .rings
        .remove(Path::new("/ring/basalt-x.0.ring"))
        .unwrap();
    lost(place("boot", "dir"), &whole, "gone");
}

#[test]
fn abandoned_rings_are_removed_and_no_others() {
    use crate::aof::ring_recover::remove_abandoned;
    let machine = killed(b"head", b"tail");
    let path = Path::new("/ring/basalt-x.0.ring");
    let removed = |boot_id| remove_abandoned(&machine, &machine.rings, Path::new("/ring"), boot_id);
    let name_in_manifest = |text: &[u8]| {
        let file = machine
            .disk
            .open(Path::new("/aof/m.manifest"), Open::Create)
            .unwrap();
        write_all_at(&*file, text, 0).unwrap();
    };
    assert_eq!(
        removed("boot"),
        [] as [PathBuf; 0],
        "its manifest may come back"
    );
    name_in_manifest(b"#basalt boot-id boot run-id run rings 1 /ring/basalt-x\n");
    assert_eq!(removed("boot"), [] as [PathBuf; 0], "it is named");
    name_in_manifest(b"file a seq 1 type i\n");
    let held = machine.rings.open(path).unwrap();
    assert_eq!(removed("boot"), [] as [PathBuf; 0], "a process holds it");
    drop(held);
    assert_eq!(removed("boot"), [path]);
    let machine = killed(b"head", b"tail");
    let removed = remove_abandoned(&machine, &machine.rings, Path::new("/ring"), "next boot");
    assert_eq!(removed, [path]);
}

#[test]
fn threads_drain_mapped_rings_while_others_append_and_sync() {
    use crate::storage::OsStorage;
    let dir = std::env::temp_dir().join(format!("basalt-ring-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("segment");
    std::fs::write(&path, b"the head").unwrap();
    let spec = RingSpec {
        prefix: dir.join("basalt-t"),
        run_id: "run".into(),
        boot_id: "boot".into(),
        dir_id: probe::dir_id(&dir).unwrap(),
        manifest: dir.join("manifest"),
        shard_count: 1,
        data_len: DATA_LEN_MIN,
    };
    let store = Arc::new(ShmRings::new(&dir));
    let set = RingSet::create(
        store.clone(),
        &spec,
        RingDriver::Threads,
        Arc::new(|_, _| {}),
    );
    let set = set.unwrap();
    let prepared = Prepared::open(&OsStorage, &path, 8, true).unwrap();
    let file = set.ring(SHARD).attach(prepared).unwrap();
    let expected = [b"the head", &pattern(3, 3_000_000)[..]].concat();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                file.datasync().unwrap();
                drop(set.pause());
            }
        });
        let mut rest = &expected[8..];
        let mut len = 1;
        while !rest.is_empty() {
            rest = &rest[file.append(&rest[..len.min(rest.len())]).unwrap()..];
            len = len * 3 % 20_011;
        }
        done.store(true, SeqCst);
    });
    file.append(b", the rest").unwrap();
    assert!(
        store.open(&ring_path(&spec.prefix, SHARD)).is_err(),
        "it is held"
    );
    drop(file);
    drop(set);
    // As after a kill: what is not in the file is in the ring.
    let place = RingPlace {
        rings: &*store,
        boot_id: "boot",
        dir_id: &spec.dir_id,
    };
    let mut manifest = manifest(&["segment"]);
    let run = manifest.run.as_mut().unwrap();
    run.rings.as_mut().unwrap().prefix = spec.prefix.clone();
    let tails = take_over_tails(&OsStorage, place, &dir, &manifest).unwrap();
    assert!(!tails.any_lost(), "{tails:?}");
    let found = std::fs::read(&path).unwrap();
    assert!(found == [&expected[..], b", the rest"].concat());
    std::fs::remove_dir_all(&dir).unwrap();
}
