//! What happens where the system says no. Each test runs its body in a process of its own, whose limits it lowers.

mod common;

use std::env;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use common::{works_here, Protocol, Server, PATIENCE};
use reactor::{bind_tcp, probe, Backend, BackendChoice, Options, Reactor};

const CHILD: &str = "REACTOR_TEST_CHILD";

/// Runs `body` in a new process of this very test.
fn in_a_process_of_its_own(test: &str, body: impl FnOnce()) {
    if env::var(CHILD).is_ok_and(|child| child == test) {
        return body();
    }
    let output = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, test)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Makes io_uring_setup fail with EPERM for this thread, as the default seccomp profile of containers does.
fn forbid_io_uring() {
    let load_number = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let jump_if_equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let give_back = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(load_number, 0, 0, 0),
        step(jump_if_equal, 0, 1, libc::SYS_io_uring_setup as u32),
        step(
            give_back,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        step(give_back, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program and its filter outlive the calls, which copy them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &program, 0, 0), 0);
    }
}

#[test]
fn where_io_uring_is_forbidden_auto_takes_epoll_and_says_why() {
    in_a_process_of_its_own(
        "where_io_uring_is_forbidden_auto_takes_epoll_and_says_why",
        || {
            forbid_io_uring();
            let chosen = probe(BackendChoice::Auto).expect("auto always finds one");
            assert_eq!(chosen.backend, Backend::Epoll);
            assert!(
                chosen.reason.contains("Operation not permitted"),
                "{}",
                chosen.reason
            );
            assert!(chosen.reason.contains("seccomp"), "{}", chosen.reason);
            let problem = probe(BackendChoice::IoUring).expect_err("forced and forbidden");
            assert!(problem.contains("Operation not permitted"), "{problem}");
            assert!(Reactor::new(Backend::IoUring, Options::default()).is_err());
            assert_eq!(probe(BackendChoice::Epoll).unwrap().backend, Backend::Epoll);
            Reactor::new(chosen.backend, Options::default()).expect("the fallback works");
        },
    );
}

#[test]
fn a_forced_epoll_is_taken() {
    assert_eq!(probe(BackendChoice::Epoll).unwrap().backend, Backend::Epoll);
    assert_eq!("IO_URING".parse(), Ok(BackendChoice::IoUring));
    assert_eq!("auto".parse(), Ok(BackendChoice::Auto));
    assert!("select".parse::<BackendChoice>().is_err());
}

fn limit_descriptors(limit: u64) {
    let limits = libc::rlimit {
        rlim_cur: limit,
        rlim_max: limit,
    };
    // SAFETY: reads one structure.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limits) }, 0);
}

fn echoes(mut client: &TcpStream) {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"hello").unwrap();
    let mut received = [0; 5];
    client.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"hello");
}

/// Clients live in the same process, so each served one takes two descriptors; those that are refused by the limit
/// wait in the backlog and must be served once there is room.
fn runs_out_of_descriptors(backend: Backend) {
    if !works_here(backend) {
        return;
    }
    // First of all: io_uring notes the limit when it begins to accept.
    limit_descriptors(40);
    let listener = bind_tcp("127.0.0.1", 0, 511).unwrap();
    let port = listener.port().unwrap();
    let options = Options {
        accept_retry: Duration::from_millis(20),
        ..Options::default()
    };
    let server = Server::start(backend, Protocol::Raw, options, listener);
    let mut clients: Vec<TcpStream> = Vec::new();
    for _ in 0..8 {
        clients.push(TcpStream::connect(("127.0.0.1", port)).unwrap());
    }
    server.wait_until("eight clients", |_, echo| echo.clients.len() == 8);
    // Takes all descriptors that are left while the server does not look; it finds none for these clients.
    std::thread::scope(|scope| {
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let (stop, stopped) = std::sync::mpsc::channel();
        let server = &server;
        scope.spawn(move || {
            server.call(move |_, _| {
                stop.send(()).unwrap();
                let _ = gone.recv();
            });
        });
        stopped.recv().unwrap();
        while let Ok(client) = TcpStream::connect(("127.0.0.1", port)) {
            clients.push(client);
        }
        drop(go);
    });
    assert!(clients.len() > 8, "{} clients", clients.len());
    server.wait_until("a failed accept", |_, echo| echo.accept_failures > 0);
    let (turns, failures) = server.call(|_, echo| (echo.turns, echo.accept_failures));
    assert!(failures < 5, "{failures} reports of one spell");
    std::thread::sleep(Duration::from_millis(200));
    let spent = server.call(|_, echo| echo.turns) - turns;
    assert!(spent < 40, "{spent} turns while out of descriptors");
    for client in &clients[..5] {
        echoes(client);
    }
    // Half of them go: room for all that wait.
    clients.drain(..clients.len() / 2);
    for client in &clients {
        echoes(client);
    }
    let left = clients.len();
    server.wait_until("all served", move |_, echo| echo.clients.len() == left);
}

#[test]
fn io_uring_survives_running_out_of_descriptors() {
    in_a_process_of_its_own("io_uring_survives_running_out_of_descriptors", || {
        runs_out_of_descriptors(Backend::IoUring);
    });
}

#[test]
fn epoll_survives_running_out_of_descriptors() {
    in_a_process_of_its_own("epoll_survives_running_out_of_descriptors", || {
        runs_out_of_descriptors(Backend::Epoll);
    });
}

#[test]
fn a_forked_child_may_exit_without_harm_to_the_parents_reactor() {
    in_a_process_of_its_own(
        "a_forked_child_may_exit_without_harm_to_the_parents_reactor",
        || {
            for backend in [Backend::IoUring, Backend::Epoll] {
                if !works_here(backend) {
                    continue;
                }
                let listener = bind_tcp("127.0.0.1", 0, 511).unwrap();
                let port = listener.port().unwrap();
                let server = Server::start(backend, Protocol::Raw, Options::default(), listener);
                let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
                echoes(&client);
                server.call(|_, _| {
                    // SAFETY: the child calls nothing but _exit.
                    let child = unsafe { libc::fork() };
                    if child == 0 {
                        // SAFETY: as above.
                        unsafe { libc::_exit(7) };
                    }
                    let mut status = 0;
                    // SAFETY: writes the status of our own child.
                    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                    assert_eq!(libc::WEXITSTATUS(status), 7);
                });
                echoes(&client);
                echoes(&TcpStream::connect(("127.0.0.1", port)).unwrap());
            }
        },
    );
}
