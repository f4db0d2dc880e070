//! What commands reply when they refuse: Redis's texts, all here.

use std::borrow::Cow;

/// An error reply: its code and text, without the leading `-`. Bytes, because some errors quote
/// what the client sent.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandError(Cow<'static, [u8]>);

/// A command has written its reply, or nothing and returns the error to reply.
pub type CommandResult = Result<(), CommandError>;

impl CommandError {
    pub const fn new(text: &'static str) -> CommandError {
        CommandError(Cow::Borrowed(text.as_bytes()))
    }

    pub fn wrong_arity(name: &str) -> CommandError {
        format!("ERR wrong number of arguments for '{name}' command").into()
    }

    /// "invalid expire time in 'set' command" and the like.
    pub fn invalid_expire(name: &str) -> CommandError {
        format!("ERR invalid expire time in '{name}' command").into()
    }

    /// ZUNION and the like with no keys; `name` as the client wrote it.
    pub fn no_input_key(name: &[u8]) -> CommandError {
        let name = name.to_ascii_lowercase();
        [
            b"ERR at least 1 input key is needed for '",
            &*name,
            b"' command",
        ]
        .concat()
        .into()
    }

    pub fn unsupported_option(option: &[u8]) -> CommandError {
        [b"ERR Unsupported option ", before_zero_byte(option)]
            .concat()
            .into()
    }

    /// A subcommand with a number of arguments that its function, not its arity, refuses.
    pub fn wrong_subcommand(container: &str, name: &[u8]) -> CommandError {
        let name = before_zero_byte(name);
        [
            b"ERR unknown subcommand or wrong number of arguments for '",
            &name[..name.len().min(128)],
            b"'. Try ",
            container.as_bytes(),
            b" HELP.",
        ]
        .concat()
        .into()
    }

    pub fn text(&self) -> &[u8] {
        &self.0
    }
}

/// What a command gets that a subscribed connection may not call in RESP2.
pub fn not_while_subscribed(name: &str) -> CommandError {
    format!(
        "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
    )
    .into()
}

/// As much of an argument as Redis shows: what is in front of a zero byte.
pub fn before_zero_byte(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

impl From<String> for CommandError {
    fn from(text: String) -> CommandError {
        text.into_bytes().into()
    }
}

impl From<Vec<u8>> for CommandError {
    fn from(text: Vec<u8>) -> CommandError {
        CommandError(Cow::Owned(text))
    }
}

impl std::fmt::Debug for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CommandError({})", self.text().escape_ascii())
    }
}

pub const WRONG_TYPE: CommandError =
    CommandError::new("WRONGTYPE Operation against a key holding the wrong kind of value");
pub const SYNTAX: CommandError = CommandError::new("ERR syntax error");
pub const NOT_INTEGER: CommandError =
    CommandError::new("ERR value is not an integer or out of range");
pub const NOT_FLOAT: CommandError = CommandError::new("ERR value is not a valid float");
pub const NO_SUCH_KEY: CommandError = CommandError::new("ERR no such key");
pub const NOT_0_OR_1: CommandError =
    CommandError::new("ERR value is out of range, value must between 0 and 1");
pub const TIMEOUT_NOT_INTEGER: CommandError =
    CommandError::new("ERR timeout is not an integer or out of range");
pub const TIMEOUT_NOT_FLOAT: CommandError =
    CommandError::new("ERR timeout is not a float or out of range");
pub const TIMEOUT_NEGATIVE: CommandError = CommandError::new("ERR timeout is negative");
pub const TIMEOUT_OUT_OF_RANGE: CommandError = CommandError::new("ERR timeout is out of range");
pub const OUT_OF_RANGE: CommandError = CommandError::new("ERR value is out of range");
pub const NOT_POSITIVE: CommandError =
    CommandError::new("ERR value is out of range, must be positive");
pub const DB_INDEX_OUT_OF_RANGE: CommandError = CommandError::new("ERR DB index is out of range");
pub const INCREMENT_OVERFLOW: CommandError =
    CommandError::new("ERR increment or decrement would overflow");
pub const STRING_TOO_LONG: CommandError =
    CommandError::new("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
pub const NOT_SYMMETRIC: CommandError = CommandError::new(
    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
);
pub const INDEX_OUT_OF_RANGE: CommandError = CommandError::new("ERR index out of range");
pub const NUMKEYS_NOT_POSITIVE: CommandError =
    CommandError::new("ERR numkeys should be greater than 0");
pub const COUNT_NOT_POSITIVE: CommandError =
    CommandError::new("ERR count should be greater than 0");
pub const MORE_KEYS_THAN_ARGUMENTS: CommandError =
    CommandError::new("ERR Number of keys can't be greater than number of args");
pub const RANK_ZERO: CommandError = CommandError::new(
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
     or use negative to start from the end of the list",
);
pub const COUNT_NEGATIVE: CommandError = CommandError::new("ERR COUNT can't be negative");
pub const MAXLEN_NEGATIVE: CommandError = CommandError::new("ERR MAXLEN can't be negative");
pub const LIMIT_NEGATIVE: CommandError = CommandError::new("ERR LIMIT can't be negative");
pub const INVALID_CURSOR: CommandError = CommandError::new("ERR invalid cursor");
pub const NOVALUES_OUTSIDE_HSCAN: CommandError =
    CommandError::new("ERR NOVALUES option can only be used in HSCAN");
pub const HASH_VALUE_NOT_INTEGER: CommandError =
    CommandError::new("ERR hash value is not an integer");
pub const HASH_VALUE_NOT_FLOAT: CommandError = CommandError::new("ERR hash value is not a float");
pub const NAN_OR_INFINITY: CommandError = CommandError::new("ERR value is NaN or Infinity");
pub const INCREMENT_NOT_FINITE: CommandError =
    CommandError::new("ERR increment would produce NaN or Infinity");
pub const DECREMENT_OVERFLOW: CommandError = CommandError::new("ERR decrement would overflow");
pub const OFFSET_OUT_OF_RANGE: CommandError = CommandError::new("ERR offset is out of range");
pub const LCS_NOT_STRINGS: CommandError =
    CommandError::new("ERR The specified keys must contain string values");
pub const LCS_LENGTH_AND_INDEXES: CommandError =
    CommandError::new("ERR If you want both the length and indexes, please just use IDX.");
pub const LCS_TOO_LARGE: CommandError = CommandError::new(
    "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
);
pub const NOT_INT32: CommandError =
    CommandError::new("ERR value is out of range, value must between -2147483648 and 2147483647");
pub const EXPIRE_NX_AND_OTHERS: CommandError =
    CommandError::new("ERR NX and XX, GT or LT options at the same time are not compatible");
pub const EXPIRE_GT_AND_LT: CommandError =
    CommandError::new("ERR GT and LT options at the same time are not compatible");
pub const SAME_OBJECT: CommandError =
    CommandError::new("ERR source and destination objects are the same");
pub const BUSY_KEY: CommandError = CommandError::new("BUSYKEY Target key name already exists.");
pub const INVALID_IDLETIME: CommandError =
    CommandError::new("ERR Invalid IDLETIME value, must be >= 0");
pub const INVALID_FREQ: CommandError =
    CommandError::new("ERR Invalid FREQ value, must be >= 0 and <= 255");
pub const INVALID_TTL: CommandError = CommandError::new("ERR Invalid TTL value, must be >= 0");
/// What [`Codec::restore`](crate::Codec::restore) says of a payload that is not one.
pub const BAD_PAYLOAD: CommandError =
    CommandError::new("ERR DUMP payload version or checksum are wrong");
/// What it says of a payload whose frame is sound and whose value is not.
pub const BAD_DATA_FORMAT: CommandError = CommandError::new("ERR Bad data format");
pub const INVALID_FIRST_DB_INDEX: CommandError = CommandError::new("ERR invalid first DB index");
pub const INVALID_SECOND_DB_INDEX: CommandError = CommandError::new("ERR invalid second DB index");
pub const LFU_POLICY: CommandError = CommandError::new(
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when \
     switching between policies at runtime LRU and LFU data will take some time to adjust.",
);
pub const OUT_OF_MEMORY: CommandError =
    CommandError::new("OOM command not allowed when used memory > 'maxmemory'.");
pub const NO_LFU_POLICY: CommandError = CommandError::new(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that \
     when switching between policies at runtime LRU and LFU data will take some time to adjust.",
);
pub const GETKEYS_COMMAND: CommandError = CommandError::new("ERR Invalid command specified");
pub const GETKEYS_NO_KEYS: CommandError = CommandError::new("ERR The command has no key arguments");
pub const GETKEYS_ARITY: CommandError =
    CommandError::new("ERR Invalid number of arguments specified for command");
pub const GETKEYS_INVALID: CommandError =
    CommandError::new("ERR Invalid arguments specified for command");
pub const ZADD_NX_AND_XX: CommandError =
    CommandError::new("ERR XX and NX options at the same time are not compatible");
pub const ZADD_NX_AND_COMPARISON: CommandError =
    CommandError::new("ERR GT, LT, and/or NX options at the same time are not compatible");
pub const ZADD_INCR_OF_SEVERAL: CommandError =
    CommandError::new("ERR INCR option supports a single increment-element pair");
pub const SCORE_NOT_A_NUMBER: CommandError =
    CommandError::new("ERR resulting score is not a number (NaN)");
pub const SCORE_BOUNDS_INVALID: CommandError = CommandError::new("ERR min or max is not a float");
pub const LEX_BOUNDS_INVALID: CommandError =
    CommandError::new("ERR min or max not valid string range item");
pub const LIMIT_OF_RANKS: CommandError = CommandError::new(
    "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
);
pub const WITHSCORES_OF_LEX: CommandError =
    CommandError::new("ERR syntax error, WITHSCORES not supported in combination with BYLEX");
pub const WEIGHT_NOT_FLOAT: CommandError = CommandError::new("ERR weight value is not a float");
pub const BIT_OFFSET_INVALID: CommandError =
    CommandError::new("ERR bit offset is not an integer or out of range");
pub const BIT_INVALID: CommandError =
    CommandError::new("ERR bit is not an integer or out of range");
pub const BIT_NOT_0_OR_1: CommandError = CommandError::new("ERR The bit argument must be 1 or 0.");
pub const BITOP_NOT_OF_SEVERAL: CommandError =
    CommandError::new("ERR BITOP NOT must be called with a single source key.");
pub const BITFIELD_TYPE_INVALID: CommandError = CommandError::new(
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
);
pub const BITFIELD_OVERFLOW_INVALID: CommandError =
    CommandError::new("ERR Invalid OVERFLOW type specified");
pub const BITFIELD_RO_WRITES: CommandError =
    CommandError::new("ERR BITFIELD_RO only supports the GET subcommand");
pub const HLL_INVALID: CommandError =
    CommandError::new("WRONGTYPE Key is not a valid HyperLogLog string value.");
pub const HLL_CORRUPT: CommandError = CommandError::new("INVALIDOBJ Corrupted HLL object detected");
pub const PFDEBUG_NO_KEY: CommandError = CommandError::new("ERR The specified key does not exist");
pub const PFDEBUG_NOT_SPARSE: CommandError = CommandError::new("ERR HLL encoding is not sparse");
pub const GEO_UNIT_INVALID: CommandError =
    CommandError::new("ERR unsupported unit provided. please use M, KM, FT, MI");
pub const GEO_MEMBER_INVALID: CommandError =
    CommandError::new("ERR could not decode requested zset member");
pub const GEO_RADIUS_INVALID: CommandError = CommandError::new("ERR need numeric radius");
pub const GEO_RADIUS_NEGATIVE: CommandError = CommandError::new("ERR radius cannot be negative");
pub const GEO_WIDTH_INVALID: CommandError = CommandError::new("ERR need numeric width");
pub const GEO_HEIGHT_INVALID: CommandError = CommandError::new("ERR need numeric height");
pub const GEO_BOX_NEGATIVE: CommandError =
    CommandError::new("ERR height or width cannot be negative");
pub const GEO_COUNT_NOT_POSITIVE: CommandError = CommandError::new("ERR COUNT must be > 0");
pub const GEO_ANY_WITHOUT_COUNT: CommandError =
    CommandError::new("ERR the ANY argument requires COUNT argument");
pub const GEO_STORE_AND_WITH: CommandError = CommandError::new(
    "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
);
pub const GEO_SEARCHSTORE_AND_WITH: CommandError = CommandError::new(
    "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
);
pub const SORT_NOT_NUMBERS: CommandError =
    CommandError::new("ERR One or more scores can't be converted into double");
pub const INVALID_STREAM_ID: CommandError =
    CommandError::new("ERR Invalid stream ID specified as stream command argument");
pub const INVALID_INTERVAL_START: CommandError =
    CommandError::new("ERR invalid start ID for the interval");
pub const INVALID_INTERVAL_END: CommandError =
    CommandError::new("ERR invalid end ID for the interval");
pub const STREAM_ID_ZERO: CommandError =
    CommandError::new("ERR The ID specified in XADD must be greater than 0-0");
pub const STREAM_ID_NOT_GREATER: CommandError = CommandError::new(
    "ERR The ID specified in XADD is equal or smaller than the target stream top item",
);
pub const STREAM_IDS_EXHAUSTED: CommandError = CommandError::new(
    "ERR The stream has exhausted the last possible ID, unable to add more items",
);
pub const ENTRY_TOO_LARGE: CommandError =
    CommandError::new("ERR Elements are too large to be stored");
pub const TRIM_TWICE: CommandError = CommandError::new(
    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
);
pub const TRIM_MAXLEN_NEGATIVE: CommandError =
    CommandError::new("ERR The MAXLEN argument must be >= 0.");
pub const TRIM_LIMIT_NEGATIVE: CommandError =
    CommandError::new("ERR The LIMIT argument must be >= 0.");
pub const LIMIT_WITHOUT_TRIMMING: CommandError = CommandError::new(
    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
);
pub const LIMIT_WITHOUT_TILDE: CommandError =
    CommandError::new("ERR syntax error, LIMIT cannot be used without the special ~ option");
pub const XTRIM_WITHOUT_STRATEGY: CommandError =
    CommandError::new("ERR syntax error, XTRIM must be called with a trimming strategy");
pub const ENTRIES_ADDED_NEGATIVE: CommandError =
    CommandError::new("ERR entries_added must be positive");
pub const ENTRIES_ADDED_TOO_SMALL: CommandError = CommandError::new(
    "ERR The entries_added specified in XSETID is smaller than the target stream length",
);
pub const XSETID_BELOW_GIVEN_DELETED: CommandError = CommandError::new(
    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
);
pub const XSETID_BELOW_DELETED: CommandError = CommandError::new(
    "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
);
pub const XSETID_BELOW_TOP: CommandError =
    CommandError::new("ERR The ID specified in XSETID is smaller than the target stream top item");
pub const ENTRIES_READ_INVALID: CommandError =
    CommandError::new("ERR value for ENTRIESREAD must be positive or -1");
pub const XGROUP_WITHOUT_KEY: CommandError = CommandError::new(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to \
     use the MKSTREAM option to create an empty stream automatically.",
);
pub const GROUP_EXISTS: CommandError =
    CommandError::new("BUSYGROUP Consumer Group name already exists");
pub const CLAIM_IDLE_INVALID: CommandError =
    CommandError::new("ERR Invalid min-idle-time argument for XCLAIM");
pub const CLAIM_IDLE_OPTION_INVALID: CommandError =
    CommandError::new("ERR Invalid IDLE option argument for XCLAIM");
pub const CLAIM_TIME_INVALID: CommandError =
    CommandError::new("ERR Invalid TIME option argument for XCLAIM");
pub const CLAIM_RETRYCOUNT_INVALID: CommandError =
    CommandError::new("ERR Invalid RETRYCOUNT option argument for XCLAIM");
pub const AUTOCLAIM_IDLE_INVALID: CommandError =
    CommandError::new("ERR Invalid min-idle-time argument for XAUTOCLAIM");
pub const AUTOCLAIM_COUNT_INVALID: CommandError = CommandError::new("ERR COUNT must be > 0");
pub const AUTOCLAIM_COUNT_TOO_HIGH: CommandError = CommandError::new(
    "ERR Insufficient memory, failed allocating transient memory, COUNT too high.",
);
pub const XREAD_UNBALANCED: CommandError = CommandError::new(
    "ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified.",
);
pub const XREADGROUP_UNBALANCED: CommandError = CommandError::new(
    "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified.",
);
pub const GROUP_OF_XREAD: CommandError = CommandError::new(
    "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
);
pub const NOACK_OF_XREAD: CommandError = CommandError::new(
    "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
);
pub const XREADGROUP_WITHOUT_GROUP: CommandError =
    CommandError::new("ERR Missing GROUP option for XREADGROUP");
pub const XREADGROUP_DOLLAR: CommandError = CommandError::new(
    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of \
     this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would \
     just return an empty result set.",
);
pub const XREADGROUP_PLUS: CommandError = CommandError::new(
    "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of \
     this consumer by specifying a proper ID, or use the > ID to get new messages. The + ID would \
     just return an empty result set.",
);
pub const XREAD_GREATER: CommandError = CommandError::new(
    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> \
     option.",
);
pub const FIELDS_MISSING: CommandError =
    CommandError::new("ERR Mandatory argument FIELDS is missing or not at the right position");
pub const FIELDS_MISMATCH: CommandError =
    CommandError::new("ERR The `numfields` parameter must match the number of arguments");
pub const FIELDS_COUNT_NOT_POSITIVE: CommandError =
    CommandError::new("ERR Number of fields must be a positive integer");
pub const HEXPIRE_COUNT_NOT_POSITIVE: CommandError =
    CommandError::new("ERR Parameter `numFields` should be greater than 0");
pub const FIELD_TIME_NEGATIVE: CommandError =
    CommandError::new("ERR invalid expire time, must be >= 0");
pub const HSETEX_COUNT_INVALID: CommandError = CommandError::new("ERR invalid number of fields");
pub const HSETEX_CONDITIONS: CommandError =
    CommandError::new("ERR Only one of FXX or FNX arguments can be specified");
pub const HSETEX_TIMES: CommandError =
    CommandError::new("ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified");
pub const MONITOR_AND_KEYS: CommandError =
    CommandError::new("ERR Replica can't interact with the keyspace");
pub const MONITOR_DENY_BLOCKING: CommandError =
    CommandError::new("ERR MONITOR isn't allowed for DENY BLOCKING client");
