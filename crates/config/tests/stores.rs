// SPDX-License-Identifier: Apache-2.0
//! `filer.toml` as upstream reads it, and what upstream would pass over.

use std::path::Path;
use std::time::Duration;

use dulse_config::Stores;

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Stores, String> {
    let variable = |name: &str| {
        let found = environment.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Stores::parse(Path::new("filer.toml"), text, &variable).map_err(|e| e.to_string())
}

#[test]
fn one_section_selects_the_store_and_the_others_keep_their_defaults() {
    let text = "[filer.options]\nbuckets_folder = \"/b/\"\ns3.empty_folder_cleanup_delay = \"1m\"\n\
        [leveldb2]\nenabled = false\ndir = \"/x\"\n[SQLite]\nEnabled = true\nDBfile = \"/f.db\"\n";
    let stores = parse(text, &[]).unwrap();
    let store = stores.store.unwrap();
    assert_eq!(
        (store.name(), store.text("dbFile"), store.line()),
        ("sqlite", "/f.db", 7)
    );
    assert_eq!(stores.options.buckets_folder, "/b");
    assert_eq!(stores.options.name_len_max, 255);
    assert_eq!(
        stores.options.empty_folder_cleanup_delay,
        Duration::from_secs(60)
    );
    assert_eq!(parse("", &[]).unwrap().store, None);
    let dirs = [
        ("leveldb2", "dir", "./filerldb2"),
        ("leveldb3", "dir", "./filerldb3"),
        ("rocksdb", "dir", "./filerrdb"),
        ("sqlite", "dbFile", "./filer.db"),
    ];
    for (name, key, place) in dirs {
        let store = parse(&format!("[{name}]\nenabled = true\n"), &[])
            .unwrap()
            .store;
        assert_eq!(store.unwrap().text(key), place);
    }
}

#[test]
fn the_environment_wins_and_needs_no_file() {
    let environment = [
        ("WEED_LEVELDB2_ENABLED", "true"),
        ("WEED_LEVELDB2_DIR", "/data/ldb"),
    ];
    for text in ["", "[leveldb2]\nenabled = false\ndir = \"/other\"\n"] {
        let store = parse(text, &environment).unwrap().store.unwrap();
        assert_eq!((store.name(), store.text("dir")), ("leveldb2", "/data/ldb"));
    }
    let off = parse(
        "[sqlite]\nenabled = true\n",
        &[("WEED_SQLITE_ENABLED", "false")],
    );
    assert_eq!(off.unwrap().store, None);
    let hosts = [("WEED_CASSANDRA2_HOSTS", "a:1 b:2,c:3")];
    let store = parse("[cassandra2]\nenabled = true\n", &hosts)
        .unwrap()
        .store
        .unwrap();
    assert_eq!(store.list("hosts"), ["a:1", "b:2", "c:3"]);
    let wrong = parse("", &[("WEED_MYSQL_PORT", "many")]).unwrap_err();
    assert_eq!(
        wrong,
        "environment: `WEED_MYSQL_PORT` is `many`; expected a whole number"
    );
}

#[test]
fn values_of_other_stores_have_their_types() {
    let text = "[postgres2]\nenabled = true\nhostname = \"db\"\nport = 6543\npassword = 1234\n\
        enableUpsert = false\n[elastic7]\nindex.max_result_window = 5\n";
    let store = parse(text, &[]).unwrap().store.unwrap();
    assert_eq!(store.text("hostname"), "db");
    assert_eq!(store.integer("port"), 6543);
    assert_eq!(
        store.text("password"),
        "1234",
        "a number is taken for a text, as upstream does"
    );
    assert!(!store.boolean("enableUpsert"));
    assert_eq!(store.text("sslmode"), "disable");
    assert!(
        !format!("{store:?}").contains("1234"),
        "secrets are not shown"
    );
}

#[test]
fn stores_of_directories_are_listed_by_their_place() {
    let text = "[leveldb2]\nenabled = true\n[redis2.tmp]\nenabled = true\nlocation = \"/tmp/\"\n\
        address = \"r:1\"\n[redis2.off]\nlocation = \"/off\"\n[redis2]\nenabled = false\n";
    let stores = parse(text, &[("WEED_REDIS2_TMP_DATABASE", "3")]).unwrap();
    let [tmp] = &stores.paths[..] else {
        panic!("{:?}", stores.paths)
    };
    assert_eq!((tmp.id.as_str(), tmp.location.as_str()), ("tmp", "/tmp"));
    assert_eq!(tmp.section.name(), "redis2");
    assert_eq!(
        (tmp.section.text("address"), tmp.section.integer("database")),
        ("r:1", 3)
    );
    assert_eq!(stores.store.unwrap().name(), "leveldb2");
}

#[test]
fn what_is_not_understood_is_refused_with_its_line() {
    for (text, says) in [
        (
            "[leveldb2]\nenabled = true\n\n[sqlite]\nenabled = true\n",
            "filer.toml, line 4: [leveldb2] and [sqlite] are enabled; expected one store",
        ),
        (
            "[leveldb2]\ndirr = \"x\"\n",
            "filer.toml, line 2: unknown key `dirr` in [leveldb2]; expected one of enabled, dir",
        ),
        (
            "[leveldb4]\n",
            "filer.toml, line 1: unknown section `leveldb4`; expected [filer.options] or",
        ),
        (
            "[filer]\nx = 1\n",
            "filer.toml, line 2: unknown section `filer.x`",
        ),
        (
            "[filer.options]\nmax_file_name_lengt = 1\n",
            "line 2: unknown key `max_file_name_lengt`",
        ),
        (
            "[filer.options]\nmax_file_name_length = 0\n",
            "line 2: `filer.options.max_file_name_length` is `0`; expected 1 to 4094",
        ),
        (
            "[filer.options]\nbuckets_folder = \"b\"\n",
            "line 2: `filer.options.buckets_folder` is `b`",
        ),
        (
            "[jwt.signing]\nkey = \"\"\n",
            "line 1: [jwt] is read from security.toml",
        ),
        (
            "[filer.expose_directory_metadata]\nenabled = true\n",
            "is read from security.toml",
        ),
        (
            "[sqlite]\nenabled = \"maybe\"\n",
            "filer.toml, line 2: `sqlite.enabled` is `maybe`; expected true or false",
        ),
        (
            "[sqlite]\ndbFile = [\"x\"]\n",
            "line 2: `sqlite.dbFile` is of type array; expected a text in quotes",
        ),
        (
            "[mysql]\nport = 1.5\n",
            "line 2: `mysql.port` is of type float; expected a whole number",
        ),
        (
            "[cassandra]\nhosts = [1]\n",
            "a list with something that is no text; expected a list",
        ),
        (
            "[sqlite]\ndbFile = \"a\"\nDBFILE = \"b\"\n",
            "line 3: `dbfile` stands twice in [sqlite]",
        ),
        (
            "sqlite = 1\n",
            "line 1: `sqlite` is a section; expected [sqlite]",
        ),
        (
            "[redis2.tmp]\nenabled = true\n",
            "`redis2.tmp.location` is ``; expected a directory",
        ),
        (
            "[redis2.a]\nenabled = true\nlocation = \"/t\"\n[redis3.b]\nenabled = true\nlocation = \"/t/\"\n",
            "line 6: `redis3.b.location` is `/t/`, which another store has already",
        ),
        (
            "[redis2.a.b]\nx = 1\n",
            "line 1: unknown key `b` in [redis2.a]",
        ),
        ("[sqlite\n", "line 1: "),
    ] {
        let error = parse(text, &[]).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
    }
}
