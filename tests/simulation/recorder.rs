//! What ran on the server, in the order in which it took effect.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};

use commands::CommandResult;
use keyspace::{DbIndex, UnixMillis};
use reactor::ConnId;
use resp::Argv;
use server::simulation::Observer;

use crate::disk::UnitCount;

/// A command that ran.
#[derive(Clone, Debug)]
pub struct Ran {
    /// By the number in its simulated address.
    pub client: usize,
    pub now: i64,
    pub db: u32,
    pub argv: Vec<Vec<u8>>,
    pub succeeded: bool,
    pub reply: Vec<u8>,
    /// Commands of one transaction have the same number.
    pub transaction: Option<usize>,
}

#[derive(Default)]
struct Records {
    /// By worker and connection.
    clients: HashMap<(usize, ConnId), usize>,
    serving: usize,
    /// Whose batch is being processed; `serving` is another's while posted commands run in between.
    batch_of: usize,
    transactions: usize,
    in_transaction: bool,
    ran: Vec<Ran>,
    /// May be in the log, and did not run yet.
    begun: Option<Ran>,
}

#[derive(Clone, Default)]
pub struct Recorder {
    records: Arc<Mutex<Records>>,
    /// Counts what runs at once, for a fork or a save within the same step; but for transactions, which the coordinator
    /// does not run.
    units: UnitCount,
}

impl Recorder {
    pub fn new(units: UnitCount) -> Recorder {
        Recorder {
            records: Arc::default(),
            units,
        }
    }

    /// At a crash: a command that may be in the log though it did not run.
    pub fn take_begun(&self) -> Option<Ran> {
        self.records().begun.take()
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().expect("no holder of this lock panics")
    }

    pub fn take(&self) -> Vec<Ran> {
        std::mem::take(&mut self.records().ran)
    }
}

/// The number that the network gives a client, from its address.
pub fn client_of(address: &str) -> usize {
    let port = address
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok());
    let port: usize = port.expect("simulated addresses end with a port");
    port - 10_000
}

impl Observer for Recorder {
    fn serving(&self, worker: usize, conn: ConnId, address: Option<&str>) {
        let mut records = self.records();
        if let Some(address) = address {
            let client = client_of(address);
            records.clients.insert((worker, conn), client);
            records.batch_of = client;
        }
        records.serving = records.clients[&(worker, conn)];
    }

    fn served(&self) {
        let mut records = self.records();
        records.serving = records.batch_of;
    }

    fn transaction(&self, begins: bool) {
        let mut records = self.records();
        records.transactions += usize::from(begins);
        records.in_transaction = begins;
    }

    fn begins(&self, now: UnixMillis, db: DbIndex, argv: Argv<'_>) {
        let mut records = self.records();
        records.begun = Some(Ran {
            client: records.serving,
            now: now.0,
            db: db.0,
            argv: argv.iter().map(<[u8]>::to_vec).collect(),
            succeeded: true,
            reply: b"+OK\r\n".to_vec(),
            transaction: None,
        });
    }

    fn refused(&self) {
        self.records().begun = None;
    }

    fn ran(
        &self,
        now: UnixMillis,
        db: DbIndex,
        argv: Argv<'_>,
        result: &CommandResult,
        reply: &[u8],
    ) {
        let mut records = self.records();
        let ran = Ran {
            client: records.serving,
            now: now.0,
            db: db.0,
            argv: argv.iter().map(<[u8]>::to_vec).collect(),
            succeeded: result.is_ok(),
            reply: match result {
                Ok(()) => reply.to_vec(),
                Err(error) => [b"-", error.text(), b"\r\n"].concat(),
            },
            transaction: records.in_transaction.then_some(records.transactions),
        };
        if ran.transaction.is_none() {
            self.units.fetch_add(1, Relaxed);
        }
        records.begun = None;
        records.ran.push(ran);
    }
}
