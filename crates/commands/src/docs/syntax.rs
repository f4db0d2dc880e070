//! The arguments of a command as a tree, parsed from its row's `syntax`.
//!
//! The notation is that of Redis's documentation: `name` stands for a value, `TOKEN` for itself,
//! `[a]` is optional, `<a | b>` and `[a | b]` are choices, `a b [a b ...]` repeats. A token
//! belongs to the value or choice behind it (`EX seconds`); before several values it makes them
//! a group (`LIMIT offset count`).

/// What a value is, in the words of COMMAND DOCS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    Key,
    String,
    Integer,
    Double,
    Pattern,
    UnixTime,
    PureToken,
    OneOf(Vec<Argument>),
    Block(Vec<Argument>),
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Key => "key",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Double => "double",
            Kind::Pattern => "pattern",
            Kind::UnixTime => "unix-time",
            Kind::PureToken => "pure-token",
            Kind::OneOf(_) => "oneof",
            Kind::Block(_) => "block",
        }
    }

    pub fn arguments(&self) -> &[Argument] {
        match self {
            Kind::OneOf(arguments) | Kind::Block(arguments) => arguments,
            _ => &[],
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Argument {
    pub name: String,
    pub kind: Kind,
    pub token: Option<String>,
    pub optional: bool,
    /// May be given several times.
    pub multiple: bool,
    /// When given several times, the token is as well.
    pub multiple_token: bool,
}

impl Argument {
    fn new(name: impl Into<String>, kind: Kind) -> Argument {
        Argument {
            name: name.into(),
            kind,
            token: None,
            optional: false,
            multiple: false,
            multiple_token: false,
        }
    }
}

/// The text is no syntax; says what was expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Invalid(pub &'static str);

/// Parses the syntax of a command, whose name helps to tell what its values are.
pub fn parse(syntax: &str, command: &str) -> Result<Vec<Argument>, Invalid> {
    let spaced = syntax
        .replace('[', " [ ")
        .replace(']', " ] ")
        .replace('<', " < ")
        .replace('>', " > ");
    let mut parser = Parser {
        words: spaced.split_whitespace().collect(),
        at: 0,
        command,
    };
    let arguments = parser.sequence()?;
    if parser.at < parser.words.len() {
        return Err(Invalid("an opening bracket"));
    }
    Ok(arguments)
}

struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
    command: &'a str,
}

/// Tokens that are no words, and what COMMAND DOCS calls them.
const SYMBOLS: &[(&str, &str)] = &[
    ("=", "equal"),
    ("~", "approximately"),
    ("*", "auto-id"),
    ("$", "new-id"),
];

fn name_of_symbol(word: &str) -> Option<&'static str> {
    let symbol = SYMBOLS.iter().find(|(symbol, _)| *symbol == word);
    symbol.map(|(_, name)| *name)
}

fn is_token(word: &str) -> bool {
    name_of_symbol(word).is_some() || is_token_word(word)
}

fn is_token_word(word: &str) -> bool {
    word.chars().any(|c| c.is_ascii_uppercase()) && !word.chars().any(|c| c.is_ascii_lowercase())
}

fn is_name(word: &str) -> bool {
    word.chars().any(|c| c.is_ascii_lowercase())
}

impl<'a> Parser<'a> {
    fn peek(&self) -> &'a str {
        self.words.get(self.at).copied().unwrap_or("")
    }

    fn next(&mut self) -> &'a str {
        let word = self.peek();
        self.at += 1;
        word
    }

    fn expect(&mut self, word: &str, what: &'static str) -> Result<(), Invalid> {
        if self.next() == word {
            Ok(())
        } else {
            Err(Invalid(what))
        }
    }

    /// Whether a bracket begins here that repeats what stands before it.
    fn at_repetition(&self) -> bool {
        let mut depth = 0;
        for (index, &word) in self.words.iter().enumerate().skip(self.at) {
            match word {
                "[" => depth += 1,
                "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return word == "]" && self.words[index - 1] == "...";
            }
        }
        false
    }

    /// Arguments up to a closing bracket, a bar or the end.
    fn sequence(&mut self) -> Result<Vec<Argument>, Invalid> {
        let mut found = Vec::new();
        loop {
            match self.peek() {
                "" | "]" | ">" | "|" | "..." => return Ok(found),
                "[" if self.at_repetition() => self.repetition(&mut found)?,
                "[" => {
                    self.at += 1;
                    let mut argument = self.choice("]", "]")?;
                    argument.optional = true;
                    found.push(argument);
                }
                "<" => {
                    self.at += 1;
                    found.push(self.choice(">", ">")?);
                }
                word if is_token(word) => {
                    self.at += 1;
                    found.push(self.behind_token(word)?);
                }
                word => {
                    self.at += 1;
                    found.push(self.value(word)?);
                }
            }
        }
    }

    fn value(&self, word: &str) -> Result<Argument, Invalid> {
        if !is_name(word) {
            return Err(Invalid("a name"));
        }
        Ok(Argument::new(word, kind_of(word, self.command)))
    }

    /// What a token stands for, with all that belongs to it.
    fn behind_token(&mut self, token: &str) -> Result<Argument, Invalid> {
        let mut values = Vec::new();
        loop {
            match self.peek() {
                "<" if values.is_empty() => {
                    self.at += 1;
                    values.push(self.choice(">", ">")?);
                    break;
                }
                "[" if !values.is_empty() && self.at_repetition() && !self.repeats(token) => {
                    self.repetition(&mut values)?;
                }
                word if is_name(word) => {
                    self.at += 1;
                    values.push(self.value(word)?);
                }
                _ => break,
            }
        }
        let mut argument = match values.len() {
            0 => {
                let name = name_of_symbol(token).map_or_else(|| token.to_lowercase(), String::from);
                Argument::new(name, Kind::PureToken)
            }
            1 => values.remove(0),
            _ => Argument::new(token.to_lowercase(), Kind::Block(values)),
        };
        argument.token = Some(token.to_string());
        Ok(argument)
    }

    /// Whether the repetition that begins here repeats this token.
    fn repeats(&self, token: &str) -> bool {
        self.words.get(self.at + 1) == Some(&token)
    }

    /// `[x ...]`, which says that the end of what was found may be given several times.
    fn repetition(&mut self, found: &mut Vec<Argument>) -> Result<(), Invalid> {
        self.at += 1;
        let body = self.sequence()?;
        self.expect("...", "...")?;
        self.expect("]", "]")?;
        let start = found.len().checked_sub(body.len());
        let start = start.ok_or(Invalid("what is repeated"))?;
        let same = |a: &Argument, b: &Argument| a.name == b.name && a.kind == b.kind;
        if !found[start..].iter().zip(&body).all(|(a, b)| same(a, b)) {
            return Err(Invalid("a repetition of what stands before it"));
        }
        if body.len() > 1 {
            let block = Kind::Block(found.split_off(start));
            found.push(Argument::new("group", block));
        }
        let repeated = found.last_mut().ok_or(Invalid("what is repeated"))?;
        repeated.multiple = true;
        repeated.multiple_token = body.len() == 1 && body[0].token.is_some();
        Ok(())
    }

    /// Alternatives, or a group when there is just one, up to a closing bracket.
    fn choice(&mut self, close: &str, what: &'static str) -> Result<Argument, Invalid> {
        let mut alternatives = vec![self.group()?];
        while self.peek() == "|" {
            self.at += 1;
            alternatives.push(self.group()?);
        }
        self.expect(close, what)?;
        Ok(if alternatives.len() == 1 {
            alternatives.remove(0)
        } else {
            Argument::new("choice", Kind::OneOf(alternatives))
        })
    }

    /// A sequence as one argument.
    fn group(&mut self) -> Result<Argument, Invalid> {
        let mut sequence = self.sequence()?;
        match sequence.len() {
            0 => Err(Invalid("an argument")),
            1 => Ok(sequence.remove(0)),
            _ => Ok(Argument::new("group", Kind::Block(sequence))),
        }
    }
}

/// What the value of this name is. The names are Redis's, and mostly mean the same everywhere.
fn kind_of(name: &str, command: &str) -> Kind {
    match name {
        "key" | "key1" | "key2" | "newkey" | "source" | "destination" | "src" | "dst"
        | "destkey" | "sourcekey" => Kind::Key,
        "unix-time-seconds" | "unix-time-milliseconds" => Kind::UnixTime,
        "pattern" => Kind::Pattern,
        "score" | "longitude" | "latitude" | "radius" | "width" | "height" => Kind::Double,
        // In seconds; of other commands in milliseconds.
        "timeout" if command.starts_with('b') => Kind::Double,
        "increment" if command.ends_with("float") => Kind::Double,
        "start" | "end" if command.starts_with('x') => Kind::String,
        "min-idle-time" if command == "xpending" => Kind::Integer,
        "entries-added" | "entriesread" | "ms" => Kind::Integer,
        "bit" => Kind::Integer,
        "value" if matches!(command, "setbit" | "bitfield") => Kind::Integer,
        "min" | "max" if command.contains("score") || command == "zcount" => Kind::Double,
        // ZRANGE's are scores, members or ranks.
        "start" | "stop" if command == "zrange" => Kind::String,
        "client-id" | "count" | "cursor" | "db" | "decrement" | "destination-db" | "end"
        | "frequency" | "increment" | "index" | "index1" | "index2" | "len" | "limit"
        | "maxage" | "milliseconds" | "min-match-len" | "num-matches" | "numfields" | "numkeys"
        | "numlocal" | "numreplicas" | "offset" | "protover" | "rank" | "seconds" | "start"
        | "stop" | "timeout" | "ttl" | "version" | "weight" => Kind::Integer,
        _ => Kind::String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An argument in the notation it was parsed from.
    fn show(argument: &Argument) -> String {
        let parts = |separator: &str| {
            let parts: Vec<String> = argument.kind.arguments().iter().map(show).collect();
            parts.join(separator)
        };
        let body = match &argument.kind {
            Kind::PureToken => String::new(),
            Kind::OneOf(_)
                if argument.token.is_none() && argument.optional && !argument.multiple =>
            {
                parts(" | ")
            }
            Kind::OneOf(_) => format!("<{}>", parts(" | ")),
            Kind::Block(_) => parts(" "),
            _ => argument.name.clone(),
        };
        let token = argument.token.clone().unwrap_or_default();
        let whole = format!("{token} {body}").trim().to_string();
        let repeated = match (argument.multiple, argument.multiple_token) {
            (false, _) => whole,
            (true, true) => format!("{whole} [{whole} ...]"),
            (true, false) => format!("{whole} [{body} ...]"),
        };
        if argument.optional {
            format!("[{repeated}]")
        } else {
            repeated
        }
    }

    fn show_all(arguments: &[Argument]) -> String {
        let shown: Vec<String> = arguments.iter().map(show).collect();
        shown.join(" ")
    }

    #[test]
    fn every_command_has_a_syntax_that_reads_the_same_after_parsing() {
        let rows = crate::all().flat_map(|c| std::iter::once(c).chain(c.subcommands));
        for command in rows {
            let parsed = parse(command.syntax, command.name);
            let shown = parsed.map(|arguments| show_all(&arguments));
            assert_eq!(shown.as_deref(), Ok(command.syntax), "{}", command.name);
        }
    }

    #[test]
    fn tokens_own_what_stands_behind_them() {
        let parsed = parse(
            "key [LIMIT offset count] [ID id [ID id ...]] <A | B b>",
            "x",
        );
        let parsed = parsed.expect("it is a syntax");
        assert_eq!(parsed[0].kind, Kind::Key);
        assert_eq!(parsed[1].token.as_deref(), Some("LIMIT"));
        assert!(matches!(&parsed[1].kind, Kind::Block(b) if b.len() == 2));
        assert!(parsed[2].optional && parsed[2].multiple && parsed[2].multiple_token);
        let choices = parsed[3].kind.arguments();
        assert_eq!(choices[0].kind, Kind::PureToken);
        assert_eq!(choices[1].token.as_deref(), Some("B"));
    }

    #[test]
    fn malformed_syntax_is_refused() {
        for syntax in [
            "[key",
            "key]",
            "<a | >",
            "[a ...]",
            "a [b ...]",
            "a | b",
            "[]",
        ] {
            assert!(parse(syntax, "x").is_err(), "{syntax}");
        }
    }
}
