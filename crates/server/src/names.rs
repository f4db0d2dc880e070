//! What the process is by the name it was started under.
//!
//! Debian's `redis-check-rdb` and `redis-check-aof` are links to the server, and scripts call `redis-server --version`. So a
//! link of such a name to this server does what its name says: the check tools are linked in, and the version line and
//! usage are Redis's. Nothing else depends on the name.

use crate::startup::Invocation;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

const REDIS_HELP: &str = "\
Usage: ./redis-server [/path/to/redis.conf] [options] [-]
       ./redis-server - (read config from stdin)
       ./redis-server -v or --version
       ./redis-server -h or --help

Examples:
       ./redis-server (run the server with default conf)
       echo 'maxmemory 128mb' | ./redis-server -
       ./redis-server /etc/redis/6379.conf
       ./redis-server --port 7777
       ./redis-server /etc/myredis.conf --loglevel verbose
";

/// Does the work of the tool of this name, if it is one.
pub fn run_tool(argv0: &OsStr, args: &[OsString]) -> Option<ExitCode> {
    check::run_by_name(&check::started_as(argv0), args)
}

/// What `redis-server` prints, where the process has that name.
pub fn redis_invocation(argv0: &OsStr, args: &[Vec<u8>]) -> Option<Result<Invocation, String>> {
    let name = check::started_as(argv0);
    if name != "redis-server" && name != "valkey-server" {
        return None;
    }
    match args {
        [arg] if arg == b"-v" || arg == b"--version" => {
            Some(Ok(Invocation::Print(redis_version_line() + "\n")))
        }
        // Redis 7 says it on standard error, and fails.
        [arg] if arg == b"-h" || arg == b"--help" => Some(Err(REDIS_HELP.trim_end().into())),
        _ => None,
    }
}

/// In the form that scripts take apart: `v=` first, then pairs.
fn redis_version_line() -> String {
    let bits = usize::BITS;
    format!(
        "Redis server v={} sha=00000000:0 malloc=mimalloc bits={bits} build=basalt-{}",
        commands::REDIS_VERSION,
        env!("CARGO_PKG_VERSION")
    )
}
