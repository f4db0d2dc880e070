//! The epoll backend, on mio: edge-triggered, one receive per ready connection and turn, sends tried at once.
//!
//! A connection is registered once, for both directions. `readable` remembers that its socket may hold more: set by
//! an event, cleared by a receive that brings less than was room for (on a stream that means drained; whatever comes
//! later is a new event). Connections that stay readable after their receive wait in `ready` for the next turn, which
//! then does not sleep: so all are treated alike, pausing is a flag, and nothing is read twice to learn that it is
//! empty. An end of stream is noted by its event and read in a later turn than the bytes before it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::listener::{self, Listener};
use crate::notifier::Wake;
use crate::reactor::{Inner, Reactor};
use crate::slots::{ConnId, Slots};
use crate::stream::Stream;
use crate::{CloseReason, Handler, Options};

const EVENTS_PER_TURN: usize = 1024;
/// Connections accepted from one listener in one turn, so that a burst does not starve those already here.
const ACCEPTS_PER_TURN: usize = 128;
/// Tokens of the eventfd and of listeners; connection ids keep their upper four bits clear.
const WAKE: Token = Token(usize::MAX);
const LISTENER_BIT: usize = 1 << 63;

struct Connection {
    stream: Stream,
    fd: RawFd,
    paused: bool,
    finishing: bool,
    /// An error was met outside a callback and waits in `failed`.
    broken: bool,
    /// The socket may hold bytes, or its end.
    readable: bool,
    /// The peer has finished, so the last receive is one that brings nothing.
    read_closed: bool,
    /// Stands in `ready`.
    queued: bool,
    /// The turn of the last receive.
    receive_turn: u64,
    sending: bool,
    send: Vec<u8>,
    send_offset: usize,
    target: Option<Target>,
}

struct Target {
    buf: Vec<u8>,
    len_wanted: usize,
}

struct ListenerSlot {
    fd: OwnedFd,
    tag: u32,
    /// More clients may be waiting.
    readable: bool,
    retry_at: Option<Instant>,
    failing: bool,
}

pub(crate) struct Epoll {
    poll: Poll,
    wake: Wake,
    connections: Slots<Connection>,
    listeners: Vec<ListenerSlot>,
    /// Connections to receive from in the next turn without waiting for an event.
    ready: Vec<ConnId>,
    /// Connections to be reported closed in the next turn.
    failed: Vec<(ConnId, CloseReason)>,
    events: Option<Events>,
    scratch: Vec<u8>,
    turn_index: u64,
    accept_retry: Duration,
}

fn deregister(registry: &Registry, fd: RawFd) {
    // Needed although the descriptor is about to be closed: a forked child may hold the socket open.
    let _ = registry.deregister(&mut SourceFd(&fd));
}

impl Epoll {
    pub(crate) fn new(options: Options) -> io::Result<Epoll> {
        let poll = Poll::new()?;
        let wake = Wake::new()?;
        let mut eventfd = SourceFd(&wake.eventfd());
        poll.registry()
            .register(&mut eventfd, WAKE, Interest::READABLE)?;
        Ok(Epoll {
            poll,
            wake,
            connections: Slots::new(),
            listeners: Vec::new(),
            ready: Vec::new(),
            failed: Vec::new(),
            events: Some(Events::with_capacity(EVENTS_PER_TURN)),
            scratch: vec![0; options.receive_buffer_bytes],
            turn_index: 0,
            accept_retry: options.accept_retry,
        })
    }

    pub(crate) fn listen(&mut self, listener: Listener, tag: u32) -> io::Result<()> {
        let listener::Kind::Socket(fd) = listener.0 else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        socket2::SockRef::from(&fd).set_nonblocking(true)?;
        let token = Token(LISTENER_BIT | self.listeners.len());
        let mut source = SourceFd(&fd.as_raw_fd());
        self.poll
            .registry()
            .register(&mut source, token, Interest::READABLE)?;
        self.listeners.push(ListenerSlot {
            fd,
            tag,
            readable: true,
            retry_at: None,
            failing: false,
        });
        Ok(())
    }

    pub(crate) fn stop_listening(&mut self) {
        for slot in self.listeners.drain(..) {
            deregister(self.poll.registry(), slot.fd.as_raw_fd());
        }
    }

    pub(crate) fn add(&mut self, stream: Stream) -> io::Result<ConnId> {
        let fd = stream.raw_fd().ok_or(io::ErrorKind::InvalidInput)?;
        let conn = self.connections.insert(Connection {
            stream,
            fd,
            paused: false,
            finishing: false,
            broken: false,
            readable: false,
            read_closed: false,
            queued: false,
            receive_turn: 0,
            sending: false,
            send: Vec::new(),
            send_offset: 0,
            target: None,
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(conn.0 as usize);
        if let Err(error) = self
            .poll
            .registry()
            .register(&mut SourceFd(&fd), token, interest)
        {
            self.connections.remove(conn);
            return Err(error);
        }
        Ok(conn)
    }

    #[inline]
    pub(crate) fn send(&mut self, conn: ConnId, mut buf: Vec<u8>) -> Option<Vec<u8>> {
        let open = |c: &&mut Connection| !c.broken && !c.finishing;
        let Some(connection) = self.connections.get_mut(conn).filter(open) else {
            buf.clear();
            return Some(buf);
        };
        assert!(!connection.sending, "one send at a time");
        connection.send = buf;
        connection.send_offset = 0;
        connection.sending = true;
        match connection.continue_send() {
            Ok(done) => done,
            Err(error) => {
                connection.broken = true;
                connection.sending = false;
                self.failed.push((conn, CloseReason::Error(error)));
                let mut buf = std::mem::take(&mut connection.send);
                buf.clear();
                Some(buf)
            }
        }
    }

    pub(crate) fn is_sending(&self, conn: ConnId) -> bool {
        self.connections.get(conn).is_some_and(|c| c.sending)
    }

    pub(crate) fn pause(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.paused = true;
        }
    }

    pub(crate) fn resume(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.paused = false;
            self.queue_if_readable(conn);
        }
    }

    /// Sees to it that what the socket may still hold is received in the next turn.
    #[inline]
    fn queue_if_readable(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn) {
            if connection.wants_receive() && !connection.queued {
                connection.queued = true;
                self.ready.push(conn);
            }
        }
    }

    pub(crate) fn receive_into(&mut self, conn: ConnId, mut buf: Vec<u8>, len_wanted: usize) {
        if let Some(connection) = self.connections.get_mut(conn) {
            assert!(connection.target.is_none(), "one receive_into at a time");
            buf.reserve_exact(len_wanted - buf.len());
            connection.target = Some(Target { buf, len_wanted });
        }
    }

    pub(crate) fn close(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.remove(conn) {
            deregister(self.poll.registry(), connection.fd);
        }
    }

    pub(crate) fn close_after_send(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.connections.get_mut(conn) else {
            return true;
        };
        if !connection.sending {
            connection.stream.discard_received();
            self.close(conn);
            return true;
        }
        connection.finishing = true;
        false
    }

    pub(crate) fn stream(&self, conn: ConnId) -> Option<&Stream> {
        Some(&self.connections.get(conn)?.stream)
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn wake(&self) -> &Wake {
        &self.wake
    }

    /// Waits; `events` then holds what happened.
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Events) -> io::Result<()> {
        self.turn_index += 1;
        let mut timeout = timeout;
        for slot in self.listeners.iter().filter(|slot| slot.readable) {
            let left = slot
                .retry_at
                .map(|at| at.saturating_duration_since(Instant::now()));
            let left = left.unwrap_or_default();
            timeout = Some(timeout.map_or(left, |timeout| timeout.min(left)));
        }
        let work_waits = !self.ready.is_empty() || !self.failed.is_empty();
        if work_waits || (timeout != Some(Duration::ZERO) && !self.wake.prepare_sleep()) {
            timeout = Some(Duration::ZERO);
        }
        match self
            .poll
            .poll(events, timeout.map(|timeout| timeout.min(TIMEOUT_MAX)))
        {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

/// Far from what overflows in the conversion to milliseconds.
const TIMEOUT_MAX: Duration = Duration::from_secs(1 << 20);

impl Connection {
    fn wants_receive(&self) -> bool {
        self.readable && !self.paused && !self.finishing && !self.broken
    }

    /// Goes on with a send. `Ok(Some)`: finished, here is the buffer. `Ok(None)`: the socket is full.
    #[inline]
    fn continue_send(&mut self) -> io::Result<Option<Vec<u8>>> {
        while self.send_offset < self.send.len() {
            match self.stream.send(&self.send[self.send_offset..]) {
                Ok(sent) => self.send_offset += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        self.sending = false;
        let mut buf = std::mem::take(&mut self.send);
        buf.clear();
        Ok(Some(buf))
    }
}

fn epoll_mut(reactor: &mut Reactor) -> Option<&mut Epoll> {
    match &mut reactor.0 {
        Inner::Epoll(epoll) => Some(epoll),
        _ => None,
    }
}

pub(crate) fn turn<H: Handler>(
    reactor: &mut Reactor,
    timeout: Option<Duration>,
    handler: &mut H,
) -> io::Result<()> {
    let Some(this) = epoll_mut(reactor) else {
        return Ok(());
    };
    // Taken out for the turn, so that callbacks may borrow the reactor.
    let mut events = this.events.take().expect("no turn runs within a turn");
    let mut scratch = std::mem::take(&mut this.scratch);
    let waited = this.wait(timeout, &mut events);
    let woken = this.wake.take();
    let failed = std::mem::take(&mut this.failed);
    let ready = std::mem::take(&mut this.ready);
    if woken {
        handler.woken(reactor);
    }
    // Those left over from the last turn come first.
    for conn in ready {
        if let Some(connection) = epoll_mut(reactor).and_then(|this| this.connections.get_mut(conn))
        {
            connection.queued = false;
            receive(reactor, handler, conn, &mut scratch);
        }
    }
    for event in &events {
        event_ready(reactor, handler, event, &mut scratch);
    }
    accept_waiting(reactor, handler);
    for (conn, reason) in failed {
        report_closed(reactor, handler, conn, reason);
    }
    if let Some(this) = epoll_mut(reactor) {
        this.events = Some(events);
        this.scratch = scratch;
    }
    waited
}

#[inline]
fn event_ready<H: Handler>(
    reactor: &mut Reactor,
    handler: &mut H,
    event: &Event,
    scratch: &mut [u8],
) {
    let Some(this) = epoll_mut(reactor) else {
        return;
    };
    let Token(token) = event.token();
    if token & LISTENER_BIT != 0 {
        if let Some(slot) = this.listeners.get_mut(token & !LISTENER_BIT) {
            slot.readable = true;
        }
        return;
    }
    let conn = ConnId(token as u64);
    let Some(connection) = this.connections.get_mut(conn) else {
        return;
    };
    if event.is_readable() || event.is_error() {
        connection.readable = true;
    }
    if event.is_read_closed() || event.is_error() {
        connection.readable = true;
        connection.read_closed = true;
    }
    if connection.sending && !writable(reactor, handler, conn) {
        return;
    }
    receive(reactor, handler, conn, scratch);
}

fn report_closed<H: Handler>(
    reactor: &mut Reactor,
    handler: &mut H,
    conn: ConnId,
    reason: CloseReason,
) {
    let Some(this) = epoll_mut(reactor) else {
        return;
    };
    if this.connections.get(conn).is_some() {
        this.close(conn);
        handler.closed(reactor, conn, reason);
    }
}

/// Goes on with a send; false when the connection ended over it.
fn writable<H: Handler>(reactor: &mut Reactor, handler: &mut H, conn: ConnId) -> bool {
    let connection = epoll_mut(reactor).and_then(|this| this.connections.get_mut(conn));
    let Some(connection) = connection else {
        return false;
    };
    match connection.continue_send() {
        Ok(None) => true,
        Ok(Some(_)) if connection.finishing => {
            connection.stream.discard_received();
            report_closed(reactor, handler, conn, CloseReason::Requested);
            false
        }
        Ok(Some(buf)) => {
            handler.sent(reactor, conn, buf);
            true
        }
        Err(error) => {
            report_closed(reactor, handler, conn, CloseReason::Error(error));
            false
        }
    }
}

/// Receives once, if there may be something and it is wanted.
#[inline]
fn receive<H: Handler>(reactor: &mut Reactor, handler: &mut H, conn: ConnId, scratch: &mut [u8]) {
    let Some(this) = epoll_mut(reactor) else {
        return;
    };
    let turn_index = this.turn_index;
    let wanted = |c: &&mut Connection| c.wants_receive();
    let Some(connection) = this.connections.get_mut(conn).filter(wanted) else {
        return;
    };
    if connection.receive_turn == turn_index {
        return this.queue_if_readable(conn);
    }
    connection.receive_turn = turn_index;
    let room = match &mut connection.target {
        Some(target) => {
            let left = target.len_wanted - target.buf.len();
            &mut target.buf.spare_capacity_mut()[..left]
        }
        // SAFETY: initialised bytes are valid `MaybeUninit` bytes, and receiving only ever stores initialised ones.
        None => unsafe { &mut *(scratch as *mut [u8] as *mut [MaybeUninit<u8>]) },
    };
    let room_bytes = room.len();
    let received = connection.stream.receive(room);
    let drained = received.as_ref().is_ok_and(|&count| count < room_bytes);
    connection.readable = connection.read_closed || !drained;
    match received {
        Ok(0) => return report_closed(reactor, handler, conn, CloseReason::PeerClosed),
        Ok(count) if connection.target.is_some() => receive_target(reactor, handler, conn, count),
        Ok(count) => handler.received(reactor, conn, &scratch[..count]),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            connection.readable = false;
            connection.read_closed = false;
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return report_closed(reactor, handler, conn, CloseReason::Error(error)),
    }
    if let Some(this) = epoll_mut(reactor) {
        this.queue_if_readable(conn);
    }
}

/// Takes note of `count` bytes received into the spare capacity of the target.
fn receive_target<H: Handler>(reactor: &mut Reactor, handler: &mut H, conn: ConnId, count: usize) {
    let connection = epoll_mut(reactor).and_then(|this| this.connections.get_mut(conn));
    let Some((connection, mut target)) = connection.and_then(|c| c.target.take().map(|t| (c, t)))
    else {
        return;
    };
    let len = target.buf.len() + count;
    assert!(
        len <= target.len_wanted,
        "the kernel keeps to the length it was given"
    );
    // SAFETY: the kernel initialised `count` bytes of the spare capacity.
    unsafe { target.buf.set_len(len) };
    if len == target.len_wanted {
        handler.received_into(reactor, conn, target.buf);
    } else {
        connection.target = Some(target);
        handler.receiving(reactor, conn, len);
    }
}

fn accept_waiting<H: Handler>(reactor: &mut Reactor, handler: &mut H) {
    let count = epoll_mut(reactor).map_or(0, |this| this.listeners.len());
    for index in 0..count {
        accept_some(reactor, handler, index);
    }
}

fn accept_some<H: Handler>(reactor: &mut Reactor, handler: &mut H, index: usize) {
    for _ in 0..ACCEPTS_PER_TURN {
        let Some(this) = epoll_mut(reactor) else {
            return;
        };
        let accept_retry = this.accept_retry;
        let Some(slot) = this.listeners.get_mut(index).filter(|slot| slot.readable) else {
            return;
        };
        if slot
            .retry_at
            .is_some_and(|retry_at| retry_at > Instant::now())
        {
            return;
        }
        slot.retry_at = None;
        let tag = slot.tag;
        match accept(&slot.fd) {
            Ok(stream) => {
                slot.failing = false;
                handler.accepted(reactor, tag, stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => slot.readable = false,
            Err(error) if is_passing_accept_error(&error) => {}
            Err(error) => {
                slot.retry_at = Some(Instant::now() + accept_retry);
                if !std::mem::replace(&mut slot.failing, true) {
                    handler.accept_failed(reactor, tag, error);
                }
            }
        }
    }
}

fn accept(listener: &OwnedFd) -> io::Result<Stream> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let (address, len) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: no address is asked for, so both pointers may be null.
    let fd = unsafe { libc::accept4(listener.as_raw_fd(), address, len, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just accepted, owned by nobody else.
    Ok(Stream::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Errors of one client, or of nobody: the next accept may work at once.
pub(crate) fn is_passing_accept_error(error: &io::Error) -> bool {
    let passing = [
        libc::EAGAIN,
        libc::EINTR,
        libc::ECANCELED,
        libc::ECONNABORTED,
        libc::EPROTO,
        libc::EPERM,
        libc::ENETDOWN,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| passing.contains(&code))
}
