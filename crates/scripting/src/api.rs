//! `redis.*`, and the few functions of Lua that scripts get in another form.

use std::ffi::{c_int, CStr};

use datatypes::number::f64_to_vec;
use mlua_sys as ffi;
use mlua_sys::lua_State;
use resp::Protocol;
use sha1::{Digest, Sha1};

use crate::context::{Abort, Context, Running};
use crate::replies::push_reply;
use crate::stack::{to_integer, Kind, Lua, Raised, Returns};
use crate::{Call, LogLevel, Refusal, Registered, Verdict};

/// The flags of `redis.set_repl`.
pub const REPL_AOF: u8 = 1;
pub const REPL_REPLICA: u8 = 2;
pub const REPL_ALL: u8 = REPL_AOF | REPL_REPLICA;

const LOG_LEVELS: [(&str, LogLevel); 4] = [
    ("LOG_DEBUG", LogLevel::Debug),
    ("LOG_VERBOSE", LogLevel::Verbose),
    ("LOG_NOTICE", LogLevel::Notice),
    ("LOG_WARNING", LogLevel::Warning),
];

/// What a script sees when it is being stopped; who stopped it says something else to the client.
const STOPPED: &[u8] = b"ERR script stopped";

/// A table of our errors: `{err = text}`. A text with its code begins with `-`.
pub fn push_error(lua: Lua, text: &[u8]) {
    let text = text.strip_suffix(b"\r\n").unwrap_or(text);
    let (code, rest) = match text.strip_prefix(b"-") {
        None => (&b"ERR "[..], text),
        // A word alone is no code.
        Some(rest) if !rest.contains(&b' ') => (&b"ERR "[..], rest),
        Some(rest) => (&b""[..], rest),
    };
    lua.new_table(0, 4);
    lua.push_bytes(&[code, rest].concat());
    lua.set_field(-2, "err");
}

fn error(lua: Lua, text: &[u8]) -> Raised {
    push_error(lua, text);
    Raised
}

/// An error that a command replied, and that is counted already.
pub fn push_counted_error(lua: Lua, text: &[u8]) {
    lua.new_table(0, 4);
    let code: &[u8] = if text.contains(&b' ') { b"" } else { b"ERR " };
    lua.push_bytes(&[code, text].concat());
    lua.set_field(-2, "err");
    lua.push_boolean(true);
    lua.set_field(-2, "ignore_error_stats_update");
}

/// The arguments of a call, as a command gets them. The error's table is on the stack.
fn collect_arguments(lua: Lua) -> Result<(), Raised> {
    // SAFETY: the context outlives the state, and nothing else uses its scratch meanwhile.
    let argv = unsafe { &mut (*lua.context()).argv };
    argv.clear();
    let count = lua.top();
    if count == 0 {
        return Err(error(
            lua,
            b"Please specify at least one argument for this redis lib call",
        ));
    }
    let mut bytes = 0;
    for index in 1..=count {
        match lua.kind(index) {
            Kind::Number => argv.push(&number_argument(lua.number(index))),
            Kind::String => {
                let argument = lua.bytes(index).unwrap_or_default();
                bytes += argument.len();
                // Spans count in 32 bits.
                if bytes > u32::MAX as usize / 2 {
                    return Err(error(lua, b"Lua redis lib command arguments are too long"));
                }
                argv.push(argument);
            }
            _ => {
                return Err(error(
                    lua,
                    b"Lua redis lib command arguments must be strings or integers",
                ))
            }
        }
    }
    Ok(())
}

/// A number as a command's argument: an integer where it is one, or else the shortest text that means the same.
fn number_argument(n: f64) -> Vec<u8> {
    const WHOLE_LIMIT: f64 = (i64::MAX / 2) as f64;
    if (-WHOLE_LIMIT..=WHOLE_LIMIT).contains(&n) && n == (n as i64) as f64 {
        return (n as i64).to_string().into_bytes();
    }
    match n {
        n if n.is_nan() && n.is_sign_negative() => b"-nan".to_vec(),
        n if n.is_nan() => b"nan".to_vec(),
        n => f64_to_vec(n),
    }
}

fn call(lua: Lua) -> Returns {
    if run_command(lua)? {
        return Err(Raised);
    }
    Ok(1)
}

fn pcall(lua: Lua) -> Returns {
    match run_command(lua) {
        Ok(_) => Ok(1),
        // SAFETY: as in `collect_arguments`.
        Err(Raised) if unsafe { (*lua.context()).abort.is_some() } => Err(Raised),
        Err(Raised) => Ok(1),
    }
}

/// Runs a command and pushes what it replied. True when that is an error. An error of its own is raised when the call
/// was wrong.
fn run_command(lua: Lua) -> Result<bool, Raised> {
    collect_arguments(lua)?;
    // SAFETY: as in `collect_arguments`; the host is there as long as a script runs.
    let context = unsafe { &mut *lua.context() };
    let Some(mut host) = context.host else {
        return Err(error(
            lua,
            b"redis.call/pcall can only be called inside a script invocation",
        ));
    };
    let mut reply = std::mem::take(&mut context.reply);
    reply.clear();
    let call = Call {
        argv: context.argv.argv(),
        protocol: context.protocol,
        read_only: context.read_only,
        logged: context.replication & REPL_AOF != 0,
    };
    // SAFETY: whoever resumed the script lent its host for as long.
    let outcome = unsafe { host.as_mut() }.call(call, &mut reply);
    let result = match outcome {
        Ok(()) => {
            let is_error = push_reply(lua, &reply);
            Ok(is_error)
        }
        Err(Refusal::Error(text)) => {
            push_counted_error(lua, &text);
            Ok(true)
        }
        Err(Refusal::Restart) => Err(abort(lua, Abort::Restart)),
    };
    /// What is kept of the scratch.
    const KEPT_BYTES: usize = 64 << 10;
    if reply.capacity() <= KEPT_BYTES {
        context.reply = reply;
    }
    if context.argv.memory_bytes() > 2 * KEPT_BYTES {
        context.argv = resp::OwnedArgv::default();
    }
    result
}

/// Begins to stop the script: from here on each of its instructions raises an error.
pub fn abort(lua: Lua, why: Abort) -> Raised {
    // SAFETY: as in `collect_arguments`. Setting a hook only stores it.
    unsafe {
        (*lua.context()).abort = Some(why);
        arm(lua.0);
    }
    push_counted_error(lua, STOPPED);
    Raised
}

/// Instructions between two looks at the time.
const LOOK_EVERY_INSTRUCTIONS: c_int = 100_000;

/// Has a state's time looked at.
///
/// # Safety
/// The state is open.
pub unsafe fn watch(state: *mut lua_State) {
    // SAFETY: as the function's.
    unsafe {
        ffi::lua_sethook(
            state,
            Some(look),
            ffi::LUA_MASKCOUNT,
            LOOK_EVERY_INSTRUCTIONS,
        )
    };
}

/// Has the next instruction of this thread of Lua's, and those behind it, raise an error.
unsafe fn arm(state: *mut lua_State) {
    // SAFETY: the state is open.
    unsafe { ffi::lua_sethook(state, Some(look), ffi::LUA_MASKCOUNT | ffi::LUA_MASKLINE, 1) };
}

/// Called by Lua every so many instructions: has the host decide whether the script goes on.
unsafe extern "C-unwind" fn look(state: *mut lua_State, _: *mut ffi::lua_Debug) {
    // SAFETY: Lua calls this with an open state of ours while a script runs; the host and the way back were lent for
    // as long. Nothing here needs dropping when an error is raised.
    unsafe {
        let lua = Lua(state);
        let context = lua.context();
        if (*context).abort.is_none() {
            let took = (*context).began.elapsed();
            match (*context).running {
                Running::Load if took > crate::LOAD_TIMEOUT => {
                    (*context).abort = Some(Abort::LoadTimeout)
                }
                Running::Script | Running::Function => {
                    if let Some(mut host) = (*context).host {
                        match host.as_mut().look(took) {
                            Verdict::GoOn => {}
                            Verdict::Suspend => {
                                if let Some(suspend) = (*context).suspend {
                                    suspend.as_ref().suspend(());
                                }
                            }
                            Verdict::Kill => (*context).abort = Some(Abort::Killed),
                        }
                    }
                }
                _ => {}
            }
        }
        let Some(why) = (*context).abort else { return };
        arm(state);
        (*context).memory.unlimited += 1;
        let text: &[u8] = match (why, (*context).running) {
            (Abort::Killed, Running::Function) => {
                b"ERR Function killed by user with FUNCTION KILL."
            }
            (Abort::Killed, _) => b"ERR Script killed by user with SCRIPT KILL.",
            (Abort::LoadTimeout, _) => b"ERR FUNCTION LOAD timeout",
            (Abort::Restart, _) => STOPPED,
        };
        lua.new_table(0, 4);
        lua.push_bytes(text);
        lua.set_field(-2, "err");
        (*context).memory.unlimited -= 1;
        ffi::lua_error(state)
    }
}

fn single_field(lua: Lua, name: &str) -> Option<()> {
    if lua.top() != 1 || lua.kind(1) != Kind::String {
        push_error(lua, b"wrong number or type of arguments");
        return None;
    }
    lua.new_table(0, 1);
    lua.push_copy(1);
    lua.set_field(-2, name);
    Some(())
}

fn error_reply(lua: Lua) -> Returns {
    if lua.top() != 1 || lua.kind(1) != Kind::String {
        push_error(lua, b"wrong number or type of arguments");
        return Ok(1);
    }
    let text = lua.bytes(1).unwrap_or_default();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    push_error(lua, &[b"-", text].concat());
    Ok(1)
}

fn status_reply(lua: Lua) -> Returns {
    let _ = single_field(lua, "ok");
    Ok(1)
}

fn sha1hex(lua: Lua) -> Returns {
    if lua.top() != 1 {
        return Err(error(lua, b"wrong number of arguments"));
    }
    let digest = crate::sha1_hex(lua.bytes(1).unwrap_or_default());
    lua.push_bytes(&digest);
    Ok(1)
}

fn log(lua: Lua) -> Returns {
    let count = lua.top();
    if count < 2 {
        return Err(error(lua, b"redis.log() requires two arguments or more."));
    }
    if !lua.is_number(1) {
        return Err(error(lua, b"First argument must be a number (log level)."));
    }
    let level = to_integer(lua.number(1));
    let Some((_, level)) = usize::try_from(level)
        .ok()
        .and_then(|level| LOG_LEVELS.get(level))
    else {
        return Err(error(lua, b"Invalid log level."));
    };
    let mut text = Vec::new();
    for index in 2..=count {
        if let Some(part) = lua.bytes(index) {
            if index > 2 {
                text.push(b' ');
            }
            text.extend_from_slice(part);
        }
    }
    // SAFETY: as in `run_command`.
    if let Some(mut host) = unsafe { (*lua.context()).host } {
        // SAFETY: as above.
        unsafe { host.as_mut() }.log(*level, &text);
    }
    Ok(0)
}

fn setresp(lua: Lua) -> Returns {
    if lua.top() != 1 {
        return Err(error(lua, b"redis.setresp() requires one argument."));
    }
    let protocol = match to_integer(lua.number(1)) {
        2 => Protocol::Resp2,
        3 => Protocol::Resp3,
        _ => return Err(error(lua, b"RESP version must be 2 or 3.")),
    };
    // SAFETY: as in `collect_arguments`.
    unsafe { (*lua.context()).protocol = protocol };
    Ok(0)
}

fn set_repl(lua: Lua) -> Returns {
    if lua.top() != 1 {
        return Err(error(lua, b"redis.set_repl() requires one argument."));
    }
    match u8::try_from(to_integer(lua.number(1))) {
        // SAFETY: as in `collect_arguments`.
        Ok(flags) if flags <= REPL_ALL => unsafe { (*lua.context()).replication = flags },
        _ => {
            let text =
                b"Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.";
            return Err(error(lua, text));
        }
    }
    Ok(0)
}

fn replicate_commands(lua: Lua) -> Returns {
    lua.push_boolean(true);
    Ok(1)
}

/// Without a debugger nothing stops at a breakpoint.
fn breakpoint(lua: Lua) -> Returns {
    lua.push_boolean(false);
    Ok(1)
}

fn debug(_: Lua) -> Returns {
    Ok(0)
}

fn acl_check_cmd(lua: Lua) -> Returns {
    collect_arguments(lua)?;
    // SAFETY: as in `run_command`.
    let context = unsafe { &mut *lua.context() };
    let allowed = match context.host {
        // SAFETY: as above.
        Some(mut host) => unsafe { host.as_mut() }.may_run(context.argv.argv()),
        None => None,
    };
    match allowed {
        Some(allowed) => lua.push_boolean(allowed),
        None => {
            return Err(error(
                lua,
                b"Invalid command passed to redis.acl_check_cmd()",
            ))
        }
    }
    Ok(1)
}

/// Which `redis` table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Script,
    Function,
    Load,
}

/// Pushes a `redis` table. `version` is the one that `redis.REDIS_VERSION` tells.
pub fn push_redis(lua: Lua, table: Table, version: &str) {
    lua.new_table(0, 24);
    for (level, (name, _)) in LOG_LEVELS.iter().enumerate() {
        lua.push_number(level as f64);
        lua.set_field(-2, name);
    }
    lua.push_bytes(version.as_bytes());
    lua.set_field(-2, "REDIS_VERSION");
    let number = version
        .split('.')
        .fold(0, |all, part| all << 8 | part.parse::<u32>().unwrap_or(0));
    lua.push_number(number.into());
    lua.set_field(-2, "REDIS_VERSION_NUM");
    lua.set_binding("log", log);
    if table == Table::Load {
        lua.set_binding("register_function", register_function);
        return;
    }
    let constants = [
        ("REPL_NONE", 0),
        ("REPL_AOF", REPL_AOF),
        ("REPL_SLAVE", REPL_REPLICA),
        ("REPL_REPLICA", REPL_REPLICA),
        ("REPL_ALL", REPL_ALL),
    ];
    for (name, value) in constants {
        lua.push_number(value.into());
        lua.set_field(-2, name);
    }
    lua.set_binding("call", call);
    lua.set_binding("pcall", pcall);
    lua.set_binding("error_reply", error_reply);
    lua.set_binding("status_reply", status_reply);
    lua.set_binding("sha1hex", sha1hex);
    lua.set_binding("setresp", setresp);
    lua.set_binding("set_repl", set_repl);
    lua.set_binding("acl_check_cmd", acl_check_cmd);
    if table == Table::Script {
        lua.set_binding("replicate_commands", replicate_commands);
        lua.set_binding("breakpoint", breakpoint);
        lua.set_binding("debug", debug);
    }
}

/// `redis.register_function(name, callback)` or of a table with named arguments.
fn register_function(lua: Lua) -> Returns {
    let failed = |text: &[u8]| Err(error(lua, text));
    let mut new = Registered {
        name: Vec::new(),
        description: None,
        flags: 0,
        reference: 0,
    };
    match lua.top() {
        1 => {
            if lua.kind(1) != Kind::Table {
                return failed(b"calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).");
            }
            let (mut has_name, mut has_callback) = (false, false);
            lua.push_nil();
            while lua.next(1) {
                // A copy, because turning a number into a string would confuse the walk.
                lua.push_copy(-2);
                let key =
                    match lua.kind(-1) {
                        Kind::String => lua.bytes(-1).unwrap_or_default().to_vec(),
                        _ => return failed(
                            b"named argument key given to redis.register_function is not a string",
                        ),
                    };
                lua.pop(1);
                match key.as_slice() {
                    b"function_name" => match lua.bytes(-1) {
                        Some(name) => {
                            new.name = name.to_vec();
                            has_name = true;
                        }
                        None => return failed(b"function_name argument given to redis.register_function must be a string"),
                    },
                    b"description" => match lua.bytes(-1) {
                        Some(text) => new.description = Some(text.to_vec()),
                        None => return failed(b"description argument given to redis.register_function must be a string"),
                    },
                    b"callback" => {
                        if lua.kind(-1) != Kind::Function {
                            return failed(b"callback argument given to redis.register_function must be a function");
                        }
                        lua.push_copy(-1);
                        new.reference = lua.reference();
                        has_callback = true;
                    }
                    b"flags" => {
                        if lua.kind(-1) != Kind::Table {
                            return failed(b"flags argument to redis.register_function must be a table representing function flags");
                        }
                        match flags_on_top(lua) {
                            Some(flags) => new.flags = flags,
                            None => return failed(b"unknown flag given"),
                        }
                    }
                    _ => return failed(b"unknown argument given to redis.register_function"),
                }
                lua.pop(1);
            }
            if !has_name {
                return failed(b"redis.register_function must get a function name argument");
            }
            if !has_callback {
                return failed(b"redis.register_function must get a callback argument");
            }
        }
        2 => {
            match lua.bytes(1) {
                Some(name) => new.name = name.to_vec(),
                None => {
                    return failed(b"first argument to redis.register_function must be a string")
                }
            }
            if lua.kind(2) != Kind::Function {
                return failed(b"second argument to redis.register_function must be a function");
            }
            lua.push_copy(2);
            new.reference = lua.reference();
        }
        _ => return failed(b"wrong number of arguments to redis.register_function"),
    }
    if !crate::is_function_name(&new.name) {
        return failed(b"Library names can only contain letters, numbers, or underscores(_) and must be at least one character long");
    }
    // SAFETY: as in `collect_arguments`.
    let registered = unsafe { &mut (*lua.context()).registered };
    if registered.iter().any(|known| known.name == new.name) {
        return failed(b"Function already exists in the library");
    }
    registered.push(new);
    Ok(0)
}

/// The flags that the table on top lists.
fn flags_on_top(lua: Lua) -> Option<u8> {
    let mut flags = 0;
    for n in 1.. {
        lua.raw_get_at(-1, n);
        let flag = match lua.kind(-1) {
            Kind::Nil => {
                lua.pop(1);
                break;
            }
            Kind::String => crate::flags::by_name(lua.bytes(-1).unwrap_or_default()),
            _ => None,
        };
        flags |= flag?;
        lua.pop(1);
    }
    Some(flags)
}

/// `__index` of global tables.
pub fn nonexistent_global(lua: Lua) -> Returns {
    let name = match lua.kind(2) {
        Kind::String => String::from_utf8_lossy(lua.bytes(2).unwrap_or_default()).into_owned(),
        _ => String::new(),
    };
    Err(lua.raise(&format!(
        "Script attempted to access nonexistent global variable '{name}'"
    )))
}

/// `pcall`: of an error's table, scripts of old expect the text.
pub unsafe extern "C-unwind" fn protected_call(state: *mut lua_State) -> c_int {
    // SAFETY: Lua calls this with an open state. No Rust value lives across the call, which may raise.
    unsafe {
        let lua = Lua(state);
        if lua.top() == 0 {
            let memory = &raw mut (*lua.context()).memory;
            (*memory).unlimited += 1;
            let Raised = lua.bad_argument(1, "value expected");
            (*memory).unlimited -= 1;
            ffi::lua_error(state);
        }
        let status = ffi::lua_pcall(state, lua.top() - 1, ffi::LUA_MULTRET, 0);
        if status != ffi::LUA_OK && lua.kind(-1) == Kind::Table {
            lua.push_field(-1, "err");
            if matches!(lua.kind(-1), Kind::String | Kind::Number) {
                lua.replace(-2);
            } else {
                lua.pop(1);
            }
        }
        ffi::lua_pushboolean(state, c_int::from(status == ffi::LUA_OK));
        lua.insert(1);
        lua.top()
    }
}

/// The handler of errors that end a script: makes a table of the error, with its place.
pub unsafe extern "C-unwind" fn error_with_place(state: *mut lua_State) -> c_int {
    // SAFETY: Lua calls this with an open state and the error on top. `__tostring` may run and raise; no Rust value
    // with something to drop lives then. `record` is filled before it is read.
    unsafe {
        let lua = Lua(state);
        let mut record: ffi::lua_Debug = std::mem::zeroed();
        let mut has_place = false;
        // Level 0 is this function, 1 the one that raised; that may be one of C.
        for level in 1..=2 {
            has_place = ffi::lua_getstack(state, level, &mut record) != 0;
            if !has_place {
                break;
            }
            ffi::lua_getinfo(state, c"nSl".as_ptr(), &mut record);
            if CStr::from_ptr(record.what).to_bytes() != b"C" {
                break;
            }
        }
        if lua.kind(1) != Kind::Table {
            lua.new_table(0, 4);
            lua.push_bytes(b"ERR ");
            push_text_of(lua, 1);
            lua.concat(2);
            lua.set_field(-2, "err");
            lua.replace(1);
        }
        if has_place {
            ffi::lua_pushstring_(state, record.source);
            ffi::lua_setfield(state, 1, c"source".as_ptr());
            lua.push_number(record.currentline.into());
            ffi::lua_setfield(state, 1, c"line".as_ptr());
        }
        lua.set_top(1);
        1
    }
}

/// As `tostring` would.
unsafe fn push_text_of(lua: Lua, index: c_int) {
    // SAFETY: as in `error_with_place`.
    unsafe {
        if ffi::luaL_callmeta(lua.0, index, c"__tostring".as_ptr()) != 0 {
            if !matches!(lua.kind(-1), Kind::String | Kind::Number) {
                lua.pop(1);
                lua.push_bytes(b"");
            }
            return;
        }
        match lua.kind(index) {
            Kind::Nil | Kind::None => lua.push_bytes(b"nil"),
            Kind::Boolean if lua.boolean(index) => lua.push_bytes(b"true"),
            Kind::Boolean => lua.push_bytes(b"false"),
            Kind::String | Kind::Number => {
                lua.push_copy(index);
                ffi::lua_tolstring(lua.0, -1, std::ptr::null_mut());
            }
            _ => {
                let pointer = ffi::lua_topointer(lua.0, index);
                ffi::lua_pushfstring(
                    lua.0,
                    c"%s: %p".as_ptr(),
                    ffi::lua_typename(lua.0, ffi::lua_type(lua.0, index)),
                    pointer,
                );
            }
        }
    }
}

/// `collectgarbage`, which remembers that the next script is to find the collector as it was.
pub fn collect_garbage(lua: Lua) -> Returns {
    let option = if lua.is_none_or_nil(1) {
        &b"collect"[..]
    } else {
        lua.check_bytes(1)?
    };
    let argument = if lua.is_none_or_nil(2) {
        0
    } else {
        lua.check_integer(2)? as c_int
    };
    let what = match option {
        b"stop" => ffi::LUA_GCSTOP,
        b"restart" => ffi::LUA_GCRESTART,
        b"collect" => ffi::LUA_GCCOLLECT,
        b"count" => ffi::LUA_GCCOUNT,
        b"step" => ffi::LUA_GCSTEP,
        b"setpause" => ffi::LUA_GCSETPAUSE,
        b"setstepmul" => ffi::LUA_GCSETSTEPMUL,
        other => {
            let text = format!("invalid option '{}'", String::from_utf8_lossy(other));
            return Err(lua.bad_argument(1, &text));
        }
    };
    if matches!(
        what,
        ffi::LUA_GCSTOP | ffi::LUA_GCSETPAUSE | ffi::LUA_GCSETSTEPMUL
    ) {
        // SAFETY: as in `collect_arguments`.
        unsafe { (*lua.context()).collector_changed = true };
    }
    let result = lua.collector(what, argument);
    match what {
        ffi::LUA_GCCOUNT => {
            let rest = lua.collector(ffi::LUA_GCCOUNTB, 0);
            lua.push_number(f64::from(result) + f64::from(rest) / 1024.0);
        }
        ffi::LUA_GCSTEP => lua.push_boolean(result != 0),
        _ => lua.push_number(result.into()),
    }
    Ok(1)
}

/// `gcinfo`.
pub fn gc_info(lua: Lua) -> Returns {
    lua.push_number(lua.collector(ffi::LUA_GCCOUNT, 0).into());
    Ok(1)
}

/// `os.clock`: seconds of processor time.
pub fn clock(lua: Lua) -> Returns {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: it only fills the time.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    // In microseconds, as C's `clock` counts.
    lua.push_number((time.tv_sec * 1_000_000 + time.tv_nsec / 1000) as f64 / 1_000_000.0);
    Ok(1)
}

/// Begins the sequence of `math.random` that belongs to a seed: that of the function family of POSIX's `drand48`.
pub fn seed_random(context: &mut Context, seed: i32) {
    context.random = u64::from(seed as u32) << 16 | 0x330e;
}

fn next_random(context: &mut Context) -> f64 {
    const RANGE: u32 = i32::MAX as u32;
    let next = context.random.wrapping_mul(0x5_deec_e66d).wrapping_add(11) & ((1 << 48) - 1);
    context.random = next;
    f64::from((next >> 17) as u32 % RANGE) / f64::from(RANGE)
}

pub fn random(lua: Lua) -> Returns {
    // SAFETY: as in `collect_arguments`.
    let r = next_random(unsafe { &mut *lua.context() });
    let bound = |argument: c_int| lua.check_integer(argument).map(|n| n as i32);
    match lua.top() {
        0 => lua.push_number(r),
        1 => {
            let high = bound(1)?;
            if high < 1 {
                return Err(lua.bad_argument(1, "interval is empty"));
            }
            lua.push_number((r * f64::from(high)).floor() + 1.0);
        }
        2 => {
            let (low, high) = (bound(1)?, bound(2)?);
            if low > high {
                return Err(lua.bad_argument(2, "interval is empty"));
            }
            let count = f64::from(high.wrapping_sub(low).wrapping_add(1));
            lua.push_number((r * count).floor() + f64::from(low));
        }
        _ => return Err(lua.raise("wrong number of arguments")),
    }
    Ok(1)
}

pub fn random_seed(lua: Lua) -> Returns {
    let seed = lua.check_integer(1)? as i32;
    // SAFETY: as in `collect_arguments`.
    seed_random(unsafe { &mut *lua.context() }, seed);
    Ok(0)
}

/// The SHA1 of a script, in hexadecimal.
pub fn sha1_hex(bytes: &[u8]) -> [u8; 40] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 40];
    for (pair, byte) in text.chunks_exact_mut(2).zip(Sha1::digest(bytes)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}
