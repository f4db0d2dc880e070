//! A server under test, and connections to it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::model::Reply;

pub struct Server {
    process: Child,
    dir: PathBuf,
    pub port: u16,
}

impl Server {
    /// Starts a server with these directives and waits until it answers.
    pub fn start(directives: &[(&str, &str)]) -> Server {
        let binary = std::env::var("BASALT_BIN")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_basalt-server").into());
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let dir =
            std::env::temp_dir().join(format!("linearizability-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory for the server");
        let mut command = Command::new(binary);
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--dir"])
            .arg(&dir)
            .arg("--logfile")
            .arg(dir.join("server.log"));
        for (name, value) in directives {
            command.arg(format!("--{name}")).arg(value);
        }
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut server = Server { process, dir, port };
        server.wait_ready();
        server
    }

    fn wait_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            let answers = Connection::open(self.port).and_then(|mut connection| {
                connection.send(&encode(&["EXISTS", "nothing"]))?;
                connection.receive()
            });
            if matches!(answers, Ok(Reply::Int(0))) {
                return;
            }
            if let Ok(Some(status)) = self.process.try_wait() {
                panic!("the server ended with {status}\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not answer\n{}", self.log());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("server.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(port: u16) -> io::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Connection {
            stream: BufReader::new(stream),
        })
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next reply. Bulk strings are numbers; a simple string is OK whatever it says.
    pub fn receive(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        Ok(match kind {
            "+" => Reply::Ok,
            "-" => Reply::Error,
            ":" => Reply::Int(number()?),
            "$" => match usize::try_from(number()?) {
                Err(_) => Reply::Nil,
                Ok(len) => {
                    let mut bytes = vec![0; len + 2];
                    self.stream.read_exact(&mut bytes)?;
                    let text = std::str::from_utf8(&bytes[..len]).map_err(io::Error::other)?;
                    Reply::Int(text.parse().map_err(io::Error::other)?)
                }
            },
            "*" => match usize::try_from(number()?) {
                Err(_) => Reply::Nil,
                Ok(len) => Reply::Array(
                    (0..len)
                        .map(|_| self.receive())
                        .collect::<io::Result<_>>()?,
                ),
            },
            _ => return Err(io::Error::other(format!("no reply: {line:?}"))),
        })
    }
}

/// A request.
pub fn encode<S: AsRef<str>>(args: &[S]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len());
    for arg in args {
        let arg = arg.as_ref();
        bytes += &format!("${}\r\n{arg}\r\n", arg.len());
    }
    bytes.into_bytes()
}
