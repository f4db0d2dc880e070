//! The public face of the three backends: one `match` per operation, nothing else.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::epoll::{self, Epoll};
use crate::listener::Listener;
use crate::notifier::Notifier;
use crate::simulation::{self, Simulated};
use crate::slots::ConnId;
use crate::stream::Stream;
use crate::uring::{self, Uring};
use crate::{Backend, Handler, Options};

/// The event loop of one thread, which creates it, runs it and drops it. A forked child must do none of these with
/// one it inherited.
pub struct Reactor(pub(crate) Inner);

pub(crate) enum Inner {
    Uring(Box<Uring>),
    Epoll(Box<Epoll>),
    Simulated(Box<Simulated>),
}

macro_rules! on_backend {
    ($reactor:expr, $backend:ident => $call:expr) => {
        match &mut $reactor.0 {
            Inner::Uring($backend) => $call,
            Inner::Epoll($backend) => $call,
            Inner::Simulated($backend) => $call,
        }
    };
}

macro_rules! on_backend_shared {
    ($reactor:expr, $backend:ident => $call:expr) => {
        match &$reactor.0 {
            Inner::Uring($backend) => $call,
            Inner::Epoll($backend) => $call,
            Inner::Simulated($backend) => $call,
        }
    };
}

impl Reactor {
    /// A reactor for this thread. Simulated ones come from [`crate::Simulation::reactor`].
    pub fn new(backend: Backend, options: Options) -> io::Result<Reactor> {
        match backend {
            Backend::IoUring => Ok(Reactor(Inner::Uring(Box::new(Uring::new(options)?)))),
            Backend::Epoll => Ok(Reactor(Inner::Epoll(Box::new(Epoll::new(options)?)))),
            Backend::Simulated => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a simulation makes its own reactors",
            )),
        }
    }

    pub fn backend(&self) -> Backend {
        match &self.0 {
            Inner::Uring(_) => Backend::IoUring,
            Inner::Epoll(_) => Backend::Epoll,
            Inner::Simulated(_) => Backend::Simulated,
        }
    }

    /// Accepts clients of `listener`; `tag` comes back with each. Any number of listeners.
    pub fn listen(&mut self, listener: Listener, tag: u32) -> io::Result<()> {
        on_backend!(self, backend => backend.listen(listener, tag))
    }

    /// Closes all listeners of this reactor.
    pub fn stop_listening(&mut self) {
        on_backend!(self, backend => backend.stop_listening())
    }

    /// Takes over a connected socket and starts receiving from it. An error (the kernel has no memory to watch
    /// it) closes the socket.
    pub fn add(&mut self, stream: Stream) -> io::Result<ConnId> {
        on_backend!(self, backend => backend.add(stream))
    }

    /// Hands everything queued since the last turn to the kernel, waits for events (`None`: as long as it takes) and
    /// reports them. May return early without any. An error means that the kernel refuses to wait at all.
    pub fn turn<H: Handler>(
        &mut self,
        timeout: Option<Duration>,
        handler: &mut H,
    ) -> io::Result<()> {
        match self.0 {
            Inner::Uring(_) => uring::turn(self, timeout, handler),
            Inner::Epoll(_) => epoll::turn(self, timeout, handler),
            Inner::Simulated(_) => simulation::turn(self, handler),
        }
    }

    /// Sends all of `buf`. `Some`: done with it already, here it is, empty (also for a connection that is gone: the
    /// bytes are dropped). `None`: [`Handler::sent`] will return it.
    ///
    /// # Panics
    /// If an earlier send on `conn` has not come back; see [`Reactor::is_sending`].
    #[must_use = "a buffer that is given back can be used again"]
    #[inline]
    pub fn send(&mut self, conn: ConnId, buf: Vec<u8>) -> Option<Vec<u8>> {
        on_backend!(self, backend => backend.send(conn, buf))
    }

    #[inline]
    pub fn is_sending(&self, conn: ConnId) -> bool {
        on_backend_shared!(self, backend => backend.is_sending(conn))
    }

    /// Stops receiving, so that the peer is slowed down by its own full socket. Bytes that the kernel handed over
    /// before may still be reported. Idempotent.
    pub fn pause(&mut self, conn: ConnId) {
        on_backend!(self, backend => backend.pause(conn))
    }

    /// Undoes [`Reactor::pause`]. Idempotent.
    pub fn resume(&mut self, conn: ConnId) {
        on_backend!(self, backend => backend.resume(conn))
    }

    /// Receives the next bytes of `conn` straight into `buf`, behind what it holds, until it is `len_wanted` long
    /// and [`Handler::received_into`] gives it back; later bytes are reported by [`Handler::received`] as ever. For
    /// values too large to be copied twice: worth it from some 32 KiB.
    ///
    /// # Panics
    /// If `buf` has that length already, or `conn` has such a buffer already.
    pub fn receive_into(&mut self, conn: ConnId, buf: Vec<u8>, len_wanted: usize) {
        assert!(buf.len() < len_wanted, "nothing left to receive");
        on_backend!(self, backend => backend.receive_into(conn, buf, len_wanted))
    }

    /// Closes now. There are no further callbacks for `conn`; a send in flight may be cut short.
    pub fn close(&mut self, conn: ConnId) {
        on_backend!(self, backend => backend.close(conn))
    }

    /// Stops receiving, and closes when the send in flight has ended. True: none was, so the connection is closed as
    /// by [`Reactor::close`]. False: [`Handler::closed`] will tell; until then `close` may still be called.
    pub fn close_after_send(&mut self, conn: ConnId) -> bool {
        on_backend!(self, backend => backend.close_after_send(conn))
    }

    /// The socket behind `conn`, for its addresses and options.
    pub fn stream(&self, conn: ConnId) -> Option<&Stream> {
        on_backend_shared!(self, backend => backend.stream(conn))
    }

    pub fn raw_fd(&self, conn: ConnId) -> Option<RawFd> {
        self.stream(conn)?.raw_fd()
    }

    /// Connections that have not been closed.
    pub fn connection_count(&self) -> usize {
        on_backend_shared!(self, backend => backend.connection_count())
    }

    /// A handle that wakes this reactor from any thread.
    pub fn notifier(&self) -> Notifier {
        on_backend_shared!(self, backend => backend.wake().notifier())
    }
}
