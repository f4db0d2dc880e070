//! The protocol of baton and inbox in every interleaving of a few threads, by loom:
//!
//!     RUSTFLAGS="--cfg loom" cargo test -p keyspace --test baton_model --release
//!
//! Without that flag the file is empty. What is run is the code of `keyspace::{baton, inbox, post}`
//! itself. The tests that end in `_is_noticed` break the protocol on purpose and must fail: they
//! show that the model sees what it is there to see.
#![cfg(loom)]

use keyspace::inbox::Inbox;
use keyspace::Post;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use loom::sync::Arc;
use loom::thread;

/// A value whose use by two threads at once loses counts, which loom also reports by itself.
#[derive(Default)]
struct Counted {
    runs: usize,
}

type Cell = Post<Counted, usize>;

fn cell() -> Arc<Cell> {
    Arc::new(Post::new(Counted::default()))
}

fn run(counted: &mut Counted, inbox: &Inbox<usize>) {
    let mut messages = Vec::new();
    inbox.take(&mut messages);
    counted.runs += messages.iter().sum::<usize>();
}

/// What a worker does with a command for a shard: in place if the baton is free, else posted.
fn command(cell: &Cell) {
    match cell.baton.try_take() {
        Some(mut guard) => {
            guard.runs += 1;
            cell.release(guard, run);
        }
        None => {
            cell.inbox.post(1);
            cell.serve(run);
        }
    }
}

fn runs_at_end(cell: &Cell) -> usize {
    let guard = cell
        .baton
        .try_take()
        .expect("nobody holds the baton at the end");
    guard.runs
}

/// Starts a thread for each of `threads` but the last, which runs here, and waits for all.
fn together(mut threads: Vec<Box<dyn FnOnce() + Send>>) {
    let last = threads.pop().expect("some thread");
    let started: Vec<_> = threads.into_iter().map(thread::spawn).collect();
    last();
    for thread in started {
        thread.join().expect("no thread panics");
    }
}

fn many(cell: &Arc<Cell>, count: usize, work: fn(&Cell)) -> Vec<Box<dyn FnOnce() + Send>> {
    (0..count)
        .map(|_| {
            let cell = cell.clone();
            Box::new(move || work(&cell)) as Box<dyn FnOnce() + Send>
        })
        .collect()
}

/// A model of more than two threads, all of whose interleavings with so many forced switches
/// are run: almost every bug needs two.
fn bounded(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn one_thread_at_a_time_has_the_value() {
    loom::model(|| {
        let cell = cell();
        together(many(&cell, 2, |cell| cell.baton.take().runs += 1));
        assert_eq!(runs_at_end(&cell), 2);
    });
}

#[test]
fn every_sleeper_is_woken() {
    // A sleeper that is not woken is a deadlock, which loom reports.
    bounded(|| {
        let cell = cell();
        together(many(&cell, 3, |cell| cell.baton.take().runs += 1));
        assert_eq!(runs_at_end(&cell), 3);
    });
}

#[test]
fn a_sleeper_is_woken_by_those_who_only_try() {
    bounded(|| {
        let cell = cell();
        let mut threads = many(&cell, 2, command);
        threads.extend(many(&cell, 1, |cell| {
            let mut guard = cell.baton.take();
            guard.runs += 1;
            cell.release(guard, run);
        }));
        together(threads);
        assert_eq!(runs_at_end(&cell), 3);
        assert!(cell.inbox.is_empty());
    });
}

#[test]
fn no_command_is_left_behind() {
    loom::model(|| {
        let cell = cell();
        together(many(&cell, 2, command));
        assert_eq!(runs_at_end(&cell), 2);
        assert!(cell.inbox.is_empty());
    });
}

#[test]
fn no_command_is_left_behind_among_three() {
    bounded(|| {
        let cell = cell();
        together(many(&cell, 3, command));
        assert_eq!(runs_at_end(&cell), 3);
        assert!(cell.inbox.is_empty());
    });
}

#[test]
fn several_batons_are_taken_in_order_without_deadlock() {
    bounded(|| {
        let (low, high) = (cell(), cell());
        let both = {
            let (low, high) = (low.clone(), high.clone());
            move || {
                let mut first = low.baton.take();
                let mut second = high.baton.take();
                first.runs += 1;
                second.runs += 1;
                low.release(first, run);
                high.release(second, run);
            }
        };
        let mut threads: Vec<Box<dyn FnOnce() + Send>> =
            vec![Box::new(both.clone()), Box::new(both)];
        threads.extend(many(&high, 1, command));
        together(threads);
        assert_eq!((runs_at_end(&low), runs_at_end(&high)), (2, 3));
    });
}

#[test]
fn who_does_not_serve_has_the_home_worker_do_it() {
    bounded(|| {
        let cell = cell();
        let woken = Arc::new(AtomicBool::new(false));
        let coordinator = {
            let (cell, woken) = (cell.clone(), woken.clone());
            Box::new(move || {
                let mut guard = cell.baton.take();
                guard.runs += 1;
                if cell.release_unserved(guard) {
                    woken.store(true, SeqCst);
                }
            })
        };
        let mut threads = many(&cell, 1, command);
        threads.push(coordinator);
        together(threads);
        if woken.load(SeqCst) {
            cell.serve(run);
        }
        assert_eq!(runs_at_end(&cell), 2);
    });
}

/// `message`: commands are only ever posted, and the home worker is woken to run them.
#[test]
fn posted_commands_meet_a_home_worker_and_a_holder() {
    bounded(|| {
        let cell = cell();
        let wakes = Arc::new(AtomicUsize::new(0));
        let poster = {
            let (cell, wakes) = (cell.clone(), wakes.clone());
            Box::new(move || {
                cell.inbox.post(1);
                wakes.fetch_add(1, SeqCst);
            })
        };
        let home = {
            let (cell, wakes) = (cell.clone(), wakes.clone());
            Box::new(move || {
                if wakes.swap(0, SeqCst) > 0 {
                    cell.serve(run);
                }
            })
        };
        let mut threads: Vec<Box<dyn FnOnce() + Send>> = vec![poster, home];
        threads.extend(many(&cell, 1, |cell| {
            let guard = cell.baton.take();
            cell.release(guard, run);
        }));
        together(threads);
        // A wake that is still to be seen ends the home worker's next wait.
        if wakes.load(SeqCst) > 0 {
            cell.serve(run);
        }
        assert_eq!(runs_at_end(&cell), 1);
    });
}

#[test]
#[should_panic]
fn a_release_without_a_second_look_is_noticed() {
    loom::model(|| {
        let cell = cell();
        together(many(&cell, 2, |cell| match cell.baton.try_take() {
            Some(mut guard) => {
                guard.runs += 1;
                if !cell.inbox.is_empty() {
                    run(&mut guard, &cell.inbox);
                }
            }
            None => {
                cell.inbox.post(1);
                cell.serve(run);
            }
        }));
        assert_eq!(runs_at_end(&cell), 2);
    });
}

#[test]
#[should_panic]
fn a_post_without_a_second_try_is_noticed() {
    loom::model(|| {
        let cell = cell();
        together(many(&cell, 2, |cell| match cell.baton.try_take() {
            Some(mut guard) => {
                guard.runs += 1;
                cell.release(guard, run);
            }
            None => cell.inbox.post(1),
        }));
        assert_eq!(runs_at_end(&cell), 2);
    });
}
