//! The command line: options in any order, `--name=value` and `--name value`, and operands.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// An option that a tool knows.
pub struct Known {
    pub name: &'static str,
    pub takes_value: bool,
}

pub const fn flag(name: &'static str) -> Known {
    Known {
        name,
        takes_value: false,
    }
}

pub const fn value(name: &'static str) -> Known {
    Known {
        name,
        takes_value: true,
    }
}

/// What the command line says.
#[derive(Debug, Default)]
pub struct Parsed {
    pub options: Vec<(&'static str, Option<OsString>)>,
    pub operands: Vec<OsString>,
}

impl Parsed {
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(option, _)| *option == name)
    }

    /// The value of the last one of this name.
    pub fn value(&self, name: &str) -> Option<&OsString> {
        let found = self
            .options
            .iter()
            .rev()
            .find(|(option, _)| *option == name);
        found.and_then(|(_, value)| value.as_ref())
    }

    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(text) = self.value(name) else {
            return Ok(None);
        };
        let number = text.to_str().and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| {
            let shown = text.to_string_lossy();
            format!("{name} takes a number, and got '{shown}'")
        })
    }
}

/// Sorts arguments. Behind `--` there are operands only.
pub fn parse(args: &[OsString], known: &[Known]) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        if text == "--" {
            parsed.operands.extend(args.cloned());
            break;
        }
        if !text.starts_with('-') || text == "-" {
            parsed.operands.push(arg.clone());
            continue;
        }
        let (name, attached) = match text.split_once('=') {
            Some((name, _)) => {
                let bytes = arg.clone().into_vec();
                (
                    name,
                    Some(OsString::from_vec(bytes[name.len() + 1..].to_vec())),
                )
            }
            None => (text.as_ref(), None),
        };
        let option = known
            .iter()
            .find(|option| option.name == name)
            .ok_or_else(|| format!("unknown option {name}"))?;
        let value = match (option.takes_value, attached) {
            (false, Some(_)) => return Err(format!("{name} takes no value")),
            (true, None) => {
                let next = args.next();
                Some(
                    next.cloned()
                        .ok_or_else(|| format!("{name} needs a value"))?,
                )
            }
            (_, attached) => attached,
        };
        parsed.options.push((option.name, value));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Known; 2] = [flag("--json"), value("--top")];

    fn check(args: &[&str]) -> Result<(bool, Option<String>, Vec<String>), String> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let parsed = parse(&args, &KNOWN)?;
        let shown = |s: &OsString| s.to_string_lossy().into_owned();
        Ok((
            parsed.has("--json"),
            parsed.value("--top").map(shown),
            parsed.operands.iter().map(shown).collect(),
        ))
    }

    #[test]
    fn options_stand_anywhere() {
        let all = Ok((true, Some("3".into()), vec!["f".into(), "g".into()]));
        assert_eq!(check(&["f", "--json", "--top", "3", "g"]), all);
        assert_eq!(check(&["--top=3", "--json", "f", "g"]), all);
        assert_eq!(
            check(&["--", "--json"]),
            Ok((false, None, vec!["--json".into()]))
        );
        assert_eq!(check(&["-"]), Ok((false, None, vec!["-".into()])));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert_eq!(check(&["--nope"]), Err("unknown option --nope".into()));
        assert_eq!(check(&["--top"]), Err("--top needs a value".into()));
        assert_eq!(check(&["--json=x"]), Err("--json takes no value".into()));
    }
}
