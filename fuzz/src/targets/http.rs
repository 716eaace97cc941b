// SPDX-License-Identifier: Apache-2.0
//! What clients send the filer over HTTP.

use dulse_filer::http::fuzz;

use super::types::halves;

/// A `Range` header for a file of some size.
pub(crate) fn range(input: &[u8]) {
    let (size, header) = input.split_at(input.len().min(8));
    let mut bytes = [0; 8];
    bytes[..size.len()].copy_from_slice(size);
    let size = u64::from_be_bytes(bytes);
    let Ok(header) = std::str::from_utf8(header) else {
        return;
    };
    for part in fuzz::range(header, size) {
        assert!(
            part.start < part.end && part.end <= size,
            "`{header}` of {size}: {part:?}"
        );
    }
}

/// A path with its query, and name patterns.
pub(crate) fn request(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    fuzz::request(text);
    if let Some((pattern, name)) = text.split_once('\n') {
        // Matching costs their product.
        let (pattern, name) = (cut(pattern, 300), cut(name, 300));
        fuzz::pattern(pattern, name);
    }
}

fn cut(text: &str, max: usize) -> &str {
    text.char_indices()
        .nth(max)
        .map_or(text, |(at, _)| &text[..at])
}

/// Conditional headers, one a line, for a file with a tag and a time.
pub(crate) fn condition(input: &[u8]) {
    let (etag, headers) = halves(input);
    if let Ok(etag) = std::str::from_utf8(etag) {
        fuzz::condition(headers, etag);
    }
}

/// A form: its content type, then its body.
pub(crate) fn form(input: &[u8]) {
    let (content_type, body) = halves(input);
    fuzz::form(content_type, body);
}
