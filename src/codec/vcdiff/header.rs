//! The header of a delta: what it takes to read the rest.

use std::io::Read;

use super::secondary::Secondary;
use super::varint;
use crate::codec::{Result, corrupt};

/// What every VCDIFF file of version 0 begins with.
pub const MAGIC: [u8; 4] = [0xD6, 0xC3, 0xC4, 0];
const HAS_SECONDARY: u8 = 1;
const HAS_CODE_TABLE: u8 = 2;
const HAS_APP_HEADER: u8 = 4;
/// Largest application header: xdelta3 writes two file names.
const APP_HEADER_MAX_BYTES: u64 = 64 << 10;

/// What stands before the first window.
#[derive(Debug)]
pub struct Header {
    /// How sections may be compressed once more.
    pub secondary: Option<Secondary>,
    /// What the writer noted, if anything.
    pub app_header: Option<Vec<u8>>,
}

impl Header {
    /// Returns its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let app_header = self.app_header.as_deref();
        let secondary = if self.secondary.is_some() { HAS_SECONDARY } else { 0 };
        bytes.push(secondary | if app_header.is_some() { HAS_APP_HEADER } else { 0 });
        bytes.extend(self.secondary.map(Secondary::id));
        if let Some(app_header) = app_header {
            varint::put(&mut bytes, app_header.len() as u64);
            bytes.extend(app_header);
        }
        bytes
    }

    /// Reads it, and nothing behind it.
    ///
    /// # Errors
    /// `Corrupt` when it is none, or asks for what is not supported; `Io` from the reader.
    pub fn read(delta: &mut dyn Read) -> Result<Self> {
        let mut magic = [0; 4];
        delta.read_exact(&mut magic).map_err(varint::cut)?;
        if magic != MAGIC {
            return Err(corrupt("this is no VCDIFF delta"));
        }
        let indicator = varint::read_byte(delta)?;
        if indicator & HAS_CODE_TABLE != 0 {
            return Err(corrupt("the delta brings its own code table, which is not supported"));
        }
        if indicator & !(HAS_SECONDARY | HAS_APP_HEADER) != 0 {
            return Err(corrupt("the delta's header is of an unknown kind"));
        }
        let secondary = if indicator & HAS_SECONDARY == 0 { None } else { Some(varint::read_byte(delta)?) };
        let secondary = secondary.map(Secondary::from_id).transpose()?;
        let app_header = if indicator & HAS_APP_HEADER == 0 { None } else { Some(read_app_header(delta)?) };
        Ok(Self { secondary, app_header })
    }
}

fn read_app_header(delta: &mut dyn Read) -> Result<Vec<u8>> {
    let size = varint::read(delta)?;
    if size > APP_HEADER_MAX_BYTES {
        return Err(corrupt("the delta's application header is over 64 KiB"));
    }
    let mut header = vec![0; size as usize];
    delta.read_exact(&mut header).map_err(varint::cut)?;
    Ok(header)
}
