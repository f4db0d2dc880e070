//! The commands of a file that a scan has checked.

use super::frames::{Frame, FrameError, FrameReader};
use super::AofError;
use crate::progress::Progress;
use crate::storage::{FileReader, StorageFile};
use keyspace::DbIndex;
use std::path::Path;
use std::sync::Arc;

/// Takes the commands of one file, in order.
pub trait CommandReceiver {
    /// SELECT, MULTI and EXEC do not come here. An error ends the load.
    fn command(&mut self, db: DbIndex, argv: &[&[u8]]) -> Result<(), String>;
    /// Called once behind the last command, unless the load has failed.
    fn finish(&mut self) -> Result<(), String>;
}

/// Arguments that are listed without an allocation.
const ARGV_ON_STACK: usize = 16;
/// Commands between two updates of the progress.
const PROGRESS_STEP: u64 = 1024;

/// Runs the commands between two offsets. Returns how many there were.
pub fn replay(
    file: Arc<dyn StorageFile>,
    path: &Path,
    from: u64,
    end: u64,
    receiver: &mut dyn CommandReceiver,
    progress: &Progress,
) -> Result<u64, AofError> {
    let mut reader = FrameReader::new(
        FileReader::new(file, from, end),
        from,
        end.saturating_sub(from),
    );
    let mut db = DbIndex(0);
    let (mut count, mut counted_to) = (0u64, from);
    loop {
        let rejected = |offset, reason: String| AofError::Rejected {
            path: path.to_owned(),
            offset,
            reason,
        };
        match reader.next() {
            Ok(None) => {
                progress.add(count % PROGRESS_STEP, end - counted_to);
                receiver.finish().map_err(|reason| rejected(end, reason))?;
                return Ok(count);
            }
            Ok(Some(Frame::Comment)) => {}
            Ok(Some(Frame::Command)) => {
                if let Some(selected) = transaction_or_select(&reader, path)? {
                    db = selected.unwrap_or(db);
                    continue;
                }
                with_argv(&reader, |argv| receiver.command(db, argv))
                    .map_err(|reason| rejected(reader.offset(), reason))?;
                count += 1;
                if count % PROGRESS_STEP == 0 {
                    let at = reader.offset();
                    progress.add(PROGRESS_STEP, at - counted_to);
                    counted_to = at;
                }
            }
            Err(e) => return Err(frame_error(e, path, reader.end_offset())),
        }
    }
}

pub(super) fn frame_error(error: FrameError, path: &Path, offset: u64) -> AofError {
    let path = path.to_owned();
    match error {
        FrameError::Incomplete => AofError::Truncated {
            path,
            offset,
            lsn: None,
            reason: "it ends within a command".into(),
        },
        FrameError::Malformed(reason) => AofError::Damaged {
            path,
            offset,
            lsn: None,
            reason: reason.into(),
        },
        FrameError::Io(error) => AofError::Io {
            path,
            doing: "read",
            error,
        },
    }
}

/// `None`: an ordinary command. Otherwise it is dealt with, and may have selected a database.
fn transaction_or_select(
    reader: &FrameReader<FileReader>,
    path: &Path,
) -> Result<Option<Option<DbIndex>>, AofError> {
    let name = reader.argument(0);
    match (name.len(), reader.argument_count()) {
        (5, 1) if name.eq_ignore_ascii_case(b"MULTI") => Ok(Some(None)),
        (4, 1) if name.eq_ignore_ascii_case(b"EXEC") => Ok(Some(None)),
        (6, 2) if name.eq_ignore_ascii_case(b"SELECT") => {
            let db = datatypes::number::parse_u64(reader.argument(1))
                .and_then(|db| u32::try_from(db).ok());
            match db {
                Some(db) => Ok(Some(Some(DbIndex(db)))),
                None => Err(AofError::Rejected {
                    path: path.to_owned(),
                    offset: reader.offset(),
                    reason: "SELECT of something that is no database".into(),
                }),
            }
        }
        _ => Ok(None),
    }
}

fn with_argv<R>(reader: &FrameReader<FileReader>, run: impl FnOnce(&[&[u8]]) -> R) -> R {
    let count = reader.argument_count();
    if count <= ARGV_ON_STACK {
        let mut argv: [&[u8]; ARGV_ON_STACK] = [&[]; ARGV_ON_STACK];
        for (i, arg) in argv[..count].iter_mut().enumerate() {
            *arg = reader.argument(i);
        }
        return run(&argv[..count]);
    }
    let argv: Vec<&[u8]> = (0..count).map(|i| reader.argument(i)).collect();
    run(&argv)
}
