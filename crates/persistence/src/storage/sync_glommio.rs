//! The glommio driver: one executor thread whose ring carries the datasyncs of all segments at once.
//!
//! Guards against what glommio 0.9 is known for: without io_uring it panics, so [`probe`] comes first; its executor can go
//! to sleep with tasks ready to run, so a timer wakes it every [`TICK`]; wakers kept by its channels overflow, so other
//! threads reach it through an eventfd that one task reads, and nothing else; its default of 10 MB of pinned buffers
//! is not needed, 64 KiB are.
//! For a fork the executor thread blocks itself: within one of its own tasks, it parks until it is resumed.

use super::sync::Shared;
use glommio::io::BufferedFile;
use glommio::{LocalExecutorBuilder, Placement};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The longest that a missed wake-up delays anything.
const TICK: Duration = Duration::from_millis(50);
const IO_MEMORY_BYTES: usize = 64 << 10;
/// Submission queue entries of the ring that the probe makes.
const PROBE_ENTRIES: u32 = 8;

/// Whether an io_uring can be made here, by making one. The error says why not.
pub fn probe() -> Result<(), String> {
    let mut parameters = [0u8; 120];
    // SAFETY: io_uring_setup writes at most sizeof(struct io_uring_params) = 120 bytes to the zeroed array.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_io_uring_setup,
            PROBE_ENTRIES,
            parameters.as_mut_ptr(),
        )
    };
    if fd < 0 {
        return Err(format!("io_uring_setup: {}", io::Error::last_os_error()));
    }
    // SAFETY: the kernel just returned this descriptor; nobody else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    Ok(())
}

/// Starts the executor's thread.
pub(super) fn start(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    probe().map_err(|reason| io::Error::new(io::ErrorKind::Unsupported, reason))?;
    let event = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
    shared.set_states(true);
    let handle = std::thread::Builder::new().name("aof-sync".into()).spawn({
        let (shared, event) = (shared.clone(), event.clone());
        move || {
            let builder = LocalExecutorBuilder::new(Placement::Unbound)
                .io_memory(IO_MEMORY_BYTES)
                .name("aof-sync");
            match builder.make() {
                Ok(executor) => executor.run(drive(
                    Driver {
                        busy: vec![Cell::new(false); shared.segment_count()],
                        shared,
                    },
                    event,
                )),
                Err(_) => shared.give_up(libc::ENOSYS),
            }
        }
    })?;
    let thread = handle.thread().clone();
    shared.set_waker(Box::new(move || {
        // The counter is read down to zero each time; it cannot fill up, and nothing else can fail.
        let _ = event.write(1);
        thread.unpark();
    }));
    Ok(handle)
}

struct Driver {
    shared: Arc<Shared>,
    /// Which segments have a task.
    busy: Vec<Cell<bool>>,
}

/// The root task: the ticks. The mailbox is a task beside it.
async fn drive(driver: Driver, event: Arc<EventFd>) {
    let driver = Rc::new(driver);
    let mailbox = glommio::spawn_local(read_mailbox(driver.clone(), event));
    let count = driver.busy.len();
    let mut ticks: Vec<Instant> = (0..count)
        .map(|i| driver.shared.next_tick(i, Instant::now()))
        .collect();
    while !driver.shared.is_stopping() {
        driver.block_while_paused();
        let timer = driver.shared.timer_runs();
        for (index, tick) in ticks.iter_mut().enumerate() {
            let now = Instant::now();
            let due = now >= *tick;
            if due {
                *tick = driver.shared.next_tick(index, now);
            }
            look(&driver, index, timer && due);
        }
        glommio::timer::sleep(TICK).await;
    }
    mailbox.await;
    while driver.busy.iter().any(Cell::get) {
        glommio::timer::sleep(TICK).await;
    }
}

/// Looks at all segments whenever another thread has written to the eventfd.
async fn read_mailbox(driver: Rc<Driver>, event: Arc<EventFd>) {
    const COUNTER_BYTES: usize = 8;
    let Ok(fd) = event.as_fd().try_clone_to_owned() else {
        return;
    };
    // SAFETY: the descriptor was duplicated for this BufferedFile, which closes it.
    let counter = unsafe { BufferedFile::from_raw_fd(fd.into_raw_fd()) };
    while !driver.shared.is_stopping() {
        if counter.read_at(0, COUNTER_BYTES).await.is_err() {
            // The ticks go on alone.
            break;
        }
        driver.block_while_paused();
        for index in 0..driver.busy.len() {
            look(&driver, index, false);
        }
    }
    // The counter is nobody's data.
    let _ = counter.close().await;
}

/// Gives a segment with a wish a task, unless it has one.
fn look(driver: &Rc<Driver>, index: usize, timer: bool) {
    if !driver.busy[index].get() && driver.shared.slot(index).has_wish(timer) {
        driver.busy[index].set(true);
        glommio::spawn_local(sync_one(driver.clone(), index)).detach();
    }
}

/// Datasyncs of one segment, one after another, until it has no more wishes.
async fn sync_one(driver: Rc<Driver>, index: usize) {
    let shared = &driver.shared;
    while let Some(turn) = shared.begin(index) {
        if let Err(error) = turn.file.flush() {
            // The next tick tries again.
            shared.hold_back(index, &error);
            break;
        }
        let result = match turn.file.fd().map(|fd| fd.try_clone_to_owned()) {
            Some(Ok(fd)) => {
                // SAFETY: the descriptor was duplicated for this BufferedFile, which closes it.
                let file = unsafe { BufferedFile::from_raw_fd(fd.into_raw_fd()) };
                let synced = file.fdatasync().await.map_err(io::Error::from);
                // Closing a duplicate flushes nothing; an error says nothing about the data.
                let _ = file.close().await;
                synced
            }
            Some(Err(e)) => Err(e),
            // A file without descriptor is not the kernel's to sync.
            None => turn.file.datasync(),
        };
        driver.block_while_paused();
        shared.end(index, turn, result);
        if shared.is_stopping() || !shared.slot(index).has_wish(false) {
            break;
        }
    }
    driver.busy[index].set(false);
}

impl Driver {
    /// Parks the whole thread. Datasyncs that were begun go on in the kernel.
    fn block_while_paused(&self) {
        let mut parked = false;
        while self.shared.is_paused() && !self.shared.is_stopping() {
            self.shared.set_states(false);
            std::thread::park();
            parked = true;
        }
        if parked {
            self.shared.set_states(true);
        }
    }
}
