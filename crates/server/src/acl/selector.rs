//! A selector: a set of commands, keys and channels that may be used together.
//!
//! A user may do what one of its selectors allows as a whole. The commands are a bit each, by their
//! number; beside the bits stand the rules that made them, in the words of ACL LIST.

use commands::{Categories, Command, Flags, HostCommand, Run};
use resp::Argv;

use crate::command_stats;

use super::rules::RuleError;

/// Keys that match may be read, written or both.
#[derive(Clone, PartialEq, Eq, Debug)]
struct KeyPattern {
    pattern: Vec<u8>,
    read: bool,
    write: bool,
}

/// What a selector does not allow. Ordered by how much is right until there; of the selectors of a
/// user, the one that is nearest to allowing a command decides what is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Denied {
    Command,
    /// The key that is this argument.
    Key(usize),
    /// The channel that is this argument.
    Channel(usize),
}

#[derive(Clone, Debug)]
pub struct Selector {
    allowed: Box<[u64]>,
    /// Whether commands that are added one day are allowed: the base that `rules` refine.
    base: bool,
    /// `+get`, `-@write`..., in the order given, without those that later ones made void.
    rules: Vec<String>,
    /// Commands that are allowed with these first arguments only.
    first_args: Vec<(usize, Vec<Vec<u8>>)>,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<Vec<u8>>,
}

impl Selector {
    /// One that allows nothing, but for channels if `all_channels`.
    pub fn new(all_channels: bool) -> Selector {
        Selector {
            allowed: vec![0; command_stats::count().div_ceil(64)].into(),
            base: false,
            rules: Vec::new(),
            first_args: Vec::new(),
            all_keys: false,
            keys: Vec::new(),
            all_channels,
            channels: Vec::new(),
        }
    }

    /// Whether there is nothing it does not allow.
    pub fn is_unrestricted(&self) -> bool {
        let all = |number: usize| self.allowed[number / 64] >> (number % 64) & 1 == 1;
        self.all_keys && self.all_channels && (0..command_stats::count()).all(all)
    }

    /// Applies one rule of those that concern selectors.
    pub fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        match rule {
            _ if is("allkeys") || rule == b"~*" => {
                self.all_keys = true;
                self.keys.clear();
            }
            _ if is("resetkeys") => {
                self.all_keys = false;
                self.keys.clear();
            }
            _ if is("allchannels") || rule == b"&*" => {
                self.all_channels = true;
                self.channels.clear();
            }
            _ if is("resetchannels") => {
                self.all_channels = false;
                self.channels.clear();
            }
            _ if is("allcommands") || is("+@all") => self.set_all(true),
            _ if is("nocommands") || is("-@all") => self.set_all(false),
            [b'~', pattern @ ..] => self.add_keys(pattern, true, true)?,
            [b'%', rest @ ..] => self.add_keys_for(rest)?,
            [b'&', pattern @ ..] => self.add_channels(pattern)?,
            [b'+', b'@', category @ ..] => self.set_category(category, true)?,
            [b'-', b'@', category @ ..] => self.set_category(category, false)?,
            [b'+', name @ ..] => self.allow(name)?,
            [b'-', name @ ..] => match commands::find_by_full_name(name) {
                Some(command) => self.set_command(command, false),
                None if is_absent(name) => self.note_absent(name, false),
                None => return Err(RuleError::UnknownCommand),
            },
            _ => return Err(RuleError::Syntax),
        }
        Ok(())
    }

    fn set_all(&mut self, allowed: bool) {
        self.allowed.fill(if allowed { u64::MAX } else { 0 });
        self.base = allowed;
        self.rules.clear();
        self.first_args.clear();
    }

    fn add_keys_for(&mut self, rest: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::KeysAfterAll);
        }
        let (mut read, mut write) = (false, false);
        for (at, letter) in rest.iter().enumerate() {
            match letter {
                b'R' | b'r' if !read => read = true,
                b'W' | b'w' if !write => write = true,
                b'~' if read || write => return self.add_keys(&rest[at + 1..], read, write),
                _ => return Err(RuleError::Syntax),
            }
        }
        match read || write {
            // Redis takes what has no pattern for the pattern that only the empty key matches.
            true => self.add_keys(b"", read, write),
            false => Err(RuleError::Syntax),
        }
    }

    fn add_keys(&mut self, pattern: &[u8], read: bool, write: bool) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::KeysAfterAll);
        }
        if has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        if pattern == b"*" && read && write {
            self.all_keys = true;
            self.keys.clear();
            return Ok(());
        }
        match self.keys.iter_mut().find(|known| known.pattern == pattern) {
            Some(known) => {
                known.read |= read;
                known.write |= write;
            }
            None => self.keys.push(KeyPattern {
                pattern: pattern.to_vec(),
                read,
                write,
            }),
        }
        Ok(())
    }

    fn add_channels(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::ChannelsAfterAll);
        }
        if has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| known == pattern) {
            self.channels.push(pattern.to_vec());
        }
        Ok(())
    }

    fn set_category(&mut self, name: &[u8], allowed: bool) -> Result<(), RuleError> {
        let category =
            Categories::from_name_ignoring_case(name).ok_or(RuleError::UnknownCommand)?;
        for command in command_stats::commands() {
            if command.acl_categories().contains(category) {
                self.set_bit(command, allowed);
            }
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        self.note_rule(&format!("@{name}"), allowed);
        Ok(())
    }

    /// `+command`, `+container|subcommand` or `+command|first-argument`.
    fn allow(&mut self, name: &[u8]) -> Result<(), RuleError> {
        if let Some(command) = commands::find_by_full_name(name) {
            self.set_command(command, true);
            return Ok(());
        }
        if is_absent(name) {
            self.note_absent(name, true);
            return Ok(());
        }
        let mut parts = name.splitn(2, |b| *b == b'|');
        let (own, first) = (parts.next().unwrap_or_default(), parts.next());
        let command = commands::find(own).ok_or(RuleError::UnknownCommand)?;
        let first = first.ok_or(RuleError::UnknownCommand)?;
        if first.contains(&b'|') {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        if first.is_empty() {
            return Err(RuleError::Syntax);
        }
        if !command.subcommands.is_empty() {
            return Err(RuleError::UnknownCommand);
        }
        let number = command_stats::number(command);
        if !self.allows_number(number) {
            let first = first.to_ascii_lowercase();
            match self.first_args.iter_mut().find(|(of, _)| *of == number) {
                Some((_, known)) if known.contains(&first) => {}
                Some((_, known)) => known.push(first),
                None => self.first_args.push((number, vec![first])),
            }
        }
        self.note_rule(&String::from_utf8_lossy(name), true);
        Ok(())
    }

    /// A rule about a command that is not there yet holds for nothing, and stays for when it is.
    fn note_absent(&mut self, name: &[u8], allowed: bool) {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        self.note_rule(&name, allowed);
    }

    fn set_command(&mut self, command: &'static Command, allowed: bool) {
        self.set_bit(command, allowed);
        for subcommand in command.subcommands {
            self.set_bit(subcommand, allowed);
        }
        self.note_rule(command.name, allowed);
    }

    fn set_bit(&mut self, command: &'static Command, allowed: bool) {
        let number = command_stats::number(command);
        let (word, bit) = (&mut self.allowed[number / 64], 1 << (number % 64));
        if allowed {
            *word |= bit;
        } else {
            *word &= !bit;
        }
        self.first_args.retain(|(of, _)| *of != number);
    }

    /// Puts a rule behind the others and takes out those that it overrules.
    fn note_rule(&mut self, rule: &str, allowed: bool) {
        let overruled = |known: &String| {
            let known = &known[1..];
            known == rule
                || known
                    .strip_prefix(rule)
                    .is_some_and(|rest| rest.starts_with('|'))
        };
        self.rules.retain(|known| !overruled(known));
        let sign = if allowed { '+' } else { '-' };
        self.rules.push(format!("{sign}{rule}"));
    }

    fn allows_number(&self, number: usize) -> bool {
        self.allowed[number / 64] >> (number % 64) & 1 == 1
    }

    /// Whether a request is allowed.
    pub fn check(&self, command: &'static Command, argv: Argv<'_>) -> Result<(), Denied> {
        self.check_command(command, argv)?;
        if !self.all_keys && !command.keys.is_empty() {
            let mut denied = None;
            command.for_each_key(argv, |index, flags| {
                let is_key = !flags.contains(&"not_key");
                if is_key && denied.is_none() && !self.allows_key(argv.arg(index), flags) {
                    denied = Some(Denied::Key(index));
                }
            });
            denied.map_or(Ok(()), Err)?;
        }
        if self.all_channels {
            return Ok(());
        }
        let (first, literal) = match command.run {
            Run::Host(HostCommand::Publish | HostCommand::Spublish) => {
                return match argv.get(1) {
                    Some(channel) if !self.allows_channel(channel, false) => {
                        Err(Denied::Channel(1))
                    }
                    _ => Ok(()),
                }
            }
            Run::Host(HostCommand::Subscribe | HostCommand::Ssubscribe) => (1, false),
            Run::Host(HostCommand::Psubscribe) => (1, true),
            _ => return Ok(()),
        };
        let denied = (first..argv.len()).find(|at| !self.allows_channel(argv.arg(*at), literal));
        denied.map_or(Ok(()), |at| Err(Denied::Channel(at)))
    }

    fn check_command(&self, command: &'static Command, argv: Argv<'_>) -> Result<(), Denied> {
        let number = command_stats::number(command);
        if self.allows_number(number) || command.flags.contains(Flags::NO_AUTH) {
            return Ok(());
        }
        let first = self.first_args.iter().find(|(of, _)| *of == number);
        let allowed = first.zip(argv.get(1)).is_some_and(|((_, known), given)| {
            known.iter().any(|first| first.eq_ignore_ascii_case(given))
        });
        match allowed {
            true => Ok(()),
            false => Err(Denied::Command),
        }
    }

    fn allows_key(&self, key: &[u8], flags: &[&str]) -> bool {
        let reads = flags.contains(&"access");
        let writes = ["insert", "delete", "update"]
            .iter()
            .any(|flag| flags.contains(flag));
        self.keys.iter().any(|known| {
            (known.read || !reads)
                && (known.write || !writes)
                && datatypes::glob::matches(&known.pattern, key, false)
        })
    }

    /// Whether every key may be read, as SORT's patterns need.
    pub fn reads_all_keys(&self) -> bool {
        let star = |known: &KeyPattern| known.read && known.pattern == b"*";
        self.all_keys || self.keys.iter().any(star)
    }

    /// Whether a channel, or literally a pattern of channels, is allowed.
    pub fn allows_channel(&self, channel: &[u8], literal: bool) -> bool {
        self.all_channels
            || self.channels.iter().any(|known| match literal {
                true => known == channel,
                false => datatypes::glob::matches(known, channel, false),
            })
    }

    /// The commands, in the words of ACL GETUSER.
    pub fn commands_text(&self) -> String {
        let base = if self.base { "+@all" } else { "-@all" };
        [base]
            .into_iter()
            .chain(self.rules.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ")
    }

    pub fn keys_text(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let words: Vec<Vec<u8>> = self
            .keys
            .iter()
            .map(|known| {
                let sign: &[u8] = match (known.read, known.write) {
                    (true, false) => b"%R~",
                    (false, true) => b"%W~",
                    _ => b"~",
                };
                [sign, &known.pattern].concat()
            })
            .collect();
        words.join(&b' ')
    }

    pub fn channels_text(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        let words: Vec<Vec<u8>> = self
            .channels
            .iter()
            .map(|known| [b"&", &known[..]].concat())
            .collect();
        words.join(&b' ')
    }

    /// All of it, in the words of ACL LIST.
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = self.keys_text();
        if !text.is_empty() {
            text.push(b' ');
        }
        if !self.all_channels {
            text.extend(b"resetchannels ");
        }
        let channels = self.channels_text();
        if !channels.is_empty() {
            text.extend(channels);
            text.push(b' ');
        }
        text.extend(self.commands_text().into_bytes());
        text
    }
}

/// Whether Redis 7.4 has a command of this name, or a container whose subcommand is named, that is not here. Files of
/// users name them.
fn is_absent(name: &[u8]) -> bool {
    const ABSENT: &[&str] = &[
        "asking",
        "cluster",
        "failover",
        "migrate",
        "module",
        "psync",
        "readonly",
        "readwrite",
        "replconf",
        "replicaof",
        "restore-asking",
        "slaveof",
        "sync",
    ];
    let own = name.split(|b| *b == b'|').next().unwrap_or_default();
    ABSENT
        .iter()
        .any(|absent| own.eq_ignore_ascii_case(absent.as_bytes()))
}

fn has_spaces(text: &[u8]) -> bool {
    text.iter().any(|b| b.is_ascii_whitespace() || *b == 0)
}
