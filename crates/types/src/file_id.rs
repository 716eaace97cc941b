// SPDX-License-Identifier: Apache-2.0
//! File ids: where a chunk lies.

use std::fmt;
use std::str::FromStr;

/// A chunk's place: volume, needle key, cookie. Text form `3,02efc2db58`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId {
    /// Volume id.
    pub volume_id: u32,
    /// Needle key.
    pub key: u64,
    /// Guards against guessed keys.
    pub cookie: u32,
}

/// A text that is no file id.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no file id; expected `volume,keycookie` such as `3,02efc2db58`")]
pub struct FileIdError(String);

impl FileId {
    /// Key and cookie as they follow the comma: even hex digits of the key, 8 of the cookie.
    #[must_use]
    pub fn key_cookie(&self) -> String {
        let bytes = self.key.to_be_bytes();
        let skip = bytes.iter().take_while(|&&b| b == 0).count().min(7);
        let mut out = String::with_capacity(24);
        for byte in &bytes[skip..] {
            out.push_str(&format!("{byte:02x}"));
        }
        out.push_str(&format!("{:08x}", self.cookie));
        out
    }

    /// Parses what follows the comma, an optional `_delta` included.
    ///
    /// # Errors
    ///
    /// When it is not hex, too short or too long.
    pub fn parse_key_cookie(volume_id: u32, text: &str) -> Result<Self, FileIdError> {
        let bad = || FileIdError(format!("{volume_id},{text}"));
        let (hex, delta) = text.split_once('_').unwrap_or((text, "0"));
        let delta: u64 = delta.parse().map_err(|_| bad())?;
        if !(9..=24).contains(&hex.len()) || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let (key, cookie) = hex.split_at(hex.len() - 8);
        let key = u64::from_str_radix(key, 16).map_err(|_| bad())?;
        let cookie = u32::from_str_radix(cookie, 16).map_err(|_| bad())?;
        let key = key.checked_add(delta).ok_or_else(bad)?;
        Ok(Self {
            volume_id,
            key,
            cookie,
        })
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.volume_id, self.key_cookie())
    }
}

impl FromStr for FileId {
    type Err = FileIdError;

    fn from_str(text: &str) -> Result<Self, FileIdError> {
        let bad = || FileIdError(text.to_owned());
        let (volume, rest) = text.split_once(',').ok_or_else(bad)?;
        let volume = volume.parse().map_err(|_| bad())?;
        Self::parse_key_cookie(volume, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for text in [
            "3,02efc2db58",
            "1,042005589b",
            "9,0100000000efc2db58",
            "1,0000000000",
        ] {
            assert_eq!(text.parse::<FileId>().unwrap().to_string(), text);
        }
        let id: FileId = "3,02efc2db58".parse().unwrap();
        assert_eq!((id.volume_id, id.key, id.cookie), (3, 2, 0xefc2_db58));
        assert_eq!("3,02efc2db58_2".parse::<FileId>().unwrap().key, 4);
    }

    #[test]
    fn bad_ids_are_refused() {
        for text in [
            "",
            "3",
            "3,",
            "3,efc2db58",
            "x,02efc2db58",
            "3,02efc2dbzz",
            "3,é2efc2db58",
        ] {
            assert!(text.parse::<FileId>().is_err(), "{text}");
        }
    }
}
