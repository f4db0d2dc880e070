//! The submission side of the ring: entries are queued during a turn and go to the kernel together with the wait.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{squeue, IoUring};

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 8;
/// Time spent waiting is not "waiting for a disk": an idle server shows no iowait.
const ENTER_NO_IOWAIT: u32 = 128;

/// Far from what overflows the kernel's arithmetic.
const TIMEOUT_MAX: Duration = Duration::from_secs(1 << 30);

/// One completion: what, how it went, and the flags.
#[derive(Copy, Clone)]
pub(crate) struct Completion {
    pub(crate) user_data: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

pub(crate) struct Queue {
    ring: IoUring,
    /// Entries that found the submission queue full while the kernel would not take more.
    backlog: VecDeque<squeue::Entry>,
    enter_flags: u32,
}

/// A ring with the features the backend is built on: completions run on this thread, when it asks for them.
pub(crate) fn new_ring(entries: u32) -> io::Result<IoUring> {
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_submit_all()
        .setup_clamp()
        .dontfork()
        .build(entries)?;
    let parameters = ring.params();
    if !parameters.is_feature_ext_arg()
        || !parameters.is_feature_nodrop()
        || !parameters.is_feature_submit_stable()
    {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel's io_uring lacks features",
        ));
    }
    Ok(ring)
}

impl Queue {
    pub(crate) fn new(entries: u32) -> io::Result<Queue> {
        let ring = new_ring(entries)?;
        let mut enter_flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
        if ring.params().is_feature_no_iowait() {
            enter_flags |= ENTER_NO_IOWAIT;
        }
        Ok(Queue {
            ring,
            backlog: VecDeque::new(),
            enter_flags,
        })
    }

    pub(crate) fn ring(&self) -> &IoUring {
        &self.ring
    }

    /// Queues an entry.
    ///
    /// # Safety
    /// Whatever memory and descriptor it names must stay valid until its completion has been collected.
    #[inline]
    pub(crate) unsafe fn push(&mut self, entry: squeue::Entry) {
        if self.backlog.is_empty() {
            // SAFETY: validity is promised by the caller.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // Full: make room. Failure (completions must be collected first) leaves the queue as it is.
            let _ = self.ring.submit();
            // SAFETY: as above.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        self.backlog.push_back(entry);
    }

    fn drain_backlog(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: validity was promised when the entry was queued.
            if unsafe { self.ring.submission().push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// Submits everything, waits for a completion unless `timeout` is zero, and collects what has completed.
    #[inline]
    pub(crate) fn submit_and_collect(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        if !self.backlog.is_empty() {
            self.drain_backlog();
        }
        let poll_only =
            timeout.is_some_and(|timeout| timeout.is_zero()) || !self.backlog.is_empty();
        let entered = self.enter(
            if poll_only { 0 } else { 1 },
            timeout.filter(|_| !poll_only),
        );
        completions.clear();
        for completion in self.ring.completion() {
            completions.push(Completion {
                user_data: completion.user_data(),
                result: completion.result(),
                flags: completion.flags(),
            });
        }
        match entered {
            Ok(_) => Ok(()),
            // EBUSY and EAGAIN: completions had to be collected first, as they now were.
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<usize> {
        let to_submit = self.ring.submission().len() as u32;
        let timespec = Timespec::from(timeout.unwrap_or_default().min(TIMEOUT_MAX));
        let mut arguments = SubmitArgs::new();
        if timeout.is_some() {
            arguments = arguments.timespec(&timespec);
        }
        // SAFETY: with EXT_ARG the argument is an io_uring_getevents_arg, which is what SubmitArgs wraps; it and the
        // timespec outlive the call.
        unsafe {
            self.ring
                .submitter()
                .enter(to_submit, want, self.enter_flags, Some(&arguments))
        }
    }
}
