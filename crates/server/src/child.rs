//! The forked child that writes a snapshot or an AOF base.
//!
//! After the fork only the forking thread exists, and whatever another thread held stays held.
//! The coordinator forks while every thread of ours stands at a safe point; the child keeps to
//! what that allows: it closes all files but its report pipe, resets signals, dies with its
//! parent, writes one file by threads of its own, never logs, never frees inherited memory, and
//! leaves by `_exit`.
//!
//! [`Forker`] stands between: a simulation, which cannot fork, has one of its own.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::{fork, ForkResult, Pid};
use persistence::clock;
use persistence::progress::Progress;
use persistence::storage::Storage;

/// How often a child measures its copied memory, if that is quick.
const COW_INTERVAL: Duration = Duration::from_millis(500);
/// Measuring passes over all pages: it may take this share of the time.
const COW_SHARE: u32 = 50;
/// How often a child looks whether its parent wants a measurement at once.
const COW_REQUEST_INTERVAL: Duration = Duration::from_millis(20);

/// What a child does, on the storage it is given.
pub type Work<'a> = &'a (dyn Fn(&dyn Storage) -> Result<(), String> + Sync);

/// Makes child processes.
pub trait Forker: Send {
    /// Forks. The child runs `work`, which may use only what the module's head allows, and exits.
    ///
    /// # Safety
    /// Every other thread must stand where it holds no lock that `work` needs, the allocator's
    /// among them.
    unsafe fn fork(&self, storage: &dyn Storage, work: Work<'_>) -> io::Result<Box<dyn Child>>;
}

/// A running child, seen from the parent.
pub trait Child: Send {
    fn pid(&self) -> i32;
    /// How the child ended, if it has.
    fn ended(&mut self) -> io::Result<Option<Ended>>;
    /// Tells the child to end at once; [`Child::ended`] will say when it has.
    fn end(&self);
    /// Ends the child and waits until it is gone.
    fn kill(self: Box<Self>);
}

/// Forks this process.
pub struct OsForker;

struct OsChild {
    pid: Pid,
    /// What the child says when it fails.
    report: std::fs::File,
}

/// How a child ended.
pub enum Ended {
    Done,
    Failed(String),
    Killed(Signal),
}

impl Forker for OsForker {
    unsafe fn fork(&self, storage: &dyn Storage, work: Work<'_>) -> io::Result<Box<dyn Child>> {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let parent = nix::unistd::getpid();
        // SAFETY: the child runs `run` alone, under the conditions that the caller vouches for.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Box::new(OsChild {
                pid: child,
                report: std::fs::File::from(reader),
            })),
            ForkResult::Child => run(|| work(storage), &writer, parent),
        }
    }
}

fn run(work: impl FnOnce() -> Result<(), String>, report: &OwnedFd, parent: Pid) -> ! {
    let status = match prepare(report, parent)
        .map_err(|e| e.to_string())
        .and_then(|()| guarded(work))
    {
        Ok(()) => 0,
        Err(error) => {
            // The parent reads as much as arrives.
            let _ = nix::unistd::write(report, error.as_bytes());
            1
        }
    };
    // SAFETY: leaves without running destructors or atexit handlers, which belong to the parent.
    unsafe { libc::_exit(status) }
}

fn guarded(work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err("the child panicked".into()))
}

fn prepare(report: &OwnedFd, parent: Pid) -> io::Result<()> {
    // The parent's report would come out twice.
    std::panic::set_hook(Box::new(|_| {}));
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::getppid() != parent {
        return Err(io::Error::other("the parent is gone"));
    }
    for signal in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action runs no code of ours. What the parent handles, its runtime's
        // handlers included, has no meaning here.
        unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl) }?;
    }
    SigSet::all().thread_unblock()?;
    let kept = report.as_raw_fd() as libc::c_uint;
    close_range(3, kept - 1);
    close_range(kept + 1, libc::c_uint::MAX);
    Ok(())
}

/// Closes a range of files, none of which anything in the child owns.
fn close_range(first: libc::c_uint, last: libc::c_uint) {
    if first <= last {
        // SAFETY: the child never touches an inherited file again but the report pipe, which
        // both ranges leave out.
        unsafe { libc::close_range(first, last, 0) };
    }
}

impl Child for OsChild {
    fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    fn ended(&mut self) -> io::Result<Option<Ended>> {
        Ok(match waitpid(self.pid, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::Exited(_, 0) => Some(Ended::Done),
            WaitStatus::Exited(_, status) => {
                let mut text = String::new();
                // What could be read is said.
                let _ = self.report.read_to_string(&mut text);
                Some(Ended::Failed(if text.is_empty() {
                    format!("exit status {status}")
                } else {
                    text
                }))
            }
            WaitStatus::Signaled(_, signal, _) => Some(Ended::Killed(signal)),
            _ => None,
        })
    }

    fn end(&self) {
        // A child that is gone already needs no signal.
        let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
    }

    fn kill(self: Box<Self>) {
        self.end();
        let _ = waitpid(self.pid, None);
    }
}

/// Bytes this process does not share with its parent any more, from the kernel's own account.
pub fn copied_bytes() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/self/smaps_rollup") else {
        return 0;
    };
    let kilobytes = text.lines().find_map(|line| {
        line.strip_prefix("Private_Dirty:")?
            .trim()
            .strip_suffix(" kB")?
            .trim()
            .parse::<u64>()
            .ok()
    });
    kilobytes.unwrap_or(0) * 1024
}

/// Runs `work` while a thread beside it measures the memory copied so far: regularly, and when the
/// parent asks.
pub fn measuring_copies<R>(progress: &Progress, work: impl FnOnce() -> R) -> R {
    if clock::is_simulated() {
        return work();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut next = clock::instant() + COW_INTERVAL;
            loop {
                let ends = done.load(Relaxed);
                let measured = progress.copies_measured.load(Relaxed);
                let wanted = progress.copies_wanted.load(Relaxed) > measured;
                let began = clock::instant();
                if ends || wanted || began >= next {
                    progress.copied_bytes.store(copied_bytes(), Relaxed);
                    progress.copies_measured.store(measured + 1, Relaxed);
                    let took = clock::elapsed_since(began);
                    next = began + COW_INTERVAL.max(took * COW_SHARE);
                }
                if ends {
                    return;
                }
                std::thread::park_timeout(COW_REQUEST_INTERVAL);
            }
        });
        let result = work();
        done.store(true, Relaxed);
        watcher.thread().unpark();
        result
    })
}

/// Pages that this process has touched anew since it began, those among them that had to be
/// copied: an upper bound, for nothing, of what is dear to measure.
pub fn page_faults() -> u64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    usage.map_or(0, |usage| usage.minor_page_faults() as u64)
}
