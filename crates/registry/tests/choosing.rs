// SPDX-License-Identifier: Apache-2.0
//! What a `filer.toml` makes of engine and directory.

use std::path::Path;

use dulse_config::Stores;
use dulse_registry::{
    Choice, ENGINES, UpstreamKind, UpstreamStore, begin_import, check_finished, check_imported,
    choose, choose_located, finish_import, unfinished_import,
};

fn stores(text: &str) -> Stores {
    Stores::parse(Path::new("filer.toml"), text, &|_| None).unwrap()
}

#[test]
fn each_section_has_its_engine_and_ours_lies_beside() {
    for kind in UpstreamKind::ALL {
        let text = format!("[{}]\nenabled = true\n", kind.name());
        let chosen = choose(&stores(&text));
        if !ENGINES.contains(&kind.engine()) {
            let error = chosen.unwrap_err().to_string();
            assert!(
                error.contains(&format!("no engine `{}`", kind.engine())),
                "{error}"
            );
            continue;
        }
        let Some(Choice::Embedded(chosen)) = chosen.unwrap() else {
            panic!("{} is embedded", kind.name());
        };
        assert_eq!(chosen.engine, kind.engine());
        let dir = chosen.dir.display().to_string();
        assert!(
            dir.starts_with("./filer") && dir.ends_with(".dulse"),
            "{dir}"
        );
    }
    assert!(choose(&stores("")).unwrap().is_none());
    for (place, ours) in [
        ("./a", "./a.dulse"),
        ("/a/b/", "/a/b.dulse"),
        ("a", "a.dulse"),
    ] {
        let kind = UpstreamKind::LevelDb2;
        let store = UpstreamStore {
            kind,
            place: place.into(),
        };
        assert_eq!(store.beside(), Path::new(ours));
    }
}

#[test]
fn upstreams_data_is_seen_by_its_files_and_ours_beside_it_is_enough() {
    for (kind, file) in [
        (UpstreamKind::LevelDb, "s/CURRENT"),
        (UpstreamKind::LevelDb2, "s/00/CURRENT"),
        (UpstreamKind::LevelDb3, "s/_main/CURRENT"),
        (UpstreamKind::RocksDb, "s/CURRENT"),
        (UpstreamKind::Sqlite, "s"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("s");
        let upstream = UpstreamStore { kind, place };
        let chosen = dulse_registry::Chosen {
            engine: ENGINES[0],
            dir: upstream.beside(),
            upstream,
        };
        check_imported(&chosen).unwrap();
        let file = dir.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, b"x").unwrap();
        let error = check_imported(&chosen).unwrap_err().to_string();
        assert!(
            error.contains(&format!("dulse import --from {}:", kind.name())),
            "{error}"
        );
        begin_import(&chosen.dir, "the command").unwrap();
        let error = check_finished(&chosen.dir).unwrap_err().to_string();
        assert!(error.contains("the command"), "{error}");
        std::fs::write(chosen.dir.join("engine"), ENGINES[0]).unwrap();
        check_imported(&chosen).unwrap();
        finish_import(&chosen.dir).unwrap();
        check_finished(&chosen.dir).unwrap();
    }
}

/// Each run of an import emptied the note and wrote it anew: a full disk in between left a store
/// that no import could go on with. What says the same is left; another is renamed over it.
#[test]
fn the_note_of_an_import_is_never_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    begin_import(dir, "the command").unwrap();
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1);
    // Where no file can be made any more.
    std::fs::create_dir(dir.join("import-unfinished.new")).unwrap();
    begin_import(dir, "the command").unwrap();
    begin_import(dir, "another").unwrap_err();
    assert_eq!(unfinished_import(dir).as_deref(), Some("the command"));
}

/// Only a note that is not there says that nothing is unfinished.
#[test]
fn a_note_that_cannot_be_read_is_no_finished_import() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("import-unfinished")).unwrap();
    let error = check_finished(dir.path()).unwrap_err().to_string();
    assert!(error.contains("its note cannot be read"), "{error}");
}

/// One table of stores: whoever adds one sees it here, with the settings that upstream's template
/// has.
#[test]
fn a_shared_store_is_chosen_by_its_section_and_a_wrong_value_names_its_key() {
    for section in dulse_registry::shared_stores() {
        let text = format!(
            "[{section}]\nenabled = true\n{}",
            match section {
                "postgres" | "postgres2" | "mysql" | "mysql2" => {
                    "hostname = \"db\"\nusername = \"u\"\npassword = \"secret\"\ndatabase = \"d\"\n"
                }
                "redis2_sentinel" | "redis3_sentinel" => {
                    "addresses = [\"a:1\"]\nmasterName = \"m\"\npassword = \"secret\"\n"
                }
                "redis_cluster2" | "redis_cluster3" => {
                    "addresses = [\"a:1\"]\npassword = \"secret\"\n"
                }
                // It has no password.
                "cassandra2" => "keyspace = \"k\"\nhosts = [\"c:1\"]\npassword = \"secret\"\n",
                "hbase" => "zkquorum = \"z:2181\"\ntable = \"seaweedfs\"\n",
                _ => "password = \"secret\"\n",
            }
        );
        let Some(Choice::Shared(chosen)) = choose(&stores(&text)).unwrap() else {
            panic!("{section} is shared");
        };
        assert_eq!(chosen.section(), section);
        let shown = format!("{chosen:?}");
        assert!(
            !chosen.place().is_empty() && !shown.contains("secret"),
            "{shown}"
        );
    }
    for (key, value) in [
        ("sslmode", "\"require\""),
        ("port", "70000"),
        ("pgbouncer_compatible", "true"),
        ("sslcert", "\"a.pem\""),
        ("connection_max_open", "-1"),
    ] {
        let text = format!(
            "[postgres]\nenabled = true\nusername = \"u\"\ndatabase = \"d\"\n{key} = {value}\n"
        );
        let error = choose(&stores(&text)).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("expected"), "{error}");
    }
    let error = choose(&stores("[postgres2]\nenabled = true\nusername = \"u\"\n"));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("`database` is ``; expected its name"),
        "{error}"
    );
}

#[test]
fn directories_have_shared_stores_of_their_own() {
    let default = |section: &str, keys: &str| format!("[{section}]\nenabled = true\n{keys}");
    let postgres = default("postgres", "username = \"u\"\ndatabase = \"d\"\n");
    let tmp = "[redis2.tmp]\nenabled = true\nlocation = \"/tmp/\"\naddress = \"r:1\"\n";
    let chosen = choose(&stores(&format!("{postgres}{tmp}"))).unwrap();
    let Some(Choice::Shared(shared)) = chosen else {
        panic!("it is shared");
    };
    assert_eq!(shared.section(), "postgres");
    let place = shared.place();
    assert!(place.ends_with("; /tmp in r:1/0 (redis2.tmp)"), "{place}");

    assert!(
        choose_located(&stores(&format!("{postgres}{tmp}")), false)
            .unwrap()
            .is_empty()
    );

    // Each has a journal of its own beside an embedded store, whether the file names that, flags
    // do, or nobody does, and where one of all has no transactions.
    let hbase = "zkquorum = \"zk\"\n";
    let on_hbase = format!("[hbase.tmp]\nenabled = true\nlocation = \"/tmp\"\n{hbase}");
    let in_redis = "/tmp in r:1/0 (redis2.tmp)";
    for (text, is_embedded, section, place) in [
        (tmp.to_owned(), true, "redis2.tmp", in_redis),
        (default("sqlite", tmp), true, "redis2.tmp", in_redis),
        (format!("{postgres}{tmp}"), true, "redis2.tmp", in_redis),
        (
            default("hbase", &format!("{hbase}{tmp}")),
            false,
            "redis2.tmp",
            in_redis,
        ),
        (
            format!("{postgres}{on_hbase}"),
            false,
            "hbase.tmp",
            "(hbase.tmp)",
        ),
    ] {
        let stores = stores(&text);
        if let Some(Choice::Shared(default)) = choose(&stores).unwrap() {
            assert!(is_embedded || !default.place().contains("/tmp"), "{text}");
        }
        let located = choose_located(&stores, is_embedded).unwrap();
        assert_eq!(located.len(), 1, "{text}");
        assert_eq!(located[0].section(), section);
        assert!(
            located[0].place().ends_with(place),
            "{}",
            located[0].place()
        );
    }
    assert!(
        choose_located(&stores(&postgres), false)
            .unwrap()
            .is_empty()
    );
    let embedded = "[leveldb2.tmp]\nenabled = true\nlocation = \"/tmp\"\n";
    let error = choose(&stores(&format!("{postgres}{embedded}"))).map(drop);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("[leveldb2] is no shared store"), "{error}");
    assert!(choose_located(&stores(embedded), true).is_err());
    // Its keys are checked as those of any other section.
    let wrong = tmp.replace("r:1", "");
    let error = choose(&stores(&format!("{postgres}{wrong}")));
    let error = error.map(drop).unwrap_err().to_string();
    assert!(error.contains("[redis2.tmp]: "), "{error}");
}
