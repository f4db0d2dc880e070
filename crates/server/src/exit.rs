//! The ends of the process that are not panics: all go through here.

use persistence::clock;

/// How a simulated process ended itself: what unwinds its one thread.
pub struct SimulatedExit(pub i32);

/// Ends the process; in a simulation, the simulated one.
pub fn exit(status: i32) -> ! {
    if clock::is_simulated() {
        // No panic, so that nothing reports it.
        std::panic::resume_unwind(Box::new(SimulatedExit(status)));
    }
    std::process::exit(status)
}
