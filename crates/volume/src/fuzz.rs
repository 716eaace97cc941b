// SPDX-License-Identifier: Apache-2.0
//! Doors to the parsers of this crate for the fuzz targets; not for anybody else.

/// A path and a range header: the range's first and last byte.
#[must_use]
pub fn request(text: &str, total: usize) -> Option<(usize, usize)> {
    if let Some(id) = crate::web::file_id(text) {
        let again = format!("/{id}");
        assert_eq!(crate::web::file_id(&again), Some(id), "`{text}`");
    }
    let (from, behind) = crate::web::range(text, total)?;
    Some((from, behind.checked_sub(1)?))
}
