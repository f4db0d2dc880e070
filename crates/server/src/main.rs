//! basalt-server: arguments, configuration, threads, wait.

use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use server::recovery::Restore;
use server::startup::Invocation;
use server::{allocator, crash, recovery, startup, supervision};

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
    let (mut config, config_file, restore) = match startup::invocation(args)? {
        Invocation::Print(text) => {
            print!("{text}");
            return Ok(());
        }
        Invocation::Serve {
            config,
            config_file,
            restore,
        } => (config, config_file, restore),
    };
    if let Some(Restore {
        point,
        dry_run: true,
    }) = restore
    {
        print!("{}", recovery::dry_run(&config, point)?);
        return Ok(());
    }
    crash::report_panics();
    let supervised = supervision::begin(config.supervised);
    if config.daemonize && !supervised {
        nix::unistd::daemon(true, false)
            .map_err(|error| format!("Cannot become a daemon: {error}"))?;
    }
    startup::prepare(&mut config)?;
    for thread in startup::start(*config, config_file, restore)? {
        // A panic has ended the process already.
        let _ = thread.join();
    }
    Ok(())
}
