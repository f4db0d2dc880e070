//! From arguments to a running server: configuration, limits of the process, listeners, threads.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::SeqCst};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use config::{Config, IoBackend, Source, StorageBackend};
use crossbeam_channel::{unbounded, Receiver, Sender};
use keyspace::{Garbage, Shard, ShardIndex, SlotMap};
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use persistence::storage::sync::{SyncBackend, SyncPolicy, SyncService};
use persistence::storage::OsStorage;
use reactor::{bind_tcp, bind_unix, BackendChoice, Listener};

use crate::acl;
use crate::aof::Aof;
use crate::child::OsForker;
use crate::coordinator::{Coordinator, Request, RingMachine};
use crate::recovery::Restore;
use crate::renames::Renames;
use crate::shared::{Identity, Server, ShardCell, WorkerHandle};
use crate::stats::WorkerStats;
use crate::worker::mailbox::Mailbox;
use crate::worker::{Worker, ACCEPTING_WORKER};
use crate::{allocator, clock, exit, log, logger, signals, tls};

/// Files the server keeps open besides its clients' sockets.
const RESERVED_FILES: u64 = 256;
/// How long a port may still be held by a server that has just ended: the kernel tears its
/// io_uring down after the process is gone.
const BIND_PATIENCE: Duration = Duration::from_secs(3);
const BIND_RETRY: Duration = Duration::from_millis(20);

/// What the command line asks for.
pub enum Invocation {
    Serve {
        config: Box<Config>,
        config_file: Option<PathBuf>,
        /// `--restore-to`.
        restore: Option<Restore>,
    },
    Print(String),
}

pub fn version_line() -> String {
    let bits = usize::BITS;
    format!(
        "Basalt server v={} redis={} malloc=mimalloc bits={bits}",
        env!("CARGO_PKG_VERSION"),
        commands::REDIS_VERSION
    )
}

const HELP: &str = "\
Usage: basalt-server [CONFIG | -] [--directive value ...] [--restore-to POINT [--dry-run]]
       basalt-server --version | --help

CONFIG is a file in the syntax of redis.conf; - reads it from standard input.
Every directive can be given as an option, in any order; those come after the file's.

--restore-to goes back to a point in the append-only file, then serves: 'YYYY-MM-DD HH:MM:SS[.mmm]' with Z or an
offset such as +02:00, Unix seconds or milliseconds, or SHARD:LSN. What is cut off is kept beside the file, with a
report. --dry-run only tells what would go. It is for one start by hand: every start with it goes back again.

Examples:
       basalt-server
       basalt-server config/basalt.conf
       basalt-server --port 7777 --shards 4 --appendonly yes
       basalt-server /etc/basalt.conf --loglevel verbose
       echo 'maxclients 100' | basalt-server -
";

/// Reads the command line and the configuration it names.
pub fn invocation(args: &[Vec<u8>]) -> Result<Invocation, String> {
    let first = args.first().map(Vec::as_slice).unwrap_or_default();
    match first {
        b"-v" | b"--version" if args.len() == 1 => {
            return Ok(Invocation::Print(version_line() + "\n"))
        }
        b"-h" | b"--help" if args.len() == 1 => return Ok(Invocation::Print(HELP.into())),
        _ => {}
    }
    let named = !first.is_empty() && (first == b"-" || !first.starts_with(b"-"));
    let (name, options) = if named {
        (
            Some(String::from_utf8_lossy(first).into_owned()),
            &args[1..],
        )
    } else {
        (None, args)
    };
    let (restore, options) = Restore::take_from(options)?;
    let mut config_file = None;
    let mut text = Vec::new();
    match name.as_deref() {
        None => {}
        Some("-") => {
            io::stdin().read_to_end(&mut text).map_err(|error| {
                format!("Cannot read the configuration from standard input: {error}")
            })?;
        }
        Some(path) => {
            text = std::fs::read(path).map_err(|error| {
                format!("Fatal error, can't open config file '{path}': {error}")
            })?;
            config_file =
                Some(std::path::absolute(path).map_err(|error| format!("{path}: {error}"))?);
        }
    }
    let source = name.as_deref().map(|name| Source { name, text: &text });
    let config = Config::from_sources(source, &options, &config::FileSystem)
        .map_err(|error| error.to_string())?;
    Ok(Invocation::Serve {
        config: Box::new(config),
        config_file,
        restore,
    })
}

/// Cores this process may use.
pub fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Differs after every start of the operating system; empty where that is unknown.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or(String::new(), |id| id.trim().to_owned())
}

pub fn random_hex(digits: usize) -> String {
    let mut bytes = vec![0; digits / 2];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    if read.is_err() {
        // Without the device: time and process id tell runs apart well enough.
        let mut rng = datatypes::Rng::from_seed(
            clock::unix_millis().0 as u64 ^ u64::from(std::process::id()) << 32,
        );
        bytes
            .iter_mut()
            .for_each(|byte| *byte = rng.next_u64() as u8);
    }
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Makes the process ready: log, directory, limits. Nothing has a thread yet.
pub fn prepare(config: &mut Config) -> Result<(), String> {
    logger::set_level(config.loglevel);
    logger::set_file(config.logfile.as_deref())
        .map_err(|error| format!("Can't open the log file: {error}"))?;
    std::env::set_current_dir(&config.dir)
        .map_err(|error| format!("Can't chdir to '{}': {error}", config.dir.display()))?;
    config.dir = std::env::current_dir().map_err(|error| error.to_string())?;
    raise_file_limit(config);
    warn_of_system_settings(config);
    Ok(())
}

fn raise_file_limit(config: &mut Config) {
    let wanted = config.maxclients;
    if let Err(possible) = allow_clients(wanted) {
        log!(
            Warning,
            "You requested maxclients of {wanted} requiring at least {} max file descriptors.",
            u64::from(wanted) + RESERVED_FILES
        );
        log!(
            Warning,
            "maxclients has been reduced to {possible} to compensate for low ulimit."
        );
        config.maxclients = possible;
    }
}

/// Raises the limit of open files, so that so many clients can be served. The error is how many
/// can.
pub fn allow_clients(clients: u32) -> Result<(), u32> {
    let wanted = u64::from(clients) + RESERVED_FILES;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Ok(());
    };
    if soft >= wanted || setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_ok() {
        return Ok(());
    }
    // As much as there is; what is possible is computed from it either way.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    let possible = u32::try_from(hard.saturating_sub(RESERVED_FILES)).unwrap_or(u32::MAX);
    if possible >= clients {
        Ok(())
    } else {
        Err(possible.max(1))
    }
}

/// What of the system's settings makes forks fail or cost much.
fn warn_of_system_settings(config: &Config) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let overcommit = read("/proc/sys/vm/overcommit_memory");
    if !matches!(overcommit.trim(), "" | "1") {
        log!(Warning, "WARNING Memory overcommit must be enabled! While vm.overcommit_memory is {}, the kernel may refuse the fork of a background save or AOF rewrite even with enough memory free. To fix this issue add 'vm.overcommit_memory = 1' to /etc/sysctl.conf and reboot, or run the command 'sysctl vm.overcommit_memory=1'.", overcommit.trim());
    }
    let huge_pages = read("/sys/kernel/mm/transparent_hugepage/enabled").contains("[always]");
    if huge_pages && !(config.disable_thp && nix::sys::prctl::set_thp_disable(true).is_ok()) {
        log!(Warning, "WARNING You have Transparent Huge Pages (THP) support enabled in your kernel. On kernels before 5.8, each first write to such a page while a snapshot is taken copies 2 MiB: latency and memory suffer. To fix this issue run the command 'echo madvise > /sys/kernel/mm/transparent_hugepage/enabled' as root, have it run at boot, and restart Basalt; or set 'disable-thp yes'.");
    }
}

/// Tags of listeners, by what is spoken there.
pub const TCP_TAG: u32 = 0;
pub const UNIX_TAG: u32 = 1;
pub const TLS_TAG: u32 = 2;

/// The listeners that a configuration names. An address in use is tried again for so long.
pub fn listeners(config: &Config, patience: Duration) -> Result<Vec<(Listener, u32)>, String> {
    let mut listeners = port_listeners(config, TCP_TAG, patience)?;
    listeners.extend(port_listeners(config, TLS_TAG, patience)?);
    if let Some(path) = &config.unixsocket {
        let permissions = (config.unixsocketperm != 0).then_some(config.unixsocketperm);
        let listener = bind_unix(path, permissions, backlog(config)).map_err(|error| {
            format!(
                "Failed opening Unix socket {}: bind: {error}",
                path.display()
            )
        })?;
        listeners.push((listener, UNIX_TAG));
    }
    Ok(listeners)
}

fn backlog(config: &Config) -> i32 {
    i32::try_from(config.tcp_backlog).unwrap_or(i32::MAX)
}

/// The port on which a configuration has plain TCP or TLS; 0: none.
pub fn port_of(config: &Config, tag: u32) -> u16 {
    match tag {
        TLS_TAG => config.tls_port,
        _ => config.port,
    }
}

/// Those of them on the port for plain TCP or for TLS.
pub fn port_listeners(
    config: &Config,
    tag: u32,
    patience: Duration,
) -> Result<Vec<(Listener, u32)>, String> {
    let mut listeners = Vec::new();
    let port = port_of(config, tag);
    if port == 0 {
        return Ok(listeners);
    }
    let kind = if tag == TLS_TAG { "tls" } else { "tcp" };
    for address in &config.bind {
        let (address, optional) = address
            .strip_prefix('-')
            .map_or((address.as_str(), false), |rest| (rest, true));
        match bind_patiently(address, port, backlog(config), patience) {
            Ok(listener) => listeners.push((listener, tag)),
            Err(error) if optional => {
                log!(Warning, "Not listening on {address}:{port}: {error}")
            }
            Err(error) => {
                return Err(format!(
                    "Could not create server TCP listening socket {address}:{port}: bind: {error}"
                ))
            }
        }
    }
    if listeners.is_empty() && !config.bind.is_empty() {
        return Err(format!(
            "Failed listening on port {port} ({kind}), aborting."
        ));
    }
    Ok(listeners)
}

fn bind_patiently(
    address: &str,
    port: u16,
    backlog: i32,
    patience: Duration,
) -> io::Result<Listener> {
    let began = Instant::now();
    loop {
        match bind_tcp(address, port, backlog) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && began.elapsed() < patience =>
            {
                std::thread::sleep(BIND_RETRY)
            }
            result => return result,
        }
    }
}

/// What a server is made of before any of its threads runs. A simulation makes the same.
pub struct Assembled {
    pub server: Box<Server>,
    /// To be freed by the thread that frees what takes long to free.
    pub garbage: Receiver<Garbage>,
    pub requests: Sender<Request>,
    pub coordinator_requests: Receiver<Request>,
}

/// Makes the server's shared part, one shard for each worker.
pub fn assemble(
    identity: Identity,
    replication_id: String,
    config: Config,
) -> Result<Assembled, String> {
    let shards = if config.shards == 0 {
        identity.cores
    } else {
        config.shards as usize
    };
    let renames = Renames::new(&config.rename_commands)?;
    let users = acl::from_config(&config)?;
    let (to_free, garbage) = unbounded();
    let (requests, coordinator_requests) = unbounded();
    let slots = SlotMap::new(u16::try_from(shards).map_err(|_| "too many shards".to_owned())?);
    let databases = config.databases as usize;
    let cell = |index| {
        let index = ShardIndex(index);
        ShardCell::new(Shard::new(index, slots, databases, to_free.clone()))
    };
    let handle = |_| WorkerHandle {
        mailbox: Mailbox::default(),
        stats: WorkerStats::new(),
        connections: AtomicU32::new(0),
        blocked: AtomicI64::new(0),
        timed_waits: AtomicI64::new(0),
        clients_bytes: AtomicI64::new(0),
        awaits_durable: AtomicBool::new(false),
    };
    let server = Box::new(Server::new(
        identity,
        replication_id,
        config,
        users,
        renames,
        slots,
        (0..slots.shards()).map(cell).collect(),
        (0..shards).map(handle).collect(),
        Aof::new(shards),
        requests.clone(),
    ));
    Ok(Assembled {
        server,
        garbage,
        requests,
        coordinator_requests,
    })
}

/// Gives the server what makes its AOF durable.
pub fn open_sync(server: &'static Server, backend: SyncBackend) -> Result<(), String> {
    server.aof.set_sync(sync_service(server, backend)?);
    server.aof.configure(&server.config());
    Ok(())
}

/// Starts everything and returns what `main` waits for: the workers and the coordinator.
pub fn start(
    config: Config,
    config_file: Option<PathBuf>,
    restore: Option<Restore>,
) -> Result<Vec<JoinHandle<()>>, String> {
    let blocked = signals::block().map_err(|error| format!("Cannot block signals: {error}"))?;
    let io_backend = reactor::probe(match config.io_backend {
        IoBackend::Auto => BackendChoice::Auto,
        IoBackend::IoUring => BackendChoice::IoUring,
        IoBackend::Epoll => BackendChoice::Epoll,
    })?;
    let sync_backend = sync_backend(&config)?;
    let tls = match config.tls_port {
        0 => None,
        _ => Some(
            tls::make(&config).map_err(|reason| format!("Failed to configure TLS. {reason}"))?,
        ),
    };
    let listeners = listeners(&config, BIND_PATIENCE)?;
    let identity = Identity {
        run_id: random_hex(40),
        boot_id: boot_id(),
        pid: std::process::id(),
        cores: usable_cores(),
        started: clock::instant(),
        started_at: clock::unix_millis(),
        executable: std::env::current_exe()
            .map_or(String::new(), |path| path.display().to_string()),
        config_file,
        io_backend,
    };
    let files_to_remove = [&config.pidfile, &config.unixsocket]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let assembled = assemble(identity, random_hex(40), config)?;
    let Assembled {
        garbage,
        requests,
        coordinator_requests,
        ..
    } = assembled;
    let server: &'static Server = Box::leak(assembled.server);
    if let Some(tls) = tls {
        server.tls.replace(tls);
    }
    write_pid_file(server.config().pidfile.as_deref());
    server
        .stats
        .startup_memory_bytes
        .set(allocator::used_bytes());
    open_sync(server, sync_backend)?;
    log_start(server);
    spawn("signals", move || {
        signals::wait(&blocked, server, &requests)
    })?;
    spawn("lazy-free", move || free(server, &garbage))?;
    let mut threads = workers(server, listeners)?;
    let aof_dir = PathBuf::from(&server.config().appenddirname);
    let mut coordinator = Coordinator::new(
        server,
        coordinator_requests,
        files_to_remove,
        Arc::new(OsStorage),
        RingMachine::of_system(&aof_dir),
        Box::new(OsForker),
    );
    if let Some(restore) = restore {
        coordinator.restore_to(restore.point);
    }
    threads.push(spawn("coordinator", move || {
        if let Err(failure) = coordinator.start() {
            coordinator.log_load_failure(&failure);
            exit::exit(1);
        }
        coordinator.run();
    })?);
    Ok(threads)
}

fn workers(
    server: &'static Server,
    mut listeners: Vec<(Listener, u32)>,
) -> Result<Vec<JoinHandle<()>>, String> {
    let mut threads = Vec::new();
    for index in 0..server.workers.len() {
        let listeners = if index == ACCEPTING_WORKER {
            std::mem::take(&mut listeners)
        } else {
            Vec::new()
        };
        let seed = clock::unix_millis().0 as u64 ^ (index as u64) << 48;
        threads.push(spawn(&format!("worker-{index}"), move || {
            if let Err(error) = Worker::new(index, server, seed).run(listeners) {
                panic!("worker {index} cannot go on: {error}");
            }
        })?);
    }
    Ok(threads)
}

fn sync_backend(config: &Config) -> Result<SyncBackend, String> {
    Ok(match config.storage_backend {
        StorageBackend::Auto | StorageBackend::Threads => SyncBackend::Threads,
        StorageBackend::Glommio => {
            persistence::storage::sync_glommio::probe()
                .map_err(|reason| format!("storage-backend glommio cannot be used: {reason}"))?;
            SyncBackend::Glommio
        }
    })
}

fn sync_service(server: &'static Server, backend: SyncBackend) -> Result<SyncService, String> {
    let on_durable = Box::new(|_| {
        // Looked at behind the position's store, as the worker's own store is in front of its look
        // at the position: one of the two sees the other.
        for worker in server.workers.iter() {
            if worker.awaits_durable.load(SeqCst) {
                worker.mailbox.wake();
            }
        }
    });
    SyncService::new(
        backend,
        server.shards.len(),
        SyncPolicy::EverySecond,
        on_durable,
    )
    .map_err(|error| format!("Cannot start the storage threads: {error}"))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(|error| format!("Cannot start thread {name}: {error}"))
}

/// The thread that frees what takes long to free.
fn free(server: &Server, garbage: &Receiver<Garbage>) {
    for piece in garbage {
        let _gate = server
            .free_gate
            .lock()
            .expect("no holder of this lock panics");
        drop(piece);
        server.stats.garbage_freed.add_shared(1);
    }
}

fn write_pid_file(path: Option<&Path>) {
    if let Some(path) = path {
        if let Err(error) = std::fs::write(path, format!("{}\n", std::process::id())) {
            log!(
                Warning,
                "Cannot write the pid file {}: {error}",
                path.display()
            );
        }
    }
}

fn log_start(server: &Server) {
    let config = server.config();
    let Identity { io_backend, .. } = &server.identity;
    log!(
        Notice,
        "Basalt {} (behaviour of Redis {}), pid {}",
        env!("CARGO_PKG_VERSION"),
        commands::REDIS_VERSION,
        std::process::id()
    );
    match &server.identity.config_file {
        Some(path) => log!(Notice, "Configuration loaded from {}", path.display()),
        None => log!(
            Notice,
            "No config file given, using the defaults and the command line"
        ),
    }
    log!(
        Notice,
        "Shards: {}, one worker each; {} cores usable",
        server.shards.len(),
        usable_cores()
    );
    log!(
        Notice,
        "I/O backend: {} ({})",
        io_backend.backend,
        io_backend.reason
    );
    let aof = match (config.appendonly, config.aof_use_rdb_preamble) {
        (false, _) => "off",
        (true, true) => "on, RDB base and a segment per shard",
        (true, false) => "on, a base of commands and a segment per shard",
    };
    let save = if config.save.is_empty() {
        "none".into()
    } else {
        config
            .value_of("save")
            .map_or(String::new(), |v| String::from_utf8_lossy(&v).into_owned())
    };
    let fsync = config
        .value_of("appendfsync")
        .map_or(String::new(), |v| String::from_utf8_lossy(&v).into_owned());
    log!(
        Notice,
        "Persistence: AOF {aof}, appendfsync {fsync}; save points: {save}; in {}",
        config.dir.display()
    );
    for (port, kind) in [(config.port, ""), (config.tls_port, " (TLS)")] {
        for address in config.bind.iter().filter(|_| port != 0) {
            log!(Notice, "Listening on {address} port {port}{kind}");
        }
    }
    let unused = config.accepted_only_in_use();
    if !unused.is_empty() {
        log!(
            Warning,
            "Directives that are accepted and have no effect here: {}",
            unused.join(", ")
        );
    }
}
