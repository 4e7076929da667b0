#![forbid(unsafe_code)]
//! Packed fields. Memory is taken when one comes and given back with it; what comes out has a limit, whatever
//! the packed bytes claim.

use super::format::Compression;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Longest packed field that is looked at. journald takes lines of 48 KiB, and packs only what gets shorter
/// by it.
pub const PACKED_MAX: usize = 128 * 1024;
/// Longest text that is unpacked: of LZ4 the begin of a longer one, of ZSTD nothing of it.
const TEXT_MAX: usize = 128 * 1024;

/// The text of a packed field; `None` if it is damaged or cannot be unpacked.
pub fn unpack(how: Compression, bytes: &[u8]) -> Option<Vec<u8>> {
    match how {
        Compression::No | Compression::Other => None,
        Compression::Lz4 => {
            let (size, block) = bytes.split_first_chunk()?;
            let size = usize::try_from(u64::from_le_bytes(*size)).unwrap_or(usize::MAX);
            lz4(block, size.min(TEXT_MAX))
        }
        Compression::Zstd => zstd(bytes),
    }
}

fn zstd(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = FrameDecoder::new();
    // The window of what is packed in one piece is the whole text.
    decoder.set_max_window_size(TEXT_MAX as u64);
    decoder.init(&mut bytes).ok()?;
    decoder.decode_blocks(&mut bytes, BlockDecodingStrategy::UptoBytes(TEXT_MAX)).ok()?;
    decoder.collect()
}

/// The first `size` bytes that a block of LZ4 unpacks to. Written here, since a package for it takes ten
/// times the space and unpacks all or nothing.
fn lz4(mut block: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(size);
    loop {
        let (&token, rest) = block.split_first()?;
        block = rest;
        let literals = length(usize::from(token >> 4), &mut block)?.min(size - out.len());
        let (text, rest) = block.split_at_checked(literals)?;
        out.extend_from_slice(text);
        block = rest;
        if out.len() == size {
            return Some(out);
        }
        let (distance, rest) = block.split_first_chunk()?;
        block = rest;
        let distance = usize::from(u16::from_le_bytes(*distance));
        let run = length(usize::from(token & 15), &mut block)?.saturating_add(4).min(size - out.len());
        for _ in 0..run {
            // A run may overlap with what it makes.
            let byte = *out.get(out.len().checked_sub(distance)?)?;
            out.push(byte);
        }
    }
}

/// A length: 15 goes on in bytes, of which 255 goes on again.
fn length(mut length: usize, block: &mut &[u8]) -> Option<usize> {
    if length == 15 {
        loop {
            let (&more, rest) = block.split_first()?;
            *block = rest;
            length = length.saturating_add(usize::from(more));
            if more != 255 {
                break;
            }
        }
    }
    Some(length)
}
