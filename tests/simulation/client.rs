//! A client: sends pipelines, counts replies, and remembers which command is behind which.

use std::collections::VecDeque;

use reactor::{SimClient, Simulation};
use server::simulation::LISTENER;

/// What a request is about, for whoever gets its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// One command on keys.
    Command,
    /// EXEC of so many commands.
    Exec(usize),
    /// Something that changes no key: SELECT, MULTI, CONFIG, and what MULTI queues.
    Other,
}

pub struct Client {
    /// The number in its address.
    pub id: usize,
    link: SimClient,
    received: Vec<u8>,
    pub waiting: VecDeque<(Request, String)>,
}

/// A whole reply.
pub struct Reply {
    pub to: Request,
    pub command: String,
    pub bytes: Vec<u8>,
}

impl Reply {
    pub fn is_error(&self) -> bool {
        self.bytes.starts_with(b"-")
    }
}

pub fn request(argv: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", argv.len()).into_bytes();
    for arg in argv {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

pub fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

impl Client {
    pub fn connect(network: &Simulation, id: usize) -> Client {
        Client {
            id,
            link: network.connect(LISTENER),
            received: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    pub fn send(&mut self, requests: Vec<(Request, Vec<Vec<u8>>)>) {
        let mut bytes = Vec::new();
        for (kind, argv) in requests {
            bytes.extend(request(&argv));
            let text: Vec<String> = argv
                .iter()
                .map(|arg| arg.escape_ascii().to_string())
                .collect();
            self.waiting.push_back((kind, text.join(" ")));
        }
        self.link.send(&bytes);
    }

    pub fn is_closed(&self) -> bool {
        self.link.is_closed_by_server()
    }

    /// The replies that have come since the last call.
    pub fn replies(&mut self) -> Vec<Reply> {
        self.received.extend(self.link.take_received());
        let mut replies = Vec::new();
        let mut at = 0;
        while let Some(len) = reply_len(&self.received[at..]) {
            let (to, command) = self
                .waiting
                .pop_front()
                .expect("each reply is to a request");
            let bytes = self.received[at..at + len].to_vec();
            replies.push(Reply { to, command, bytes });
            at += len;
        }
        self.received.drain(..at);
        replies
    }
}

fn line_len(bytes: &[u8]) -> Option<usize> {
    Some(bytes.windows(2).position(|pair| pair == b"\r\n")? + 2)
}

/// The length of the first whole reply.
fn reply_len(bytes: &[u8]) -> Option<usize> {
    let line = line_len(bytes)?;
    let count = || -> i64 {
        let text = std::str::from_utf8(&bytes[1..line - 2]).expect("a number");
        text.parse().expect("a number")
    };
    match bytes[0] {
        b'$' => match usize::try_from(count()) {
            Ok(len) => (bytes.len() >= line + len + 2).then_some(line + len + 2),
            Err(_) => Some(line),
        },
        b'*' => (0..count()).try_fold(line, |at, _| Some(at + reply_len(&bytes[at..])?)),
        b'+' | b'-' | b':' => Some(line),
        other => panic!("a reply begins with {}", other.escape_ascii()),
    }
}
