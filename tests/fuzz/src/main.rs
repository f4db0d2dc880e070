//! The program that libFuzzer drives. Environment: `FUZZ_TARGET` names the target. `tests/fuzz/run` starts it.
#![no_main]

use fuzz::Target;
use std::sync::OnceLock;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn target() -> &'static Target {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    Target::named(&name).unwrap_or_else(|| {
        eprintln!("FUZZ_TARGET=\"{name}\" is no fuzz target");
        std::process::exit(2);
    })
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| TARGET.get_or_init(target).run(input));
