//! `# Server`.

use super::{put, Facts, Section};
use crate::{startup, supervision};

pub const SECTION: Section = Section {
    name: "server",
    title: "Server",
    is_default: true,
    needs_shards: false,
    write,
};

fn write(facts: &Facts, out: &mut String) {
    put(
        facts,
        out,
        &[
            ("redis_version", |_| commands::REDIS_VERSION.into()),
            ("redis_git_sha1", |_| "00000000".into()),
            ("redis_git_dirty", |_| "0".into()),
            ("redis_build_id", |_| build_id()),
            ("redis_mode", |_| "standalone".into()),
            ("basalt_version", |_| env!("CARGO_PKG_VERSION").into()),
            ("os", |_| os()),
            ("arch_bits", |_| usize::BITS.to_string()),
            ("multiplexing_api", |f| {
                f.server.identity.io_backend.backend.to_string()
            }),
            ("monotonic_clock", |_| "POSIX clock_gettime".into()),
            // Rust's atomics are C11's; its compiler is not gcc, for which Redis shows zeros too.
            ("atomicvar_api", |_| "c11-builtin".into()),
            ("gcc_version", |_| "0.0.0".into()),
            ("io_backend_reason", |f| {
                f.server.identity.io_backend.reason.clone()
            }),
            ("process_id", |_| std::process::id().to_string()),
            ("process_supervised", |_| supervision::word().into()),
            ("run_id", |f| f.server.identity.run_id.clone()),
            ("tcp_port", |f| {
                let ports = [f.config.port, f.config.tls_port];
                let first = ports.into_iter().find(|port| *port != 0);
                first.unwrap_or(0).to_string()
            }),
            ("server_time_usec", |f| (f.now.0 * 1000).to_string()),
            ("uptime_in_seconds", |f| uptime_seconds(f).to_string()),
            ("uptime_in_days", |f| {
                (uptime_seconds(f) / 86_400).to_string()
            }),
            ("hz", |f| f.config.hz.to_string()),
            ("configured_hz", |f| f.config.hz.to_string()),
            ("lru_clock", |f| {
                ((f.now.0 / 1000) & 0x00ff_ffff).to_string()
            }),
            ("executable", |f| f.server.identity.executable.clone()),
            ("config_file", |f| {
                let path = f.server.identity.config_file.as_ref();
                path.map_or(String::new(), |path| path.display().to_string())
            }),
            ("io_threads_active", |_| "0".into()),
            ("shards", |f| f.server.shards.len().to_string()),
            ("workers", |f| f.server.workers.len().to_string()),
            ("usable_cores", |_| startup::usable_cores().to_string()),
        ],
    );
    listeners(facts, out);
}

/// The same for all servers of one version.
fn build_id() -> String {
    let keyed_by_nothing = ahash::RandomState::with_seeds(0, 0, 0, 0);
    format!(
        "{:016x}",
        keyed_by_nothing.hash_one(startup::version_line())
    )
}

fn os() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| std::env::consts::OS.into(),
        |name| {
            format!(
                "{} {} {}",
                name.sysname().to_string_lossy(),
                name.release().to_string_lossy(),
                name.machine().to_string_lossy()
            )
        },
    )
}

fn uptime_seconds(facts: &Facts) -> u64 {
    facts.server.identity.started.elapsed().as_secs()
}

/// Numbered by what is spoken there, as in Redis.
fn listeners(facts: &Facts, out: &mut String) {
    let config = &facts.config;
    let binds: String = config
        .bind
        .iter()
        .map(|address| format!("bind={address},"))
        .collect();
    let on_port = |tag: u32, name: &str| {
        let port = startup::port_of(config, tag);
        let listens = port != 0 && !config.bind.is_empty();
        listens.then(|| (tag, format!("name={name},{binds}port={port}")))
    };
    let unix = config.unixsocket.as_ref();
    let unix = unix.map(|path| {
        (
            startup::UNIX_TAG,
            format!("name=unix,bind={}", path.display()),
        )
    });
    let lines = [
        on_port(startup::TCP_TAG, "tcp"),
        unix,
        on_port(startup::TLS_TAG, "tls"),
    ];
    for (index, line) in lines.into_iter().flatten() {
        out.push_str(&format!("listener{index}:{line}\r\n"));
    }
}
