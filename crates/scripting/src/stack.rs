//! Lua's stack, as bindings use it.
//!
//! [`Lua`] is a state's handle; its methods are Lua's functions of the same kind, of which only those are here that
//! never raise an error, so that no `longjmp` passes a frame of Rust with something to drop. What may fail says so with
//! [`Raised`], and the error is raised when the function's frames are gone ([`dispatch`]). Two things make that hold:
//! no value has a `__gc` metamethod, so collecting runs no Lua code, and the allocator refuses nothing while
//! a binding runs ([`crate::memory`]).
//!
//! Indexes are trusted, as Lua itself trusts them: a binding counts what it pushed.

use std::ffi::{c_int, c_void, CStr, CString};

use mlua_sys as ffi;
use mlua_sys::lua_State;

use crate::context::Context;

/// The error's value is on top of the stack.
#[derive(Debug)]
pub struct Raised;

pub type Returns = Result<c_int, Raised>;

/// A function of ours that scripts call: it leaves its results on top of the stack and says how many.
pub type Binding = fn(Lua) -> Returns;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    None,
    Nil,
    Boolean,
    LightUserdata,
    Number,
    String,
    Table,
    Function,
    Userdata,
    Thread,
}

#[derive(Clone, Copy)]
pub struct Lua(pub *mut lua_State);

extern "C-unwind" {
    fn basalt_is_readonly(state: *mut lua_State, index: c_int) -> c_int;
    fn basalt_set_readonly(state: *mut lua_State, index: c_int, readonly: c_int);
}

/// The C function behind every [`Binding`], which is its first upvalue.
unsafe extern "C-unwind" fn dispatch(state: *mut lua_State) -> c_int {
    // SAFETY: Lua calls this with its state; the upvalue was made by `push_binding` from a Binding, of which no script
    // can get another. Nothing is left to drop when the error is raised.
    unsafe {
        let upvalue = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1));
        let binding = std::mem::transmute::<*mut c_void, Binding>(upvalue);
        let memory = &raw mut (*Context::of(state)).memory;
        (*memory).unlimited += 1;
        let returns = binding(Lua(state));
        (*memory).unlimited -= 1;
        match returns {
            Ok(count) => count,
            Err(Raised) => ffi::lua_error(state),
        }
    }
}

/// Methods that are one call of Lua's interface each.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = |$state:ident| $call:expr;)*) => {
        impl Lua {
            $($(#[$doc])*
            #[inline]
            pub fn $name(self, $($arg: $type),*) $(-> $result)? {
                let $state = self.0;
                // SAFETY: a Lua is made only of states that are open; see the module's head for what it may do.
                unsafe { $call }
            })*
        }
    };
}

calls! {
    top() -> c_int = |l| ffi::lua_gettop(l);
    set_top(index: c_int) = |l| ffi::lua_settop(l, index);
    push_copy(index: c_int) = |l| ffi::lua_pushvalue(l, index);
    insert(index: c_int) = |l| ffi::lua_insert(l, index);
    replace(index: c_int) = |l| ffi::lua_replace(l, index);
    push_nil() = |l| ffi::lua_pushnil(l);
    push_number(n: f64) = |l| ffi::lua_pushnumber(l, n);
    push_null_pointer() = |l| ffi::lua_pushlightuserdata(l, std::ptr::null_mut());
    /// Without a conversion, except from a string that is a number.
    number(index: c_int) -> f64 = |l| ffi::lua_tonumber(l, index);
    /// A number, or a string that is one.
    is_number(index: c_int) -> bool = |l| ffi::lua_isnumber(l, index) != 0;
    boolean(index: c_int) -> bool = |l| ffi::lua_toboolean(l, index) != 0;
    new_table(array: c_int, others: c_int) = |l| ffi::lua_createtable(l, array, others);
    /// Of a table, without metamethods: replaces the key on top by its value.
    raw_get(index: c_int) = |l| ffi::lua_rawget_(l, index);
    raw_get_at(index: c_int, n: c_int) = |l| ffi::lua_rawgeti_(l, index, n);
    /// Of a table that is not read-only: takes key and value from the top.
    raw_set(index: c_int) = |l| ffi::lua_rawset(l, index);
    raw_set_at(index: c_int, n: c_int) = |l| ffi::lua_rawseti_(l, index, n);
    /// With a key that came from this function.
    next(index: c_int) -> bool = |l| ffi::lua_next(l, index) != 0;
    has_room(slots: c_int) -> bool = |l| ffi::lua_checkstack(l, slots) != 0;
    set_metatable(index: c_int) = |l| { ffi::lua_setmetatable(l, index); };
    metatable(index: c_int) -> bool = |l| ffi::lua_getmetatable(l, index) != 0;
    set_environment(index: c_int) = |l| { ffi::lua_setfenv(l, index); };
    collector(what: c_int, data: c_int) -> c_int = |l| ffi::lua_gc(l, what, data);
    reference() -> c_int = |l| ffi::luaL_ref(l, ffi::LUA_REGISTRYINDEX);
    unreference(reference: c_int) = |l| ffi::luaL_unref(l, ffi::LUA_REGISTRYINDEX, reference);
    /// `chunk:line: ` of the function at this level, or nothing.
    push_place(level: c_int) = |l| ffi::luaL_where(l, level);
    concat(count: c_int) = |l| ffi::lua_concat(l, count);
}

impl Lua {
    pub fn context(self) -> *mut Context {
        // SAFETY: every state is made with a context as its allocator's argument.
        unsafe { Context::of(self.0) }
    }

    pub fn pop(self, count: c_int) {
        self.set_top(-count - 1);
    }

    pub fn kind(self, index: c_int) -> Kind {
        // SAFETY: as in `calls`.
        match unsafe { ffi::lua_type(self.0, index) } {
            ffi::LUA_TNIL => Kind::Nil,
            ffi::LUA_TBOOLEAN => Kind::Boolean,
            ffi::LUA_TLIGHTUSERDATA => Kind::LightUserdata,
            ffi::LUA_TNUMBER => Kind::Number,
            ffi::LUA_TSTRING => Kind::String,
            ffi::LUA_TTABLE => Kind::Table,
            ffi::LUA_TFUNCTION => Kind::Function,
            ffi::LUA_TUSERDATA => Kind::Userdata,
            ffi::LUA_TTHREAD => Kind::Thread,
            _ => Kind::None,
        }
    }

    pub fn kind_name(self, index: c_int) -> &'static str {
        match self.kind(index) {
            Kind::None => "no value",
            Kind::Nil => "nil",
            Kind::Boolean => "boolean",
            Kind::LightUserdata | Kind::Userdata => "userdata",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Table => "table",
            Kind::Function => "function",
            Kind::Thread => "thread",
        }
    }

    pub fn push_bytes(self, bytes: &[u8]) {
        // SAFETY: Lua copies the bytes.
        unsafe { ffi::lua_pushlstring_(self.0, bytes.as_ptr().cast(), bytes.len()) };
    }

    pub fn push_boolean(self, value: bool) {
        // SAFETY: as in `calls`.
        unsafe { ffi::lua_pushboolean(self.0, value.into()) };
    }

    /// The bytes of a string, or of a number's text: the number becomes a string where it stands, so it must not be a
    /// key that `next` goes on from. They live as long as the value is on the stack or in a table.
    pub fn bytes(&self, index: c_int) -> Option<&[u8]> {
        let mut len = 0;
        // SAFETY: Lua's string stays where it is as long as something refers to it, which the caller sees to.
        unsafe {
            let start = ffi::lua_tolstring(self.0, index, &mut len);
            (!start.is_null()).then(|| std::slice::from_raw_parts(start.cast(), len))
        }
    }

    /// A pointer that tells tables apart.
    pub fn is_null_pointer(self, index: c_int) -> bool {
        // SAFETY: as in `calls`.
        self.kind(index) == Kind::LightUserdata
            && unsafe { ffi::lua_touserdata(self.0, index) }.is_null()
    }

    /// Puts the value on top under a name into the table at `index` (counted without the value).
    pub fn set_field(self, index: c_int, name: &str) {
        let index = if index < 0 && index > ffi::LUA_REGISTRYINDEX {
            index - 1
        } else {
            index
        };
        self.push_bytes(name.as_bytes());
        self.insert(-2);
        self.raw_set(index);
    }

    /// The field of a table, without metamethods.
    pub fn push_field(self, index: c_int, name: &str) {
        let index = if index < 0 && index > ffi::LUA_REGISTRYINDEX {
            index - 1
        } else {
            index
        };
        self.push_bytes(name.as_bytes());
        self.raw_get(index);
    }

    /// Pushes a function of ours that has the value on top as its upvalue, if `upvalues` is 1.
    pub fn push_binding_with(self, binding: Binding, upvalues: c_int) {
        // SAFETY: `dispatch` finds the Binding in its first upvalue.
        unsafe {
            ffi::lua_pushlightuserdata(self.0, binding as *mut c_void);
            if upvalues > 0 {
                self.insert(-1 - upvalues);
            }
            ffi::lua_pushcclosure(self.0, dispatch, 1 + upvalues);
        }
    }

    pub fn push_binding(self, binding: Binding) {
        self.push_binding_with(binding, 0);
    }

    /// Puts a function of ours under a name into the table on top.
    pub fn set_binding(self, name: &str, binding: Binding) {
        self.push_binding(binding);
        self.set_field(-2, name);
    }

    pub fn set_readonly(self, index: c_int, readonly: bool) {
        debug_assert_eq!(self.kind(index), Kind::Table);
        // SAFETY: the value at `index` is a table.
        unsafe { basalt_set_readonly(self.0, index, readonly.into()) };
    }

    pub fn is_readonly(self, index: c_int) -> bool {
        debug_assert_eq!(self.kind(index), Kind::Table);
        // SAFETY: the value at `index` is a table.
        unsafe { basalt_is_readonly(self.0, index) != 0 }
    }

    /// Raises a text as it is.
    pub fn raise_plain(self, text: &[u8]) -> Raised {
        self.push_bytes(text);
        Raised
    }

    /// Raises a text with the place of the call in front.
    pub fn raise(self, text: &str) -> Raised {
        self.push_place(1);
        self.push_bytes(text.as_bytes());
        self.concat(2);
        Raised
    }

    /// Refuses an argument, in Lua's words.
    pub fn bad_argument(self, argument: c_int, reason: &str) -> Raised {
        // SAFETY: `record` is filled before it is read, and names are static or live with the function that runs.
        let (name, is_method) = unsafe {
            let mut record: ffi::lua_Debug = std::mem::zeroed();
            if ffi::lua_getstack(self.0, 0, &mut record) == 0 {
                return self.raise(&format!("bad argument #{argument} ({reason})"));
            }
            ffi::lua_getinfo(self.0, c"n".as_ptr(), &mut record);
            let text = |p: *const std::ffi::c_char| {
                (!p.is_null()).then(|| CStr::from_ptr(p).to_string_lossy().into_owned())
            };
            (
                text(record.name),
                text(record.namewhat).as_deref() == Some("method"),
            )
        };
        let name = name.unwrap_or_else(|| "?".to_owned());
        match argument - c_int::from(is_method) {
            0 if is_method => self.raise(&format!("calling '{name}' on bad self ({reason})")),
            argument => self.raise(&format!("bad argument #{argument} to '{name}' ({reason})")),
        }
    }

    fn bad_kind(self, argument: c_int, wanted: &str) -> Raised {
        let got = self.kind_name(argument);
        self.bad_argument(argument, &format!("{wanted} expected, got {got}"))
    }

    pub fn check_number(self, argument: c_int) -> Result<f64, Raised> {
        if self.is_number(argument) {
            Ok(self.number(argument))
        } else {
            Err(self.bad_kind(argument, "number"))
        }
    }

    /// A number without its fraction, as C's conversion gives it.
    pub fn check_integer(self, argument: c_int) -> Result<i64, Raised> {
        self.check_number(argument).map(to_integer)
    }

    pub fn check_bytes(&self, argument: c_int) -> Result<&[u8], Raised> {
        self.bytes(argument)
            .ok_or(())
            .map_err(|()| self.bad_kind(argument, "string"))
    }

    pub fn is_none_or_nil(self, argument: c_int) -> bool {
        matches!(self.kind(argument), Kind::None | Kind::Nil)
    }

    /// Compiles a chunk of text and pushes its function, or its error.
    pub fn load(self, text: &[u8], name: &CStr) -> Result<(), Raised> {
        // SAFETY: the parser reads so many bytes; errors come back as a status.
        match unsafe {
            ffi::luaL_loadbuffer(self.0, text.as_ptr().cast(), text.len(), name.as_ptr())
        } {
            ffi::LUA_OK => Ok(()),
            _ => Err(Raised),
        }
    }
}

/// As the processor converts: what does not fit becomes the smallest number.
pub fn to_integer(n: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&n) {
        n as i64
    } else {
        i64::MIN
    }
}

/// A number in C's `%.<precision>g`.
pub fn format_general(n: f64, precision: usize) -> String {
    let mut text = [0u8; 64];
    let format = CString::new(format!("%.{precision}g")).expect("digits have no zero byte");
    // SAFETY: the buffer's size is given, and a double is what the format wants.
    let len = unsafe { libc::snprintf(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), n) };
    let len = usize::try_from(len).unwrap_or(0).min(text.len() - 1);
    String::from_utf8_lossy(&text[..len]).into_owned()
}
