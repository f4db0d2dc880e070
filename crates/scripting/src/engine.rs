//! A Lua state: how it is furnished, and how scripts and functions run in it.
//!
//! What all scripts share is read-only, down to the metatable of strings, so that none leaves anything for the next one;
//! what can be changed nevertheless (the collector, options of libraries, environments) is put back before each run. Scripts
//! and functions see different globals. While a library's code runs, the globals of functions are another, almost
//! empty table: what the code may do is register functions.

use std::collections::HashMap;
use std::ffi::{c_int, c_void, CStr};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::time::Instant;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use mlua_sys as ffi;
use mlua_sys::lua_State;
use resp::{Protocol, Reply};

use crate::api::{self, Table};
use crate::context::{Abort, Context, Running};
use crate::memory::allocate;
use crate::stack::{Kind, Lua, Raised};
use crate::{bits, json, msgpack, replies, source, structs};
use crate::{Failure, Host, Registered, ScriptSha};

const SCRIPT_CHUNK: &CStr = c"@user_script";
const LIBRARY_CHUNK: &CStr = c"@user_function";

/// Of the stack that runs have. Lua nests functions of C 200 deep, some of which take 16 KB. Pages are used when they are.
const STACK_BYTES: usize = 16 << 20;

/// The collector takes a step of its own every so many runs.
const COLLECT_EVERY_RUNS: u32 = 50;

/// Globals of Lua's own libraries that scripts do not get.
const REMOVED: [&str; 4] = ["print", "dofile", "loadfile", "newproxy"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// [`Engine::take_result`] has what came of it.
    Done,
    /// [`Engine::resume`] goes on with it.
    Suspended,
}

/// A function of a library, as the server lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    pub name: Vec<u8>,
    pub description: Option<Vec<u8>>,
    /// See [`crate::flags`].
    pub flags: u8,
}

/// How a script or function is called.
pub struct Invocation<'i, 'a> {
    pub keys: &'i mut dyn ExactSizeIterator<Item = &'a [u8]>,
    pub args: &'i mut dyn ExactSizeIterator<Item = &'a [u8]>,
    pub read_only: bool,
    pub protocol: Protocol,
}

pub struct Engine {
    lua: Lua,
    context: NonNull<Context>,
    /// Compiled scripts, as references to Lua's registry.
    scripts: HashMap<ScriptSha, c_int, ahash::RandomState>,
    /// Loaded libraries by their numbers: references to their functions.
    libraries: HashMap<u64, HashMap<Vec<u8>, c_int>>,
    script_globals: c_int,
    function_globals: c_int,
    /// The `__index` of what functions have as globals: their globals, and those of a library's code.
    run_globals: c_int,
    load_globals: c_int,
    handler: c_int,
    stack: Option<DefaultStack>,
    /// Never dropped before its end: that would unwind frames of C.
    run: Option<ManuallyDrop<Coroutine<(), (), (), DefaultStack>>>,
    runs: u32,
}

unsafe extern "C-unwind" fn no_way_on(state: *mut lua_State) -> c_int {
    let text = Lua(state)
        .bytes(-1)
        .unwrap_or_default()
        .escape_ascii()
        .to_string();
    panic!("an error of Lua's that nothing was to catch: {text}");
}

impl Engine {
    /// A state whose scripts may use so much memory (0: any), and see this as Redis's version.
    pub fn new(memory_limit_bytes: usize, version: &str) -> Engine {
        let context = NonNull::from(Box::leak(Box::new(Context::new())));
        // SAFETY: the context lives until the engine is dropped, and the state with it. Errors have nowhere to go, and
        // there are none: memory is not refused yet, and these functions of Lua's do nothing else that may fail.
        let lua = unsafe {
            (*context.as_ptr()).memory.unlimited = 1;
            let state = ffi::lua_newstate(allocate, context.as_ptr().cast::<c_void>());
            assert!(
                !state.is_null(),
                "the allocator ends the process where memory is short"
            );
            ffi::lua_atpanic(state, no_way_on);
            for open in [
                ffi::luaopen_base,
                ffi::luaopen_table,
                ffi::luaopen_string,
                ffi::luaopen_math,
            ] {
                ffi::lua_pushcclosure(state, open, 0);
                ffi::lua_call(state, 0, 0);
            }
            api::watch(state);
            Lua(state)
        };
        furnish(lua);
        lua.push_copy(ffi::LUA_GLOBALSINDEX);
        let run_globals = function_tables(lua, version);
        let load_globals = load_tables(lua, version);
        lua.new_table(0, 0);
        lua.new_table(0, 1);
        push_reference(lua, run_globals);
        lua.set_field(-2, "__index");
        lua.set_metatable(-2);
        protect(lua);
        let function_globals = lua.reference();
        api::push_redis(lua, Table::Script, version);
        lua.set_field(-2, "redis");
        set_error_metatable(lua);
        protect(lua);
        let script_globals = lua.reference();
        // SAFETY: an open state.
        unsafe { ffi::lua_pushcclosure(lua.0, api::error_with_place, 0) };
        let handler = lua.reference();
        lua.set_top(0);
        // SAFETY: nothing else has the context now.
        unsafe {
            let memory = &mut (*context.as_ptr()).memory;
            memory.unlimited = 0;
            memory.limit_bytes = memory_limit_bytes;
        }
        Engine {
            lua,
            context,
            scripts: HashMap::default(),
            libraries: HashMap::new(),
            script_globals,
            function_globals,
            run_globals,
            load_globals,
            handler,
            stack: None,
            run: None,
            runs: 0,
        }
    }

    fn context(&mut self) -> &mut Context {
        // SAFETY: it lives as long as the engine; Lua uses it only while the engine runs Lua.
        unsafe { self.context.as_mut() }
    }

    /// Bytes that Lua has allocated.
    pub fn memory_bytes(&mut self) -> usize {
        self.context().memory.used_bytes
    }

    pub fn set_memory_limit(&mut self, bytes: usize) {
        self.context().memory.limit_bytes = bytes;
    }

    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Whether what runs is a function, not a script.
    pub fn runs_function(&mut self) -> bool {
        self.context().running == Running::Function
    }

    pub fn has_script(&self, sha: &ScriptSha) -> bool {
        self.scripts.contains_key(sha)
    }

    /// Compiles a script. The error is EVAL's reply.
    pub fn compile(&mut self, sha: &ScriptSha, body: &[u8]) -> Result<(), Vec<u8>> {
        if self.has_script(sha) {
            return Ok(());
        }
        let head = source::script_head(body)?;
        self.use_globals(self.script_globals);
        let lua = self.lua;
        match lua.load(&body[head.len..], SCRIPT_CHUNK) {
            Ok(()) => {
                let reference = lua.reference();
                self.scripts.insert(*sha, reference);
                Ok(())
            }
            Err(Raised) => {
                let reason = lua.bytes(-1).unwrap_or_default();
                let text = [b"ERR Error compiling script (new function): ", reason].concat();
                lua.pop(1);
                Err(text)
            }
        }
    }

    /// Forgets the compiled scripts that are not wanted any more.
    pub fn retain_scripts(&mut self, mut wanted: impl FnMut(&ScriptSha) -> bool) {
        let lua = self.lua;
        self.scripts.retain(|sha, reference| {
            let keep = wanted(sha);
            if !keep {
                lua.unreference(*reference);
            }
            keep
        });
        self.collect();
    }

    /// Gives back what memory can be.
    pub fn collect(&mut self) {
        if !self.is_running() {
            self.lua.collector(ffi::LUA_GCCOLLECT, 0);
        }
    }

    pub fn has_library(&self, id: u64) -> bool {
        self.libraries.contains_key(&id)
    }

    pub fn library_count(&self) -> usize {
        self.libraries.len()
    }

    /// Forgets the libraries that are not wanted any more.
    pub fn retain_libraries(&mut self, mut wanted: impl FnMut(u64) -> bool) {
        let lua = self.lua;
        self.libraries.retain(|id, functions| {
            let keep = wanted(*id);
            if !keep {
                functions
                    .values()
                    .for_each(|reference| lua.unreference(*reference));
            }
            keep
        });
    }

    /// Runs a library's code, under a number of the caller's, and returns what it registers. The error is a part of
    /// FUNCTION LOAD's reply.
    pub fn load_library(
        &mut self,
        id: u64,
        code: &[u8],
        host: &mut dyn Host,
    ) -> Result<Vec<Function>, Vec<u8>> {
        let head_len = code.iter().position(|b| *b == b'\n').unwrap_or(0);
        let lua = self.lua;
        lua.set_top(0);
        push_reference(lua, self.handler);
        self.use_globals(self.function_globals);
        if lua.load(&code[head_len..], LIBRARY_CHUNK).is_err() {
            let reason = lua.bytes(-1).unwrap_or_default();
            let text = [b"ERR Error compiling function: ", reason].concat();
            lua.set_top(0);
            return Err(text);
        }
        self.prepare(Running::Load, b"", false, Protocol::Resp2);
        self.index_functions(self.load_globals);
        self.begin(0);
        let progress = self.resume(host);
        assert_eq!(
            progress,
            Progress::Done,
            "a library's code is not suspended"
        );
        self.index_functions(self.run_globals);
        let registered = std::mem::take(&mut self.context().registered);
        let result = match self.take_result() {
            Err(failure) => Err([
                b"ERR Error registering functions: ".as_slice(),
                &failure.text,
            ]
            .concat()),
            Ok(_) if registered.is_empty() => Err(b"ERR No functions registered".to_vec()),
            Ok(_) => Ok(()),
        };
        match result {
            Err(text) => {
                registered
                    .iter()
                    .for_each(|function| lua.unreference(function.reference));
                Err(text)
            }
            Ok(()) => {
                let references = registered
                    .iter()
                    .map(|function| (function.name.clone(), function.reference));
                self.libraries.insert(id, references.collect());
                let list = |Registered {
                                name,
                                description,
                                flags,
                                ..
                            }| Function {
                    name,
                    description,
                    flags,
                };
                Ok(registered.into_iter().map(list).collect())
            }
        }
    }

    /// Sets what a global of functions is looked up in.
    fn index_functions(&mut self, table: c_int) {
        let lua = self.lua;
        push_reference(lua, self.function_globals);
        lua.metatable(-1);
        lua.set_readonly(-1, false);
        push_reference(lua, table);
        lua.set_field(-2, "__index");
        lua.set_readonly(-1, true);
        lua.pop(2);
    }

    fn use_globals(&mut self, globals: c_int) {
        push_reference(self.lua, globals);
        self.lua.replace(ffi::LUA_GLOBALSINDEX);
    }

    /// Puts a script's arguments in place. The script is compiled.
    pub fn start_script(&mut self, sha: &ScriptSha, call: Invocation<'_, '_>) {
        let lua = self.lua;
        lua.set_top(0);
        self.prepare(Running::Script, sha, call.read_only, call.protocol);
        self.use_globals(self.script_globals);
        push_reference(lua, self.script_globals);
        lua.set_readonly(-1, false);
        push_array(lua, call.keys);
        lua.set_field(1, "KEYS");
        push_array(lua, call.args);
        lua.set_field(1, "ARGV");
        lua.set_readonly(-1, true);
        lua.set_top(0);
        push_reference(lua, self.handler);
        let script = *self
            .scripts
            .get(sha)
            .expect("a script is compiled before it runs");
        push_reference(lua, script);
        // A run before may have given it another.
        lua.push_copy(ffi::LUA_GLOBALSINDEX);
        lua.set_environment(-2);
        self.begin(0);
    }

    /// Puts a function's arguments in place. Its library is loaded, and has it.
    pub fn start_function(&mut self, library: u64, name: &[u8], call: Invocation<'_, '_>) {
        let lua = self.lua;
        lua.set_top(0);
        self.prepare(Running::Function, name, call.read_only, call.protocol);
        self.use_globals(self.function_globals);
        push_reference(lua, self.handler);
        let function = self
            .libraries
            .get(&library)
            .and_then(|library| library.get(name));
        push_reference(
            lua,
            *function.expect("a library is loaded before a function of it runs"),
        );
        push_array(lua, call.keys);
        push_array(lua, call.args);
        self.begin(2);
    }

    fn prepare(&mut self, running: Running, name: &[u8], read_only: bool, protocol: Protocol) {
        assert!(!self.is_running(), "a state runs one thing at a time");
        self.runs = self.runs.wrapping_add(1);
        if self.runs.is_multiple_of(COLLECT_EVERY_RUNS) {
            self.lua
                .collector(ffi::LUA_GCSTEP, COLLECT_EVERY_RUNS as c_int);
        }
        let context = self.context();
        context.running = running;
        context.read_only = read_only;
        context.protocol = Protocol::Resp2;
        context.caller_protocol = protocol;
        context.replication = api::REPL_ALL;
        context.began = Instant::now();
        context.abort = None;
        context.json = json::JsonOptions::default();
        context.name.clear();
        context.name.extend_from_slice(name);
        context.registered.clear();
        context.result.clear();
        context.failure = None;
    }

    /// Has the function that is on the stack, above the handler, run with so many arguments at the next `resume`.
    fn begin(&mut self, arguments: c_int) {
        let stack = self.stack.take().unwrap_or_else(|| {
            DefaultStack::new(STACK_BYTES).expect("there is address space for a script's stack")
        });
        let (lua, context) = (self.lua, self.context);
        let coroutine = Coroutine::with_stack(stack, move |suspend, ()| {
            // SAFETY: the engine keeps the context and the state; between two resumptions nobody else uses what is
            // used here. The way back is valid as long as this closure runs.
            unsafe {
                (*context.as_ptr()).suspend = Some(NonNull::from(suspend));
                run(lua, context.as_ptr(), arguments);
                (*context.as_ptr()).suspend = None;
            }
        });
        self.run = Some(ManuallyDrop::new(coroutine));
    }

    /// Runs what was started until it ends or is suspended. It may use the host meanwhile.
    pub fn resume(&mut self, host: &mut dyn Host) -> Progress {
        let mut coroutine = self.run.take().expect("something was started");
        // SAFETY: the pointer is taken back below, before the borrow ends; the lifetimes are those of the call.
        let host: NonNull<dyn Host> = unsafe { std::mem::transmute(NonNull::from(host)) };
        self.context().host = Some(host);
        let result = coroutine.resume(());
        self.context().host = None;
        if let CoroutineResult::Yield(()) = result {
            self.run = Some(coroutine);
            return Progress::Suspended;
        }
        self.stack = Some(ManuallyDrop::into_inner(coroutine).into_stack());
        self.lua.set_top(0);
        let context = self.context();
        context.running = Running::Nothing;
        if context.abort.is_some() {
            // SAFETY: an open state.
            unsafe { api::watch(self.lua.0) };
        }
        if std::mem::take(&mut self.context().collector_changed) {
            /// Lua's defaults, in percent.
            const PAUSE: c_int = 200;
            self.lua.collector(ffi::LUA_GCSETPAUSE, PAUSE);
            self.lua.collector(ffi::LUA_GCSETSTEPMUL, PAUSE);
            self.lua.collector(ffi::LUA_GCRESTART, 0);
        }
        Progress::Done
    }

    /// Why what ran last was stopped, if it was.
    pub fn aborted(&mut self) -> Option<Abort> {
        self.context().abort
    }

    /// The reply that came of what ran last.
    pub fn take_result(&mut self) -> Result<&[u8], Failure> {
        let context = self.context();
        match context.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(&context.result),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.is_running() {
            // Its frames cannot be unwound: what they use stays.
            return;
        }
        // SAFETY: nothing uses state or context any more.
        unsafe {
            ffi::lua_close(self.lua.0);
            drop(Box::from_raw(self.context.as_ptr()));
        }
    }
}

fn push_reference(lua: Lua, reference: c_int) {
    lua.raw_get_at(ffi::LUA_REGISTRYINDEX, reference);
}

fn push_array(lua: Lua, items: &mut dyn ExactSizeIterator<Item = &[u8]>) {
    lua.new_table(items.len() as c_int, 0);
    for (n, item) in items.enumerate() {
        lua.push_bytes(item);
        lua.raw_set_at(-2, n as c_int + 1);
    }
}

/// Takes from Lua's globals what scripts do not get, and adds what they get besides.
fn furnish(lua: Lua) {
    lua.push_copy(ffi::LUA_GLOBALSINDEX);
    for name in REMOVED {
        lua.push_nil();
        lua.set_field(-2, name);
    }
    // SAFETY: an open state.
    unsafe { ffi::lua_pushcclosure(lua.0, api::protected_call, 0) };
    lua.set_field(-2, "pcall");
    lua.set_binding("collectgarbage", api::collect_garbage);
    lua.set_binding("gcinfo", api::gc_info);
    lua.new_table(0, 1);
    lua.set_binding("clock", api::clock);
    lua.set_field(-2, "os");
    lua.push_field(-1, "math");
    lua.set_binding("random", api::random);
    lua.set_binding("randomseed", api::random_seed);
    lua.pop(1);
    json::push_library(lua);
    lua.set_field(-2, "cjson");
    msgpack::push_library(lua);
    lua.set_field(-2, "cmsgpack");
    structs::push_library(lua);
    lua.set_field(-2, "struct");
    bits::push_library(lua);
    lua.set_field(-2, "bit");
    lua.pop(1);
    // The metatable that all strings share.
    lua.push_bytes(b"");
    lua.metatable(-1);
    lua.set_readonly(-1, true);
    lua.pop(2);
}

/// Has a look at what the table on top lacks raise an error.
fn set_error_metatable(lua: Lua) {
    lua.new_table(0, 1);
    lua.set_binding("__index", api::nonexistent_global);
    lua.set_metatable(-2);
}

/// Makes the table on top read-only, and what it holds.
fn protect(lua: Lua) {
    if lua.is_readonly(-1) {
        return;
    }
    lua.set_readonly(-1, true);
    if lua.metatable(-1) {
        protect(lua);
        lua.pop(1);
    }
    lua.push_nil();
    while lua.next(-2) {
        if lua.kind(-1) == Kind::Table {
            protect(lua);
        }
        lua.pop(1);
    }
}

/// The globals of functions: those on top, with another `redis`.
fn function_tables(lua: Lua, version: &str) -> c_int {
    lua.new_table(0, 40);
    lua.push_nil();
    while lua.next(-3) {
        if lua.bytes(-2) == Some(b"_G") {
            lua.pop(1);
            continue;
        }
        lua.push_copy(-2);
        lua.insert(-2);
        lua.raw_set(-4);
    }
    lua.push_copy(-1);
    lua.set_field(-2, "_G");
    api::push_redis(lua, Table::Function, version);
    lua.set_field(-2, "redis");
    set_error_metatable(lua);
    protect(lua);
    lua.reference()
}

/// The globals of a library's code while it is loaded.
fn load_tables(lua: Lua, version: &str) -> c_int {
    lua.new_table(0, 1);
    api::push_redis(lua, Table::Load, version);
    set_error_metatable(lua);
    lua.set_field(-2, "redis");
    set_error_metatable(lua);
    protect(lua);
    lua.reference()
}

/// Calls the function that is on the stack with its arguments, and keeps the result as a reply.
///
/// # Safety
/// The state is the context's, and its stack has the handler of errors at its bottom.
unsafe fn run(lua: Lua, context: *mut Context, arguments: c_int) {
    // SAFETY: as the function's.
    let status = unsafe { ffi::lua_pcall(lua.0, arguments, 1, 1) };
    // SAFETY: Lua is left, so the context is used by nobody else.
    let context = unsafe { &mut *context };
    context.memory.unlimited += 1;
    if status == ffi::LUA_OK {
        if context.running != Running::Load {
            let mut result = std::mem::take(&mut context.result);
            let mut reply = Reply::new(&mut result, context.caller_protocol);
            replies::write_value(lua, &mut reply, context.protocol);
            context.result = result;
        }
    } else {
        context.failure = Some(failure(lua, context));
        if status == ffi::LUA_ERRMEM {
            lua.set_top(0);
            lua.collector(ffi::LUA_GCCOLLECT, 0);
        }
    }
    context.memory.unlimited -= 1;
}

/// What the error on top says.
fn failure(lua: Lua, context: &Context) -> Failure {
    if lua.kind(-1) != Kind::Table {
        /// So much of the reason is shown.
        const SHOWN_BYTES: usize = 100;
        let reason = lua.bytes(-1).unwrap_or(b"execution failure");
        let reason = &reason[..reason.len().min(SHOWN_BYTES)];
        let text = [
            b"ERR Error running script ",
            context.name.as_slice(),
            b", ",
            reason,
        ]
        .concat();
        return Failure {
            text,
            is_counted: false,
        };
    }
    let field = |name: &str| {
        lua.push_field(-1, name);
        let text = lua.bytes(-1).map(<[u8]>::to_vec);
        lua.pop(1);
        text
    };
    let mut text = field("err").unwrap_or_else(|| b"ERR unknown error".to_vec());
    if let (Some(source), Some(line), false) =
        (field("source"), field("line"), context.name.is_empty())
    {
        text.extend_from_slice(b" script: ");
        text.extend_from_slice(&context.name);
        text.extend_from_slice(b", on ");
        text.extend_from_slice(&source);
        text.push(b':');
        text.extend_from_slice(&line);
        text.push(b'.');
    }
    lua.push_field(-1, "ignore_error_stats_update");
    let is_counted = lua.boolean(-1);
    lua.pop(1);
    Failure { text, is_counted }
}
