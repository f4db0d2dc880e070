//! The same behaviour over real sockets, on io_uring and on epoll.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{frame, works_here, Echo, Protocol, Random, Server, PATIENCE};
use reactor::{bind_tcp, bind_unix, Backend, Options, Reactor, Stream};

macro_rules! on_both_backends {
    ($($name:ident),* $(,)?) => {
        mod io_uring {
            $(#[test]
            fn $name() {
                if crate::common::works_here(reactor::Backend::IoUring) {
                    super::$name(reactor::Backend::IoUring);
                }
            })*
        }
        mod epoll {
            $(#[test]
            fn $name() {
                super::$name(reactor::Backend::Epoll);
            })*
        }
    };
}

on_both_backends![
    echoes_whatever_the_chunks,
    echoes_ten_megabytes,
    receives_large_values_directly,
    works_with_hardly_any_buffers_and_a_tiny_ring,
    slows_down_a_peer_that_does_not_read,
    pausing_loses_nothing,
    a_peer_that_leaves_while_paused_is_noticed_after_resuming,
    closing_cuts_a_send_short,
    close_after_send_delivers_everything,
    close_gives_up_on_a_finishing_connection,
    a_reset_peer_is_reported_once,
    a_peer_that_leaves_amid_a_large_value_is_reported,
    sending_to_a_peer_that_left_is_harmless,
    stale_ids_are_nobody,
    a_half_closed_client_gets_its_replies,
    no_wake_is_lost,
    an_idle_reactor_sleeps,
    timeouts_are_kept,
    serves_unix_sockets,
    serves_ipv6_beside_ipv4,
    stops_listening,
    survives_waves_of_connections,
    can_be_dropped_with_everything_in_flight,
    streams_move_between_reactors,
];

fn start(backend: Backend, protocol: Protocol) -> (Server, u16) {
    start_with(backend, protocol, Options::default())
}

fn start_with(backend: Backend, protocol: Protocol, options: Options) -> (Server, u16) {
    let listener = bind_tcp("127.0.0.1", 0, 511).unwrap();
    let port = listener.port().unwrap();
    (Server::start(backend, protocol, options, listener), port)
}

fn connect(port: u16) -> TcpStream {
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client
}

/// Writes `sent` in random chunks while reading, and expects `expected` back.
fn exchange(client: &TcpStream, random: &mut Random, sent: &[u8], expected: &[u8]) {
    std::thread::scope(|scope| {
        let mut writer = client;
        let mut chunks = Random(random.next());
        scope.spawn(move || {
            let mut rest = sent;
            while !rest.is_empty() {
                let most = if chunks.below(2) == 0 { 20 } else { 100_000 };
                let (chunk, later) = rest.split_at(rest.len().min(1 + chunks.below(most)));
                writer.write_all(chunk).unwrap();
                rest = later;
            }
        });
        let mut received = vec![0; expected.len()];
        let mut reader = client;
        reader.read_exact(&mut received).unwrap();
        assert!(received == expected, "the echo differs");
    });
}

/// Writes until the peer takes no more for a good while; what was written.
fn write_until_blocked(client: &mut TcpStream, random: &mut Random) -> Vec<u8> {
    client
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let mut written = Vec::new();
    loop {
        let chunk = random.bytes(64 << 10);
        match client.write(&chunk) {
            Ok(count) => written.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break
            }
            Err(error) => panic!("{error}"),
        }
        assert!(written.len() < 256 << 20, "nothing slows the writer down");
    }
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    written
}

/// Reads to the end of the stream, which may come as a reset.
fn read_to_end(client: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    match client.read_to_end(&mut received) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    received
}

fn echoes_whatever_the_chunks(backend: Backend) {
    let (server, port) = start(backend, Protocol::Raw);
    let mut random = Random::new();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            let mut random = Random(random.next());
            scope.spawn(move || {
                let client = connect(port);
                let len = random.below(300_000);
                let bytes = random.bytes(len);
                exchange(&client, &mut random, &bytes, &bytes);
            });
        }
    });
    server.wait_until("twenty ends", |reactor, echo| {
        echo.closed.len() == 20 && reactor.connection_count() == 0
    });
}

fn echoes_ten_megabytes(backend: Backend) {
    let (_server, port) = start(backend, Protocol::Raw);
    let mut random = Random::new();
    let bytes = random.bytes(10 << 20);
    exchange(&connect(port), &mut random, &bytes, &bytes);
}

fn receives_large_values_directly(backend: Backend) {
    let (server, port) = start(backend, Protocol::Framed);
    let mut random = Random::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut random = Random(random.next());
            scope.spawn(move || {
                let (mut sent, mut expected) = (Vec::new(), Vec::new());
                for _ in 0..60 {
                    let most = [10, 40_000, 200_000, 3 << 20][random.below(4)];
                    let len = random.below(most);
                    let value = random.bytes(len);
                    sent.extend(frame(&value));
                    expected.extend(value);
                }
                exchange(&connect(port), &mut random, &sent, &expected);
            });
        }
    });
    let (values, reports) = server.call(|_, echo| (echo.direct_values, echo.progress_reports));
    assert!(values > 20, "{values} values received directly");
    assert!(reports > 0);
}

fn works_with_hardly_any_buffers_and_a_tiny_ring(backend: Backend) {
    let options = Options {
        receive_buffer_bytes: 512,
        receive_buffers: 2,
        ring_entries: 2,
        ..Options::default()
    };
    let (_server, port) = start_with(backend, Protocol::Framed, options);
    let mut random = Random::new();
    std::thread::scope(|scope| {
        for _ in 0..50 {
            let mut random = Random(random.next());
            scope.spawn(move || {
                let value = random.bytes(100_000);
                exchange(&connect(port), &mut random, &frame(&value), &value);
            });
        }
    });
}

fn slows_down_a_peer_that_does_not_read(backend: Backend) {
    let (server, port) = start(backend, Protocol::Raw);
    server.call(|_, echo| echo.output_limit = 1 << 20);
    let mut random = Random::new();
    let mut client = connect(port);
    let written = write_until_blocked(&mut client, &mut random);
    let peak = server.call(|_, echo| echo.output_peak);
    assert!(peak > 1 << 20, "the limit was reached");
    assert!(peak < 16 << 20, "{peak} bytes were let in");
    let mut received = vec![0; written.len()];
    client.read_exact(&mut received).unwrap();
    assert!(received == written);
    exchange(&client, &mut random, b"as before", b"as before");
}

fn pausing_loses_nothing(backend: Backend) {
    let (server, port) = start(backend, Protocol::Raw);
    let mut random = Random::new();
    let mut client = connect(port);
    let conn = server.only_connection();
    for _ in 0..5 {
        // Twice in a row, to and fro: what counts is the last.
        server.call(move |reactor, _| {
            reactor.pause(conn);
            reactor.resume(conn);
            reactor.pause(conn);
            reactor.pause(conn);
        });
        let written = write_until_blocked(&mut client, &mut random);
        server.call(move |reactor, _| {
            reactor.resume(conn);
            reactor.resume(conn);
        });
        let mut received = vec![0; written.len()];
        client.read_exact(&mut received).unwrap();
        assert!(received == written);
    }
}

fn a_peer_that_leaves_while_paused_is_noticed_after_resuming(backend: Backend) {
    let (server, port) = start(backend, Protocol::Raw);
    let client = connect(port);
    let conn = server.only_connection();
    server.call(move |reactor, _| reactor.pause(conn));
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    // A reset shows up even in what nobody watches; it must not keep the reactor busy.
    let before = server.call(|_, echo| echo.turns);
    std::thread::sleep(Duration::from_millis(50));
    let turns = server.call(|_, echo| echo.turns) - before;
    assert!(turns < 10, "{turns} turns over one dead connection");
    server.call(move |reactor, _| reactor.resume(conn));
    server.wait_until("the end", move |_, echo| {
        echo.closed.iter().any(|(id, _)| *id == conn)
    });
}

fn closing_cuts_a_send_short(backend: Backend) {
    let (server, port) = start(backend, Protocol::Raw);
    let mut client = connect(port);
    let conn = server.only_connection();
    let size = 64 << 20;
    server.call(move |reactor, _| {
        assert!(reactor.send(conn, vec![b'x'; size]).is_none());
        assert!(reactor.is_sending(conn));
    });
    // Once bytes arrive, the send is under way.
    let mut first = [0; 1000];
    client.read_exact(&mut first).unwrap();
    server.call(move |reactor, echo| {
        reactor.close(conn);
        echo.clients.remove(&conn);
        assert!(!reactor.is_sending(conn));
        assert_eq!(reactor.connection_count(), 0);
    });
    let rest = read_to_end(&mut client);
    assert!(rest.len() < size - first.len(), "the send was not cut");
    assert!(
        server.call(|_, echo| echo.closed.is_empty()),
        "no callback after close"
    );
    let mut random = Random::new();
    exchange(
        &connect(port),
        &mut random,
        b"others go on",
        b"others go on",
    );
}

fn close_after_send_delivers_everything(backend: Backend) {
    let (server, port) = start(backend, Protocol::Raw);
    let mut client = connect(port);
    let conn = server.only_connection();
    let sent = Random::new().bytes(20 << 20);
    let expected = sent.clone();
    server.call(move |reactor, _| {
        assert!(reactor.send(conn, sent).is_none());
        assert!(!reactor.close_after_send(conn));
        assert!(
            !reactor.close_after_send(conn),
            "asking twice changes nothing"
        );
        let refused = reactor.send(conn, b"too late".to_vec());
        assert_eq!(refused, Some(Vec::new()));
    });
    client.write_all(b"nobody hears this").unwrap();
    let mut received = vec![0; expected.len()];
    client.read_exact(&mut received).unwrap();
    assert!(received == expected);
    assert!(read_to_end(&mut client).is_empty());
    server.wait_until("the end", |reactor, echo| {
        reactor.connection_count() == 0 && echo.closed.len() == 1
    });
    assert!(server.call(|_, echo| echo.closed[0].1 == "Requested"));

    let mut client = connect(port);
    let conn = server.only_connection();
    server.call(move |reactor, echo| {
        assert!(reactor.close_after_send(conn), "nothing to wait for");
        echo.clients.remove(&conn);
    });
    assert!(read_to_end(&mut client).is_empty());
}

fn close_gives_up_on_a_finishing_connection(backend: Backend) {
    let (server, port) = start(backend, Protocol::Raw);
    let mut client = connect(port);
    let conn = server.only_connection();
    server.call(move |reactor, echo| {
        assert!(reactor.send(conn, vec![b'x'; 64 << 20]).is_none());
        assert!(!reactor.close_after_send(conn));
        reactor.close(conn);
        echo.clients.remove(&conn);
        assert!(reactor.stream(conn).is_none());
    });
    assert!(read_to_end(&mut client).len() < 64 << 20);
    assert!(server.call(|_, echo| echo.closed.is_empty()));
}

fn a_reset_peer_is_reported_once(backend: Backend) {
    let (server, port) = start(backend, Protocol::Raw);
    let mut client = connect(port);
    let conn = server.only_connection();
    // Sending fails as well as receiving.
    server.call(move |reactor, _| assert!(reactor.send(conn, vec![b'x'; 64 << 20]).is_none()));
    client.read_exact(&mut [0; 1000]).unwrap();
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    server.wait_until("the end", |reactor, echo| {
        reactor.connection_count() == 0 && !echo.closed.is_empty()
    });
    let closed = server.call(|_, echo| echo.closed.clone());
    assert_eq!(closed.len(), 1);
    // Which of the two is chance: the first operation to meet the reset takes the error with it.
    let reason = &closed[0].1;
    assert!(
        reason.starts_with("Error") || reason == "PeerClosed",
        "{reason}"
    );
}

fn a_peer_that_leaves_amid_a_large_value_is_reported(backend: Backend) {
    let (server, port) = start(backend, Protocol::Framed);
    let mut client = connect(port);
    let value = frame(&vec![b'x'; 1 << 20]);
    client.write_all(&value[..500_000]).unwrap();
    server.wait_until("progress", |_, echo| echo.progress_reports > 0);
    drop(client);
    server.wait_until("the end", |reactor, echo| {
        reactor.connection_count() == 0 && echo.closed.len() == 1
    });
}

fn sending_to_a_peer_that_left_is_harmless(backend: Backend) {
    let (server, port) = start(backend, Protocol::Raw);
    let client = connect(port);
    let conn = server.only_connection();
    server.call(move |reactor, _| reactor.pause(conn));
    drop(client);
    // The first send provokes the reset, a later one meets it; neither may raise SIGPIPE.
    let deadline = Instant::now() + PATIENCE;
    while server.call(|_, echo| echo.closed.is_empty()) {
        assert!(Instant::now() < deadline, "no send failed");
        server.call(move |_, echo| {
            if let Some(client) = echo.clients.get_mut(&conn) {
                client.output.extend_from_slice(b"anyone there?");
            }
        });
    }
    assert_eq!(server.call(|reactor, _| reactor.connection_count()), 0);
}

fn stale_ids_are_nobody(backend: Backend) {
    let (server, port) = start(backend, Protocol::Raw);
    let first_client = connect(port);
    let first = server.only_connection();
    drop(first_client);
    server.wait_until("the end", |_, echo| echo.clients.is_empty());
    let client = connect(port);
    let second = server.only_connection();
    assert_ne!(first, second);
    server.call(move |reactor, _| {
        assert_eq!(reactor.send(first, b"lost".to_vec()), Some(Vec::new()));
        reactor.pause(first);
        reactor.resume(first);
        reactor.receive_into(first, Vec::new(), 10);
        assert!(reactor.close_after_send(first));
        reactor.close(first);
        assert!(!reactor.is_sending(first));
        assert!(reactor.raw_fd(first).is_none());
        assert!(reactor.raw_fd(second).is_some());
        assert_eq!(reactor.connection_count(), 1);
    });
    exchange(&client, &mut Random::new(), b"unharmed", b"unharmed");
}

fn a_half_closed_client_gets_its_replies(backend: Backend) {
    let (_server, port) = start(backend, Protocol::Raw);
    for _ in 0..50 {
        let mut client = connect(port);
        client.write_all(b"the last request").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut received = String::new();
        client.read_to_string(&mut received).unwrap();
        assert_eq!(received, "the last request");
    }
}

fn no_wake_is_lost(backend: Backend) {
    const THREADS: u64 = 4;
    const WAKES: u64 = 20_000;
    let (server, _) = start(backend, Protocol::Raw);
    let posted = Arc::new(AtomicU64::new(0));
    let seen = Arc::new(AtomicU64::new(0));
    server.call({
        let (posted, seen) = (posted.clone(), seen.clone());
        move |_, echo| {
            echo.on_wake = Some(Box::new(move || {
                seen.store(posted.load(Ordering::Relaxed), Ordering::Relaxed);
            }));
        }
    });
    // What was posted before a wake must be seen without any further wake.
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (posted, seen, notifier) = (posted.clone(), seen.clone(), server.notifier());
            scope.spawn(move || {
                for count in 0..WAKES {
                    let mine = posted.fetch_add(1, Ordering::Relaxed) + 1;
                    notifier.wake();
                    if count % 16 == thread {
                        let deadline = Instant::now() + PATIENCE;
                        while seen.load(Ordering::Relaxed) < mine {
                            assert!(Instant::now() < deadline, "a wake was lost");
                            std::thread::yield_now();
                        }
                    }
                }
            });
        }
    });
    let deadline = Instant::now() + PATIENCE;
    while seen.load(Ordering::Relaxed) < THREADS * WAKES {
        assert!(Instant::now() < deadline, "the last wake was lost");
        std::thread::yield_now();
    }
}

fn an_idle_reactor_sleeps(backend: Backend) {
    let (server, port) = start(backend, Protocol::Raw);
    let clients: Vec<TcpStream> = (0..10).map(|_| connect(port)).collect();
    server.wait_until("ten connections", |_, echo| echo.clients.len() == 10);
    for client in &clients {
        exchange(client, &mut Random(1), b"once", b"once");
    }
    let before = server.call(|_, echo| echo.turns);
    std::thread::sleep(Duration::from_millis(200));
    let turns = server.call(|_, echo| echo.turns) - before;
    assert!(turns < 5, "{turns} turns while nothing happened");
}

fn timeouts_are_kept(backend: Backend) {
    let mut reactor = Reactor::new(backend, Options::default()).unwrap();
    let mut echo = Echo::new(Protocol::Raw);
    let start = Instant::now();
    reactor.turn(Some(Duration::ZERO), &mut echo).unwrap();
    assert!(start.elapsed() < Duration::from_millis(500));
    for millis in [1, 30] {
        let timeout = Duration::from_millis(millis);
        let start = Instant::now();
        reactor.turn(Some(timeout), &mut echo).unwrap();
        assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
    }
    // A wake from the thread itself is not slept through.
    reactor.notifier().wake();
    reactor.turn(None, &mut echo).unwrap();
    assert_eq!(echo.wakes, 1);
    // The longest timeout there is waits, and does not overflow into none.
    let notifier = reactor.notifier();
    let waker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        notifier.wake();
    });
    let start = Instant::now();
    reactor.turn(Some(Duration::MAX), &mut echo).unwrap();
    assert_eq!(echo.wakes, 2);
    assert!(start.elapsed() >= Duration::from_millis(20));
    waker.join().unwrap();
}

fn serves_unix_sockets(backend: Backend) {
    let directory = std::env::temp_dir().join(format!("reactor-{}-{backend}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("socket");
    drop(bind_unix(&path, None, 10).unwrap());
    let listener = bind_unix(&path, Some(0o700), 10).expect("the old socket is replaced");
    assert_eq!(listener.local_address(), format!("{}:0", path.display()));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let server = Server::start(backend, Protocol::Raw, Options::default(), listener);

    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"through a file").unwrap();
    let mut received = [0; 14];
    client.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"through a file");

    let conn = server.only_connection();
    let name = format!("{}:0", path.display());
    server.call(move |reactor, _| {
        let stream = reactor.stream(conn).unwrap();
        assert!(stream.is_unix() && stream.peer_is_loopback());
        assert_eq!(stream.peer_address(), name);
        assert_eq!(stream.local_address(), name);
        stream.set_keepalive(300).unwrap();
    });
    drop(client);
    server.wait_until("the end", |_, echo| echo.closed.len() == 1);
    drop(server);
    assert!(path.exists(), "the file is its owner's to remove");
    std::fs::write(directory.join("file"), "precious").unwrap();
    assert!(bind_unix(&directory.join("file"), None, 10).is_err());
    std::fs::remove_dir_all(&directory).unwrap();
}

fn serves_ipv6_beside_ipv4(backend: Backend) {
    let four = bind_tcp("*", 0, 511).unwrap();
    let port = four.port().unwrap();
    let six = bind_tcp("::*", port, 511).expect("IPv6 alone, on the port that IPv4 has");
    assert_eq!(four.local_address(), format!("0.0.0.0:{port}"));
    assert_eq!(six.local_address(), format!("[::]:{port}"));
    let server = Server::start(backend, Protocol::Raw, Options::default(), four);
    server.call(move |reactor, _| reactor.listen(six, 8).unwrap());

    let client = TcpStream::connect(("::1", port)).unwrap();
    exchange(&client, &mut Random(6), b"six", b"six");
    let conn = server.only_connection();
    let peer = client.local_addr().unwrap().to_string();
    assert!(peer.starts_with("[::1]:"));
    server.call(move |reactor, _| {
        let stream = reactor.stream(conn).unwrap();
        assert_eq!(stream.peer_address(), peer);
        assert_eq!(stream.local_address(), format!("[::1]:{port}"));
        assert!(stream.peer_is_loopback() && !stream.is_unix());
        stream.set_keepalive(300).unwrap();
        let socket = socket2::SockRef::from(unsafe_borrow(stream.raw_fd().unwrap()));
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(300)
        );
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(100)
        );
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        stream.set_keepalive(0).unwrap();
        assert!(!socket.keepalive().unwrap());
        assert!(socket.tcp_nodelay().unwrap());
    });
    drop(client);
    exchange(&connect(port), &mut Random(4), b"four", b"four");
    assert!(bind_tcp("256.1.1.1", 0, 1).is_err());
    assert!(bind_tcp("127.0.0.1", port, 1).is_err(), "the port is taken");
}

/// A descriptor that outlives the test's use of it.
fn unsafe_borrow(fd: i32) -> &'static std::os::fd::BorrowedFd<'static> {
    // SAFETY: the connection stays open for as long as the test looks at its options.
    Box::leak(Box::new(unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }))
}

fn stops_listening(backend: Backend) {
    let (server, port) = start(backend, Protocol::Raw);
    let client = connect(port);
    server.only_connection();
    server.call(|reactor, _| reactor.stop_listening());
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(Instant::now() < deadline, "still listening");
        server.call(|_, _| ());
    }
    exchange(&client, &mut Random(1), b"still served", b"still served");
    let again = bind_tcp("127.0.0.1", port, 511).unwrap();
    server.call(move |reactor, _| reactor.listen(again, 9).unwrap());
    exchange(&connect(port), &mut Random(1), b"anew", b"anew");
}

fn survives_waves_of_connections(backend: Backend) {
    let (server, port) = start(backend, Protocol::Raw);
    for wave in 1..=5 {
        let clients: Vec<TcpStream> = (0..300).map(|_| connect(port)).collect();
        for mut client in &clients {
            client.write_all(b"here").unwrap();
        }
        for mut client in &clients {
            let mut received = [0; 4];
            client.read_exact(&mut received).unwrap();
        }
        drop(clients);
        server.wait_until("an empty server", move |reactor, echo| {
            reactor.connection_count() == 0 && echo.closed.len() == 300 * wave
        });
    }
    let slots = server.call(|_, echo| echo.closed.iter().map(|(conn, _)| conn.slot()).max());
    assert!(slots.unwrap() < 900, "slots are used again");
}

fn can_be_dropped_with_everything_in_flight(backend: Backend) {
    let (server, port) = start(backend, Protocol::Framed);
    let mut clients: Vec<TcpStream> = (0..8).map(|_| connect(port)).collect();
    server.wait_until("eight connections", |_, echo| echo.clients.len() == 8);
    for client in &mut clients[..4] {
        let value = frame(&vec![b'x'; 1 << 20]);
        client.write_all(&value[..400_000]).unwrap();
    }
    server.wait_until("large values under way", |_, echo| {
        echo.progress_reports >= 4
    });
    server.call(|reactor, echo| {
        for &conn in echo.clients.keys() {
            let _ = reactor.send(conn, vec![b'x'; 32 << 20]);
        }
    });
    drop(server);
    for mut client in clients {
        assert!(read_to_end(&mut client).len() < 32 << 20);
    }
}

fn streams_move_between_reactors(backend: Backend) {
    let (near, mut far) = UnixStream::pair().unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    let (server, _) = start(backend, Protocol::Raw);
    let stream = Stream::from(std::os::fd::OwnedFd::from(near));
    server.call(move |reactor, echo| {
        let conn = reactor.add(stream).unwrap();
        echo.clients.insert(conn, Default::default());
    });
    far.write_all(b"from afar").unwrap();
    let mut received = [0; 9];
    far.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"from afar");
}

#[test]
fn a_real_backend_is_what_was_asked_for() {
    for backend in [Backend::IoUring, Backend::Epoll] {
        if works_here(backend) {
            assert_eq!(
                Reactor::new(backend, Options::default()).unwrap().backend(),
                backend
            );
        }
    }
    assert!(Reactor::new(Backend::Simulated, Options::default()).is_err());
}
