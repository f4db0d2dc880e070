//! Along the outline of an RDB: opcodes, keys, and what belongs to neither.

use super::source::{corrupt, Fault, Source};
use super::*;
use crate::rdb::format::*;

pub(super) struct Walk<'a> {
    pub(super) source: Source<'a>,
    pub(super) options: &'a InspectOptions,
    pub(super) found: Findings,
    pub(super) valkey: bool,
    doing: Doing,
    key: Vec<u8>,
    key_known: bool,
    pub(super) type_: Option<u8>,
    db: u64,
    db_told: Option<u64>,
    pub(super) version: u32,
    pub(super) scratch: value::Scratch,
}

/// A length, or what stands in its place before a string.
pub(super) enum Length {
    Plain(u64),
    Encoded(u8),
}

impl<'a> Walk<'a> {
    pub fn new(
        file: &'a dyn StorageFile,
        from: u64,
        end: u64,
        options: &'a InspectOptions,
        progress: &'a Progress,
    ) -> Self {
        Walk {
            source: Source::new(file, from, end, progress),
            options,
            found: Findings::default(),
            valkey: false,
            doing: Doing::Start,
            key: Vec::new(),
            key_known: false,
            type_: Some(0),
            db: 0,
            db_told: None,
            version: VERSION_WRITTEN,
            scratch: value::Scratch::default(),
        }
    }

    /// Goes on with another chunk.
    pub fn restart(&mut self, from: u64, end: u64) {
        self.source.restart(from, end);
        (self.db, self.db_told, self.type_) = (0, None, None);
    }

    pub fn offset(&self) -> u64 {
        self.source.offset()
    }

    pub fn into_findings(mut self) -> Findings {
        self.take_findings()
    }

    pub fn take_findings(&mut self) -> Findings {
        self.found.keep_largest(self.options.largest_count);
        self.scratch.smallest_kept = 0;
        std::mem::take(&mut self.found)
    }

    /// Passes what is left of the range; the checksum of all of it, unless it cannot be read.
    pub fn checksum_of_rest(&mut self) -> Option<u64> {
        let left = self.source.left();
        self.source.skip(left).ok()?;
        Some(self.source.checksum())
    }

    /// Takes down where the walk ended.
    pub fn note(&mut self, fault: Fault) {
        self.found.flaw = Some(Flaw {
            offset: self.source.offset(),
            doing: self.doing,
            key: self.key_known.then(|| self.key.clone()),
            db: self.db,
            type_: self.type_,
            fault,
        });
    }

    pub fn note_checksum(&mut self) {
        self.doing = Doing::Checksum;
        if self.found.flaw.is_none() {
            self.note(Fault::Refused("RDB CRC error".into()));
        }
    }

    /// Magic and version.
    pub fn head(&mut self, report: &mut RdbReport) -> Result<(), Fault> {
        let magic: [u8; MAGIC_BYTES] = self.source.array()?;
        let refused = |reason: &str| Err(Fault::Refused(reason.into()));
        let digits = match magic {
            _ if magic.starts_with(b"REDIS") => &magic[5..],
            _ if magic.starts_with(b"VALKEY") => {
                self.valkey = true;
                &magic[6..]
            }
            _ => return refused("Wrong signature trying to load DB from file"),
        };
        // As C's atoi reads it, so that the message says the same number.
        let digits: Vec<u8> = digits
            .iter()
            .copied()
            .take_while(u8::is_ascii_digit)
            .collect();
        let version = std::str::from_utf8(&digits)
            .ok()
            .and_then(|d| d.parse().ok())
            .unwrap_or(0);
        let known = match self.valkey {
            false => (VERSION_READ_MIN..=VERSION_READ_MAX).contains(&version),
            true => (VERSION_VALKEY_MIN..=VERSION_VALKEY_MAX).contains(&version),
        };
        let digits_wanted = if self.valkey { 3 } else { 4 };
        if !known || (digits.len() < digits_wanted && !self.options.as_redis) {
            return refused(&format!("Can't handle RDB format version {version}"));
        }
        (report.version, report.valkey) = (version, self.valkey);
        self.version = version;
        Ok(())
    }

    /// Everything up to the end of the range or, with `to_eof`, up to the opcode that ends the file.
    pub fn records(&mut self, to_eof: bool) -> Result<(), Fault> {
        let mut expire_at = None;
        let mut begin = self.source.offset();
        loop {
            if !to_eof && self.source.left() == 0 {
                return match expire_at {
                    None => Ok(()),
                    Some(_) => Err(Fault::End),
                };
            }
            self.doing = Doing::ReadType;
            let code = self.source.byte()?;
            match code {
                OP_EOF if to_eof => return Ok(()),
                OP_EOF => return Err(Fault::Refused("the end of the file inside a chunk".into())),
                OP_EXPIRE => {
                    self.doing = Doing::ReadExpire;
                    let seconds = i32::from_le_bytes(self.source.array()?);
                    expire_at = Some(i64::from(seconds) * 1000);
                }
                OP_EXPIRE_MS => {
                    self.doing = Doing::ReadExpire;
                    expire_at = Some(i64::from_le_bytes(self.source.array()?));
                }
                OP_FREQ => drop(self.source.byte()?),
                OP_IDLE => drop(self.length()?),
                _ if code >= OP_FIRST => {
                    self.opcode(code)?;
                    if expire_at.is_none() {
                        begin = self.source.offset();
                    }
                }
                _ => {
                    self.record(code, expire_at.take(), begin)?;
                    begin = self.source.offset();
                }
            }
        }
    }

    fn opcode(&mut self, code: u8) -> Result<(), Fault> {
        match code {
            OP_SELECT_DB => {
                self.doing = Doing::ReadLength;
                self.db = self.length()?;
                let offset = self.source.offset();
                if self.options.as_redis || self.db_told != Some(self.db) {
                    self.db_told = Some(self.db);
                    self.found.event(Event::SelectDb {
                        offset,
                        db: self.db,
                    });
                }
            }
            OP_RESIZE_DB => {
                self.doing = Doing::ReadLength;
                self.length()?;
                self.length()?;
            }
            OP_SLOT_INFO => {
                self.doing = Doing::ReadLength;
                for _ in 0..3 {
                    self.length()?;
                }
            }
            OP_AUX => self.aux()?,
            OP_MODULE_AUX => self.module_aux()?,
            OP_FUNCTION_2 => self.function()?,
            OP_FUNCTION_PRE_GA => {
                self.doing = Doing::ReadFunctions;
                let version = self.version;
                return Err(Fault::Refused(format!(
                    "Pre-release function format not supported {version}"
                )));
            }
            _ => return Err(Fault::Refused(format!("Invalid object type: {code}"))),
        }
        Ok(())
    }

    fn aux(&mut self) -> Result<(), Fault> {
        self.doing = Doing::ReadAux;
        let begin = self.source.offset();
        let (name, _) = self.string_front(AUX_BYTES_MAX)?;
        let (value, _) = self.string_front(AUX_BYTES_MAX)?;
        let offset = self.source.offset();
        if name == AUX_PADDING {
            self.found.padding_bytes += offset - begin + 1;
            if !self.options.as_redis {
                return Ok(());
            }
        }
        self.found.event(Event::Aux {
            offset,
            name,
            value,
        });
        Ok(())
    }

    fn function(&mut self) -> Result<(), Fault> {
        self.doing = Doing::ReadFunctions;
        let read = self.string_front(AUX_BYTES_MAX);
        let (code, bytes) = read.map_err(|fault| match fault {
            Fault::End => {
                Fault::Refused("Failed loading library, Failed loading library payload".into())
            }
            other => other,
        })?;
        let title: Vec<u8> = code.into_iter().take_while(|&b| b != b'\n').collect();
        self.found.functions += 1;
        let offset = self.source.offset();
        self.found.event(Event::Function {
            offset,
            title,
            bytes,
        });
        Ok(())
    }

    fn module_aux(&mut self) -> Result<(), Fault> {
        self.doing = Doing::ReadModuleAux;
        let (id, _when_opcode, _when) = (self.length()?, self.length()?, self.length()?);
        let (module, _) = module_name(id);
        self.found.module_aux += 1;
        self.unsupported("data of modules");
        let offset = self.source.offset();
        self.found.event(Event::ModuleAux {
            offset,
            module: module.clone(),
        });
        self.module_value(&module)
    }

    pub(super) fn unsupported(&mut self, what: &str) {
        match self.found.unsupported.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.found.unsupported.insert(what.into(), 1)),
        }
    }

    fn record(&mut self, type_: u8, expire_at: Option<i64>, begin: u64) -> Result<(), Fault> {
        if !self.is_value_type(type_) {
            return Err(Fault::Refused(format!("Invalid object type: {type_}")));
        }
        self.type_ = Some(type_);
        self.doing = Doing::ReadKey;
        self.key.clear();
        self.read_key()?;
        self.key_known = true;
        self.found.keys += 1;
        self.doing = Doing::ReadValue;
        let elements = self.value(type_)?;
        let tally = Tally {
            keys: 1,
            bytes: self.source.offset() - begin,
            elements: elements.unwrap_or(0),
            expires: u64::from(expire_at.is_some()),
        };
        self.count(type_, &tally, begin);
        self.found.empty += u64::from(elements == Some(0));
        self.found.expires += tally.expires;
        let now = self.options.now_unix_ms;
        self.found.expired += u64::from(expire_at.is_some_and(|at| at < now));
        self.key_known = false;
        self.type_ = None;
        Ok(())
    }

    fn count(&mut self, type_: u8, tally: &Tally, offset: u64) {
        let type_name = value::type_name(type_);
        let found = &mut self.found;
        found.types.entry(type_name).or_default().add(tally);
        found.encodings.entry(type_).or_default().add(tally);
        found.dbs.entry(self.db).or_default().add(tally);
        if found.first_key.is_none() {
            found.first_key = Some(self.key.clone());
        }
        match &mut found.last_key {
            Some(last) => last.clone_from(&self.key),
            None => found.last_key = Some(self.key.clone()),
        }
        // Twice as many as wanted are collected before they are sorted out.
        let wanted = self.options.largest_count;
        if wanted == 0 || tally.bytes <= self.scratch.smallest_kept {
            return;
        }
        found.largest.push(LargeKey {
            bytes: tally.bytes,
            db: self.db,
            key: self.key.clone(),
            type_name,
            elements: tally.elements,
            offset,
        });
        if found.largest.len() >= 2 * wanted {
            found.keep_largest(wanted);
            self.scratch.smallest_kept = found.largest.last().map_or(0, |key| key.bytes);
        }
    }

    /// Reads the key, of which a part is kept that is long enough to show.
    fn read_key(&mut self) -> Result<(), Fault> {
        let mut key = std::mem::take(&mut self.key);
        let read = self.string_front_into(&mut key, KEY_BYTES_SHOWN_MAX);
        self.key = key;
        read.map(|_| ())
    }

    /// The opcode of the end has been passed: the checksum, if this version has one.
    pub fn trailer(&mut self, version: u32, checksum: &mut Checksum) -> Result<(), Fault> {
        if version < 5 {
            *checksum = Checksum::None;
            return Ok(());
        }
        self.doing = Doing::Checksum;
        let expected = self.source.checksum();
        let found = u64::from_le_bytes(self.source.array()?);
        *checksum = match found {
            0 => Checksum::Disabled,
            _ if found == expected => Checksum::Right,
            _ => Checksum::Wrong { expected, found },
        };
        match checksum {
            Checksum::Wrong { .. } => Err(Fault::Refused("RDB CRC error".into())),
            _ => Ok(()),
        }
    }

    /// Passes the checksum, which somebody else compares.
    pub fn found_checksum(&mut self) -> Result<(), Fault> {
        self.doing = Doing::Checksum;
        self.source.skip(CHECKSUM_BYTES as u64)
    }

    #[inline]
    pub(super) fn length_or_encoding(&mut self) -> Result<Length, Fault> {
        let first = self.source.byte()?;
        Ok(match first >> 6 {
            0 => Length::Plain(u64::from(first)),
            1 => Length::Plain(u64::from(first & 0x3f) << 8 | u64::from(self.source.byte()?)),
            3 => Length::Encoded(first),
            _ => match first {
                0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.source.array()?))),
                0x81 => Length::Plain(u64::from_be_bytes(self.source.array()?)),
                _ => {
                    let kind = first >> 6;
                    return corrupt(format!("Unknown length encoding {kind} in rdbLoadLen()"));
                }
            },
        })
    }

    pub(super) fn length(&mut self) -> Result<u64, Fault> {
        match self.length_or_encoding()? {
            Length::Plain(len) => Ok(len),
            // Redis takes the rest of the byte for the length.
            Length::Encoded(first) if self.options.as_redis => Ok(u64::from(first & 0x3f)),
            Length::Encoded(first) => {
                corrupt(format!("Unknown length encoding {first} in rdbLoadLen()"))
            }
        }
    }
}
