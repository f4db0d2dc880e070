//! What ran on the server, in the order in which it took effect.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use commands::CommandResult;
use keyspace::{DbIndex, UnixMillis};
use reactor::ConnId;
use resp::Argv;
use server::simulation::Observer;

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
}

#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Records>>);

impl Recorder {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().expect("no holder of this lock panics")
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
        records.ran.push(ran);
    }
}
