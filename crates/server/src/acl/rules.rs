//! A user, and the rules of ACL SETUSER that make it.

use std::fmt::Write;

use commands::Command;
use resp::Argv;
use sha2::{Digest, Sha256};

use super::selector::{Denied, Selector};

pub const DEFAULT_USER: &[u8] = b"default";

/// What is wrong with a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleError {
    Syntax,
    UnknownCommand,
    FirstArgOfSubcommand,
    KeysAfterAll,
    ChannelsAfterAll,
    NoSuchPassword,
    NotAHash,
}

impl RuleError {
    /// Redis's words for it.
    pub fn text(self) -> &'static str {
        match self {
            RuleError::Syntax => "Syntax error",
            RuleError::UnknownCommand => "Unknown command or category name in ACL",
            RuleError::FirstArgOfSubcommand => "Allowing first-arg of a subcommand is not supported",
            RuleError::KeysAfterAll => "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns",
            RuleError::ChannelsAfterAll => "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try 'resetchannels' to start with an empty list of channels",
            RuleError::NoSuchPassword => "The password you are trying to remove from the user does not exist",
            RuleError::NotAHash => "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters",
        }
    }
}

#[derive(Clone, Debug)]
pub struct User {
    pub name: Vec<u8>,
    pub enabled: bool,
    /// Any password will do.
    pub nopass: bool,
    /// RESTORE's payloads need not be checked in depth; they are all the same.
    skip_sanitize: bool,
    /// SHA-256, in lowercase hexadecimal.
    passwords: Vec<String>,
    /// The first is the one that rules outside parentheses are about.
    selectors: Vec<Selector>,
}

/// The hash by which a password is kept.
fn hash(password: &[u8]) -> String {
    Sha256::digest(password)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("writing to a string");
            hex
        })
}

fn check_hash(text: &[u8]) -> Result<String, RuleError> {
    let is_hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    match text.len() == 64 && text.iter().all(is_hex) {
        true => Ok(String::from_utf8_lossy(text).into_owned()),
        false => Err(RuleError::NotAHash),
    }
}

impl User {
    /// A user that may do nothing, not even log in.
    pub fn new(name: &[u8], all_channels: bool) -> User {
        User {
            name: name.to_vec(),
            enabled: false,
            nopass: false,
            skip_sanitize: false,
            passwords: Vec::new(),
            selectors: vec![Selector::new(all_channels)],
        }
    }

    /// The user of who does not say who it is: it may do everything.
    pub fn default_user() -> User {
        let mut user = User::new(DEFAULT_USER, true);
        for rule in [b"on".as_slice(), b"nopass", b"~*", b"&*", b"+@all"] {
            user.apply(rule, true).expect("a rule of ours");
        }
        user
    }

    /// Applies one rule. What is in parentheses has no blanks but between its own rules.
    pub fn apply(&mut self, rule: &[u8], all_channels: bool) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        match rule {
            [] => {}
            _ if is("on") => self.enabled = true,
            _ if is("off") => self.enabled = false,
            _ if is("nopass") => {
                self.nopass = true;
                self.passwords.clear();
            }
            _ if is("resetpass") => {
                self.nopass = false;
                self.passwords.clear();
            }
            _ if is("skip-sanitize-payload") => self.skip_sanitize = true,
            _ if is("sanitize-payload") => self.skip_sanitize = false,
            _ if is("clearselectors") => self.selectors.truncate(1),
            _ if is("reset") => *self = User::new(&self.name, all_channels),
            [b'>', password @ ..] => self.add_password(hash(password)),
            [b'#', text @ ..] => self.add_password(check_hash(text)?),
            [b'<', password @ ..] => self.remove_password(&hash(password))?,
            [b'!', text @ ..] => self.remove_password(&check_hash(text)?)?,
            [b'(', rules @ .., b')'] => {
                let mut selector = Selector::new(all_channels);
                let words = rules.split(|b| *b == b' ').filter(|word| !word.is_empty());
                for rule in words {
                    selector.apply(rule)?;
                }
                self.selectors.push(selector);
            }
            _ => self.selectors[0].apply(rule)?,
        }
        Ok(())
    }

    fn add_password(&mut self, hash: String) {
        self.nopass = false;
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
    }

    fn remove_password(&mut self, hash: &str) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| known == hash);
        self.passwords.remove(at.ok_or(RuleError::NoSuchPassword)?);
        Ok(())
    }

    /// Whether who knows this password may log in.
    pub fn accepts(&self, password: &[u8]) -> bool {
        let given = hash(password);
        // All are compared, so that the duration does not tell which are alike.
        let known = self.passwords.iter().fold(false, |known, hash| {
            known | equal_in_constant_time(hash.as_bytes(), given.as_bytes())
        });
        self.enabled && (self.nopass || known)
    }

    /// Whether there is nothing it may not do.
    pub fn is_unrestricted(&self) -> bool {
        self.selectors.iter().any(Selector::is_unrestricted)
    }

    /// Whether it may do a request. The refusal is that of the selector that came nearest to
    /// allowing it.
    pub fn check(&self, command: &'static Command, argv: Argv<'_>) -> Result<(), Denied> {
        let mut nearest = Denied::Command;
        for selector in &self.selectors {
            match selector.check(command, argv) {
                Ok(()) => return Ok(()),
                Err(denied) => nearest = nearest.max(denied),
            }
        }
        Err(nearest)
    }

    /// Whether some selector that allows the request lets it read every key, as patterns of SORT may.
    pub fn may_read_all_keys(&self, command: &'static Command, argv: Argv<'_>) -> bool {
        self.selectors
            .iter()
            .any(|selector| selector.reads_all_keys() && selector.check(command, argv).is_ok())
    }

    /// Whether it may receive what is published to a channel, or to what a pattern matches.
    pub fn may_subscribe(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.selectors
            .iter()
            .any(|selector| selector.allows_channel(channel, is_pattern))
    }

    /// The words of ACL GETUSER's flags.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        if self.nopass {
            flags.push("nopass");
        }
        flags.push(match self.skip_sanitize {
            true => "skip-sanitize-payload",
            false => "sanitize-payload",
        });
        flags
    }

    pub fn passwords(&self) -> &[String] {
        &self.passwords
    }

    pub fn root(&self) -> &Selector {
        &self.selectors[0]
    }

    pub fn further_selectors(&self) -> &[Selector] {
        &self.selectors[1..]
    }

    /// The rules that make this user, in the words of ACL LIST.
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = self.flags().join(" ").into_bytes();
        for hash in &self.passwords {
            text.extend([b" #", hash.as_bytes()].concat());
        }
        text.push(b' ');
        text.extend(self.root().to_text());
        for selector in self.further_selectors() {
            text.extend([b" (", &selector.to_text()[..], b")"].concat());
        }
        text
    }
}

/// Joins the arguments that a pair of parentheses was split into. The error is the argument that has no end.
pub fn join_selectors(args: &[&[u8]]) -> Result<Vec<Vec<u8>>, Vec<u8>> {
    let mut joined: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<(usize, Vec<u8>)> = None;
    for (at, arg) in args.iter().enumerate() {
        if let Some((_, selector)) = &mut open {
            selector.push(b' ');
            selector.extend(*arg);
        } else if arg.first() == Some(&b'(') {
            open = Some((at, arg.to_vec()));
        } else {
            joined.push(arg.to_vec());
        }
        if let Some((_, selector)) = open.take_if(|(_, selector)| selector.ends_with(b")")) {
            joined.push(selector);
        }
    }
    match open {
        Some((at, _)) => Err(args[at].to_vec()),
        None => Ok(joined),
    }
}

/// Compares without telling by its duration where the first difference is.
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .fold(0, |difference, (x, y)| difference | (x ^ y))
            == 0
}
