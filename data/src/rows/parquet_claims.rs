//! What the pages of a parquet column claim, held against their bytes before the reader allocates for it.

use std::io::Cursor;

use polars_buffer::Buffer;
use polars_parquet::parquet::page::CompressedPage;
use polars_parquet::read::{BasicDecompressor, ColumnChunkMetadata, PageReader};

/// Values of a column of a row group that are believed whatever its bytes are: a repeated value takes next to none.
const MOST_VALUES: u64 = 1 << 26;
/// Bytes that a page may have decompressed.
const MOST_BYTES: usize = 1 << 30;
/// Values that a byte can stand for where it is not a repetition: eight booleans.
const VALUES_PER_BYTE: u64 = 8;

/// Checks a column's values, its dictionary and its pages; `bytes` are the column's.
pub(super) fn check_column(bytes: &Buffer<u8>, chunk: &ColumnChunkMetadata) -> Result<(), String> {
    let most = MOST_VALUES.max(bytes.len() as u64 * VALUES_PER_BYTE);
    let believable = |values: u64| {
        if values <= most {
            Ok(values)
        } else {
            Err(format!("a column claims {values} values in {} bytes", bytes.len()))
        }
    };
    believable(u64::try_from(chunk.num_values()).map_err(|error| error.to_string())?)?;
    let pages = || PageReader::new(Cursor::new(bytes.clone()), chunk, vec![], bytes.len());
    let mut seen = 0u64;
    for page in pages() {
        if let CompressedPage::Data(page) = page.map_err(|error| error.to_string())? {
            seen = believable(seen.saturating_add(page.num_values() as u64))?;
            if page.uncompressed_size() > MOST_BYTES {
                return Err(format!("a page claims {} bytes", page.uncompressed_size()));
            }
        }
    }
    let dictionary = BasicDecompressor::new(pages(), vec![]).read_dict_page().map_err(|error| error.to_string())?;
    match dictionary {
        // an entry takes a byte at least
        Some(page) if page.num_values > page.buffer.len() => {
            Err(format!("a dictionary claims {} entries in {} bytes", page.num_values, page.buffer.len()))
        }
        _ => Ok(()),
    }
}
