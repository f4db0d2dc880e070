//! DUMP payloads, for the commands that need them.

use std::cell::RefCell;

use commands::{errors, Codec, CommandError, RestoredValue};
use datatypes::Limits;
use keyspace::{NewValue, ValueRef};
use persistence::rdb::dump::{dump_value, load_dump, DumpError};
use persistence::rdb::encode::Encoder;

/// Values as DUMP and RESTORE have them: RDB with a version and a checksum behind.
pub struct RdbCodec;

thread_local! {
    /// Its tables are large enough to be worth keeping.
    static ENCODER: RefCell<Encoder> = RefCell::new(Encoder::new(true));
}

impl Codec for RdbCodec {
    fn dump(&self, value: ValueRef<'_>) -> Vec<u8> {
        let mut payload = Vec::new();
        ENCODER.with_borrow_mut(|encoder| dump_value(encoder, value, &mut payload));
        payload
    }

    fn restore(&self, payload: &[u8], limits: &Limits) -> Result<RestoredValue, CommandError> {
        match load_dump(payload, limits) {
            Ok(NewValue::Object(value)) => Ok(RestoredValue::Object(value)),
            Ok(NewValue::Owned(bytes)) => Ok(RestoredValue::String(bytes)),
            Ok(NewValue::Bytes(bytes) | NewValue::RawBytes(bytes) | NewValue::Text(bytes)) => {
                Ok(RestoredValue::String(bytes.to_vec()))
            }
            Ok(NewValue::Int(n)) => Ok(RestoredValue::String(n.to_string().into_bytes())),
            Err(DumpError::VersionOrChecksum) => Err(errors::BAD_PAYLOAD),
            Err(DumpError::Value(_)) => Err(errors::BAD_DATA_FORMAT),
        }
    }
}
