//! fred over RESP2 and RESP3: one client for many tasks, pools, subscribers that come back. One test at a time: each begins with FLUSHALL.

use std::collections::HashMap;
use std::time::Duration;

use client_tests::{until_async, url};
use fred::prelude::*;
use fred::types::client::ClientKillFilter;
use fred::types::scripts::Script;
use fred::types::streams::XReadResponse;
use fred::types::RespVersion;
use futures_util::TryStreamExt;

const VERSIONS: [RespVersion; 2] = [RespVersion::RESP2, RespVersion::RESP3];

fn builder(version: RespVersion) -> Builder {
    let mut config = Config::from_url(&url("")).expect("a URL");
    config.version = version;
    let mut builder = Builder::from_config(config);
    builder.set_policy(ReconnectPolicy::new_constant(0, 10));
    builder.with_connection_config(|connection| {
        connection.connection_timeout = Duration::from_secs(10)
    });
    builder
}

async fn connect(version: RespVersion) -> FredResult<Client> {
    let client = builder(version).build()?;
    client.init().await?;
    Ok(client)
}

async fn empty(version: RespVersion) -> FredResult<Client> {
    let client = connect(version).await?;
    client.flushall::<()>(false).await?;
    Ok(client)
}

/// Publishes until somebody hears it: fred's `subscribe` does not wait for the server's answer.
async fn heard(client: &Client, message: &str) {
    until_async("a subscriber", || async {
        client
            .publish::<i64, _, _>("news", message)
            .await
            .expect("PUBLISH")
            == 1
    })
    .await;
}

async fn one_blocked(client: &Client) {
    until_async("a blocked client", || async {
        let info: String = client
            .info(Some(fred::types::InfoKind::Clients))
            .await
            .expect("INFO");
        info.contains("blocked_clients:1\r\n")
    })
    .await;
}

#[tokio::test]
async fn typed_replies() -> FredResult<()> {
    for version in VERSIONS {
        let r = empty(version).await?;
        r.set::<(), _, _>(
            "k",
            42,
            Some(Expiration::EX(100)),
            Some(SetOptions::NX),
            false,
        )
        .await?;
        assert_eq!(r.get::<i64, _>("k").await?, 42);
        assert_eq!(r.get::<Option<String>, _>("missing").await?, None);
        assert!(r.ttl::<i64, _>("k").await? > 0);
        r.hset::<(), _, _>("h", HashMap::from([("f", "v")])).await?;
        assert_eq!(
            r.hgetall::<HashMap<String, String>, _>("h").await?["f"],
            "v"
        );
        r.zadd::<(), _, _>("z", None, None, false, false, vec![(1.5, "a"), (2.0, "b")])
            .await?;
        let ranked: Vec<(String, f64)> = r.zrange("z", 0, -1, None, false, None, true).await?;
        assert_eq!(ranked, [("a".into(), 1.5), ("b".into(), 2.0)]);
        let error = r
            .lpush::<(), _, _>("k", "x")
            .await
            .expect_err("a string is no list");
        assert!(error.details().starts_with("WRONGTYPE"), "{error}");
        let keys: Vec<_> = r.scan_buffered("*", Some(10), None).try_collect().await?;
        assert_eq!(keys.len(), 3);
        r.quit().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_pool_a_pipeline_and_a_transaction() -> FredResult<()> {
    for version in VERSIONS {
        let r = empty(version.clone()).await?;
        let pool = builder(version).build_pool(4)?;
        pool.init().await?;
        let tasks: Vec<_> = (0..400i64)
            .map(|i| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    pool.set::<(), _, _>(format!("k{i}"), i, None, None, false)
                        .await?;
                    pool.incr::<(), _>("count").await?;
                    FredResult::Ok(pool.get::<i64, _>(format!("k{i}")).await? == i)
                })
            })
            .collect();
        for task in tasks {
            assert!(task.await.expect("no panic")?);
        }
        assert_eq!(r.get::<i64, _>("count").await?, 400);

        let pipeline = r.pipeline();
        pipeline.incr::<(), _>("count").await?;
        pipeline.get::<(), _>("count").await?;
        assert_eq!(pipeline.all::<(i64, i64)>().await?, (401, 401));

        let transaction = r.multi();
        transaction
            .set::<(), _, _>("a", 1, None, None, false)
            .await?;
        transaction.incr::<(), _>("a").await?;
        assert_eq!(
            transaction.exec::<(String, i64)>(true).await?,
            ("OK".into(), 2)
        );
        pool.quit().await?;
        r.quit().await?;
    }
    Ok(())
}

#[tokio::test]
async fn messages_and_a_subscriber_that_comes_back() -> FredResult<()> {
    for version in VERSIONS {
        let r = empty(version.clone()).await?;
        let subscriber = connect(version).await?;
        let mut messages = subscriber.message_rx();
        let mut reconnected = subscriber.reconnect_rx();
        subscriber.subscribe("news").await?;
        heard(&r, "hello").await;
        let message = messages.recv().await.expect("a message");
        assert_eq!(
            (
                message.channel.to_string(),
                message.value.convert::<String>()?
            ),
            ("news".into(), "hello".into())
        );

        let ids = subscriber.connection_ids();
        let id = ids.values().next().expect("a connection");
        assert_eq!(
            r.client_kill::<i64>(vec![ClientKillFilter::ID(id.to_string())])
                .await?,
            1
        );
        reconnected.recv().await.expect("a reconnection");
        subscriber.subscribe("news").await?;
        heard(&r, "again").await;
        assert_eq!(
            messages
                .recv()
                .await
                .expect("a message")
                .value
                .convert::<String>()?,
            "again"
        );
        subscriber.quit().await?;
        r.quit().await?;
    }
    Ok(())
}

#[tokio::test]
async fn blocking_and_streams() -> FredResult<()> {
    for version in VERSIONS {
        let r = empty(version.clone()).await?;
        let waiting = connect(version).await?;
        let popping = waiting.clone();
        let popped = tokio::spawn(async move {
            popping
                .blpop::<(String, String), _>(vec!["other", "queue"], 0.0)
                .await
        });
        one_blocked(&r).await;
        r.rpush::<(), _, _>("queue", "job").await?;
        assert_eq!(
            popped.await.expect("no panic")?,
            ("queue".into(), "job".into())
        );

        r.xgroup_create::<(), _, _, _>("events", "workers", "$", true)
            .await?;
        let reading = waiting.clone();
        let read = tokio::spawn(async move {
            let reply: FredResult<XReadResponse<String, String, String, String>> = reading
                .xreadgroup_map(
                    "workers",
                    "alice",
                    Some(10),
                    Some(20_000),
                    false,
                    "events",
                    ">",
                )
                .await;
            reply
        });
        one_blocked(&r).await;
        let id: String = r
            .xadd("events", false, None, "*", vec![("kind", "login")])
            .await?;
        let reply = read.await.expect("no panic")?;
        assert_eq!(
            reply["events"],
            [(id.clone(), HashMap::from([("kind".into(), "login".into())]))]
        );
        assert_eq!(r.xack::<i64, _, _, _>("events", "workers", id).await?, 1);
        waiting.quit().await?;
        r.quit().await?;
    }
    Ok(())
}

#[tokio::test]
async fn scripts() -> FredResult<()> {
    for version in VERSIONS {
        let r = empty(version).await?;
        let script = Script::from_lua("return {redis.call('INCRBY', KEYS[1], ARGV[1]), KEYS[1]}");
        let reply: (i64, String) = script.evalsha_with_reload(&r, vec!["n"], vec![3]).await?;
        assert_eq!(reply, (3, "n".into()));
        assert_eq!(
            r.eval::<i64, _, _, _>(
                "return redis.call('STRLEN', KEYS[1])",
                vec!["n"],
                Vec::<String>::new()
            )
            .await?,
            1
        );
        r.quit().await?;
    }
    Ok(())
}
