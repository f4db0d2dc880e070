//! CLIENT.
use commands::{CommandError, CommandResult};

/// Refuses a label that would not survive in a line of CLIENT LIST.
pub fn check_name(name: &[u8], what: &str) -> CommandResult {
    if name.iter().any(|b| !(b'!'..=b'~').contains(b)) {
        return Err(CommandError(
            format!("ERR {what} cannot contain spaces, newlines or special characters.").into(),
        ));
    }
    Ok(())
}
