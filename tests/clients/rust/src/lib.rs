//! What the tests of both libraries share: where the server is, and waiting for conditions.

use std::future::Future;
use std::time::{Duration, Instant};

/// The URL of the server under test, with `query` after it.
pub fn url(query: &str) -> String {
    let port = std::env::var("SERVER_PORT").expect("SERVER_PORT is the port of the server to test");
    format!("redis://127.0.0.1:{port}/{query}")
}

const PATIENCE: Duration = Duration::from_secs(20);

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited too long for: {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

pub async fn until_async<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited too long for: {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}
