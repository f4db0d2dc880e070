//! A connected socket: its options and its names, as Redis prints them.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{SockAddr, SockRef, TcpKeepalive};

use crate::simulation::SimStream;

/// Receives of 16 KiB spent on a polite close.
const DISCARDS_MAX: usize = 256;

/// A connected socket. Dropping it closes it; [`crate::Reactor::add`] takes it over.
pub struct Stream(pub(crate) Kind);

pub(crate) enum Kind {
    Socket(OwnedFd),
    Simulated(SimStream),
}

impl From<OwnedFd> for Stream {
    fn from(fd: OwnedFd) -> Stream {
        Stream(Kind::Socket(fd))
    }
}

impl Stream {
    /// `None` for a simulated stream.
    pub fn raw_fd(&self) -> Option<RawFd> {
        match &self.0 {
            Kind::Socket(fd) => Some(fd.as_raw_fd()),
            Kind::Simulated(_) => None,
        }
    }

    /// `127.0.0.1:50412`, `[::1]:50412`, or the listening socket's `path:0` for a Unix socket.
    pub fn peer_address(&self) -> String {
        match &self.0 {
            Kind::Socket(fd) => match SockRef::from(fd).peer_addr() {
                // A Unix client is seldom bound to a path; the path it connected to says more.
                Ok(address) if address.is_unix() => self.local_address(),
                Ok(address) => format_address(&address),
                Err(_) => "?:0".to_string(),
            },
            Kind::Simulated(stream) => stream.peer_address(),
        }
    }

    /// The address the client connected to, in the same form.
    pub fn local_address(&self) -> String {
        match &self.0 {
            Kind::Socket(fd) => SockRef::from(fd)
                .local_addr()
                .map_or_else(|_| "?:0".to_string(), |a| format_address(&a)),
            Kind::Simulated(stream) => stream.local_address(),
        }
    }

    pub fn is_unix(&self) -> bool {
        match &self.0 {
            Kind::Socket(fd) => SockRef::from(fd)
                .local_addr()
                .is_ok_and(|address| address.is_unix()),
            Kind::Simulated(_) => false,
        }
    }

    /// Whether the peer is on this machine: a loopback address or a Unix socket.
    pub fn peer_is_loopback(&self) -> bool {
        let Kind::Socket(fd) = &self.0 else {
            return true;
        };
        let Ok(address) = SockRef::from(fd).peer_addr() else {
            return false;
        };
        match address.as_socket() {
            Some(socket) => socket.ip().to_canonical().is_loopback(),
            None => address.is_unix(),
        }
    }

    /// Sends small replies at once. Does nothing on Unix sockets.
    pub fn set_nodelay(&self) -> io::Result<()> {
        match &self.0 {
            Kind::Socket(fd) if !self.is_unix() => SockRef::from(fd).set_tcp_nodelay(true),
            _ => Ok(()),
        }
    }

    /// Probes a silent peer after `interval_seconds`, three times, a third of that apart, before the connection
    /// counts as dead: the schedule of Redis. Zero turns probing off. Does nothing on Unix sockets.
    pub fn set_keepalive(&self, interval_seconds: u32) -> io::Result<()> {
        let Kind::Socket(fd) = &self.0 else {
            return Ok(());
        };
        if self.is_unix() {
            return Ok(());
        }
        let socket = SockRef::from(fd);
        if interval_seconds == 0 {
            return socket.set_keepalive(false);
        }
        let schedule = TcpKeepalive::new()
            .with_time(Duration::from_secs(interval_seconds.into()))
            .with_interval(Duration::from_secs((interval_seconds / 3).max(1).into()))
            .with_retries(3);
        socket.set_tcp_keepalive(&schedule)
    }

    /// Writes what fits without blocking: for a word of refusal before dropping the stream.
    pub fn write_now(&self, bytes: &[u8]) {
        match &self.0 {
            Kind::Socket(fd) => {
                let _ = SockRef::from(fd)
                    .send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
            }
            Kind::Simulated(stream) => stream.write_now(bytes),
        }
    }

    /// Ends the connection both ways, which completes every operation waiting on it.
    pub(crate) fn shutdown(&self) {
        if let Kind::Socket(fd) = &self.0 {
            // Fails only if the connection has ended already.
            let _ = SockRef::from(fd).shutdown(std::net::Shutdown::Both);
        }
    }

    /// Throws away what has arrived. A socket closed over unread bytes resets the connection, and with it whatever
    /// the peer has not received yet.
    pub(crate) fn discard_received(&self) {
        let mut scratch = [MaybeUninit::uninit(); 16 << 10];
        for _ in 0..DISCARDS_MAX {
            match self.receive(&mut scratch) {
                Ok(count) if count > 0 => {}
                _ => return,
            }
        }
    }

    /// Receives into `target` without blocking.
    #[inline]
    pub(crate) fn receive(&self, target: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        match &self.0 {
            Kind::Socket(fd) => SockRef::from(fd).recv_with_flags(target, libc::MSG_DONTWAIT),
            Kind::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Sends what the socket takes without blocking.
    #[inline]
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Kind::Socket(fd) => {
                SockRef::from(fd).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            }
            Kind::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

pub(crate) fn format_address(address: &SockAddr) -> String {
    if let Some(socket) = address.as_socket() {
        // An IPv4 client of a dual-stack listener is shown as what it is.
        let ip = socket.ip().to_canonical();
        return std::net::SocketAddr::new(ip, socket.port()).to_string();
    }
    match address.as_pathname() {
        Some(path) => format!("{}:0", path.display()),
        None => "?:0".to_string(),
    }
}
