//! The epoll backend: level-triggered, one receive per ready connection and turn, sends tried at once.
//!
//! Level-triggered, because then nothing needs to be read twice to learn that it is drained, a turn treats all ready
//! connections alike, and pausing is a change of interest. Interest in writability exists only while a send is
//! unfinished. `EPOLLHUP` and `EPOLLERR` cannot be masked, so a dead connection that is not being read leaves the
//! interest list until it is resumed or written to.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use crate::listener::{self, Listener};
use crate::notifier::Wake;
use crate::reactor::{Inner, Reactor};
use crate::slots::{ConnId, Slots};
use crate::stream::Stream;
use crate::{CloseReason, Handler, Options};

const EVENTS_PER_TURN: usize = 1024;
/// Connections accepted from one listener in one turn, so that a burst does not starve those already here.
const ACCEPTS_PER_TURN: usize = 128;
/// Marks the words of the eventfd and of listeners; connection ids keep their upper four bits clear.
const WAKE_WORD: u64 = u64::MAX;
const LISTENER_BIT: u64 = 1 << 63;
const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
const DEAD: u32 = (libc::EPOLLHUP | libc::EPOLLERR) as u32;

struct Connection {
    stream: Stream,
    fd: RawFd,
    /// What the kernel was asked to watch; `None` when it is not watching at all.
    interest: Option<u32>,
    paused: bool,
    finishing: bool,
    /// An error was met outside a callback and waits in `failed`.
    broken: bool,
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
    retry_at: Option<Instant>,
    failing: bool,
}

pub(crate) struct Epoll {
    poll: OwnedFd,
    wake: Wake,
    connections: Slots<Connection>,
    listeners: Vec<ListenerSlot>,
    /// Connections to be reported closed in the next turn.
    failed: Vec<(ConnId, CloseReason)>,
    events: Vec<libc::epoll_event>,
    scratch: Vec<u8>,
    accept_retry: Duration,
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn control(poll: &OwnedFd, operation: i32, fd: RawFd, events: u32, word: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: word };
    // SAFETY: the event outlives the call, which copies it.
    check(unsafe { libc::epoll_ctl(poll.as_raw_fd(), operation, fd, &mut event) })?;
    Ok(())
}

impl Epoll {
    pub(crate) fn new(options: Options) -> io::Result<Epoll> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just created, owned by nobody else.
        let poll = unsafe { OwnedFd::from_raw_fd(fd) };
        let wake = Wake::new()?;
        control(
            &poll,
            libc::EPOLL_CTL_ADD,
            wake.eventfd(),
            IN | libc::EPOLLET as u32,
            WAKE_WORD,
        )?;
        Ok(Epoll {
            poll,
            wake,
            connections: Slots::new(),
            listeners: Vec::new(),
            failed: Vec::new(),
            events: Vec::with_capacity(EVENTS_PER_TURN),
            scratch: vec![0; options.receive_buffer_bytes],
            accept_retry: options.accept_retry,
        })
    }

    pub(crate) fn listen(&mut self, listener: Listener, tag: u32) -> io::Result<()> {
        let listener::Kind::Socket(fd) = listener.0 else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        socket2::SockRef::from(&fd).set_nonblocking(true)?;
        let word = LISTENER_BIT | self.listeners.len() as u64;
        control(&self.poll, libc::EPOLL_CTL_ADD, fd.as_raw_fd(), IN, word)?;
        self.listeners.push(ListenerSlot {
            fd,
            tag,
            retry_at: None,
            failing: false,
        });
        Ok(())
    }

    pub(crate) fn stop_listening(&mut self) {
        for slot in self.listeners.drain(..) {
            // A clone of the descriptor may live elsewhere, so closing ours is not enough.
            let _ = control(&self.poll, libc::EPOLL_CTL_DEL, slot.fd.as_raw_fd(), 0, 0);
        }
    }

    pub(crate) fn add(&mut self, stream: Stream) -> io::Result<ConnId> {
        let fd = stream.raw_fd().ok_or(io::ErrorKind::InvalidInput)?;
        let conn = self.connections.insert(Connection {
            stream,
            fd,
            interest: Some(IN),
            paused: false,
            finishing: false,
            broken: false,
            sending: false,
            send: Vec::new(),
            send_offset: 0,
            target: None,
        });
        if let Err(error) = control(&self.poll, libc::EPOLL_CTL_ADD, fd, IN, conn.0) {
            self.connections.remove(conn);
            return Err(error);
        }
        Ok(conn)
    }

    #[inline]
    pub(crate) fn send(&mut self, conn: ConnId, mut buf: Vec<u8>) -> Option<Vec<u8>> {
        let Some(connection) = self
            .connections
            .get_mut(conn)
            .filter(|c| !c.broken && !c.finishing)
        else {
            buf.clear();
            return Some(buf);
        };
        assert!(!connection.sending, "one send at a time");
        let mut offset = 0;
        while offset < buf.len() {
            match connection.stream.send(&buf[offset..]) {
                Ok(sent) => offset += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connection.sending = true;
                    connection.send = buf;
                    connection.send_offset = offset;
                    self.watch(conn);
                    return None;
                }
                Err(error) => {
                    connection.broken = true;
                    self.failed.push((conn, CloseReason::Error(error)));
                    break;
                }
            }
        }
        buf.clear();
        Some(buf)
    }

    /// Goes on with an unfinished send. `Ok(Some)`: finished.
    fn continue_send(&mut self, conn: ConnId) -> io::Result<Option<Vec<u8>>> {
        let Some(connection) = self.connections.get_mut(conn) else {
            return Ok(None);
        };
        while connection.send_offset < connection.send.len() {
            match connection
                .stream
                .send(&connection.send[connection.send_offset..])
            {
                Ok(sent) => connection.send_offset += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        connection.sending = false;
        let mut buf = std::mem::take(&mut connection.send);
        buf.clear();
        self.watch(conn);
        Ok(Some(buf))
    }

    /// Brings the kernel's interest list in line with the connection's state.
    fn watch(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let receiving = !connection.paused && !connection.finishing;
        let wanted = if receiving { IN } else { 0 } | if connection.sending { OUT } else { 0 };
        if connection.interest == Some(wanted) || (connection.interest.is_none() && wanted == 0) {
            return;
        }
        let operation = if connection.interest.is_none() {
            libc::EPOLL_CTL_ADD
        } else {
            libc::EPOLL_CTL_MOD
        };
        match control(&self.poll, operation, connection.fd, wanted, conn.0) {
            Ok(()) => connection.interest = Some(wanted),
            Err(error) => {
                connection.broken = true;
                self.failed.push((conn, CloseReason::Error(error)));
            }
        }
    }

    pub(crate) fn is_sending(&self, conn: ConnId) -> bool {
        self.connections.get(conn).is_some_and(|c| c.sending)
    }

    pub(crate) fn pause(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.paused = true;
            self.watch(conn);
        }
    }

    pub(crate) fn resume(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.paused = false;
            self.watch(conn);
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
            if connection.interest.is_some() {
                let _ = control(&self.poll, libc::EPOLL_CTL_DEL, connection.fd, 0, 0);
            }
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
        self.watch(conn);
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
    fn wait(
        &mut self,
        timeout: Option<Duration>,
        events: &mut Vec<libc::epoll_event>,
    ) -> io::Result<()> {
        let mut timeout = timeout;
        if !self.listeners.is_empty() {
            timeout = self.rearm_listeners(timeout);
        }
        if !self.failed.is_empty() {
            timeout = Some(Duration::ZERO);
        }
        let mut millis = match timeout {
            None => -1,
            // Rounded up: a timeout of a few microseconds must not become a busy loop.
            Some(timeout) => timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32,
        };
        if millis != 0 && !self.wake.prepare_sleep() {
            millis = 0;
        }
        events.clear();
        events.reserve(EVENTS_PER_TURN);
        // SAFETY: the kernel writes at most EVENTS_PER_TURN events into the Vec's capacity, which is that at least.
        let count = unsafe {
            libc::epoll_wait(
                self.poll.as_raw_fd(),
                events.as_mut_ptr(),
                EVENTS_PER_TURN as i32,
                millis,
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted {
                Ok(())
            } else {
                Err(error)
            };
        }
        // SAFETY: the kernel initialised that many.
        unsafe { events.set_len(count as usize) };
        Ok(())
    }

    /// Watches listeners again whose pause is over; shortens the timeout to the end of the next pause.
    fn rearm_listeners(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        let mut timeout = timeout;
        for (index, slot) in self.listeners.iter_mut().enumerate() {
            let Some(retry_at) = slot.retry_at else {
                continue;
            };
            let left = retry_at.saturating_duration_since(Instant::now());
            if left.is_zero()
                && control(
                    &self.poll,
                    libc::EPOLL_CTL_MOD,
                    slot.fd.as_raw_fd(),
                    IN,
                    LISTENER_BIT | index as u64,
                )
                .is_ok()
            {
                slot.retry_at = None;
            } else {
                let left = left.max(Duration::from_millis(1));
                timeout = Some(timeout.map_or(left, |timeout| timeout.min(left)));
            }
        }
        timeout
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
    let mut events = std::mem::take(&mut this.events);
    let mut scratch = std::mem::take(&mut this.scratch);
    assert!(!scratch.is_empty(), "a turn within a turn");
    let waited = this.wait(timeout, &mut events);
    let woken = this.wake.take();
    let failed = std::mem::take(&mut this.failed);
    if woken {
        handler.woken(reactor);
    }
    for event in &events {
        let (word, ready) = (event.u64, event.events);
        if word & LISTENER_BIT == 0 {
            connection_ready(reactor, handler, ConnId(word), ready, &mut scratch);
        } else if word != WAKE_WORD {
            accept_some(reactor, handler, (word & !LISTENER_BIT) as usize);
        }
    }
    for (conn, reason) in failed {
        report_closed(reactor, handler, conn, reason);
    }
    if let Some(this) = epoll_mut(reactor) {
        this.events = events;
        this.scratch = scratch;
    }
    waited
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

#[inline]
fn connection_ready<H: Handler>(
    reactor: &mut Reactor,
    handler: &mut H,
    conn: ConnId,
    ready: u32,
    scratch: &mut [u8],
) {
    if ready & (OUT | DEAD) != 0 && !writable(reactor, handler, conn) {
        return;
    }
    let Some(this) = epoll_mut(reactor) else {
        return;
    };
    let Some(connection) = this.connections.get_mut(conn) else {
        return;
    };
    if connection.broken {
        return;
    }
    if connection.paused || connection.finishing {
        if ready & DEAD != 0 && !connection.sending && connection.interest.take().is_some() {
            let _ = control(&this.poll, libc::EPOLL_CTL_DEL, connection.fd, 0, 0);
        }
        return;
    }
    if ready & (IN | DEAD) == 0 {
        return;
    }
    if connection.target.is_some() {
        return receive_target(reactor, handler, conn);
    }
    // SAFETY: initialised bytes are valid `MaybeUninit` bytes, and receiving only ever stores initialised ones.
    let target = unsafe { &mut *(scratch as *mut [u8] as *mut [MaybeUninit<u8>]) };
    match connection.stream.receive(target) {
        Ok(0) => report_closed(reactor, handler, conn, CloseReason::PeerClosed),
        Ok(count) => handler.received(reactor, conn, &scratch[..count]),
        Err(error) => receive_failed(reactor, handler, conn, error),
    }
}

fn receive_failed<H: Handler>(
    reactor: &mut Reactor,
    handler: &mut H,
    conn: ConnId,
    error: io::Error,
) {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
        _ => report_closed(reactor, handler, conn, CloseReason::Error(error)),
    }
}

/// Goes on with a send; false when the connection ended over it.
fn writable<H: Handler>(reactor: &mut Reactor, handler: &mut H, conn: ConnId) -> bool {
    let Some(this) = epoll_mut(reactor) else {
        return false;
    };
    let Some(connection) = this.connections.get(conn) else {
        return false;
    };
    if !connection.sending {
        return true;
    }
    let finishing = connection.finishing;
    match this.continue_send(conn) {
        Ok(None) => true,
        Ok(Some(_)) if finishing => {
            if let Some(stream) = this.stream(conn) {
                stream.discard_received();
            }
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

fn receive_target<H: Handler>(reactor: &mut Reactor, handler: &mut H, conn: ConnId) {
    let Some(this) = epoll_mut(reactor) else {
        return;
    };
    let Some(connection) = this.connections.get_mut(conn) else {
        return;
    };
    let Some(target) = connection.target.as_mut() else {
        return;
    };
    let left = target.len_wanted - target.buf.len();
    match connection
        .stream
        .receive(&mut target.buf.spare_capacity_mut()[..left])
    {
        Ok(0) => report_closed(reactor, handler, conn, CloseReason::PeerClosed),
        Ok(count) => {
            let len = target.buf.len() + count;
            // SAFETY: the kernel initialised `count` bytes of the spare capacity.
            unsafe { target.buf.set_len(len) };
            if len < target.len_wanted {
                handler.receiving(reactor, conn, len);
            } else if let Some(target) = connection.target.take() {
                handler.received_into(reactor, conn, target.buf);
            }
        }
        Err(error) => receive_failed(reactor, handler, conn, error),
    }
}

fn accept_some<H: Handler>(reactor: &mut Reactor, handler: &mut H, index: usize) {
    for _ in 0..ACCEPTS_PER_TURN {
        let Some(this) = epoll_mut(reactor) else {
            return;
        };
        let accept_retry = this.accept_retry;
        let Some(slot) = this.listeners.get_mut(index) else {
            return;
        };
        let tag = slot.tag;
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no address is asked for, so both pointers may be null.
        let accepted = check(unsafe {
            libc::accept4(
                slot.fd.as_raw_fd(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                flags,
            )
        });
        match accepted {
            Ok(fd) => {
                slot.failing = false;
                // SAFETY: just accepted, owned by nobody else.
                let stream = Stream::from(unsafe { OwnedFd::from_raw_fd(fd) });
                handler.accepted(reactor, tag, stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if is_passing_accept_error(&error) => {}
            Err(error) => {
                let first = !std::mem::replace(&mut slot.failing, true);
                slot.retry_at = Some(Instant::now() + accept_retry);
                let word = LISTENER_BIT | index as u64;
                let _ = control(
                    &this.poll,
                    libc::EPOLL_CTL_MOD,
                    slot.fd.as_raw_fd(),
                    0,
                    word,
                );
                if first {
                    handler.accept_failed(reactor, tag, error);
                }
                return;
            }
        }
    }
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
