//! A server that echoes, on any backend, and what tests need to drive it.
#![allow(dead_code)] // Each test file uses its part.

use std::collections::HashMap;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reactor::{
    Backend, BackendChoice, CloseReason, ConnId, Handler, Listener, Notifier, Options, Reactor,
    Stream,
};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Frames of eight bytes of length and that many bytes; answered with the bytes alone.
#[derive(Copy, Clone, PartialEq, Debug)]
pub enum Protocol {
    Raw,
    Framed,
}

#[derive(Default)]
pub struct Client {
    pub input: Vec<u8>,
    pub output: Vec<u8>,
    pub paused: bool,
}

/// Echoes, and slows down whoever does not read: more than `output_limit` bytes waiting pause the connection.
pub struct Echo {
    pub protocol: Protocol,
    pub output_limit: usize,
    pub output_peak: usize,
    pub clients: HashMap<ConnId, Client>,
    pub accepted: usize,
    pub accept_failures: usize,
    pub closed: Vec<(ConnId, String)>,
    pub wakes: usize,
    pub turns: usize,
    pub progress_reports: usize,
    pub direct_values: usize,
    /// Hears about each wake.
    pub on_wake: Option<Box<dyn FnMut() + Send>>,
}

impl Echo {
    pub fn new(protocol: Protocol) -> Echo {
        Echo {
            protocol,
            output_limit: usize::MAX,
            output_peak: 0,
            clients: HashMap::new(),
            accepted: 0,
            accept_failures: 0,
            closed: Vec::new(),
            wakes: 0,
            turns: 0,
            progress_reports: 0,
            direct_values: 0,
            on_wake: None,
        }
    }

    /// Answers the complete frames of a client's input; asks for a large rest directly.
    fn answer(&mut self, reactor: &mut Reactor, conn: ConnId) {
        let client = self.clients.get_mut(&conn).expect("a client");
        if self.protocol == Protocol::Raw {
            client.output.append(&mut client.input);
            return;
        }
        loop {
            let Some((head, rest)) = client.input.split_at_checked(8) else {
                return;
            };
            let len = u64::from_le_bytes(head.try_into().unwrap()) as usize;
            if rest.len() < len {
                if len - rest.len() >= 32 << 10 {
                    let input = std::mem::take(&mut client.input);
                    reactor.receive_into(conn, input, 8 + len);
                }
                return;
            }
            client.output.extend_from_slice(&rest[..len]);
            client.input.drain(..8 + len);
        }
    }

    /// What a worker does between two turns.
    pub fn flush(&mut self, reactor: &mut Reactor) {
        for (&conn, client) in &mut self.clients {
            self.output_peak = self.output_peak.max(client.output.len());
            if !client.output.is_empty() && !reactor.is_sending(conn) {
                if let Some(buf) = reactor.send(conn, std::mem::take(&mut client.output)) {
                    assert!(buf.is_empty());
                }
            }
            let full = client.output.len() > self.output_limit;
            if full != client.paused {
                client.paused = full;
                if full {
                    reactor.pause(conn);
                } else {
                    reactor.resume(conn);
                }
            }
        }
    }
}

impl Handler for Echo {
    fn accepted(&mut self, reactor: &mut Reactor, _: u32, stream: Stream) {
        stream.set_nodelay().expect("nodelay");
        let conn = reactor.add(stream).expect("added");
        assert!(
            self.clients.insert(conn, Client::default()).is_none(),
            "ids are unique"
        );
        self.accepted += 1;
    }

    fn accept_failed(&mut self, _: &mut Reactor, _: u32, _: std::io::Error) {
        self.accept_failures += 1;
    }

    fn received(&mut self, reactor: &mut Reactor, conn: ConnId, data: &[u8]) {
        assert!(!data.is_empty());
        let client = self
            .clients
            .get_mut(&conn)
            .expect("only living connections receive");
        client.input.extend_from_slice(data);
        self.answer(reactor, conn);
    }

    fn received_into(&mut self, reactor: &mut Reactor, conn: ConnId, buf: Vec<u8>) {
        let client = self
            .clients
            .get_mut(&conn)
            .expect("only living connections receive");
        assert!(client.input.is_empty(), "nothing overtakes a target");
        client.input = buf;
        self.direct_values += 1;
        self.answer(reactor, conn);
        assert!(
            self.clients[&conn].input.is_empty(),
            "exactly the bytes asked for"
        );
    }

    fn receiving(&mut self, _: &mut Reactor, conn: ConnId, _: usize) {
        assert!(self.clients.contains_key(&conn));
        self.progress_reports += 1;
    }

    fn sent(&mut self, reactor: &mut Reactor, conn: ConnId, buf: Vec<u8>) {
        assert!(buf.is_empty());
        assert!(!reactor.is_sending(conn));
        assert!(self.clients.contains_key(&conn));
    }

    fn closed(&mut self, reactor: &mut Reactor, conn: ConnId, reason: CloseReason) {
        assert!(self.clients.remove(&conn).is_some(), "closed once");
        assert!(reactor.stream(conn).is_none());
        self.closed.push((conn, format!("{reason:?}")));
    }

    fn woken(&mut self, _: &mut Reactor) {
        self.wakes += 1;
        if let Some(on_wake) = &mut self.on_wake {
            on_wake();
        }
    }
}

type Job = Box<dyn FnOnce(&mut Reactor, &mut Echo) -> bool + Send>;

/// An [`Echo`] on a thread of its own.
pub struct Server {
    jobs: Sender<Job>,
    notifier: Notifier,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(
        backend: Backend,
        protocol: Protocol,
        options: Options,
        listener: Listener,
    ) -> Server {
        let (meet, met) = channel();
        let (jobs, queue): (Sender<Job>, Receiver<Job>) = channel();
        let thread = std::thread::spawn(move || {
            let mut reactor = Reactor::new(backend, options).expect("a reactor");
            reactor.listen(listener, 7).expect("listening");
            let mut echo = Echo::new(protocol);
            meet.send(reactor.notifier()).expect("the test waits");
            loop {
                reactor.turn(None, &mut echo).expect("a turn");
                echo.turns += 1;
                echo.flush(&mut reactor);
                while let Ok(job) = queue.try_recv() {
                    if !job(&mut reactor, &mut echo) {
                        return;
                    }
                    echo.flush(&mut reactor);
                }
            }
        });
        let notifier = met.recv().expect("a running reactor");
        Server {
            jobs,
            notifier,
            thread: Some(thread),
        }
    }

    pub fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// Runs `job` on the server's thread, between two turns.
    pub fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Reactor, &mut Echo) -> R + Send + 'static,
    ) -> R {
        let (reply, replied) = channel();
        let job: Job = Box::new(move |reactor, echo| {
            let _ = reply.send(job(reactor, echo));
            true
        });
        self.jobs.send(job).expect("a running server");
        self.notifier.wake();
        replied.recv_timeout(PATIENCE).expect("the server answers")
    }

    /// Waits until `condition` holds on the server's thread.
    pub fn wait_until(
        &self,
        what: &str,
        condition: impl Fn(&Reactor, &Echo) -> bool + Send + Clone + 'static,
    ) {
        let deadline = Instant::now() + PATIENCE;
        while !self.call({
            let condition = condition.clone();
            move |reactor, echo| condition(reactor, echo)
        }) {
            assert!(Instant::now() < deadline, "{what} did not come about");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The only connection there is.
    pub fn only_connection(&self) -> ConnId {
        self.wait_until("a connection", |_, echo| echo.clients.len() == 1);
        self.call(|_, echo| *echo.clients.keys().next().expect("just seen"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.jobs.send(Box::new(|_, _| false));
        self.notifier.wake();
        let outcome = self.thread.take().expect("joined once").join();
        if !std::thread::panicking() {
            outcome.expect("the server thread ends well");
        }
    }
}

/// False, with a word, where this machine has no io_uring to test.
pub fn works_here(backend: Backend) -> bool {
    if backend != Backend::IoUring {
        return true;
    }
    match reactor::probe(BackendChoice::IoUring) {
        Ok(_) => true,
        Err(problem) => {
            eprintln!("not tested: {problem}");
            false
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Random {
    /// Seeded by $REACTOR_SEED or the clock; prints which, to rerun with.
    pub fn new() -> Random {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let seed = std::env::var("REACTOR_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or(now.as_nanos() as u64);
        println!("rerun with REACTOR_SEED={seed}");
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes());
        words.take(len).collect()
    }
}

pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u64).to_le_bytes().to_vec();
    frame.extend_from_slice(payload);
    frame
}
