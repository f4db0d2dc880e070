//! Libraries of functions, as all workers know them.
//!
//! What there is is an immutable [`Libraries`], replaced as a whole under the baton of shard 0, in whose log changes
//! are: so snapshots, which are taken with all batons in hand, hold what the log tells up to then. The functions concern
//! no shard, so their order relative to what other logs tell does not matter.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, RwLock};

use scripting::source::library_head;
use scripting::{Call, Engine, Function, LogLevel, Refusal, Verdict};

/// What the log says the logs' own shard is.
pub const HOME: keyspace::ShardIndex = keyspace::ShardIndex(0);

pub struct Library {
    /// Tells it from others that had its name.
    pub id: u64,
    pub name: Vec<u8>,
    pub code: Box<[u8]>,
    pub functions: Vec<Function>,
    /// As of a script: one of its functions used keys that it did not declare.
    pub undeclared: AtomicBool,
}

/// All libraries.
#[derive(Default, Clone)]
pub struct Libraries {
    pub by_name: BTreeMap<Vec<u8>, Arc<Library>>,
    /// The library and the place in it of each function.
    functions: HashMap<Vec<u8>, (Arc<Library>, usize)>,
}

impl Libraries {
    pub fn function(&self, name: &[u8]) -> Option<&(Arc<Library>, usize)> {
        self.functions.get(name)
    }

    pub fn function_count(&self) -> usize {
        self.functions.len()
    }

    pub fn code_bytes(&self) -> u64 {
        self.by_name
            .values()
            .map(|library| (library.code.len() + library.name.len()) as u64)
            .sum()
    }

    pub fn has(&self, id: u64) -> bool {
        self.by_name.values().any(|library| library.id == id)
    }

    /// Adds a library, in the place of one of its name if `replaces`. The error is without its code.
    pub fn add(&mut self, library: Arc<Library>, replaces: bool) -> Result<(), String> {
        if self.by_name.contains_key(&library.name) {
            if !replaces {
                let name = String::from_utf8_lossy(&library.name);
                return Err(format!("Library {name} already exists"));
            }
            self.remove(&library.name);
        }
        for function in &library.functions {
            if self.functions.contains_key(&function.name) {
                let name = String::from_utf8_lossy(&function.name);
                return Err(format!("Function {name} already exists"));
            }
        }
        for (place, function) in library.functions.iter().enumerate() {
            self.functions
                .insert(function.name.clone(), (library.clone(), place));
        }
        self.by_name.insert(library.name.clone(), library);
        Ok(())
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<Arc<Library>> {
        let library = self.by_name.remove(name)?;
        for function in &library.functions {
            self.functions.remove(&function.name);
        }
        Some(library)
    }
}

#[derive(Default)]
pub struct Registry {
    current: RwLock<Arc<Libraries>>,
    version: AtomicU64,
    last_id: AtomicU64,
}

impl Registry {
    pub fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    pub fn current(&self) -> Arc<Libraries> {
        self.current
            .read()
            .expect("no holder of this lock panics")
            .clone()
    }

    /// The caller has the baton of [`HOME`], or nobody runs yet.
    pub fn publish(&self, libraries: Libraries) {
        *self.current.write().expect("no holder of this lock panics") = Arc::new(libraries);
        self.version.fetch_add(1, Release);
    }

    /// A library out of its code, which runs on this engine. The error is without `-`.
    pub fn make(&self, engine: &mut Engine, code: &[u8]) -> Result<Arc<Library>, Vec<u8>> {
        let head = library_head(code)?;
        let id = self.last_id.fetch_add(1, Relaxed) + 1;
        let functions = engine.load_library(id, code, &mut LoadHost)?;
        Ok(Arc::new(Library {
            id,
            name: head.name,
            code: code.into(),
            functions,
            undeclared: AtomicBool::new(false),
        }))
    }

    /// Loads a library into another engine than it was made on.
    pub fn load_again(&self, engine: &mut Engine, library: &Library) -> Result<(), Vec<u8>> {
        engine
            .load_library(library.id, &library.code, &mut LoadHost)
            .map(drop)
    }

    /// Does again what the log or a dump tells: FUNCTION with these arguments behind it. Nobody runs yet.
    pub fn redo(&self, args: &[&[u8]]) -> Result<(), String> {
        let [word, rest @ ..] = args else {
            return Err("FUNCTION without a subcommand".into());
        };
        let mut libraries = (*self.current()).clone();
        let mut engine = Engine::new(0, commands::REDIS_VERSION);
        let text = |error: Vec<u8>| String::from_utf8_lossy(&error).into_owned();
        match (word.to_ascii_lowercase().as_slice(), rest) {
            (b"load", [options @ .., code]) => {
                let library = self.make(&mut engine, code).map_err(text)?;
                libraries.add(library, !options.is_empty())?;
            }
            (b"delete", [name]) => drop(libraries.remove(name)),
            (b"flush", _) => libraries = Libraries::default(),
            (b"restore", [payload, policy @ ..]) => {
                let policy = Policy::of(policy.first().copied()).ok_or("an unknown policy")?;
                let codes = persistence::rdb::dump::load_functions(payload)
                    .map_err(|_| "a broken payload")?;
                policy.restore(&mut libraries, &codes, |code| {
                    self.make(&mut engine, code).map_err(text)
                })?;
            }
            _ => return Err("an unknown subcommand of FUNCTION".into()),
        }
        self.publish(libraries);
        Ok(())
    }
}

/// What FUNCTION RESTORE does about libraries that are there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Append,
    Replace,
    Flush,
}

impl Policy {
    pub fn of(word: Option<&[u8]>) -> Option<Policy> {
        match word.map(<[u8]>::to_ascii_lowercase).as_deref() {
            None | Some(b"append") => Some(Policy::Append),
            Some(b"replace") => Some(Policy::Replace),
            Some(b"flush") => Some(Policy::Flush),
            _ => None,
        }
    }

    pub fn restore(
        self,
        libraries: &mut Libraries,
        codes: &[Vec<u8>],
        mut make: impl FnMut(&[u8]) -> Result<Arc<Library>, String>,
    ) -> Result<(), String> {
        if self == Policy::Flush {
            *libraries = Libraries::default();
        }
        for code in codes {
            libraries.add(make(code)?, self == Policy::Replace)?;
        }
        Ok(())
    }
}

/// What a library's code finds of the server: its log.
struct LoadHost;

impl scripting::Host for LoadHost {
    fn call(&mut self, _: Call<'_>, _: &mut Vec<u8>) -> Result<(), Refusal> {
        Err(Refusal::Error(
            b"ERR a library's code runs no commands".to_vec(),
        ))
    }

    fn may_run(&mut self, _: resp::Argv<'_>) -> Option<bool> {
        None
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        super::log_text(level, text);
    }

    fn look(&mut self, _: std::time::Duration) -> Verdict {
        Verdict::GoOn
    }
}
