//! What a Lua state carries besides Lua's own: the script that runs, and how it reaches the server.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::time::Instant;

use mlua_sys as ffi;
use resp::{OwnedArgv, Protocol};

use crate::json::JsonOptions;
use crate::memory::Memory;
use crate::{Failure, Host, Registered};

/// The states of a script's run from which there is no way back for Lua code: every instruction raises again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Abort {
    /// It is to start over with all shards in hand.
    Restart,
    /// By SCRIPT KILL or FUNCTION KILL.
    Killed,
    /// The code of a library takes too long to register its functions.
    LoadTimeout,
}

/// What runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Running {
    Nothing,
    Script,
    Function,
    /// A library's code, which registers functions.
    Load,
}

pub struct Context {
    pub memory: Memory,
    /// Whoever resumed the script; dangling between two resumptions, when nothing of Lua runs.
    pub host: Option<NonNull<dyn Host>>,
    /// Gives the thread back to whoever resumed the script.
    pub suspend: Option<NonNull<corosensei::Yielder<(), ()>>>,
    pub running: Running,
    pub read_only: bool,
    /// What `redis.setresp` chose.
    pub protocol: Protocol,
    /// What `redis.set_repl` chose.
    pub replication: u8,
    pub began: Instant,
    pub abort: Option<Abort>,
    /// The state of `math.random`: 48 bits. It begins where BSD's does, and goes on from script to script.
    pub random: u64,
    /// What a library's code has registered.
    pub registered: Vec<Registered>,
    pub json: JsonOptions,
    /// A script changed how the collector works.
    pub collector_changed: bool,
    /// How errors name what runs: a script's SHA1, a function's name.
    pub name: Vec<u8>,
    /// The protocol of whoever gets the result.
    pub caller_protocol: Protocol,
    /// The result, unless there is a failure.
    pub result: Vec<u8>,
    pub failure: Option<Failure>,
    /// Scratch: a command's arguments and its reply.
    pub argv: OwnedArgv,
    pub reply: Vec<u8>,
}

impl Context {
    pub fn new() -> Context {
        Context {
            memory: Memory::default(),
            host: None,
            suspend: None,
            running: Running::Nothing,
            read_only: false,
            protocol: Protocol::Resp2,
            replication: crate::api::REPL_ALL,
            began: Instant::now(),
            abort: None,
            random: 0x1234_abcd_330e,
            registered: Vec::new(),
            json: JsonOptions::default(),
            collector_changed: false,
            name: Vec::new(),
            caller_protocol: Protocol::Resp2,
            result: Vec::new(),
            failure: None,
            argv: OwnedArgv::default(),
            reply: Vec::new(),
        }
    }

    /// The context of a state.
    ///
    /// # Safety
    /// The state was made by [`Engine`](crate::Engine).
    #[inline]
    pub unsafe fn of(state: *mut ffi::lua_State) -> *mut Context {
        let mut user: *mut c_void = std::ptr::null_mut();
        // SAFETY: the engine made the state with its context as the allocator's argument.
        unsafe { ffi::lua_getallocf(state, &mut user) };
        user.cast()
    }
}
