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
            ("redis_mode", |_| "standalone".into()),
            ("basalt_version", |_| env!("CARGO_PKG_VERSION").into()),
            ("os", |_| os()),
            ("arch_bits", |_| usize::BITS.to_string()),
            ("multiplexing_api", |f| {
                f.server.identity.io_backend.backend.to_string()
            }),
            ("io_backend_reason", |f| {
                f.server.identity.io_backend.reason.clone()
            }),
            ("process_id", |_| std::process::id().to_string()),
            ("process_supervised", |_| supervision::word().into()),
            ("run_id", |f| f.server.identity.run_id.clone()),
            ("tcp_port", |f| f.config.port.to_string()),
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

fn listeners(facts: &Facts, out: &mut String) {
    let config = &facts.config;
    let mut lines = Vec::new();
    if config.port != 0 && !config.bind.is_empty() {
        let binds: String = config
            .bind
            .iter()
            .map(|address| format!("bind={address},"))
            .collect();
        lines.push(format!("name=tcp,{binds}port={}", config.port));
    }
    if let Some(path) = &config.unixsocket {
        lines.push(format!("name=unix,bind={}", path.display()));
    }
    for (index, line) in lines.iter().enumerate() {
        out.push_str(&format!("listener{index}:{line}\r\n"));
    }
}
