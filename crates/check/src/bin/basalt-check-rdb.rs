//! basalt-check-rdb: see `docs/operations/check-tools.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    check::main_of("basalt-check-rdb")
}
