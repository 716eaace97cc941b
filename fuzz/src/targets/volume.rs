// SPDX-License-Identifier: Apache-2.0
//! What lies in a volume's files, and what is asked of them.

use bytes::Bytes;
use dulse_volume::needle::Needle;
use dulse_volume::store::Store;

use super::merge::parts;

/// Bytes as a needle's record.
pub(crate) fn needle(input: &[u8]) {
    let Ok(needle) = Needle::decode(&Bytes::copy_from_slice(input)) else {
        return;
    };
    let _ = needle.etag();
    let written = Bytes::from(needle.encode());
    let again = Needle::decode(&written).expect("what was written is read");
    assert!(
        again.data == needle.data && again.key == needle.key,
        "a needle changes when written"
    );
}

/// Files of a volume: data, index, description. Opened, read, written, opened again.
pub(crate) fn files(input: &[u8]) {
    let memory = std::path::Path::new("/dev/shm");
    let dir = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    let dir = dir.expect("make a directory");
    for (extension, content) in ["dat", "idx", "vif"].into_iter().zip(parts(input)) {
        let path = dir.path().join(format!("7.{extension}"));
        std::fs::write(path, content).expect("write a file");
    }
    for _ in 0..2 {
        let Ok(store) = Store::open(dir.path()) else {
            return;
        };
        let Ok(volume) = store.volume(7) else { return };
        for key in 0..6 {
            let _ = volume.read(key, 0x0a0b_0c0d);
        }
        let needle = Needle {
            key: 5,
            cookie: 0x0a0b_0c0d,
            data: Bytes::from_static(b"written after it"),
            ..Needle::default()
        };
        if volume.write(needle, false).is_ok() {
            let read = volume
                .read(5, 0x0a0b_0c0d)
                .expect("what was written is read");
            assert_eq!(read.data, "written after it");
        }
        let _ = (volume.delete(1, None), volume.figures());
    }
}

/// A path and a range, as clients send them.
pub(crate) fn request(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let total = text.len() * 3;
    if let Some((from, to)) = dulse_volume::fuzz::request(text, total) {
        assert!(
            from <= to && to < total,
            "`{text}` of {total}: {from}..={to}"
        );
    }
}
