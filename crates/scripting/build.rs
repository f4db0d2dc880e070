//! Compiles Lua 5.1.5 from the sources of the crate `lua-src`, with the changes of `lua/changes.rs`, for
//! `mlua-sys` to bind to (`docs/decisions/0011-lua-with-changes.md`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

include!("lua/changes.rs");

/// The parts of Lua that scripts get. Without input and output, the operating system, packages, debugging and
/// precompiled chunks.
const SOURCES: &[&str] = &[
    "lapi", "lauxlib", "lbaselib", "lcode", "ldebug", "ldo", "ldump", "lfunc", "lgc", "llex",
    "lmathlib", "lmem", "lobject", "lopcodes", "lparser", "lstate", "lstring", "lstrlib", "ltable",
    "ltablib", "ltm", "lundump", "lvm", "lzio",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=lua/changes.rs");
    let from = lua_sources();
    let to = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("lua");
    fs::create_dir_all(&to).expect("OUT_DIR can be written");
    copy_with_changes(&from, &to);
    let mut build = cc::Build::new();
    build.warnings(false).include(&to).opt_level(2);
    // setjmp without the signal mask, which nothing here changes.
    build.define("LUA_USE_ULONGJMP", None);
    for name in SOURCES {
        build.file(to.join(format!("{name}.c")));
    }
    build.compile("basalt_lua");
}

fn copy_with_changes(from: &Path, to: &Path) {
    let mut applied = 0;
    for entry in fs::read_dir(from).expect("lua-src has its sources") {
        let path = entry.expect("lua-src has its sources").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        let mut text = fs::read_to_string(&path).expect("sources are text");
        for change in CHANGES.iter().filter(|change| change.file == name) {
            let found = text.matches(change.old).count();
            assert_eq!(
                found, change.times,
                "{name}: `{}` is there {found} times",
                change.old
            );
            text = text.replace(change.old, change.new);
            applied += 1;
        }
        fs::write(to.join(&name), text).expect("OUT_DIR can be written");
    }
    assert_eq!(applied, CHANGES.len(), "every change has its file");
}

/// Where cargo keeps the sources of lua-src, which says so to nobody but itself.
fn lua_sources() -> PathBuf {
    let cargo = env::var_os("CARGO").expect("cargo sets it");
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let mut command = Command::new(cargo);
    let target = env::var("TARGET").expect("cargo sets it");
    // Of other platforms' packages nothing may have been fetched.
    command
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--filter-platform",
            &target,
        ])
        .current_dir(manifest);
    let output = command.output().expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    let marker = "\"manifest_path\":\"";
    let found = text.match_indices(marker).find_map(|(at, _)| {
        let path = text[at + marker.len()..].split('"').next()?;
        let directory = Path::new(path).parent()?;
        let name = directory.file_name()?.to_str()?;
        name.starts_with("lua-src")
            .then(|| directory.join("lua-5.1.5"))
    });
    found.expect("lua-src is a dependency")
}
