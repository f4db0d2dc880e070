//! What kinds of value directives have: their text form, their checks, and Redis's error texts for them.
//!
//! A [`Value`] is a directive's value apart from its place in `Config`. `Kind::parse` is the only way from text to
//! a `Value`, so a `Value` always satisfies its row; `Value::to_text` is what CONFIG GET shows.
//! Words of a file line and the one string of CONFIG SET meet here: kinds of several words split a single
//! word at single spaces.

use crate::words::quote;

/// The kind of a directive's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `yes` or `no`.
    Bool,
    /// A decimal integer, both bounds included.
    Int { min: i64, max: i64 },
    /// An integer of 1..=max, or `auto` (also written 0).
    AutoInt { max: i64 },
    /// Bytes, with an optional unit: b, k, kb, m, mb, g, gb (k is 1000, kb 1024, and so on).
    Memory { min: u64, max: u64 },
    /// Like `Memory`, or a percentage of maxmemory.
    MemoryOrPercent,
    /// Octal file permissions, 0..=0777.
    Octal,
    /// One of these words, in either case.
    Enum(&'static [&'static str]),
    /// Any bytes.
    Text,
    /// Any text that is UTF-8 and passes the check of the row.
    Utf8,
    /// Addresses to listen on; a leading `-` means that one may be missing.
    Addresses,
    /// Pairs of seconds and changes.
    SavePoints,
    /// Groups of class, hard limit, soft limit, soft seconds.
    BufferLimits,
    /// What a signal does: `default`, or any of save, nosave, now, force.
    ShutdownOn,
    /// Letters of keyspace event classes.
    EventClasses,
    /// Three integers of -2000..=2000.
    OomScores,
    /// Numbers of 0..=100.
    Percentiles,
    /// `no one`, or a host and a port.
    ReplicaOf,
}

/// So many bytes, or so many percent of maxmemory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryShare {
    Bytes(u64),
    Percent(u8),
}

impl Default for MemoryShare {
    fn default() -> Self {
        MemoryShare::Bytes(0)
    }
}

impl MemoryShare {
    pub fn of(self, maxmemory_bytes: u64) -> u64 {
        match self {
            MemoryShare::Bytes(bytes) => bytes,
            MemoryShare::Percent(percent) => {
                (u128::from(maxmemory_bytes) * u128::from(percent) / 100) as u64
            }
        }
    }
}

/// After `seconds`, a snapshot is taken if there were `changes` or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    pub seconds: u64,
    pub changes: u64,
}

/// When a slow reader is disconnected; 0 means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BufferLimit {
    /// Disconnect at once at this size of pending output.
    pub hard_bytes: u64,
    /// Disconnect when pending output stays above this size ...
    pub soft_bytes: u64,
    /// ... for this long.
    pub soft_seconds: u64,
}

/// `client-output-buffer-limit`, by class of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BufferLimits {
    pub normal: BufferLimit,
    pub replica: BufferLimit,
    pub pubsub: BufferLimit,
}

/// Classes of keyspace events, by their letters: each once, in one order, and `A` as what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EventClasses {
    pub letters: String,
}

impl EventClasses {
    /// What `A` stands for.
    const ALL: &str = "g$lshzxetd";

    /// As CONFIG GET shows them.
    fn shown(&self) -> String {
        let has = |letter: &char| self.letters.contains(*letter);
        let mut shown = String::new();
        if Self::ALL.chars().all(|letter| has(&letter)) {
            shown.push('A');
        } else {
            // Redis shows `n` only when not all classes are on.
            shown.extend(Self::ALL.chars().chain(['n']).filter(has));
        }
        shown.extend("KEm".chars().filter(has));
        shown
    }

    /// As it is written to files: with the `n` that CONFIG GET leaves out.
    fn written(&self) -> String {
        let mut written = self.shown();
        if self.letters.contains('n') && !written.contains('n') {
            written.push('n');
        }
        written
    }
}

/// What SIGTERM or SIGINT does. All false is `default`: save if save points are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ShutdownOn {
    pub save: bool,
    pub nosave: bool,
    pub now: bool,
    pub force: bool,
}

/// A directive's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    Int(i64),
    /// 0 means auto.
    AutoInt(i64),
    Bytes(u64),
    Percent(u8),
    Octal(u32),
    Word(&'static str),
    Text(Vec<u8>),
    /// Words that are shown with single spaces between them.
    Words(Vec<Vec<u8>>),
    SavePoints(Vec<SavePoint>),
    BufferLimits(BufferLimits),
    EventClasses(EventClasses),
    ShutdownOn(ShutdownOn),
}

/// More addresses than this are refused, as in Redis.
const BIND_ADDRESS_COUNT_MAX: usize = 16;
/// Longer numbers with a unit are refused, as in Redis.
const MEMORY_DIGITS_MAX: usize = 127;

impl Kind {
    /// Whether a line of a file may carry several words for one value.
    pub(crate) fn takes_several_words(self) -> bool {
        matches!(
            self,
            Kind::Addresses
                | Kind::SavePoints
                | Kind::BufferLimits
                | Kind::ShutdownOn
                | Kind::OomScores
                | Kind::Percentiles
                | Kind::ReplicaOf
        )
    }

    /// The value that `words` stand for, or why they are refused in Redis's words. `current` is what kinds
    /// that are set in part (the classes of buffer limits) build upon.
    pub(crate) fn parse(self, words: &[&[u8]], current: &Value) -> Result<Value, String> {
        if self.takes_several_words() {
            let split: Vec<&[u8]>;
            let words = match words {
                [] => words,
                [b""] => &[],
                [one] => {
                    split = one.split(|&b| b == b' ').collect();
                    &split[..]
                }
                _ => words,
            };
            return self.parse_words(words, current);
        }
        match words {
            [one] => self.parse_one(one),
            _ => Err("wrong number of arguments".into()),
        }
    }

    fn parse_one(self, text: &[u8]) -> Result<Value, String> {
        match self {
            Kind::Bool => match text {
                _ if text.eq_ignore_ascii_case(b"yes") => Ok(Value::Bool(true)),
                _ if text.eq_ignore_ascii_case(b"no") => Ok(Value::Bool(false)),
                _ => Err("argument must be 'yes' or 'no'".into()),
            },
            Kind::Int { min, max } => {
                let number = parse_integer(text)
                    .ok_or_else(|| "argument couldn't be parsed into an integer".to_string())?;
                in_range(number, min, max).map(Value::Int)
            }
            Kind::AutoInt { max } => {
                if text.eq_ignore_ascii_case(b"auto") {
                    return Ok(Value::AutoInt(0));
                }
                let number = parse_integer(text)
                    .ok_or_else(|| "argument must be 'auto' or an integer".to_string())?;
                in_range(number, 0, max).map(Value::AutoInt)
            }
            Kind::Memory { min, max } => {
                let bytes = parse_memory(text)
                    .ok_or_else(|| "argument must be a memory value".to_string())?;
                in_range(bytes, min, max).map(Value::Bytes)
            }
            Kind::MemoryOrPercent => parse_memory_or_percent(text),
            Kind::Octal => parse_octal(text),
            Kind::Enum(choices) => choices
                .iter()
                .find(|word| text.eq_ignore_ascii_case(word.as_bytes()))
                .map(|word| Value::Word(word))
                .ok_or_else(|| {
                    format!(
                        "argument(s) must be one of the following: {}",
                        choices.join(", ")
                    )
                }),
            Kind::EventClasses => parse_event_classes(text),
            Kind::Utf8 if std::str::from_utf8(text).is_err() => {
                Err("argument must be valid UTF-8".into())
            }
            _ => Ok(Value::Text(text.to_vec())),
        }
    }

    fn parse_words(self, words: &[&[u8]], current: &Value) -> Result<Value, String> {
        match self {
            Kind::SavePoints => parse_save_points(words),
            Kind::BufferLimits => parse_buffer_limits(words, current),
            Kind::ShutdownOn => parse_shutdown_on(words),
            Kind::OomScores => parse_oom_scores(words),
            Kind::Percentiles => parse_percentiles(words),
            Kind::ReplicaOf => parse_replica_of(words),
            _ if words.len() > BIND_ADDRESS_COUNT_MAX => {
                Err("Too many bind addresses specified.".into())
            }
            _ if words.iter().any(|w| std::str::from_utf8(w).is_err()) => {
                Err("argument must be valid UTF-8".into())
            }
            _ => Ok(Value::Words(words.iter().map(|w| w.to_vec()).collect())),
        }
    }
}

fn in_range<N: PartialOrd + std::fmt::Display>(number: N, min: N, max: N) -> Result<N, String> {
    if number < min || number > max {
        return Err(format!(
            "argument must be between {min} and {max} inclusive"
        ));
    }
    Ok(number)
}

/// The strict integers of Redis: no sign but `-`, no leading zero, no blanks, and no `-0`.
fn parse_integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

/// Digits and a unit. Digits may be missing (Redis reads "mb" and "" as 0) and saturate at u64::MAX.
fn parse_memory(text: &[u8]) -> Option<u64> {
    let digits_len = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits_len > MEMORY_DIGITS_MAX {
        return None;
    }
    let (digits, unit) = text.split_at(digits_len);
    let unit: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let number = digits.iter().fold(0u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    // Redis wraps around here ("17179869184gb" is 0); a limit that turns into none helps nobody.
    Some(number.saturating_mul(unit))
}

fn parse_memory_or_percent(text: &[u8]) -> Result<Value, String> {
    let refused = || "argument must be a memory or percent value".to_string();
    if let Some(digits) = text.strip_suffix(b"%") {
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(refused());
        }
        let number: u64 = std::str::from_utf8(digits)
            .expect("ASCII digits")
            .parse()
            .map_err(|_| refused())?;
        return match number {
            0 => Ok(Value::Bytes(0)),
            1..=100 => Ok(Value::Percent(number as u8)),
            _ => Err("percentage argument must be less or equal to 100".into()),
        };
    }
    parse_memory(text).map(Value::Bytes).ok_or_else(refused)
}

/// Octal digits as C's strtol reads them; an empty text is 0.
fn parse_octal(text: &[u8]) -> Result<Value, String> {
    let out_of_range = || "argument must be between 0 and 777 inclusive".to_string();
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if !digits.iter().all(|b| (b'0'..=b'7').contains(b)) || (negative && digits.is_empty()) {
        return Err("argument couldn't be parsed as an octal number".into());
    }
    let number = digits.iter().fold(0u32, |sum, digit| {
        sum.saturating_mul(8)
            .saturating_add(u32::from(digit - b'0'))
    });
    if number > 0o777 || (negative && number > 0) {
        return Err(out_of_range());
    }
    Ok(Value::Octal(number))
}

fn parse_save_points(words: &[&[u8]]) -> Result<Value, String> {
    let refused = || "Invalid save parameters".to_string();
    if !words.len().is_multiple_of(2) {
        return Err(refused());
    }
    let number = |word: &[u8], min: i64, max: i64| -> Option<u64> {
        let number: i64 = std::str::from_utf8(word).ok()?.parse().ok()?;
        (min..=max).contains(&number).then_some(number as u64)
    };
    words
        .chunks_exact(2)
        .map(|pair| {
            Some(SavePoint {
                seconds: number(pair[0], 1, i64::MAX)?,
                changes: number(pair[1], 0, i64::from(i32::MAX))?,
            })
        })
        .collect::<Option<_>>()
        .map(Value::SavePoints)
        .ok_or_else(refused)
}

fn parse_buffer_limits(words: &[&[u8]], current: &Value) -> Result<Value, String> {
    if !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    let mut limits = match current {
        Value::BufferLimits(limits) => *limits,
        _ => BufferLimits::default(),
    };
    for group in words.chunks_exact(4) {
        let class = match group[0].to_ascii_lowercase().as_slice() {
            b"normal" => &mut limits.normal,
            b"replica" | b"slave" => &mut limits.replica,
            b"pubsub" => &mut limits.pubsub,
            _ => {
                return Err("Invalid client class specified in buffer limit configuration.".into())
            }
        };
        let seconds = std::str::from_utf8(group[3])
            .ok()
            .and_then(|word| word.parse::<i32>().ok())
            .and_then(|seconds| u64::try_from(seconds).ok());
        let (Some(hard_bytes), Some(soft_bytes), Some(soft_seconds)) =
            (parse_memory(group[1]), parse_memory(group[2]), seconds)
        else {
            return Err(
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.".into(),
            );
        };
        *class = BufferLimit {
            hard_bytes,
            soft_bytes,
            soft_seconds,
        };
    }
    Ok(Value::BufferLimits(limits))
}

fn parse_shutdown_on(words: &[&[u8]]) -> Result<Value, String> {
    let mut on = ShutdownOn::default();
    let mut unknown = words.is_empty();
    for word in words {
        match word.to_ascii_lowercase().as_slice() {
            b"default" => {}
            b"save" => on.save = true,
            b"nosave" => on.nosave = true,
            b"now" => on.now = true,
            b"force" => on.force = true,
            _ => unknown = true,
        }
    }
    if unknown {
        return Err(
            "argument(s) must be one of the following: default, save, nosave, now, force".into(),
        );
    }
    if on.save && on.nosave {
        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
    }
    Ok(Value::ShutdownOn(on))
}

fn parse_event_classes(text: &[u8]) -> Result<Value, String> {
    const KNOWN: &str = "Ag$lshzxeKEtmdn";
    if !text
        .iter()
        .all(|letter| KNOWN.contains(char::from(*letter)))
    {
        return Err(format!("Invalid event class character. Use '{KNOWN}'."));
    }
    let all = text.contains(&b'A');
    let given = |letter: &char| text.contains(&(*letter as u8));
    // In one order and without `A`, so that what means the same is the same.
    let letters = KNOWN
        .chars()
        .filter(|letter| {
            *letter != 'A' && (given(letter) || all && EventClasses::ALL.contains(*letter))
        })
        .collect();
    Ok(Value::EventClasses(EventClasses { letters }))
}

fn parse_oom_scores(words: &[&[u8]]) -> Result<Value, String> {
    if words.len() != 3 {
        return Err("wrong number of arguments".into());
    }
    words
        .iter()
        .map(|word| {
            let score: i32 = std::str::from_utf8(word).ok()?.parse().ok()?;
            (-2000..=2000)
                .contains(&score)
                .then(|| score.to_string().into_bytes())
        })
        .collect::<Option<_>>()
        .map(Value::Words)
        .ok_or_else(|| {
            "Invalid oom-score-adj-values, elements must be between -2000 and 2000.".into()
        })
}

fn parse_percentiles(words: &[&[u8]]) -> Result<Value, String> {
    let mut shown = Vec::new();
    for word in words {
        let number: f64 = std::str::from_utf8(word)
            .ok()
            .and_then(|word| word.parse().ok())
            .ok_or("Invalid latency-tracking-info-percentiles parameters")?;
        if !(0.0..=100.0).contains(&number) {
            return Err(
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
                    .into(),
            );
        }
        shown.push(number.to_string().into_bytes());
    }
    Ok(Value::Words(shown))
}

fn parse_replica_of(words: &[&[u8]]) -> Result<Value, String> {
    let (host, port) = match words {
        [] => return Ok(Value::Words(Vec::new())),
        [host, port] => (host, port),
        _ => return Err("wrong number of arguments".into()),
    };
    if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        return Ok(Value::Words(Vec::new()));
    }
    match std::str::from_utf8(port).ok().and_then(|p| p.parse().ok()) {
        Some(0u16) | None => Err("Invalid master port".into()),
        Some(_) => Ok(Value::Words(vec![host.to_vec(), port.to_vec()])),
    }
}

impl Value {
    /// The value as CONFIG GET shows it.
    pub fn to_text(&self) -> Vec<u8> {
        match self {
            Value::Bool(yes) => if *yes { "yes" } else { "no" }.into(),
            Value::AutoInt(0) => "auto".into(),
            Value::Int(number) | Value::AutoInt(number) => number.to_string().into(),
            Value::Bytes(bytes) => bytes.to_string().into(),
            Value::Percent(percent) => format!("{percent}%").into(),
            Value::Octal(bits) => format!("{bits:o}").into(),
            Value::Word(word) => word.as_bytes().to_vec(),
            Value::Text(text) => text.clone(),
            Value::Words(words) => words.join(&b' '),
            Value::SavePoints(points) => points
                .iter()
                .map(|point| point.to_text())
                .collect::<Vec<_>>()
                .join(" ")
                .into(),
            Value::EventClasses(classes) => classes.shown().into_bytes(),
            Value::BufferLimits(limits) => limits
                .classes()
                // Redis keeps the old word for replicas here.
                .map(|(class, limit)| {
                    let class = if class == "replica" { "slave" } else { class };
                    format!(
                        "{class} {} {} {}",
                        limit.hard_bytes, limit.soft_bytes, limit.soft_seconds
                    )
                })
                .join(" ")
                .into(),
            Value::ShutdownOn(on) => on.to_text().into(),
        }
    }

    /// The value as a line of a configuration file carries it, for kinds that take one line.
    pub(crate) fn to_file_text(&self) -> Vec<u8> {
        match self {
            Value::Bytes(bytes) => memory_text(*bytes).into(),
            Value::Text(text) => quote(text),
            Value::EventClasses(classes) => quote(classes.written().as_bytes()),
            Value::Words(words) if words.is_empty() => b"\"\"".to_vec(),
            Value::Words(words) => words
                .iter()
                .map(|word| quote_if_needed(word))
                .collect::<Vec<_>>()
                .join(&b' '),
            _ => self.to_text(),
        }
    }
}

impl SavePoint {
    pub(crate) fn to_text(self) -> String {
        format!("{} {}", self.seconds, self.changes)
    }
}

impl BufferLimits {
    /// The classes under the names that files use.
    pub(crate) fn classes(&self) -> [(&'static str, BufferLimit); 3] {
        [
            ("normal", self.normal),
            ("replica", self.replica),
            ("pubsub", self.pubsub),
        ]
    }
}

impl BufferLimit {
    pub(crate) fn to_file_text(self) -> String {
        format!(
            "{} {} {}",
            memory_text(self.hard_bytes),
            memory_text(self.soft_bytes),
            self.soft_seconds
        )
    }
}

impl ShutdownOn {
    fn to_text(self) -> String {
        let words: Vec<&str> = [
            (self.save, "save"),
            (self.nosave, "nosave"),
            (self.now, "now"),
            (self.force, "force"),
        ]
        .iter()
        .filter_map(|&(on, word)| on.then_some(word))
        .collect();
        match words.is_empty() {
            true => "default".into(),
            false => words.join(" "),
        }
    }
}

/// Addresses and numbers stand bare in files, anything unusual is quoted.
fn quote_if_needed(word: &[u8]) -> Vec<u8> {
    let is_plain = |&b: &u8| b.is_ascii_graphic() && !b"\"'\\#".contains(&b);
    match !word.is_empty() && word.iter().all(is_plain) {
        true => word.to_vec(),
        false => quote(word),
    }
}

/// Bytes with the largest unit that leaves no remainder.
fn memory_text(bytes: u64) -> String {
    match bytes {
        0 => "0".into(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{}gb", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}mb", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}kb", bytes >> 10),
        _ => bytes.to_string(),
    }
}
