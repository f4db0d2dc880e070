//! redis-rs: plain connections, multiplexed ones of tokio, the connection manager. One test at a time: each begins with FLUSHALL.

use std::collections::{HashMap, HashSet};
use std::thread;

use client_tests::{until, until_async, url};
use futures_util::StreamExt;
use redis::aio::ConnectionManagerConfig;
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{
    AsyncCommands, AsyncConnectionConfig, Client, Commands, Connection, PushKind, RedisResult,
    Script,
};

const PROTOCOLS: [&str; 2] = ["", "?protocol=resp3"];

fn client(query: &str) -> Client {
    Client::open(url(query)).expect("a URL")
}

fn empty(query: &str) -> Connection {
    let mut con = client(query).get_connection().expect("a connection");
    redis::cmd("FLUSHALL").exec(&mut con).expect("FLUSHALL");
    con
}

#[test]
fn typed_replies() -> RedisResult<()> {
    for query in PROTOCOLS {
        let mut con = empty(query);
        let _: () = con.set("k", 42)?;
        assert_eq!(con.get::<_, i64>("k")?, 42);
        assert_eq!(con.get::<_, Option<String>>("missing")?, None);
        let _: () = con.hset_multiple("h", &[("f", 1), ("g", 2)])?;
        assert_eq!(
            con.hgetall::<_, HashMap<String, i32>>("h")?,
            HashMap::from([("f".into(), 1), ("g".into(), 2)])
        );
        let _: () = con.zadd_multiple("z", &[(1.5, "a"), (f64::INFINITY, "b")])?;
        assert_eq!(
            con.zrange_withscores::<_, Vec<(String, f64)>>("z", 0, -1)?,
            [("a".into(), 1.5), ("b".into(), f64::INFINITY)]
        );
        let _: () = con.sadd("s", &["x", "y"])?;
        assert_eq!(
            con.smembers::<_, HashSet<String>>("s")?,
            HashSet::from(["x".into(), "y".into()])
        );
        let _: () = con.set(&[0u8, 255][..], &[13u8, 10, 0][..])?;
        assert_eq!(con.get::<_, Vec<u8>>(&[0u8, 255][..])?, [13, 10, 0]);
        assert!(con.expire::<_, bool>("k", 100)?);
        let error = con
            .lpush::<_, _, ()>("k", "x")
            .expect_err("a string is no list");
        assert_eq!(error.code(), Some("WRONGTYPE"));
        let keys: HashSet<Vec<u8>> = con.scan()?.collect::<RedisResult<_>>()?;
        assert_eq!(keys.len(), 5);
    }
    Ok(())
}

#[test]
fn pipelines_and_transactions() -> RedisResult<()> {
    for query in PROTOCOLS {
        let mut con = empty(query);
        let mut pipe = redis::pipe();
        for i in 0..2000 {
            pipe.set(format!("k{i}"), i).ignore().incr("count", 1);
        }
        assert_eq!(
            pipe.query::<Vec<i64>>(&mut con)?,
            (1..=2000).collect::<Vec<_>>()
        );
        let (a, all): (i64, HashMap<String, String>) = redis::pipe()
            .atomic()
            .incr("a", 5)
            .hset("h", "f", "v")
            .ignore()
            .hgetall("h")
            .query(&mut con)?;
        assert_eq!((a, all["f"].as_str()), (5, "v"));
    }
    Ok(())
}

#[test]
fn transactions_of_many_threads_lose_nothing() -> RedisResult<()> {
    let mut con = empty("");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(|| -> RedisResult<()> {
                let mut con = client("").get_connection()?;
                for _ in 0..25 {
                    let (_,): (i64,) =
                        redis::transaction(&mut con, &["left", "right"], |con, pipe| {
                            let left: i64 = con.get::<_, Option<i64>>("left")?.unwrap_or(0);
                            pipe.set("left", left + 1)
                                .ignore()
                                .decr("right", 1)
                                .query(con)
                        })?;
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic")?;
    }
    assert_eq!(con.mget::<_, (i64, i64)>(&["left", "right"])?, (100, -100));
    Ok(())
}

#[test]
fn publish_and_subscribe() -> RedisResult<()> {
    let mut con = empty("");
    let mut listening = client("").get_connection()?;
    let mut pubsub = listening.as_pubsub();
    pubsub.subscribe("news")?;
    pubsub.psubscribe("n*")?;
    assert_eq!(con.publish::<_, _, i64>("news", "hello")?, 2);
    let (one, two) = (pubsub.get_message()?, pubsub.get_message()?);
    assert_eq!(
        (one.get_channel_name(), one.get_payload::<String>()?),
        ("news", "hello".into())
    );
    assert_eq!(
        (two.from_pattern(), two.get_payload::<String>()?),
        (true, "hello".into())
    );
    drop(pubsub); // leaves the subscribed state
    assert_eq!(con.publish::<_, _, i64>("news", "nobody")?, 0);
    assert_eq!(listening.get::<_, Option<i64>>("k")?, None);
    Ok(())
}

#[test]
fn scripts() -> RedisResult<()> {
    for query in PROTOCOLS {
        let mut con = empty(query);
        let script = Script::new("return {redis.call('INCRBY', KEYS[1], ARGV[1]), KEYS[1]}");
        assert_eq!(
            script.key("n").arg(3).invoke::<(i64, String)>(&mut con)?,
            (3, "n".into())
        );
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut con)?;
        assert_eq!(
            script.key("n").arg(3).invoke::<(i64, String)>(&mut con)?,
            (6, "n".into())
        );
        let failed = Script::new("return redis.call('LPUSH', KEYS[1], 'x')")
            .key("n")
            .invoke::<()>(&mut con);
        assert_eq!(
            failed.expect_err("a string is no list").code(),
            Some("WRONGTYPE")
        );
    }
    Ok(())
}

fn blocked_clients(con: &mut Connection) -> bool {
    let info: String = redis::cmd("INFO").arg("clients").query(con).expect("INFO");
    info.contains("blocked_clients:1\r\n")
}

#[test]
fn blocking_and_streams() -> RedisResult<()> {
    for query in PROTOCOLS {
        let mut con = empty(query);
        let mut waiting = client(query).get_connection()?;
        assert_eq!(
            waiting.blpop::<_, Option<(String, String)>>("queue", 0.02)?,
            None
        );
        let waiter = thread::spawn(move || {
            let popped: (String, String) = waiting.brpop(&["other", "queue"], 0.0)?;
            let options = StreamReadOptions::default()
                .group("workers", "alice")
                .block(0);
            let read: StreamReadReply = waiting.xread_options(&["events"], &[">"], &options)?;
            RedisResult::Ok((popped, read))
        });
        until("a client blocked on a list", || blocked_clients(&mut con));
        let _: () = con.xgroup_create_mkstream("events", "workers", "$")?;
        let _: () = con.rpush("queue", "job")?;
        until("the queue to be taken from", || {
            !con.exists::<_, bool>("queue").expect("EXISTS")
        });
        until("a client blocked on a stream", || blocked_clients(&mut con));
        let id: String = con.xadd("events", "*", &[("kind", "login"), ("user", "7")])?;
        let (popped, read) = waiter.join().expect("no panic")?;
        assert_eq!(popped, ("queue".into(), "job".into()));
        assert_eq!(
            (read.keys[0].key.as_str(), read.keys[0].ids[0].id.as_str()),
            ("events", id.as_str())
        );
        assert_eq!(read.keys[0].ids[0].get::<String>("user"), Some("7".into()));
        assert_eq!(con.xack::<_, _, _, i64>("events", "workers", &[&id])?, 1);
        assert_eq!(con.xlen::<_, i64>("events")?, 1);
    }
    Ok(())
}

#[tokio::test]
async fn many_tasks_over_one_multiplexed_connection() -> RedisResult<()> {
    for query in PROTOCOLS {
        drop(empty(query));
        let con = client(query).get_multiplexed_async_connection().await?;
        let tasks: Vec<_> = (0..500)
            .map(|i| {
                let mut con = con.clone();
                tokio::spawn(async move {
                    let _: () = con.set(format!("k{i}"), i).await?;
                    let (value, _): (i64, i64) = redis::pipe()
                        .atomic()
                        .get(format!("k{i}"))
                        .incr("count", 1)
                        .query_async(&mut con)
                        .await?;
                    RedisResult::Ok(value == i)
                })
            })
            .collect();
        for task in tasks {
            assert!(task.await.expect("no panic")?);
        }
        assert_eq!(con.clone().get::<_, i64>("count").await?, 500);
    }
    Ok(())
}

#[tokio::test]
async fn messages_arrive_as_stream_and_as_pushes() -> RedisResult<()> {
    drop(empty(""));
    let mut pubsub = client("").get_async_pubsub().await?;
    pubsub.subscribe("news").await?;
    let mut publisher = client("").get_multiplexed_async_connection().await?;
    assert_eq!(publisher.publish::<_, _, i64>("news", "hello").await?, 1);
    let message = pubsub.on_message().next().await.expect("a message");
    assert_eq!(message.get_payload::<String>()?, "hello");

    let (sender, mut pushes) = tokio::sync::mpsc::unbounded_channel();
    let config = AsyncConnectionConfig::new().set_push_sender(sender);
    let mut con = client("?protocol=resp3")
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    con.subscribe("sport").await?;
    let _: () = con.set("usual commands", "while subscribed").await?;
    assert_eq!(con.publish::<_, _, i64>("sport", "goal").await?, 1);
    let kinds = [
        pushes.recv().await.expect("a push").kind,
        pushes.recv().await.expect("a push").kind,
    ];
    assert_eq!(kinds, [PushKind::Subscribe, PushKind::Message]);
    Ok(())
}

#[tokio::test]
async fn the_connection_manager_comes_back_after_client_kill() -> RedisResult<()> {
    drop(empty(""));
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(20)
        .set_min_delay(std::time::Duration::from_millis(5));
    let con = client("")
        .get_connection_manager_with_config(config)
        .await?;
    let id: i64 = redis::cmd("CLIENT")
        .arg("ID")
        .query_async(&mut con.clone())
        .await?;
    let mut other = client("").get_multiplexed_async_connection().await?;
    let killed: i64 = redis::cmd("CLIENT")
        .arg(&["KILL", "ID"])
        .arg(id)
        .query_async(&mut other)
        .await?;
    assert_eq!(killed, 1);
    until_async("another connection", || {
        let mut con = con.clone();
        async move {
            redis::cmd("CLIENT")
                .arg("ID")
                .query_async::<i64>(&mut con)
                .await
                .is_ok_and(|new| new != id)
        }
    })
    .await;
    Ok(())
}
