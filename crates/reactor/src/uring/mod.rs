//! The io_uring backend: multishot accepts and receives, receive buffers picked by the kernel, sends queued during
//! the turn, and one system call per turn that submits, waits and runs completions.
//!
//! Invariants:
//! - A slot is freed, and its memory with it, only when no operation of its connection is with the kernel. Until
//!   then a closed connection lives on as `Phase::Closing`, invisible to the caller. Shutting the socket down is what
//!   completes its operations.
//! - At most one receive operation per connection: a multishot one, or one into a target. Changing from one to the
//!   other goes through cancellation, so bytes stay in order.
//! - `user_data` is the connection id (whose upper four bits are clear) with the kind of operation below it.

mod buffers;
mod queue;
mod turn;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use io_uring::{opcode, squeue, types};

use crate::listener::{self, Listener};
use crate::notifier::Wake;
use crate::slots::{ConnId, Slots};
use crate::stream::Stream;
use crate::{CloseReason, Options};

use buffers::Buffers;
use queue::{Completion, Queue};

pub(crate) use buffers::{Buffers as ReceiveBuffers, GROUP};
pub(crate) use queue::new_ring;
pub(crate) use turn::turn;

const KIND_BITS: u32 = 4;
const RECEIVE: u64 = 0;
const SEND: u64 = 1;
const ACCEPT: u64 = 2;
const WAKE: u64 = 3;
const CANCEL: u64 = 4;

/// The length field of a send has 32 bits, its result 31.
const SEND_BYTES_MAX: usize = 1 << 30;
/// How long dropping a reactor waits for the kernel to let go of its memory before it leaks that memory instead.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Phase {
    Open,
    /// Closes when the send in flight has ended.
    Finishing,
    /// Closed for the caller; waits for the kernel.
    Closing,
}

/// The receive operation that is with the kernel.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Receiving {
    Nothing,
    Multishot,
    /// A multishot whose cancellation was asked for.
    Cancelling,
    IntoTarget,
}

struct Target {
    buf: Vec<u8>,
    len_wanted: usize,
}

struct Connection {
    stream: Stream,
    fd: RawFd,
    phase: Phase,
    receiving: Receiving,
    paused: bool,
    /// A close is to be reported (see `Uring::deferred`); nothing more is received.
    ended: bool,
    sending: bool,
    /// The turn in which bytes were last reported.
    data_turn: u64,
    send: Vec<u8>,
    send_offset: usize,
    target: Option<Box<Target>>,
}

impl Connection {
    fn is_with_kernel(&self) -> bool {
        self.sending || self.receiving != Receiving::Nothing
    }
}

struct ListenerSlot {
    fd: OwnedFd,
    tag: u32,
    armed: bool,
    stopped: bool,
    failing: bool,
    retry_at: Option<Instant>,
}

pub(crate) struct Uring {
    queue: Queue,
    buffers: Rc<Buffers>,
    wake: Wake,
    connections: Slots<Connection>,
    /// Connections in `Phase::Closing`.
    closing_count: usize,
    listeners: Vec<ListenerSlot>,
    /// Ends of connections found in a turn that also brought bytes; reported in the next turn, after the replies to
    /// those bytes went out.
    deferred: Vec<(ConnId, CloseReason)>,
    completions: Vec<Completion>,
    turn_index: u64,
    accept_retry: Duration,
    process_id: u32,
}

fn user_data(conn: ConnId, kind: u64) -> u64 {
    conn.0 << KIND_BITS | kind
}

fn cancel(user_data: u64) -> squeue::Entry {
    opcode::AsyncCancel::new(user_data)
        .build()
        .user_data(CANCEL)
}

impl Uring {
    pub(crate) fn new(options: Options) -> io::Result<Uring> {
        let queue = Queue::new(options.ring_entries)?;
        let buffers = Rc::new(Buffers::new(
            options.receive_buffers,
            options.receive_buffer_bytes,
        )?);
        buffers.register(queue.ring())?;
        let mut this = Uring {
            queue,
            buffers,
            wake: Wake::new()?,
            connections: Slots::new(),
            closing_count: 0,
            listeners: Vec::new(),
            deferred: Vec::new(),
            completions: Vec::new(),
            turn_index: 1,
            accept_retry: options.accept_retry,
            process_id: std::process::id(),
        };
        this.watch_wake();
        Ok(this)
    }

    /// Watches the eventfd, edge-triggered, until further notice.
    fn watch_wake(&mut self) {
        let fd = types::Fd(self.wake.eventfd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(WAKE);
        // SAFETY: names no memory; the eventfd lives as long as the queue.
        unsafe { self.queue.push(entry) };
    }

    pub(crate) fn listen(&mut self, listener: Listener, tag: u32) -> io::Result<()> {
        let listener::Kind::Socket(fd) = listener.0 else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        self.listeners.push(ListenerSlot {
            fd,
            tag,
            armed: false,
            stopped: false,
            failing: false,
            retry_at: None,
        });
        self.arm_accept(self.listeners.len() - 1);
        Ok(())
    }

    fn arm_accept(&mut self, index: usize) {
        let slot = &mut self.listeners[index];
        if slot.armed || slot.stopped {
            return;
        }
        slot.armed = true;
        slot.retry_at = None;
        let entry = opcode::AcceptMulti::new(types::Fd(slot.fd.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
            .build()
            .user_data((index as u64) << KIND_BITS | ACCEPT);
        // SAFETY: names no memory; the listener's slot keeps the descriptor open while `armed`.
        unsafe { self.queue.push(entry) };
    }

    /// Accepts again where the pause after a failure is over; shortens the timeout to the end of the next pause.
    fn rearm_listeners(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        let mut timeout = timeout;
        for index in 0..self.listeners.len() {
            let Some(retry_at) = self.listeners[index].retry_at else {
                continue;
            };
            let left = retry_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.arm_accept(index);
            } else {
                timeout = Some(timeout.map_or(left, |timeout| timeout.min(left)));
            }
        }
        timeout
    }

    pub(crate) fn stop_listening(&mut self) {
        for (index, slot) in self.listeners.iter_mut().enumerate() {
            slot.retry_at = None;
            if !std::mem::replace(&mut slot.stopped, true) && slot.armed {
                // SAFETY: names no memory.
                unsafe {
                    self.queue
                        .push(cancel((index as u64) << KIND_BITS | ACCEPT))
                };
            }
        }
        self.drop_stopped_listeners();
    }

    /// Drops stopped listeners from the end on, so that the indices in flight stay right.
    fn drop_stopped_listeners(&mut self) {
        while self
            .listeners
            .last()
            .is_some_and(|slot| slot.stopped && !slot.armed)
        {
            self.listeners.pop();
        }
    }

    pub(crate) fn add(&mut self, stream: Stream) -> io::Result<ConnId> {
        let fd = stream.raw_fd().ok_or(io::ErrorKind::InvalidInput)?;
        let conn = self.connections.insert(Connection {
            stream,
            fd,
            phase: Phase::Open,
            receiving: Receiving::Nothing,
            paused: false,
            ended: false,
            sending: false,
            data_turn: 0,
            send: Vec::new(),
            send_offset: 0,
            target: None,
        });
        self.arm_receive(conn);
        Ok(conn)
    }

    #[inline]
    fn open(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.connections
            .get_mut(conn)
            .filter(|c| c.phase == Phase::Open)
    }

    /// Brings the receive operation in line with what the connection wants.
    fn arm_receive(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let wanted = connection.phase == Phase::Open && !connection.paused && !connection.ended;
        let data = user_data(conn, RECEIVE);
        let entry = match (connection.receiving, &mut connection.target) {
            (Receiving::Nothing, Some(target)) if wanted => {
                connection.receiving = Receiving::IntoTarget;
                let left = (target.len_wanted - target.buf.len()).min(SEND_BYTES_MAX);
                let spare = target.buf.spare_capacity_mut();
                opcode::Recv::new(
                    types::Fd(connection.fd),
                    spare.as_mut_ptr().cast(),
                    left as u32,
                )
                .build()
                .user_data(data)
            }
            (Receiving::Nothing, None) if wanted => {
                connection.receiving = Receiving::Multishot;
                opcode::RecvMulti::new(types::Fd(connection.fd), GROUP)
                    .build()
                    .user_data(data)
            }
            (Receiving::Multishot, target) if !wanted || target.is_some() => {
                connection.receiving = Receiving::Cancelling;
                cancel(data)
            }
            _ => return,
        };
        // SAFETY: the target's Vec has `left` bytes of spare capacity, reserved when it was given, and neither it nor
        // the descriptor goes away while `receiving` says that the kernel has them.
        unsafe { self.queue.push(entry) };
    }

    #[inline]
    pub(crate) fn send(&mut self, conn: ConnId, mut buf: Vec<u8>) -> Option<Vec<u8>> {
        let Some(connection) = self
            .connections
            .get_mut(conn)
            .filter(|c| c.phase == Phase::Open)
        else {
            buf.clear();
            return Some(buf);
        };
        assert!(!connection.sending, "one send at a time");
        if buf.is_empty() {
            return Some(buf);
        }
        connection.send = buf;
        connection.send_offset = 0;
        connection.sending = true;
        Self::push_send(&mut self.queue, conn, connection);
        None
    }

    #[inline]
    fn push_send(queue: &mut Queue, conn: ConnId, connection: &Connection) {
        let rest = &connection.send[connection.send_offset..];
        // The kernel goes on by itself after a partial send.
        let entry = opcode::Send::new(
            types::Fd(connection.fd),
            rest.as_ptr(),
            rest.len().min(SEND_BYTES_MAX) as u32,
        )
        .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
        .build()
        .user_data(user_data(conn, SEND));
        // SAFETY: `connection.send` is not touched and the slot not freed while `sending`, which the caller has set; a
        // move of the Connection does not move the Vec's bytes.
        unsafe { queue.push(entry) };
    }

    pub(crate) fn is_sending(&self, conn: ConnId) -> bool {
        self.connections
            .get(conn)
            .is_some_and(|c| c.sending && c.phase != Phase::Closing)
    }

    pub(crate) fn pause(&mut self, conn: ConnId) {
        if let Some(connection) = self.open(conn) {
            connection.paused = true;
            self.arm_receive(conn);
        }
    }

    pub(crate) fn resume(&mut self, conn: ConnId) {
        if let Some(connection) = self.open(conn) {
            connection.paused = false;
            self.arm_receive(conn);
        }
    }

    pub(crate) fn receive_into(&mut self, conn: ConnId, mut buf: Vec<u8>, len_wanted: usize) {
        if let Some(connection) = self.open(conn) {
            assert!(connection.target.is_none(), "one receive_into at a time");
            buf.reserve_exact(len_wanted - buf.len());
            connection.target = Some(Box::new(Target { buf, len_wanted }));
            self.arm_receive(conn);
        }
    }

    pub(crate) fn close(&mut self, conn: ConnId) {
        let Some(connection) = self
            .connections
            .get_mut(conn)
            .filter(|c| c.phase != Phase::Closing)
        else {
            return;
        };
        connection.phase = Phase::Closing;
        self.closing_count += 1;
        if connection.is_with_kernel() {
            connection.stream.shutdown();
        } else {
            self.free_if_done(conn);
        }
    }

    /// Frees a closed connection's slot if the kernel has nothing of it.
    fn free_if_done(&mut self, conn: ConnId) {
        let done = |c: &Connection| c.phase == Phase::Closing && !c.is_with_kernel();
        if self.connections.get(conn).is_some_and(done) {
            self.connections.remove(conn);
            self.closing_count -= 1;
        }
    }

    pub(crate) fn close_after_send(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.open(conn) else {
            return self
                .connections
                .get(conn)
                .is_none_or(|c| c.phase == Phase::Closing);
        };
        if !connection.sending {
            connection.stream.discard_received();
            self.close(conn);
            return true;
        }
        connection.phase = Phase::Finishing;
        self.arm_receive(conn);
        false
    }

    pub(crate) fn stream(&self, conn: ConnId) -> Option<&Stream> {
        let connection = self
            .connections
            .get(conn)
            .filter(|c| c.phase != Phase::Closing)?;
        Some(&connection.stream)
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.connections.len() - self.closing_count
    }

    pub(crate) fn wake(&self) -> &Wake {
        &self.wake
    }
}

impl Drop for Uring {
    /// Waits until the kernel has let go of all memory; leaks it where that takes too long, and in a forked child.
    fn drop(&mut self) {
        let mut let_go = false;
        if self.process_id == std::process::id() {
            self.stop_listening();
            for conn in self.connections.ids() {
                self.close(conn);
            }
            let deadline = Instant::now() + DROP_PATIENCE;
            while self.connections.len() > 0 && Instant::now() < deadline {
                let mut completions = std::mem::take(&mut self.completions);
                if self
                    .queue
                    .submit_and_collect(Some(Duration::from_millis(10)), &mut completions)
                    .is_err()
                {
                    break;
                }
                for completion in &completions {
                    self.note_completion(*completion);
                }
                self.completions = completions;
            }
            let_go = self.connections.len() == 0;
        }
        if !let_go {
            self.connections.forget();
            std::mem::forget(Rc::clone(&self.buffers));
        }
    }
}
