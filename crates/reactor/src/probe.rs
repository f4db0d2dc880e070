//! Choosing a backend by trying it.
//!
//! Whether io_uring works cannot be read off a version: containers forbid it by seccomp, administrators by sysctl,
//! limits by ENOMEM, and sandboxes emulate parts of it. So the probe runs in small what a reactor runs: a ring with
//! the same flags, a buffer ring, a no-op, and a multishot receive on a real socket.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use io_uring::types::{self, SubmitArgs, Timespec};
use io_uring::{cqueue, opcode, IoUring};

use crate::uring::{new_ring, ReceiveBuffers, GROUP};
use crate::{Backend, BackendChoice};

/// The outcome of a probe, with a sentence for the log and INFO.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub backend: Backend,
    pub reason: String,
}

/// Picks the backend. `Auto` prefers io_uring and falls back to epoll; a forced io_uring that does not work is an
/// error that says why.
pub fn probe(choice: BackendChoice) -> Result<Chosen, String> {
    if choice == BackendChoice::Epoll {
        return Ok(Chosen {
            backend: Backend::Epoll,
            reason: "as configured".to_string(),
        });
    }
    match (try_io_uring(), choice) {
        (Ok(()), BackendChoice::IoUring) => Ok(Chosen {
            backend: Backend::IoUring,
            reason: "as configured".to_string(),
        }),
        (Ok(()), _) => Ok(Chosen {
            backend: Backend::IoUring,
            reason: "io_uring works here".to_string(),
        }),
        (Err(problem), BackendChoice::IoUring) => Err(problem),
        (Err(problem), _) => Ok(Chosen {
            backend: Backend::Epoll,
            reason: problem,
        }),
    }
}

fn try_io_uring() -> Result<(), String> {
    let ring = new_ring(8).map_err(|error| {
        let hint = match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                " (forbidden by a seccomp profile or the sysctl kernel.io_uring_disabled)"
            }
            Some(libc::ENOSYS) => " (the kernel is built without it, or hides it)",
            Some(libc::EINVAL) => " (the kernel is older than 6.1)",
            Some(libc::ENOMEM) => " (not enough lockable memory: see ulimit -l)",
            _ => "",
        };
        format!("io_uring is not available: {error}{hint}")
    })?;
    let buffers = ReceiveBuffers::new(2, 4096)
        .map_err(|error| format!("no memory for receive buffers: {error}"))?;
    buffers
        .register(&ring)
        .map_err(|error| format!("io_uring has no buffer rings: {error}"))?;
    no_op(ring, &buffers).map_err(|error| format!("io_uring does not receive as needed: {error}"))
}

/// A no-op, then a multishot receive of one byte. The ring is dropped before its buffers.
fn no_op(mut ring: IoUring, buffers: &ReceiveBuffers) -> io::Result<()> {
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(b"?")?;
    let entries = [
        opcode::Nop::new().build().user_data(1),
        opcode::RecvMulti::new(types::Fd(near.as_raw_fd()), GROUP)
            .build()
            .user_data(2),
    ];
    for entry in &entries {
        // SAFETY: no memory is named but the registered buffers, which outlive the ring.
        unsafe { ring.submission().push(entry) }.map_err(|_| io::ErrorKind::StorageFull)?;
    }
    let (mut no_op_done, mut received) = (false, false);
    let patience = Timespec::from(Duration::from_secs(1));
    while !(no_op_done && received) {
        ring.submitter()
            .submit_with_args(1, &SubmitArgs::new().timespec(&patience))?;
        for completion in ring.completion() {
            match completion.user_data() {
                1 if completion.result() == 0 => no_op_done = true,
                2 if completion.result() == 1 => {
                    let buffer = cqueue::buffer_select(completion.flags())
                        .ok_or(io::ErrorKind::Unsupported)?;
                    // SAFETY: named by this completion, and never recycled.
                    received = unsafe { buffers.filled(buffer, 1) } == b"?"
                        && cqueue::more(completion.flags());
                    if !received {
                        return Err(io::ErrorKind::Unsupported.into());
                    }
                }
                _ if completion.result() < 0 => {
                    return Err(io::Error::from_raw_os_error(-completion.result()))
                }
                _ => return Err(io::ErrorKind::Unsupported.into()),
            }
        }
    }
    Ok(())
}
