//! What clients send, and what a server is configured with.

use crate::client::{words, Request};
use crate::random::Random;

const KEYS: usize = 6;

pub type Sent = (Request, Vec<Vec<u8>>);

/// A key mostly of the command's own type; RENAME mixes them a little.
fn key(random: &mut Random, kind: char) -> String {
    let kind = match random.percent(3) {
        true => *random.pick(&['s', 'c', 'l', 't', 'h', 'z']),
        false => kind,
    };
    let number = random.below(KEYS);
    match random.percent(10) {
        true => format!("{{tag}}{kind}{number}"),
        false => format!("{kind}{number}"),
    }
}

/// What clients send in one history.
pub struct Workload {
    /// How many values there were.
    values: u64,
    /// Of the longest ones.
    value_bytes_max: usize,
    with_expiry: bool,
    flush_percent: usize,
}

impl Workload {
    pub fn plain(setup: &Setup) -> Workload {
        Workload {
            values: 0,
            value_bytes_max: 6000,
            with_expiry: true,
            flush_percent: setup.flush_percent,
        }
    }

    pub fn vary(&mut self, random: &mut Random, with_expiry: bool) {
        // Some such values fill a ring.
        self.value_bytes_max = *random.pick(&[6000, 6000, 40_000]);
        self.with_expiry = with_expiry;
    }

    /// A value that no other command uses; sometimes a long one.
    fn value(&mut self, random: &mut Random) -> String {
        self.values += 1;
        let padding = match random.below(20) {
            0 => random.below(self.value_bytes_max),
            1..=3 => random.below(300),
            _ => random.below(12),
        };
        format!("v{}{}", self.values, "x".repeat(padding))
    }

    /// One command on keys.
    fn command(&mut self, random: &mut Random) -> Vec<Vec<u8>> {
        let r = random;
        let member = |r: &mut Random| format!("m{}", r.below(12));
        let line = match r.below(100) {
            0..=15 => format!("SET {} {}", key(r, 's'), self.value(r)),
            16..=18 if self.with_expiry => format!(
                "SET {} {} PX {}",
                key(r, 's'),
                self.value(r),
                r.between(50, 4000)
            ),
            16..=25 => format!("APPEND {} {}", key(r, 's'), self.value(r)),
            26..=32 => format!("INCRBY {} {}", key(r, 'c'), r.between(1, 1000)),
            33..=39 => {
                let push = *r.pick(&["LPUSH", "RPUSH"]);
                format!("{push} {} {}", key(r, 'l'), self.value(r))
            }
            40..=42 => format!("LPOP {}", key(r, 'l')),
            43..=47 => format!("SADD {} {} {}", key(r, 't'), member(r), member(r)),
            48..=49 => format!("SREM {} {}", key(r, 't'), member(r)),
            50..=52 => format!("SPOP {}", key(r, 't')),
            53..=57 => format!("HSET {} {} {}", key(r, 'h'), member(r), self.value(r)),
            58..=62 => format!("ZADD {} {} {}", key(r, 'z'), r.below(1000), member(r)),
            63..=66 => format!("DEL {}", key(r, 's')),
            67..=68 => {
                let kinds = ['s', 'c', 'l', 't', 'h', 'z'];
                let kinds = [*r.pick(&kinds), *r.pick(&kinds)];
                format!("DEL {} {}", key(r, kinds[0]), key(r, kinds[1]))
            }
            69..=74 => {
                let pairs: Vec<String> = (0..r.between(2, 4))
                    .map(|_| format!("{} {}", key(r, 's'), self.value(r)))
                    .collect();
                format!("MSET {}", pairs.join(" "))
            }
            75..=77 => {
                let kind = *r.pick(&['s', 'l', 't', 'h']);
                format!("RENAME {} {}", key(r, kind), key(r, kind))
            }
            78..=80 if self.with_expiry => {
                let kind = *r.pick(&['s', 'c', 'l', 't', 'h', 'z']);
                format!("PEXPIRE {} {}", key(r, kind), r.between(20, 5000))
            }
            78..=81 => format!("PERSIST {}", key(r, 's')),
            82 if r.percent(self.flush_percent) => "FLUSHALL".into(),
            82..=89 => format!("GET {}", key(r, 's')),
            90..=91 => format!("LRANGE {} 0 -1", key(r, 'l')),
            92 => format!("SCARD {}", key(r, 't')),
            93..=94 => format!("HGET {} {}", key(r, 'h'), member(r)),
            95 => format!("ZSCORE {} {}", key(r, 'z'), member(r)),
            _ => format!("MGET {} {}", key(r, 's'), key(r, 'c')),
        };
        words(&line)
    }

    /// What a client sends at once.
    pub fn pipeline(&mut self, random: &mut Random) -> Vec<Sent> {
        let mut sent = Vec::new();
        for _ in 0..*random.pick(&[1, 1, 2, 3, 8]) {
            if !random.percent(12) {
                sent.push((Request::Command, self.command(random)));
                continue;
            }
            let count = random.between(1, 4);
            sent.push((Request::Other, words("MULTI")));
            for _ in 0..count {
                sent.push((Request::Other, self.command(random)));
            }
            sent.push((Request::Exec(count), words("EXEC")));
        }
        if random.percent(5) {
            let db = random.below(2);
            sent.insert(0, (Request::Other, words(&format!("SELECT {db}"))));
        }
        sent
    }
}

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    pub shards: u16,
    pub append_only: bool,
    pub policy: String,
    pub on_rings: bool,
    pub options: Vec<String>,
    /// More keys than that, and FLUSHALL is a generation of the AOF.
    pub logged_one_by_one_max: usize,
    /// How often a command that may be FLUSHALL is.
    pub flush_percent: usize,
}

pub const POLICIES: [&str; 3] = ["always", "everysec", "no"];

impl Setup {
    pub fn random(random: &mut Random) -> Setup {
        let yes_no = |yes: bool| if yes { "yes" } else { "no" };
        let preamble = yes_no(!random.percent(30));
        let timestamps = yes_no(random.percent(30));
        let cross = *random.pick(&["auto", "message"]);
        let save = *random.pick(&["", "", "1 20"]);
        let growth = *random.pick(&[0, 100, 100]);
        let options = [
            ("--aof-use-rdb-preamble", preamble.to_string()),
            ("--aof-timestamp-enabled", timestamps.to_string()),
            ("--cross-shard", cross.to_string()),
            ("--save", save.to_string()),
            ("--auto-aof-rewrite-percentage", growth.to_string()),
            (
                "--auto-aof-rewrite-min-size",
                random.between(2000, 20_000).to_string(),
            ),
            ("--rdbcompression", yes_no(random.percent(50)).to_string()),
        ];
        let flushes = random.clone().percent(12);
        Setup {
            shards: random.between(1, 4) as u16,
            logged_one_by_one_max: if flushes { 3 } else { 1000 },
            flush_percent: if flushes { 60 } else { 8 },
            append_only: !random.percent(25),
            policy: random
                .pick(&["always", "always", "everysec", "everysec", "no"])
                .to_string(),
            on_rings: random.percent(50),
            options: options
                .into_iter()
                .flat_map(|(name, value)| [name.to_string(), value])
                .collect(),
        }
    }

    pub fn config(&self) -> config::Config {
        let fixed = [
            "--port",
            "0",
            "--protected-mode",
            "no",
            "--rdb-save-threads",
            "1",
            "--databases",
            "2",
            "--aof-write-path",
            // With `auto`, a simulated machine has rings unless they cannot be made.
            if self.on_rings { "auto" } else { "write" },
            "--aof-ring-size",
            "64kb",
            "--appendonly",
            if self.append_only { "yes" } else { "no" },
            "--appendfsync",
            &self.policy,
            "--shards",
        ];
        let mut args: Vec<Vec<u8>> = fixed.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        args.push(self.shards.to_string().into_bytes());
        args.extend(
            self.options
                .iter()
                .map(|option| option.clone().into_bytes()),
        );
        config::Config::from_sources(None, &args, &config::FileSystem)
            .expect("the simulation's options are valid")
    }
}
