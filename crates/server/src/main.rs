//! basalt-server: arguments, configuration, threads, wait.

mod allocator;
mod aof;
mod child;
mod clients;
mod clock;
mod codec;
mod command_stats;
mod coordinator;
mod crash;
mod load;
mod logger;
mod renames;
mod safe_point;
mod session;
mod shared;
mod signals;
mod snapshot;
mod startup;
mod stats;
mod worker;

use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use startup::Invocation;

#[global_allocator]
static ALLOCATOR: allocator::CountingAllocator = allocator::CountingAllocator;

fn main() -> ExitCode {
    let args: Vec<Vec<u8>> = std::env::args_os()
        .skip(1)
        .map(OsStringExt::into_vec)
        .collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[Vec<u8>]) -> Result<(), String> {
    let (mut config, config_file) = match startup::invocation(args)? {
        Invocation::Print(text) => {
            print!("{text}");
            return Ok(());
        }
        Invocation::Serve {
            config,
            config_file,
        } => (config, config_file),
    };
    crash::report_panics();
    if config.daemonize {
        nix::unistd::daemon(true, false)
            .map_err(|error| format!("Cannot become a daemon: {error}"))?;
    }
    startup::prepare(&mut config)?;
    for thread in startup::start(*config, config_file)? {
        // A panic has ended the process already.
        let _ = thread.join();
    }
    Ok(())
}
