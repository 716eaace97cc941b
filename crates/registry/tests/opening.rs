// SPDX-License-Identifier: Apache-2.0
//! What a directory is opened as, and what is refused.

use dulse_registry::{ENGINES, OpenError, open_embedded};
use dulse_replica::Durability;

#[test]
fn a_store_is_open_once() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let store =
            open_embedded(engine, dir.path(), &Durability::Fsync.into(), 1 << 32 | 1).unwrap();
        let second = open_embedded(engine, dir.path(), &Durability::Fsync.into(), 2).map(drop);
        let error = second.unwrap_err();
        assert!(matches!(error, OpenError::InUse(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains("is in use by another process"), "{text}");
        let origin = store.shared().origin();
        drop(store);
        let again = open_embedded(engine, dir.path(), &Durability::Fsync.into(), 2).unwrap();
        assert_eq!(
            again.shared().origin(),
            origin,
            "the identity is the store's"
        );
    }
}

#[test]
fn another_engines_directory_is_refused_and_a_torn_name_is_not() {
    let dir = tempfile::tempdir().unwrap();
    // A crash came before the name was on disk.
    std::fs::write(dir.path().join("engine"), "").unwrap();
    drop(open_embedded("sqlite", dir.path(), &Durability::Fsync.into(), 1).unwrap());
    let error = open_embedded("redb", dir.path(), &Durability::Fsync.into(), 1).map(drop);
    let text = error.unwrap_err().to_string();
    assert_eq!(
        text,
        "the directory holds a store of engine `sqlite`, asked for `redb`"
    );
}
