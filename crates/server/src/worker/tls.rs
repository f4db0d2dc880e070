//! TLS between the event loop, which moves records, and a connection's input and output, which hold plain bytes.
//!
//! What arrives is decrypted behind the connection's input and goes on as any other bytes would. Replies are encrypted when
//! they may leave, not before: what waits for the disk waits in plain, in the connection's output. Large replies
//! are encrypted piece by piece, as the peer takes them. A connection without TLS has none of this but the look at
//! whether it is one.

use std::sync::Arc;

use reactor::{ConnId, Reactor};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::ServerConfig;

use super::connection::Connection;
use super::serve::KEPT_BUFFER_BYTES;
use super::Worker;
use crate::log;

/// Of replies, encrypted at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Of plain bytes in a record at most, and what encryption adds to it at most.
const RECORD_BYTES: usize = 16 << 10;
const RECORD_OVERHEAD_BYTES: usize = 64;
/// More than the alert takes that ends a connection.
const LAST_ALERT_BYTES: usize = 128;
/// What a session takes of memory, about.
const SESSION_BYTES: usize = 8 << 10;

/// One connection's.
pub struct Tls {
    session: UnbufferedServerConnection,
    /// The beginning of a record whose rest has not arrived.
    incoming: Vec<u8>,
    /// Records to be sent.
    records: Vec<u8>,
    /// Replies on their way; those from `sealed` on are not encrypted yet.
    plain: Vec<u8>,
    sealed: usize,
    /// The handshake is over.
    is_open: bool,
    /// The peer said that nothing follows.
    peer_has_ended: bool,
    /// The last alert is made: nothing that arrives is looked at, and nothing more is encrypted.
    has_ended: bool,
    /// The connection's input is no whole request before it is so long.
    pub input_wanted: usize,
}

impl Tls {
    pub fn new(config: Arc<ServerConfig>) -> Result<Tls, rustls::Error> {
        Ok(Tls {
            session: UnbufferedServerConnection::new(config)?,
            incoming: Vec::new(),
            records: Vec::new(),
            plain: Vec::new(),
            sealed: 0,
            is_open: false,
            peer_has_ended: false,
            has_ended: false,
            input_wanted: 0,
        })
    }

    pub fn memory_bytes(&self) -> usize {
        SESSION_BYTES + self.incoming.capacity() + self.records.capacity() + self.plain.capacity()
    }

    /// Whether there is something to send.
    pub fn wants_send(&self) -> bool {
        !self.records.is_empty() || self.has_plain()
    }

    /// Whether replies are not encrypted yet.
    fn has_plain(&self) -> bool {
        self.sealed < self.plain.len()
    }

    /// Throws away the replies that are not encrypted yet.
    pub fn discard(&mut self) {
        self.plain.clear();
        self.sealed = 0;
    }

    /// Takes what arrived, and appends what was in it to `to`. After an error the session is of no
    /// use but to send what it has to say about it.
    fn open(&mut self, data: &[u8], to: &mut Vec<u8>) -> Result<(), rustls::Error> {
        if self.has_ended {
            return Ok(());
        }
        self.incoming.extend_from_slice(data);
        let mut incoming = std::mem::take(&mut self.incoming);
        let (used, result) = self.advance(&mut incoming, to);
        incoming.drain(..used);
        if !incoming.is_empty() || incoming.capacity() <= KEPT_BUFFER_BYTES {
            self.incoming = incoming;
        }
        if result.is_err() {
            self.incoming = Vec::new();
            // What comes of it now is the alert.
            let _ = self.advance(&mut [], to);
            self.has_ended = true;
        }
        result
    }

    /// How many bytes were used, and how it went.
    fn advance(
        &mut self,
        incoming: &mut [u8],
        to: &mut Vec<u8>,
    ) -> (usize, Result<(), rustls::Error>) {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.session.process_tls_records(&mut incoming[used..]);
            let mut goes_on = true;
            match state {
                Err(error) => return (used + discard, Err(error)),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                discard += record.discard;
                                to.extend_from_slice(record.payload);
                            }
                            Err(error) => return (used + discard, Err(error)),
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    grow(&mut self.records, 0, |room| {
                        data.encode(room).map_err(|error| match error {
                            EncodeError::InsufficientSize(error) => Some(error.required_size),
                            EncodeError::AlreadyEncoded => None,
                        })
                    });
                }
                // In `records`, from where it is sent.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_has_ended = true,
                Ok(ConnectionState::WriteTraffic(_)) => {
                    self.is_open = true;
                    goes_on = false;
                }
                // Blocked, closed; early data is not offered.
                Ok(_) => goes_on = false,
            }
            used += discard;
            if !goes_on {
                return (used, Ok(()));
            }
        }
    }

    /// Encrypts the next piece of the replies. False if that is not possible any more.
    fn seal(&mut self) -> bool {
        let end = self.plain.len().min(self.sealed + PIECE_BYTES);
        let piece = &self.plain[self.sealed..end];
        if piece.is_empty() || self.has_ended {
            return piece.is_empty();
        }
        let state = self.session.process_tls_records(&mut self.incoming).state;
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else {
            return false;
        };
        let records = piece.len().div_ceil(RECORD_BYTES) + 1;
        let room = piece.len() + records * RECORD_OVERHEAD_BYTES;
        let sealed = grow(&mut self.records, room, |room| {
            traffic.encrypt(piece, room).map_err(required)
        });
        self.sealed = end;
        sealed
    }

    /// Tells the peer that nothing follows.
    fn end(&mut self) {
        if std::mem::replace(&mut self.has_ended, true) || !self.is_open {
            return;
        }
        let state = self.session.process_tls_records(&mut self.incoming).state;
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            // If it cannot be said, the connection ends without it.
            grow(&mut self.records, LAST_ALERT_BYTES, |room| {
                traffic.queue_close_notify(room).map_err(required)
            });
        }
    }

    /// Takes back a buffer whose records are sent.
    fn keep(&mut self, buf: Vec<u8>) {
        if self.records.capacity() == 0 && buf.capacity() <= KEPT_BUFFER_BYTES {
            self.records = buf;
        }
    }
}

fn required(error: EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(error) => Some(error.required_size),
        EncryptError::EncryptExhausted => None,
    }
}

/// Appends what `write` writes into the room it gets. An error of it says how much room it needs, or that no room helps.
/// False in the latter case.
fn grow(
    out: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> bool {
    let start = out.len();
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return true;
            }
            Err(Some(needed)) if needed > room => room = needed,
            Err(_) => {
                out.truncate(start);
                return false;
            }
        }
    }
}

impl Worker {
    /// Records arrived.
    pub(super) fn received_sealed(
        &mut self,
        reactor: &mut Reactor,
        c: &mut Connection,
        data: &[u8],
    ) {
        let Some(tls) = c.tls.as_mut() else {
            return;
        };
        let was_open = tls.is_open;
        // In pieces that wait for others anyway, there is nothing to be gained by looking at them where they lie.
        let behind_others = c.waiting || !c.input.is_empty();
        let mut opened = std::mem::take(&mut self.opened);
        let target = match behind_others {
            true => &mut c.input,
            false => &mut opened,
        };
        let before = target.len();
        let result = tls.open(data, target);
        let count = target.len() - before;
        let is_whole = !behind_others || c.input.len() >= tls.input_wanted;
        if is_whole {
            tls.input_wanted = 0;
        }
        let peer_has_ended = tls.peer_has_ended;
        c.net_input_bytes += count as u64;
        self.stats().net_input_bytes.add(count as u64);
        if c.closing {
            c.input.clear();
        } else if behind_others && is_whole {
            self.go_on(reactor, c);
        } else if !opened.is_empty() {
            let (used, wanted) = self.process(c, &opened);
            c.input.extend_from_slice(&opened[used..]);
            self.receive_rest(reactor, c, wanted);
        }
        self.check_query_buffer(c);
        if let Err(error) = result {
            let (address, local) = (&c.record.address, &c.record.local_address);
            if was_open {
                log!(Verbose, "TLS: {error} (addr={address} laddr={local})");
            } else {
                log!(
                    Warning,
                    "Error accepting a client connection: {error} (addr={address} laddr={local})"
                );
            }
            c.closing = true;
            c.discard_output();
        }
        c.closing |= peer_has_ended;
        self.weigh(c);
        self.mark_dirty(c);
        opened.clear();
        if opened.capacity() <= 4 * KEPT_BUFFER_BYTES {
            self.opened = opened;
        }
    }

    /// Sends `ready` bytes of a connection's output, and what TLS itself has to say.
    pub(super) fn send_sealed(&mut self, reactor: &mut Reactor, c: &mut Connection, ready: usize) {
        let Some(mut tls) = c.tls.take() else {
            return;
        };
        if !reactor.is_sending(c.id) {
            if ready > 0 && tls.is_open && !tls.has_plain() {
                tls.plain = self.take_output(c, ready);
                tls.sealed = 0;
            }
            self.send_pieces(reactor, c, &mut tls);
        }
        c.tls = Some(tls);
    }

    fn send_pieces(&mut self, reactor: &mut Reactor, c: &mut Connection, tls: &mut Tls) {
        loop {
            if !tls.seal() {
                c.closing = true;
                c.out.clear();
                tls.discard();
            }
            if c.closing && c.out.is_empty() && !tls.has_plain() {
                tls.end();
            }
            if tls.records.is_empty() {
                break;
            }
            match reactor.send(c.id, std::mem::take(&mut tls.records)) {
                Some(buf) => tls.keep(buf),
                None => return,
            }
        }
        end_of_sending(c, tls);
    }

    /// The records handed over last have been sent.
    pub(super) fn sent_sealed(&mut self, conn: ConnId, buf: Vec<u8>) {
        self.with_connection(conn, |worker, c| {
            if let Some(mut tls) = c.tls.take() {
                tls.keep(buf);
                if !tls.has_plain() {
                    end_of_sending(c, &mut tls);
                }
                c.tls = Some(tls);
            }
            c.update_output();
            worker.weigh(c);
            worker.mark_dirty(c);
        });
    }
}

/// All replies that were on their way are with the kernel.
fn end_of_sending(c: &mut Connection, tls: &mut Tls) {
    c.sending_bytes = 0;
    tls.sealed = 0;
    let mut plain = std::mem::take(&mut tls.plain);
    plain.clear();
    super::serve::keep_buffer(c, plain);
}

impl Connection {
    /// Throws away the replies that are not on their way.
    pub fn discard_output(&mut self) {
        self.out.clear();
        if let Some(tls) = &mut self.tls {
            tls.discard();
        }
    }

    /// Whether everything has been handed over.
    pub fn has_handed_over(&self) -> bool {
        self.out.is_empty() && self.tls.as_ref().is_none_or(|tls| !tls.has_plain())
    }
}
