//! Users and what they may do: the registry that all workers read and ACL SETUSER changes.
//!
//! Users are values that are replaced whole. A connection keeps the one it is logged in as and looks for a newer one
//! when the registry's version has moved; whether it may do everything is worked out then, so that the users of
//! most servers cost their commands nothing.

mod file;
mod log;
mod rules;
mod selector;

use std::collections::BTreeMap;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use config::Config;

pub use file::{all_channels, load, to_text, Users};
pub use log::{AclLog, Context, Entry, Reason};
pub use rules::{join_selectors, RuleError, User, DEFAULT_USER};
pub use selector::{Denied, Selector};

/// How often something was refused since start or CONFIG RESETSTAT.
#[derive(Default)]
pub struct DeniedCounts {
    pub auth: AtomicU64,
    pub command: AtomicU64,
    pub key: AtomicU64,
    pub channel: AtomicU64,
}

impl DeniedCounts {
    pub fn of(&self, reason: Reason) -> &AtomicU64 {
        match reason {
            Reason::Auth => &self.auth,
            Reason::Command => &self.command,
            Reason::Key => &self.key,
            Reason::Channel => &self.channel,
        }
    }

    pub fn reset(&self) {
        for count in [&self.auth, &self.command, &self.key, &self.channel] {
            count.store(0, Relaxed);
        }
    }
}

pub struct Acl {
    users: RwLock<Arc<Users>>,
    version: AtomicU64,
    log: Mutex<AclLog>,
    pub denied: DeniedCounts,
}

impl Acl {
    pub fn new(users: Users) -> Acl {
        Acl {
            users: RwLock::new(Arc::new(users)),
            version: AtomicU64::new(1),
            log: Mutex::default(),
            denied: DeniedCounts::default(),
        }
    }

    /// Moves with every change of a user.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    /// All users, by name.
    pub fn users(&self) -> Arc<Users> {
        self.users
            .read()
            .expect("no holder of this lock panics")
            .clone()
    }

    pub fn user(&self, name: &[u8]) -> Option<Arc<User>> {
        self.users().get(name).cloned()
    }

    /// The user of connections that have not logged in.
    pub fn default_user(&self) -> Arc<User> {
        self.user(DEFAULT_USER)
            .expect("there is always a default user")
    }

    /// Whether a new connection has to log in.
    pub fn demands_login(&self) -> bool {
        let default = self.default_user();
        !default.enabled || !default.nopass
    }

    /// Changes the users; on an error they stay as they were.
    pub fn change<R, E>(&self, change: impl FnOnce(&mut Users) -> Result<R, E>) -> Result<R, E> {
        let mut users = self.users.write().expect("no holder of this lock panics");
        let mut changed: Users = BTreeMap::clone(&users);
        let result = change(&mut changed)?;
        *users = Arc::new(changed);
        self.version.fetch_add(1, Release);
        Ok(result)
    }

    /// Gives the default user a password, or takes all it has, as `requirepass` says.
    pub fn require_password(&self, password: Option<&[u8]>) {
        let result: Result<(), RuleError> = self.change(|users| {
            let user = users
                .get_mut(DEFAULT_USER)
                .expect("there is always a default user");
            set_password(Arc::make_mut(user), password);
            Ok(())
        });
        result.expect("nothing here fails");
    }

    pub fn log(&self) -> MutexGuard<'_, AclLog> {
        self.log.lock().expect("no holder of this lock panics")
    }
}

fn set_password(user: &mut User, password: Option<&[u8]>) {
    let rules = match password {
        Some(password) => vec![b"resetpass".to_vec(), [b">", password].concat()],
        None => vec![b"nopass".to_vec()],
    };
    for rule in rules {
        user.apply(&rule, false).expect("a rule of ours");
    }
}

/// The users that a configuration names. The error says where it is wrong.
pub fn from_config(config: &Config) -> Result<Users, String> {
    let mut users = Users::new();
    let mut default = User::default_user();
    if let Some(password) = &config.requirepass {
        set_password(&mut default, Some(password));
    }
    users.insert(DEFAULT_USER.to_vec(), Arc::new(default));
    match &config.aclfile {
        Some(_) if !config.users.is_empty() => Err("Configuring Redis with users defined in redis.conf and at the same setting an ACL file path is invalid. This setup is very likely to lead to configuration errors and security holes, please define either an ACL file or declare users directly in your redis.conf, but not both.".into()),
        Some(path) => load(path, config),
        None => {
            for line in &config.users {
                file::declare(&mut users, &line.words, config)
                    .map_err(|error| format!("{}:{}: {error}", line.file, line.line))?;
            }
            Ok(users)
        }
    }
}
