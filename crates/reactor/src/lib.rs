//! The event loop of a worker thread: sockets in, bytes and completions out.
//!
//! A [`Reactor`] owns the sockets handed to it and everything the kernel may still touch on their behalf: send
//! buffers, receive buffers, large-value targets. It knows nothing of protocols. Three backends stand behind one
//! interface: io_uring, epoll, and a simulation that replays from a seed.
//!
//! Invariants:
//! - A [`ConnId`] carries a generation: an id whose connection is gone is ignored, never taken for a newer one.
//! - Bytes of one connection are delivered in order, each exactly once; pausing loses none.
//! - Memory given to the kernel is neither moved nor freed before the kernel has answered for it.
//! - A turn without events or timeout sleeps in the kernel.

mod epoll;
mod listener;
mod notifier;
mod probe;
mod reactor;
mod simulation;
mod slots;
mod stream;
mod uring;

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

pub use listener::{bind_tcp, bind_unix, Listener};
pub use notifier::Notifier;
pub use probe::{probe, Chosen};
pub use reactor::Reactor;
pub use simulation::{SimClient, Simulation};
pub use slots::ConnId;
pub use stream::Stream;

/// The mechanism a reactor runs on.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Backend {
    IoUring,
    Epoll,
    Simulated,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::IoUring => "io_uring",
            Backend::Epoll => "epoll",
            Backend::Simulated => "simulated",
        })
    }
}

/// What the configuration asks for (`io-backend`).
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum BackendChoice {
    #[default]
    Auto,
    IoUring,
    Epoll,
}

impl FromStr for BackendChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(BackendChoice::Auto),
            "io_uring" => Ok(BackendChoice::IoUring),
            "epoll" => Ok(BackendChoice::Epoll),
            _ => Err(format!("unknown I/O backend '{text}'")),
        }
    }
}

/// Sizes and delays of one reactor.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes one receive can deliver at most.
    pub receive_buffer_bytes: usize,
    /// Receive buffers shared by all connections of the reactor (io_uring; rounded up to a power of two). The kernel
    /// goes round all of them, so more than a turn needs only cool the caches; too few cost a second receive.
    pub receive_buffers: u16,
    /// Submissions that fit before the kernel has to be called within a turn (io_uring).
    pub ring_entries: u32,
    /// Pause before accepting again after the process ran out of file descriptors or memory.
    pub accept_retry: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            receive_buffer_bytes: 16 << 10,
            receive_buffers: 128,
            ring_entries: 1024,
            accept_retry: Duration::from_millis(100),
        }
    }
}

/// Why a connection ended.
#[derive(Debug)]
pub enum CloseReason {
    /// The peer finished sending.
    PeerClosed,
    /// Receiving or sending failed.
    Error(io::Error),
    /// [`Reactor::close_after_send`] ran its course.
    Requested,
}

/// What a turn reports. Every callback may call any operation of the reactor, for any connection.
pub trait Handler {
    /// A client connected to the listener registered with `tag`. The stream may be given to [`Reactor::add`] of this
    /// reactor or, through the caller's own channels, to that of another thread; dropping it refuses the client.
    fn accepted(&mut self, reactor: &mut Reactor, tag: u32, stream: Stream);

    /// Accepting failed for want of descriptors or memory. Reported once per spell of failures; the reactor tries
    /// again by itself after [`Options::accept_retry`].
    fn accept_failed(&mut self, reactor: &mut Reactor, tag: u32, error: io::Error) {
        let _ = (reactor, tag, error);
    }

    /// Bytes arrived. The slice is valid during the call only.
    fn received(&mut self, reactor: &mut Reactor, conn: ConnId, data: &[u8]);

    /// The buffer given to [`Reactor::receive_into`] has the length asked for.
    fn received_into(&mut self, reactor: &mut Reactor, conn: ConnId, buf: Vec<u8>);

    /// The buffer given to [`Reactor::receive_into`] has grown to `len` bytes and is not complete yet.
    fn receiving(&mut self, reactor: &mut Reactor, conn: ConnId, len: usize) {
        let _ = (reactor, conn, len);
    }

    /// The kernel has taken all of the buffer given to [`Reactor::send`]; here it is again, empty.
    fn sent(&mut self, reactor: &mut Reactor, conn: ConnId, buf: Vec<u8>);

    /// The connection is gone; the last callback for `conn`.
    fn closed(&mut self, reactor: &mut Reactor, conn: ConnId, reason: CloseReason);

    /// [`Notifier::wake`] was called, once or several times, since the last report.
    fn woken(&mut self, reactor: &mut Reactor);
}
