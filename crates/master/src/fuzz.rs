// SPDX-License-Identifier: Apache-2.0
//! Doors to the parsers of this crate for the fuzz targets; not for anybody else.

/// The content of `master.json`.
pub fn state(bytes: &[u8]) {
    let _ = crate::stored::unseal(bytes);
}
