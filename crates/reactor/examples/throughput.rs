//! A server that knows PING, GET and SET and nothing else: what the event loop costs, with next to no work on top.
//!
//! `throughput BACKEND PORT [THREADS]`, BACKEND being io_uring or epoll. Thread 0 accepts and deals the connections
//! out in turn. Values live in the thread that stored them. Measure with a Redis load generator; see the CPU time of
//! the process.

use std::collections::HashMap;
use std::env;
use std::sync::mpsc::{channel, Receiver, Sender};

use reactor::{
    bind_tcp, probe, BackendChoice, CloseReason, ConnId, Handler, Notifier, Options, Reactor,
    Stream,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Default)]
struct Client {
    input: Vec<u8>,
    output: Vec<u8>,
    spare: Vec<u8>,
    dirty: bool,
}

struct Worker {
    clients: Vec<Client>,
    dirty: Vec<ConnId>,
    values: HashMap<Box<[u8]>, Box<[u8]>, ahash::RandomState>,
    arrivals: Receiver<Stream>,
    peers: Vec<(Sender<Stream>, Notifier)>,
    next_peer: usize,
}

/// The decimal number at `at`, and where the line after it begins.
fn number(input: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = input.get(at..)?;
    let line = rest.iter().position(|&byte| byte == b'\r')?;
    let digits = rest[..line].iter();
    let value = digits.fold(0, |value, byte| value * 10 + usize::from(byte - b'0'));
    (line + 2 <= rest.len()).then_some((value, at + line + 2))
}

fn write_number(output: &mut Vec<u8>, number: usize) {
    if number >= 10 {
        write_number(output, number / 10);
    }
    output.push(b'0' + (number % 10) as u8);
}

impl Worker {
    /// Runs the complete requests of `input`; how many bytes they took.
    fn run(&mut self, input: &[u8], output: &mut Vec<u8>) -> usize {
        let mut done = 0;
        while let Some(taken) = self.run_one(&input[done..], output) {
            done += taken;
        }
        done
    }

    fn run_one(&mut self, input: &[u8], output: &mut Vec<u8>) -> Option<usize> {
        if *input.first()? != b'*' {
            let end = input.iter().position(|&byte| byte == b'\n')?;
            output.extend_from_slice(b"+PONG\r\n");
            return Some(end + 1);
        }
        let (count, mut at) = number(input, 1)?;
        let mut arguments: [&[u8]; 4] = [&[]; 4];
        for index in 0..count {
            let (len, start) = number(input, at + 1)?;
            at = start + len + 2;
            let argument = input.get(..at)?.get(start..start + len)?;
            if let Some(slot) = arguments.get_mut(index) {
                *slot = argument;
            }
        }
        match arguments[0] {
            b"GET" | b"get" => match self.values.get(arguments[1]) {
                Some(value) => {
                    output.push(b'$');
                    write_number(output, value.len());
                    output.extend_from_slice(b"\r\n");
                    output.extend_from_slice(value);
                    output.extend_from_slice(b"\r\n");
                }
                None => output.extend_from_slice(b"$-1\r\n"),
            },
            b"SET" | b"set" => {
                self.values.insert(arguments[1].into(), arguments[2].into());
                output.extend_from_slice(b"+OK\r\n");
            }
            _ => output.extend_from_slice(b"+PONG\r\n"),
        }
        Some(at)
    }

    fn adopt(&mut self, reactor: &mut Reactor, stream: Stream) {
        let _ = stream.set_nodelay();
        if let Ok(conn) = reactor.add(stream) {
            if self.clients.len() <= conn.slot() {
                self.clients.resize_with(conn.slot() + 1, Client::default);
            }
            self.clients[conn.slot()] = Client::default();
        }
    }

    fn flush(&mut self, reactor: &mut Reactor) {
        for conn in self.dirty.drain(..) {
            let client = &mut self.clients[conn.slot()];
            client.dirty = false;
            if client.output.is_empty() || reactor.is_sending(conn) {
                continue;
            }
            let spare = std::mem::take(&mut client.spare);
            let output = std::mem::replace(&mut client.output, spare);
            if let Some(buf) = reactor.send(conn, output) {
                client.spare = buf;
            }
        }
    }
}

impl Handler for Worker {
    fn accepted(&mut self, _: &mut Reactor, _: u32, stream: Stream) {
        let (sender, notifier) = &self.peers[self.next_peer % self.peers.len()];
        self.next_peer += 1;
        sender.send(stream).expect("workers run for ever");
        notifier.wake();
    }

    fn received(&mut self, _: &mut Reactor, conn: ConnId, data: &[u8]) {
        let client = &mut self.clients[conn.slot()];
        if !std::mem::replace(&mut client.dirty, true) {
            self.dirty.push(conn);
        }
        let mut input = std::mem::take(&mut client.input);
        let mut output = std::mem::take(&mut client.output);
        if input.is_empty() {
            let used = self.run(data, &mut output);
            input.extend_from_slice(&data[used..]);
        } else {
            input.extend_from_slice(data);
            let used = self.run(&input, &mut output);
            input.drain(..used);
        }
        let client = &mut self.clients[conn.slot()];
        client.input = input;
        client.output = output;
    }

    fn received_into(&mut self, _: &mut Reactor, _: ConnId, _: Vec<u8>) {}

    fn sent(&mut self, _: &mut Reactor, conn: ConnId, buf: Vec<u8>) {
        let client = &mut self.clients[conn.slot()];
        client.spare = buf;
        if !client.output.is_empty() && !std::mem::replace(&mut client.dirty, true) {
            self.dirty.push(conn);
        }
    }

    fn closed(&mut self, _: &mut Reactor, conn: ConnId, _: CloseReason) {
        self.clients[conn.slot()] = Client::default();
    }

    fn woken(&mut self, reactor: &mut Reactor) {
        while let Ok(stream) = self.arrivals.try_recv() {
            self.adopt(reactor, stream);
        }
    }
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let choice: BackendChoice = arguments[1].parse().expect("io_uring or epoll");
    let port: u16 = arguments[2].parse().expect("a port");
    let threads: usize = arguments
        .get(3)
        .map_or(1, |text| text.parse().expect("a number of threads"));
    let backend = probe(choice).expect("a backend").backend;

    let (meet, met) = channel();
    let mut starts = Vec::new();
    let mut handles = Vec::new();
    for _ in 0..threads {
        let (start, started) = channel();
        starts.push(start);
        let meet = meet.clone();
        handles.push(std::thread::spawn(move || {
            let mut options = Options::default();
            let setting = |name: &str| env::var(name).ok().and_then(|text| text.parse().ok());
            if let Some(bytes) = setting("BYTES") {
                options.receive_buffer_bytes = bytes;
            }
            if let Some(count) = setting("BUFFERS") {
                options.receive_buffers = count as u16;
            }
            if let Some(entries) = setting("ENTRIES") {
                options.ring_entries = entries as u32;
            }
            let mut reactor = Reactor::new(backend, options).expect("a reactor");
            let (sender, arrivals) = channel();
            meet.send((sender, reactor.notifier()))
                .expect("main listens");
            let (peers, listener) = started.recv().expect("main starts everyone");
            if let Some(listener) = listener {
                reactor.listen(listener, 0).expect("listening");
            }
            let mut worker = Worker {
                clients: Vec::new(),
                dirty: Vec::new(),
                values: HashMap::default(),
                arrivals,
                peers,
                next_peer: 0,
            };
            loop {
                reactor.turn(None, &mut worker).expect("a turn");
                worker.flush(&mut reactor);
            }
        }));
    }
    let peers: Vec<_> = met.iter().take(threads).collect();
    let mut listener = Some(bind_tcp("127.0.0.1", port, 1024).expect("a free port"));
    for start in starts {
        start
            .send((peers.clone(), listener.take()))
            .expect("workers run for ever");
    }
    for handle in handles {
        handle.join().expect("a worker");
    }
}
