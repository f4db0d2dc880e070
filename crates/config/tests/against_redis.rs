//! Real Redis is the judge: the same CONFIG commands, files and command lines go to it and to `Config`.
//!
//! Runs `redis-server` from PATH, or the one that `REDIS_SERVER` names. Directives that the server at hand does not know
//! (7.0 lacks some of 7.4) are not compared; differences on purpose are listed in [`differs_on_purpose`].

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use config::{directives, rewrite, Config, FileSystem, Origin, Source, REWRITE_HEADING};

/// A running Redis that listens on a Unix socket in a directory of its own.
struct Redis {
    child: Child,
    stream: BufReader<UnixStream>,
    directory: PathBuf,
}

#[derive(Debug, PartialEq)]
enum Reply {
    Ok,
    Error(String),
    Texts(Vec<Vec<u8>>),
}

const START_SECS_MAX: u64 = 20;

impl Redis {
    /// Starts with `text` and `args`; the error output if it does not come up.
    fn start(text: &str, args: &[&str]) -> Result<Redis, String> {
        let directory = new_directory();
        let text = format!("{}{text}", preamble(&directory));
        std::fs::write(directory.join("redis.conf"), text).expect("write redis.conf");
        let program = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".into());
        let mut child = Command::new(&program)
            .arg("redis.conf")
            .args(args)
            .current_dir(&directory)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} is needed (make test installs it): {error}"));
        let deadline = Instant::now() + Duration::from_secs(START_SECS_MAX);
        loop {
            if let Ok(stream) = UnixStream::connect(directory.join("s")) {
                let stream = BufReader::new(stream);
                return Ok(Redis {
                    child,
                    stream,
                    directory,
                });
            }
            if child.try_wait().expect("wait for redis-server").is_some() {
                let mut output = String::new();
                let mut stderr = child.stderr.take().expect("piped");
                let _ = stderr.read_to_string(&mut output);
                let _ = std::fs::remove_dir_all(&directory);
                return Err(output);
            }
            assert!(Instant::now() < deadline, "redis-server does not come up");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn ask(&mut self, words: &[&[u8]]) -> Reply {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).into_bytes());
            request.extend_from_slice(word);
            request.extend(b"\r\n");
        }
        self.stream
            .get_mut()
            .write_all(&request)
            .expect("send to redis-server");
        let line = self.line();
        match line.as_bytes()[0] {
            b'+' => Reply::Ok,
            b'-' => Reply::Error(line[1..].to_string()),
            b'*' => {
                let count: usize = line[1..].parse().expect("array length");
                Reply::Texts((0..count).map(|_| self.bulk()).collect())
            }
            _ => panic!("unexpected reply {line:?}"),
        }
    }

    fn bulk(&mut self) -> Vec<u8> {
        let len: usize = self.line()[1..].parse().expect("bulk length");
        let mut text = vec![0; len + 2];
        self.stream.read_exact(&mut text).expect("bulk");
        text.truncate(len);
        text
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("reply");
        line.trim_end().to_string()
    }

    fn value_of(&mut self, name: &str) -> Option<Vec<u8>> {
        match self.ask(&[b"CONFIG", b"GET", name.as_bytes()]) {
            Reply::Texts(texts) => texts.into_iter().nth(1),
            other => panic!("CONFIG GET {name}: {other:?}"),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn new_directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory =
        std::env::temp_dir().join(format!("config-test-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("create a directory for redis-server");
    directory
}

/// Lines that every server of these tests starts with.
fn preamble(directory: &Path) -> String {
    format!(
        "port 0\nunixsocket {0}/s\nenable-protected-configs yes\ndir {0}\n",
        directory.display()
    )
}
const PREAMBLE_LINES: usize = 4;

fn load(text: &str, args: &[&str], directory: &Path) -> Result<Config, config::ConfigFileError> {
    let text = format!("{}{text}", preamble(directory));
    let source = Source {
        name: "redis.conf",
        text: text.as_bytes(),
    };
    let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
    Config::from_sources(Some(source), &args, &FileSystem)
}

/// Values that tell the kinds of directives apart.
const VALUES: &[&str] = &[
    "",
    "abc",
    "yes",
    "NO",
    "local",
    "-1",
    "0",
    "1",
    "2",
    "64",
    "100",
    "501",
    "65536",
    "+5",
    " 5",
    "007",
    "-0",
    "2147483647",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "1K",
    "1kb",
    "100mb",
    "1.5gb",
    "mb",
    "1b",
    "1t",
    "50%",
    "101%",
    "0%",
    "-5%",
    "%",
    "always",
    "EVERYSEC",
    "debug",
    "now",
    "nosave force",
    "save nosave",
    "force now",
    "save  now",
    "60 1 50 2",
    "60 1 50",
    "0 1",
    "1 0",
    "60  1",
    "normal 1mb 2kb 3",
    "slave 1 2 3 replica 4 5 6",
    "pubsub 1 2",
    "foo 1 2 3",
    "normal -1 0 0",
    "KEA",
    "Kn",
    "KEg$lshzxetd",
    "mxX",
    "0 200 800",
    "3000 0 0",
    "1 2",
    "50 99.9",
    "101",
    "50 x",
    "{title} {foo}",
    "{title} {port}",
    "a/b",
    "a b",
    "volatile-lru",
    "clients",
    "swapdb",
    "unknown-endpoint",
    "relative",
    "a\"b\\\n",
];

/// Where the answers differ, and why.
fn differs_on_purpose(name: &str, value: &str) -> bool {
    match name {
        // The server acts on these at once; the crate only holds the value.
        "dir" | "bind" | "port" | "maxclients" | "tls-port" | "tls-cluster" | "tls-replication" => {
            true
        }
        "activedefrag" | "locale-collate" | "cluster-announce-hostname" => true,
        "cluster-announce-human-nodename" | "repl-backlog-size" | "watchdog-period" => true,
        // The test needs it as it is.
        "requirepass" => true,
        // More words, other bounds and another default in 7.4 and 8 than in 7.0.
        "loglevel" | "maxmemory-samples" | "loading-process-events-interval-bytes" => true,
        // Redis wraps numbers around.
        "save" => value.contains("2147483648"),
        // Redis reads an empty word as 0.
        "oom-score-adj-values" => value.contains("  "),
        // Redis takes its own mark for percentages, the sign bit, from the number.
        "maxmemory-clients" => value == "9223372036854775808",
        _ => false,
    }
}

fn has_other_default_in_8(name: &str) -> bool {
    name == "loading-process-events-interval-bytes"
}

#[test]
fn config_set_and_get_answer_like_redis() {
    let mut redis = Redis::start("", &[]).expect("redis-server starts");
    let mut ours = load("", &[], &redis.directory).expect("the preamble is good");
    let mut compared = 0;
    for row in directives() {
        for name in [Some(row.name), row.old_name].into_iter().flatten() {
            let Some(default) = redis.value_of(name) else {
                continue;
            };
            if !has_other_default_in_8(name) {
                assert_eq!(ours.value_of(name), Some(default), "the default of {name}");
            }
            for value in VALUES {
                if differs_on_purpose(name, value) {
                    continue;
                }
                compared += 1;
                let theirs = redis.ask(&[b"CONFIG", b"SET", name.as_bytes(), value.as_bytes()]);
                let set = ours.set(&[(name.as_bytes(), value.as_bytes())], Origin::Local);
                let answer =
                    set.map_or_else(|error| Reply::Error(error.to_string()), |_| Reply::Ok);
                assert_eq!(answer, theirs, "CONFIG SET {name} {value:?}");
                assert_eq!(
                    ours.value_of(name),
                    redis.value_of(name),
                    "{name} after {value:?}"
                );
            }
        }
    }
    assert!(compared > 10_000, "only {compared} comparisons");
}

#[test]
fn sets_of_several_are_refused_like_redis() {
    let mut redis = Redis::start("", &[]).expect("redis-server starts");
    let mut ours = Config::default();
    let sets: &[&[&str]] = &[
        &["nosuch", "1"],
        &["NoSuch", "1"],
        &["no\r\nsuch", "1"],
        &["Timeout", "3"],
        &["timeout", "1", "timeout", "2"],
        &["timeout", "9", "TIMEOUT", "10"],
        &["timeout", "7", "nosuch", "1"],
        &["timeout", "8", "hz", "abc"],
        &["timeout", "abc", "hz", "abc"],
        &["databases", "5", "nosuch", "1"],
        &["nosuch", "1", "databases", "5"],
        &["timeout", "abc", "DATABASES", "5"],
        &["databases", "5", "databases", "6"],
        &["HASH-max-ziplist-entries", "abc"],
        &[
            "hash-max-ziplist-entries",
            "5",
            "hash-max-listpack-entries",
            "6",
        ],
        &[
            "hash-max-listpack-entries",
            "8",
            "hash-max-ziplist-entries",
            "7",
        ],
        &["timeout", "11", "hz", "12", "loglevel", "debug"],
        &["", "1"],
    ];
    for words in sets {
        let mut request: Vec<&[u8]> = vec![b"CONFIG", b"SET"];
        request.extend(words.iter().map(|word| word.as_bytes()));
        let theirs = redis.ask(&request);
        let pairs: Vec<(&[u8], &[u8])> = words
            .chunks(2)
            .map(|pair| (pair[0].as_bytes(), pair[1].as_bytes()))
            .collect();
        let set = ours.set(&pairs, Origin::Local);
        let answer = set.map_or_else(|error| Reply::Error(error.to_string()), |_| Reply::Ok);
        assert_eq!(answer, theirs, "{words:?}");
        for name in ["timeout", "hz", "loglevel", "hash-max-ziplist-entries"] {
            assert_eq!(
                ours.value_of(name),
                redis.value_of(name),
                "{name} after {words:?}"
            );
        }
    }
}

#[test]
fn config_get_finds_the_same_names() {
    let mut redis = Redis::start("", &[]).expect("redis-server starts");
    let ours = Config::default();
    let known: BTreeSet<Vec<u8>> = match redis.ask(&[b"CONFIG", b"GET", b"*"]) {
        Reply::Texts(texts) => texts.into_iter().step_by(2).collect(),
        other => panic!("{other:?}"),
    };
    let all: BTreeSet<Vec<u8>> = ours
        .get(&[b"*"])
        .into_iter()
        .map(|pair| pair.0.into())
        .collect();
    // 7.0 still shows what later versions hide.
    let missing: Vec<_> = known
        .difference(&all)
        .filter(|name| *name != b"aof-disable-auto-gc")
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    let requests: &[&[&str]] = &[
        &["hash-max-*"],
        &["hash-max-ziplist-entries"],
        &["hash-max-listpack-entries", "hash-max-ziplist*", "nosuch"],
        &["TIMEOUT"],
        &["tim*", "timeout", "Timeout"],
        &["Timeout", "timeout"],
        &["[st]ave"],
        &["replicaof", "slave*of"],
        &["bin?"],
        &[""],
        &["key-load-delay"],
        &["key-load-*"],
        &["user", "include", "loadmodule"],
        &["*-max-*", "*fsync*", "lazy*"],
    ];
    for patterns in requests {
        let mut request: Vec<&[u8]> = vec![b"CONFIG", b"GET"];
        request.extend(patterns.iter().map(|pattern| pattern.as_bytes()));
        let Reply::Texts(theirs) = redis.ask(&request) else {
            panic!("CONFIG GET {patterns:?}");
        };
        let theirs: BTreeSet<Vec<u8>> = theirs.into_iter().step_by(2).collect();
        let mut shown: BTreeSet<Vec<u8>> = ours
            .get(&request[2..])
            .into_iter()
            .map(|pair| pair.0.into())
            .collect();
        shown.retain(|name| known.contains(&name.to_ascii_lowercase()) || theirs.contains(name));
        assert_eq!(shown, theirs, "CONFIG GET {patterns:?}");
    }
}

/// Lines of a file, and arguments; both servers accept them with the same values, or refuse the same line for the
/// same reason.
#[test]
fn files_and_arguments_are_read_like_redis() {
    let files: &[&str] = &[
        "timeout",
        "timeout 1 2",
        "timeout abc",
        "timeout \"5\"",
        "timeout '5'",
        "timeout \"5",
        "timeout \"5\"x",
        "timeout 5 # c",
        "TIMEOUT 5",
        "\ttimeout\t5\r",
        "timeout 5\ntimeout 6",
        "timeout 5\\",
        "timeout \"\\x35\"",
        "save 60",
        "save 60 1 5",
        "save \"60 1\"",
        "save \"\"",
        "save 60 1\nsave \"\"\nsave 5 5",
        "save",
        "save 60 1\nsave",
        "save 60 1\nsave 50 1 40 1",
        "save 0 1",
        "bind",
        "bind \"\"",
        "bind 127.0.0.1 -::1",
        "bind \"127.0.0.1 -::1\"",
        "requirepass a b",
        "requirepass",
        "appendfilename a/b",
        "appendfilename \"\"",
        "appenddirname a/b",
        "appenddirname \"\"",
        "dbfilename a/b",
        "databases 0",
        "databases 2147483648",
        "unixsocketperm 888",
        "unixsocketperm 1000",
        "unixsocketperm 0700",
        "unixsocketperm -1",
        "unixsocketperm \"\"",
        "tcp-backlog -1",
        "io-threads 1000",
        "enable-debug-command x",
        "syslog-facility foo",
        "supervised foo",
        "include",
        "loadmodule",
        "rename-command",
        "a",
        "client-output-buffer-limit normal 0 0",
        "client-output-buffer-limit normal 1 2 3 slave 1 1 1",
        "client-output-buffer-limit \"normal 4 5 6\"",
        "client-output-buffer-limit x 0 0 0",
        "shutdown-on-sigterm nosave force",
        "shutdown-on-sigterm \"nosave force\"",
        "shutdown-on-sigterm",
        "oom-score-adj-values 1 2 3",
        "oom-score-adj-values 1 2",
        "latency-tracking-info-percentiles 5 x",
        "latency-tracking-info-percentiles \"50 99\"",
        "latency-tracking-info-percentiles",
        "hash-max-ziplist-entries 7\nhash-max-listpack-value 9",
        "proc-title-template {x}",
        "proc-title-template a b",
        "proc-title-template \"a b\"",
        "replicaof a",
        "replicaof a b",
        "replicaof a 99999",
        "replicaof no one",
        "slaveof x y z",
        "maxmemory-clients 10%",
        "maxmemory 1gb",
        "loglevel DEBUG",
        "\"\"",
        "\"timeout\" 5",
        "sentinel monitor a",
        "notify-keyspace-events X",
        "notify-keyspace-events KEA",
        "list-max-ziplist-entries 5",
        "# timeout 9\n\n   \n  # c",
        "lua-time-limit x",
        "port 70000",
    ];
    let args: &[&[&str]] = &[
        &["--timeout"],
        &["--timeout", "abc"],
        &["--timeout", "5", "6"],
        &["--timeout", "5"],
        &["--TIMEOUT", "5"],
        &["--save", "60", "1"],
        &["--save", ""],
        &["--save"],
        &["--save", "--timeout", "5"],
        &["--save", "60 1"],
        &["--save", "60", "1", "--save", "5 5"],
        &["--save", "5 5", "6", "6"],
        &["--bind", "127.0.0.1", "::1"],
        &["--timeout 5"],
        &["--timeout 5", "6"],
        &["--hz 20", "--timeout", "5"],
        &["--timeout", "5\n"],
        &["--timeout", "5 "],
        &["--timeout '5"],
        &["--proc-title-template", "a\"b"],
        &["--proc-title-template", "--ab"],
        &["--proc-title-template", "\"ab\""],
        &["--proc-title-template", ""],
        &["--proc-title-template 'a b'"],
        &["--shutdown-on-sigterm", "nosave", "force"],
        &["--shutdown-on-sigterm", "nosave force"],
        &["--replicaof", "no", "one", "--hz", "20"],
        &["-x"],
        &["--slowlog-log-slower-than", "-1"],
        &["--timeout", "5", "--timeout"],
        &["--appendfsync", "always\nport 5"],
    ];
    let cases = files.iter().map(|text| (*text, &[] as &[&str]));
    let cases = cases.chain(args.iter().map(|args| ("save 77 7\n", *args)));
    for (text, args) in cases {
        let text = format!("{text}\n");
        match Redis::start(&text, args) {
            Ok(mut redis) => {
                let ours = load(&text, args, &redis.directory)
                    .unwrap_or_else(|error| panic!("{text:?} {args:?}: {error}"));
                for row in directives() {
                    if row.name == "pidfile" || has_other_default_in_8(row.name) {
                        continue;
                    }
                    if let Some(theirs) = redis.value_of(row.name) {
                        let shown = ours.value_of(row.name).expect("it is a row");
                        assert_eq!(
                            String::from_utf8_lossy(&shown),
                            String::from_utf8_lossy(&theirs),
                            "{} after {text:?} {args:?}",
                            row.name
                        );
                    }
                }
            }
            Err(output) => {
                let error = load(&text, args, Path::new("/tmp"))
                    .map(|_| ())
                    .expect_err(&format!("{text:?} {args:?} is refused: {output}"));
                let shown = format!(
                    ">>> '{}'\n{}",
                    String::from_utf8_lossy(&error.text),
                    error.message
                );
                assert!(
                    output.trim_end().ends_with(&shown),
                    "{text:?} {args:?}:\n{error}\n{output}"
                );
                if args.is_empty() {
                    assert!(
                        output.contains(&format!("at line {}\n", error.line)),
                        "{error}\n{output}"
                    );
                    assert!(error.line > PREAMBLE_LINES);
                }
            }
        }
    }
}

/// A file, changes, and CONFIG REWRITE: the lines that stay are the same, and so are those appended, but for order.
#[test]
fn files_are_rewritten_like_redis() {
    let cases: &[(&str, &[&[&str]])] = &[
        ("", &[]),
        ("# hello\n\n#timeout 3\ntimeout 5\nhz 50\n", &[&["timeout", "0", "hz", "10"]]),
        ("timeout 5\ntimeout 6\nmaxmemory 100mb\n", &[&["timeout", "7", "maxmemory", "104857600"]]),
        ("maxmemory 100mb\n", &[&["maxmemory", "209715200"]]),
        ("maxmemory 100mb\n", &[&["maxmemory", "1500"]]),
        ("maxmemory 1000000000\nproto-max-bulk-len 512mb\n", &[&["maxmemory", "1gb"]]),
        ("save 60 1\n# c\nsave 5 5\ntimeout 1\n", &[]),
        ("save 60 1\n# c\nsave 5 5\ntimeout 1\n", &[&["save", "100 2"]]),
        ("timeout 1\n", &[&["save", "100 2 50 1"]]),
        ("timeout 1\n", &[&["save", ""]]),
        ("save 60 1\n", &[&["save", ""]]),
        ("save \"\"\n", &[&["save", "60 1"]]),
        ("timeout 5   \n#x\nsave 60 1\nsave 50 1\nsave 40 1\n", &[&["save", "60 1 50 1"]]),
        ("bind 127.0.0.1 -::1\n", &[&["bind", "127.0.0.1"]]),
        ("bind 127.0.0.1 -::1\n", &[&["bind", "* -::*"]]),
        ("", &[&["bind", "127.0.0.1"]]),
        ("", &[&["bind", ""]]),
        ("client-output-buffer-limit normal 0 0 0\nclient-output-buffer-limit replica 256mb 64mb 60\n", &[]),
        (
            "client-output-buffer-limit replica 256mb 64mb 60\n",
            &[&["client-output-buffer-limit", "slave 1mb 2mb 3 pubsub 5 5 5"]],
        ),
        ("hash-max-ziplist-entries 100\n", &[&["hash-max-listpack-entries", "200"]]),
        ("hash-max-ziplist-entries 100\nhash-max-listpack-entries 150\n", &[]),
        ("", &[&["hash-max-listpack-entries", "200", "masterauth", "a\"b c\n\u{e9}"]]),
        ("masterauth foo\n# c\n", &[&["masterauth", ""]]),
        ("", &[&["proc-title-template", "a b"]]),
        ("loglevel debug\nappendfsync always\n", &[&["loglevel", "notice"]]),
        ("", &[&["dbfilename", "x.rdb"]]),
        (
            "",
            &[
                &["maxmemory-clients", "10%", "notify-keyspace-events", "KEA"],
                &["shutdown-on-sigterm", "now force", "oom-score-adj-values", "1 2 3"],
            ],
        ),
        ("unixsocketperm 700\nlogfile \"\"\npidfile /tmp/no\n", &[]),
        ("timeout \"5\"\nrdbcompression NO\ndatabases 16\n", &[]),
        ("\n\n\ntimeout 5\n\n\n", &[&["hz", "20"]]),
        ("TIMEOUT 5\n  hz   20   \n", &[&["timeout", "6"]]),
        ("rename-command LOLWUT \"\"\n", &[&["hz", "20"]]),
        ("slowlog-log-slower-than 5\n", &[&["slowlog-log-slower-than", "10000"]]),
        ("timeout 5\n\n\n# c\n\n\n", &[&["timeout", "0"]]),
        ("shutdown-on-sigterm \"nosave force\"\n", &[]),
    ];
    for (text, sets) in cases {
        let mut redis = Redis::start(text, &[]).expect("redis-server starts");
        let mut ours = load(text, &[], &redis.directory).expect("the file is good");
        for words in *sets {
            let mut request: Vec<&[u8]> = vec![b"CONFIG", b"SET"];
            request.extend(words.iter().map(|word| word.as_bytes()));
            assert_eq!(redis.ask(&request), Reply::Ok, "{words:?}");
            let pairs: Vec<(&[u8], &[u8])> = words
                .chunks(2)
                .map(|pair| (pair[0].as_bytes(), pair[1].as_bytes()))
                .collect();
            ours.set(&pairs, Origin::Local).expect("Redis accepts it");
        }
        let path = redis.directory.join("redis.conf");
        let before = std::fs::read(&path).expect("redis.conf");
        assert_eq!(redis.ask(&[b"CONFIG", b"REWRITE"]), Reply::Ok);
        let theirs = std::fs::read_to_string(&path).expect("redis.conf");
        let rewritten = String::from_utf8(rewrite(&before, &ours)).expect("quoted");
        let (kept, appended) = parts(&rewritten);
        let (kept_there, appended_there) = parts(&theirs);
        assert_eq!(kept, kept_there, "{text:?} {sets:?}");
        assert_eq!(appended, appended_there, "{text:?} {sets:?}");
    }
}

/// The text above the heading, and the set of lines below it but for those that Redis writes in any case.
fn parts(text: &str) -> (&str, BTreeSet<&str>) {
    let (kept, appended) = text.split_once(REWRITE_HEADING).unwrap_or((text, ""));
    let always = [
        "user default ",
        "latency-tracking-info-percentiles 50 99 99.9",
    ];
    let appended = appended
        .lines()
        .filter(|line| !line.is_empty() && !always.iter().any(|start| line.starts_with(start)))
        .collect();
    (kept.trim_end(), appended)
}
