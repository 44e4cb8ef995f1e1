//! What an Arrow file claims about its batches, held against its size before its reader allocates for it.
//!
//! The reader takes lengths at their word: a damaged file of a kilobyte that claims 2^33 rows would end the program for want of memory.

use polars_arrow::io::ipc::format::ipc::planus::ReadAsRoot as _;
use polars_arrow::io::ipc::format::ipc::{Block, MessageHeaderRef, MessageRef, RecordBatchRef};

/// Rows that a byte of a file can stand for: eight booleans.
const ROWS_PER_BYTE: u64 = 8;
/// Beyond which no compression of a batch is believed.
const COMPRESSION: u64 = 1024;
/// In front of a message whose length follows; older files begin with the length.
const CONTINUATION: u32 = u32::MAX;

/// Checks the batches of a stream, from its first byte.
pub(super) fn check_stream(bytes: &[u8]) -> Result<(), String> {
    let mut at = 0;
    while let Some((message, end)) = message_at(bytes, at) {
        let body = check_message(message, bytes)?;
        at = end.saturating_add(body);
    }
    Ok(())
}

/// Checks the batches and dictionaries of a file, at the places that its footer names.
pub(super) fn check_blocks(bytes: &[u8], blocks: &[Block]) -> Result<(), String> {
    for block in blocks {
        let offset = usize::try_from(block.offset).map_err(|error| error.to_string())?;
        if let Some((message, _)) = message_at(bytes, offset) {
            check_message(message, bytes)?;
        }
    }
    Ok(())
}

/// The message at a place and where it ends; none at the end of the stream or of the bytes, which is the reader's to judge.
fn message_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let number = |at: usize| bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes);
    let (size, begin) = match number(at)? {
        CONTINUATION => (number(at + 4)?, at + 8),
        size => (size, at + 4),
    };
    // the reader, too, makes do with the bytes that are left
    let end = begin.checked_add(size as usize)?.min(bytes.len());
    (size > 0).then_some((bytes.get(begin..end)?, end))
}

/// Returns the length of the body behind the message.
fn check_message(message: &[u8], bytes: &[u8]) -> Result<usize, String> {
    let told = |error: polars_arrow::io::ipc::format::ipc::planus::Error| error.to_string();
    let message = MessageRef::read_as_root(message).map_err(told)?;
    match message.header().map_err(told)? {
        Some(MessageHeaderRef::RecordBatch(batch)) => check_batch(batch, bytes.len() as u64)?,
        Some(MessageHeaderRef::DictionaryBatch(dictionary)) => {
            if let Some(batch) = dictionary.data().map_err(told)? {
                check_batch(batch, bytes.len() as u64)?;
            }
        }
        _ => {}
    }
    let body = message.body_length().map_err(told)?;
    usize::try_from(body).map_err(|_| format!("a batch of {body} bytes"))
}

fn check_batch(batch: RecordBatchRef<'_>, size: u64) -> Result<(), String> {
    let told = |error: polars_arrow::io::ipc::format::ipc::planus::Error| error.to_string();
    let compression = if batch.compression().map_err(told)?.is_some() { COMPRESSION } else { 1 };
    let most = size.saturating_mul(ROWS_PER_BYTE).saturating_mul(compression);
    let nodes = batch.nodes().map_err(told)?.into_iter().flatten().map(|node| node.length());
    for rows in nodes.chain([batch.length().map_err(told)?]) {
        if u64::try_from(rows).map_or(true, |rows| rows > most) {
            return Err(format!("a batch claims {rows} rows in a file of {size} bytes"));
        }
    }
    for buffer in batch.buffers().map_err(told)?.into_iter().flatten() {
        let (offset, length) = (buffer.offset(), buffer.length());
        if u64::try_from(length).map_or(true, |length| length > size) {
            return Err(format!("a batch claims {length} bytes at {offset} in a file of {size} bytes"));
        }
    }
    Ok(())
}
