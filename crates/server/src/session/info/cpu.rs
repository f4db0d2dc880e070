//! `# CPU`.

use nix::sys::resource::{getrusage, UsageWho};
use nix::sys::time::TimeVal;

use super::{put, Section};

pub const SECTION: Section = Section {
    name: "cpu",
    title: "CPU",
    is_default: true,
    needs_shards: false,
    write: |facts, out| {
        put(
            facts,
            out,
            &[
                ("used_cpu_sys", |_| used(UsageWho::RUSAGE_SELF).0),
                ("used_cpu_user", |_| used(UsageWho::RUSAGE_SELF).1),
                ("used_cpu_sys_children", |_| {
                    used(UsageWho::RUSAGE_CHILDREN).0
                }),
                ("used_cpu_user_children", |_| {
                    used(UsageWho::RUSAGE_CHILDREN).1
                }),
                // Of the worker that answers: no thread is the main one.
                ("used_cpu_sys_main_thread", |_| {
                    used(UsageWho::RUSAGE_THREAD).0
                }),
                ("used_cpu_user_main_thread", |_| {
                    used(UsageWho::RUSAGE_THREAD).1
                }),
            ],
        );
    },
};

/// Seconds in the kernel and outside.
fn used(who: UsageWho) -> (String, String) {
    let text = |time: TimeVal| format!("{}.{:06}", time.tv_sec(), time.tv_usec());
    let usage = getrusage(who);
    usage.map_or((String::new(), String::new()), |usage| {
        (text(usage.system_time()), text(usage.user_time()))
    })
}
