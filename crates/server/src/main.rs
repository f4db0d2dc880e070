//! basalt-server: arguments, configuration, threads, wait.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use server::recovery::Restore;
use server::startup::Invocation;
use server::{allocator, crash, names, recovery, startup, supervision};

#[global_allocator]
static ALLOCATOR: allocator::CountingAllocator = allocator::CountingAllocator;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let argv0 = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    if let Some(code) = names::run_tool(&argv0, &args) {
        return code;
    }
    let args: Vec<Vec<u8>> = args.into_iter().map(OsStringExt::into_vec).collect();
    match run(&argv0, &args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(argv0: &OsStr, args: &[Vec<u8>]) -> Result<(), String> {
    let invocation = names::redis_invocation(argv0, args);
    let invocation = invocation.unwrap_or_else(|| startup::invocation(args))?;
    let (mut config, config_file, restore) = match invocation {
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
