//! One turn of the io_uring backend: submit and wait, then walk the completions.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use io_uring::cqueue;

use crate::epoll::is_passing_accept_error;
use crate::reactor::{Inner, Reactor};
use crate::slots::ConnId;
use crate::stream::Stream;
use crate::{CloseReason, Handler};

use super::buffers::Buffers;
use super::{Completion, Phase, Receiving, Uring, ACCEPT, KIND_BITS, RECEIVE, SEND, WAKE};

fn uring_mut(reactor: &mut Reactor) -> Option<&mut Uring> {
    match &mut reactor.0 {
        Inner::Uring(uring) => Some(uring),
        _ => None,
    }
}

pub(crate) fn turn<H: Handler>(
    reactor: &mut Reactor,
    timeout: Option<Duration>,
    handler: &mut H,
) -> io::Result<()> {
    let Some(this) = uring_mut(reactor) else {
        return Ok(());
    };
    // Taken out for the turn, so that callbacks may borrow the reactor; the count keeps the buffers alive even if
    // one of them replaces it.
    let buffers = Rc::clone(&this.buffers);
    let mut completions = std::mem::take(&mut this.completions);
    let deferred = std::mem::take(&mut this.deferred);
    let timeout = if deferred.is_empty() {
        timeout
    } else {
        Some(Duration::ZERO)
    };
    let waited = this.wait(timeout, &mut completions);
    if this.wake.take() {
        handler.woken(reactor);
    }
    for completion in &completions {
        dispatch(reactor, handler, &buffers, *completion);
    }
    for (conn, reason) in deferred {
        report_closed(reactor, handler, conn, reason);
    }
    if let Some(this) = uring_mut(reactor) {
        this.completions = completions;
    }
    waited
}

impl Uring {
    fn wait(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        let mut timeout = timeout;
        if !self.listeners.is_empty() {
            timeout = self.rearm_listeners(timeout);
        }
        self.turn_index += 1;
        self.buffers.publish();
        if timeout != Some(Duration::ZERO) && !self.wake.prepare_sleep() {
            timeout = Some(Duration::ZERO);
        }
        self.queue.submit_and_collect(timeout, completions)
    }

    /// Completions while dropping: nobody is told, only what the kernel holds is kept count of.
    pub(super) fn note_completion(&mut self, completion: Completion) {
        let conn = ConnId(completion.user_data >> KIND_BITS);
        if let Some(buffer) = cqueue::buffer_select(completion.flags) {
            self.buffers.recycle(buffer);
            self.buffers.publish();
        }
        match completion.user_data & ((1 << KIND_BITS) - 1) {
            RECEIVE => {
                self.receive_ended(conn, completion.flags);
            }
            SEND => {
                if let Some(connection) = self.connections.get_mut(conn) {
                    connection.sending = false;
                }
            }
            ACCEPT if completion.result >= 0 => {
                // SAFETY: an accepted descriptor that nobody else owns.
                drop(unsafe { OwnedFd::from_raw_fd(completion.result) });
            }
            _ => {}
        }
        self.free_if_done(conn);
    }

    /// Takes note that the receive operation is over, if it is.
    #[inline]
    fn receive_ended(&mut self, conn: ConnId, flags: u32) -> bool {
        if cqueue::more(flags) {
            return false;
        }
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.receiving = Receiving::Nothing;
        }
        true
    }
}

#[inline]
fn dispatch<H: Handler>(
    reactor: &mut Reactor,
    handler: &mut H,
    buffers: &Buffers,
    completion: Completion,
) {
    let conn = ConnId(completion.user_data >> KIND_BITS);
    match completion.user_data & ((1 << KIND_BITS) - 1) {
        RECEIVE => receive_completed(reactor, handler, buffers, conn, completion),
        SEND => send_completed(reactor, handler, conn, completion.result),
        ACCEPT => accept_completed(reactor, handler, completion),
        WAKE if !cqueue::more(completion.flags) => {
            if let Some(this) = uring_mut(reactor) {
                this.watch_wake();
            }
        }
        // A wake is taken from the notifier itself; a cancellation shows in the operation it cancelled.
        _ => {}
    }
}

#[inline]
fn receive_completed<H: Handler>(
    reactor: &mut Reactor,
    handler: &mut H,
    buffers: &Buffers,
    conn: ConnId,
    completion: Completion,
) {
    let result = completion.result;
    let Some(buffer) = cqueue::buffer_select(completion.flags) else {
        return receive_without_buffer(reactor, handler, conn, completion);
    };
    if result > 0 {
        // SAFETY: the completion names the buffer and how much of it was filled; it is recycled below, after its last
        // use.
        let data = unsafe { buffers.filled(buffer, result as usize) };
        deliver(reactor, handler, conn, data);
    }
    buffers.recycle(buffer);
    let Some(this) = uring_mut(reactor) else {
        return;
    };
    if this.receive_ended(conn, completion.flags) {
        if result > 0 {
            this.arm_receive(conn);
            this.free_if_done(conn);
        } else {
            receive_failed(reactor, handler, conn, result);
        }
    }
}

/// Hands received bytes on: into the target as far as there is one, the rest to the handler.
#[inline]
fn deliver<H: Handler>(reactor: &mut Reactor, handler: &mut H, conn: ConnId, data: &[u8]) {
    let mut data = data;
    while !data.is_empty() {
        let Some(this) = uring_mut(reactor) else {
            return;
        };
        let turn_index = this.turn_index;
        let Some(connection) = this.open(conn) else {
            return;
        };
        connection.data_turn = turn_index;
        let Some(target) = connection.target.as_mut() else {
            return handler.received(reactor, conn, data);
        };
        let (now, later) = data.split_at(data.len().min(target.len_wanted - target.buf.len()));
        target.buf.extend_from_slice(now);
        data = later;
        report_target(reactor, handler, conn);
    }
}

/// Tells the handler how far the target has come, and gives it back when complete.
fn report_target<H: Handler>(reactor: &mut Reactor, handler: &mut H, conn: ConnId) {
    let Some(connection) = uring_mut(reactor).and_then(|this| this.open(conn)) else {
        return;
    };
    let Some(target) = connection.target.take() else {
        return;
    };
    if target.buf.len() == target.len_wanted {
        handler.received_into(reactor, conn, target.buf);
    } else {
        let len = target.buf.len();
        connection.target = Some(target);
        handler.receiving(reactor, conn, len);
    }
}

/// The end of a multishot, or a receive into a target.
fn receive_without_buffer<H: Handler>(
    reactor: &mut Reactor,
    handler: &mut H,
    conn: ConnId,
    completion: Completion,
) {
    let result = completion.result;
    let Some(this) = uring_mut(reactor) else {
        return;
    };
    let turn_index = this.turn_index;
    let Some(connection) = this.connections.get_mut(conn) else {
        return;
    };
    let into_target = connection.receiving == Receiving::IntoTarget;
    if !this.receive_ended(conn, completion.flags) {
        return;
    }
    if result <= 0 {
        return receive_failed(reactor, handler, conn, result);
    }
    if let Some(connection) = this.open(conn).filter(|_| into_target) {
        connection.data_turn = turn_index;
        if let Some(target) = connection.target.as_mut() {
            let len = target.buf.len() + result as usize;
            assert!(
                len <= target.len_wanted,
                "the kernel keeps to the length it was given"
            );
            // SAFETY: the kernel initialised `result` bytes of the spare capacity, which is at least as long.
            unsafe { target.buf.set_len(len) };
        }
        report_target(reactor, handler, conn);
    }
    if let Some(this) = uring_mut(reactor) {
        this.arm_receive(conn);
        this.free_if_done(conn);
    }
}

/// A receive operation ended without bytes.
fn receive_failed<H: Handler>(reactor: &mut Reactor, handler: &mut H, conn: ConnId, result: i32) {
    let Some(this) = uring_mut(reactor) else {
        return;
    };
    let reason = match -result {
        0 => CloseReason::PeerClosed,
        // Out of buffers for a moment, cancelled by ourselves, or interrupted: receive again if that is wanted.
        libc::ENOBUFS | libc::ECANCELED | libc::EAGAIN | libc::EINTR => {
            this.arm_receive(conn);
            return this.free_if_done(conn);
        }
        code => CloseReason::Error(io::Error::from_raw_os_error(code)),
    };
    let turn_index = this.turn_index;
    let Some(connection) = this.open(conn) else {
        return this.free_if_done(conn);
    };
    connection.ended = true;
    if connection.data_turn == turn_index {
        this.deferred.push((conn, reason));
    } else {
        report_closed(reactor, handler, conn, reason);
    }
}

fn report_closed<H: Handler>(
    reactor: &mut Reactor,
    handler: &mut H,
    conn: ConnId,
    reason: CloseReason,
) {
    let Some(this) = uring_mut(reactor) else {
        return;
    };
    // A connection that is finishing lets its last send run its course: the peer may still be reading.
    let finishing_on =
        |phase| phase == Phase::Finishing && matches!(reason, CloseReason::PeerClosed);
    match this.connections.get(conn) {
        Some(connection)
            if connection.phase != Phase::Closing && !finishing_on(connection.phase) => {}
        _ => return,
    }
    this.close(conn);
    handler.closed(reactor, conn, reason);
}

#[inline]
fn send_completed<H: Handler>(reactor: &mut Reactor, handler: &mut H, conn: ConnId, result: i32) {
    let Some(this) = uring_mut(reactor) else {
        return;
    };
    let Some(connection) = this.connections.get_mut(conn) else {
        return;
    };
    connection.sending = false;
    if connection.phase == Phase::Closing {
        return this.free_if_done(conn);
    }
    if result < 0
        && !matches!(
            -result,
            libc::EINTR | libc::EAGAIN | libc::ENOBUFS | libc::ECANCELED
        )
    {
        let reason = CloseReason::Error(io::Error::from_raw_os_error(-result));
        return report_closed(reactor, handler, conn, reason);
    }
    connection.send_offset += result.max(0) as usize;
    if connection.send_offset < connection.send.len() {
        connection.sending = true;
        return Uring::push_send(&mut this.queue, conn, connection);
    }
    let mut buf = std::mem::take(&mut connection.send);
    buf.clear();
    if connection.phase == Phase::Finishing {
        connection.stream.discard_received();
        report_closed(reactor, handler, conn, CloseReason::Requested);
    } else {
        handler.sent(reactor, conn, buf);
    }
}

fn accept_completed<H: Handler>(reactor: &mut Reactor, handler: &mut H, completion: Completion) {
    let index = (completion.user_data >> KIND_BITS) as usize;
    let accepted = if completion.result >= 0 {
        // SAFETY: an accepted descriptor that nobody else owns.
        Ok(Stream::from(unsafe {
            OwnedFd::from_raw_fd(completion.result)
        }))
    } else {
        Err(io::Error::from_raw_os_error(-completion.result))
    };
    let Some(this) = uring_mut(reactor) else {
        return;
    };
    let accept_retry = this.accept_retry;
    let Some(slot) = this.listeners.get_mut(index) else {
        return;
    };
    slot.armed = cqueue::more(completion.flags);
    let tag = slot.tag;
    if slot.stopped {
        return this.drop_stopped_listeners();
    }
    match accepted {
        Ok(stream) => {
            slot.failing = false;
            this.arm_accept(index);
            handler.accepted(reactor, tag, stream);
        }
        Err(error) if is_passing_accept_error(&error) => this.arm_accept(index),
        Err(error) => {
            let first = !std::mem::replace(&mut slot.failing, true);
            slot.retry_at = Some(Instant::now() + accept_retry);
            if first {
                handler.accept_failed(reactor, tag, error);
            }
        }
    }
}
