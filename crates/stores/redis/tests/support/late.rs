// SPDX-License-Identifier: Apache-2.0
//! What comes later than it was sent, and what many or moving names make of a listing.

use dulse_shared_testkit::{as_store, create, shown, state};
use dulse_store::ListRange;
use dulse_store_testkit::{commit, file, path};

use super::server::Heard;
use super::{Cluster, Shared, at, everywhere, id_of, make_directory, servers};

/// Listens to all servers while something is done; gives what each was asked.
fn heard(work: impl FnOnce()) -> Vec<Vec<String>> {
    let listening: Vec<Heard> = {
        let servers = servers();
        servers.iter().map(|one| one.listen().unwrap()).collect()
    };
    work();
    let servers = servers();
    let all = servers.iter().zip(listening);
    all.map(|(one, heard)| heard.all(one).unwrap()).collect()
}

fn range(limit: usize) -> ListRange {
    ListRange {
        prefix: String::new(),
        start: String::new(),
        inclusive: false,
        limit,
    }
}

/// A name is taken out, and the list with it; what does so comes when the lock has ended and
/// another filer has put the name back.
pub(crate) fn lists(cluster: Cluster) {
    let shared = Shared::of(&cluster, 1, 0);
    let store = as_store(&shared.open(1).unwrap());
    commit(&store, make_directory("/d")).unwrap();
    commit(&store, create("/d/x", "x")).unwrap();
    let prefix = &shared.config.key_prefix;
    for kept_from in ["zrem", "del"] {
        assert_eq!(at(&format!("{prefix}/d/x"), &["DEL"]), "1");
        let heard = heard(|| {
            everywhere(&["ACL", "SETUSER", "default", &format!("-{kept_from}")]);
            let listed = store.list(&path("/d"), &range(10));
            everywhere(&["ACL", "SETUSER", "default", &format!("+{kept_from}")]);
            assert!(listed.unwrap().is_empty());
        });
        at(&format!("{prefix}/d\0lock"), &["DEL"]);
        assert_eq!(at(&format!("{prefix}/d\0"), &["EXISTS"]), "1");
        commit(&store, create("/d/x", "again")).unwrap();
        // All that takes something away, but the lock.
        let takes = |command: &&String| {
            let is_script = command.starts_with("\"EVAL\"");
            let takes = command.contains("'ZREM', KEYS[1]") || command.contains("'DEL', KEYS[1]");
            is_script && takes && !command.contains("return redis.call('DEL'")
        };
        let mut n_late = 0;
        for (server, heard) in servers().iter().zip(&heard) {
            let late: Vec<String> = heard.iter().filter(takes).cloned().collect();
            println!("{kept_from}: {late:?}: {}", server.replay(&late).unwrap());
            n_late += late.len();
        }
        assert!(n_late > 0, "{heard:?}");
        let listed = store.list(&path("/d"), &range(10)).unwrap();
        assert_eq!(
            listed.len(),
            1,
            "a name is lost to what was late: {kept_from}"
        );
        assert_eq!(shown(&store, "/d/x"), Some(file("again")));
    }
}

/// A write is sent twice; one meets another row, and says so; the other one comes when the row
/// is as it should be.
pub(crate) fn rows(cluster: Cluster) {
    let shared = Shared::on(&cluster);
    let store = as_store(&shared.open(1).unwrap());
    let heard = heard(|| drop(commit(&store, create("/w", "x")).unwrap()));
    let row = format!("{}/w", shared.config.key_prefix);
    let quoted = format!("\"2\" \"{row}\" \"");
    let is_write = |command: &&String| command.starts_with("\"EVAL\"") && command.contains(&quoted);
    let (server, write) = heard
        .iter()
        .enumerate()
        .find_map(|(server, heard)| Some((server, heard.iter().find(is_write)?)))
        .unwrap();
    let number = "\"00000000000000000001\"";
    assert!(write.contains(number), "{write}");
    let again = [write.replace(number, "\"00000000000000000002\"")];
    let replay = || servers()[server].replay(&again).unwrap();
    assert_eq!(replay(), "0", "a row is there");
    assert_eq!(at(&row, &["DEL"]), "1");
    assert_eq!(replay(), "2");
    assert_eq!(
        at(&row, &["EXISTS"]),
        "0",
        "it was told that nothing was written"
    );
}

/// Names lie in a slot that is on its way to another server, and what tells doubts is not there.
pub(crate) fn split(cluster: Cluster) {
    let shared = Shared::on(&cluster);
    let store = as_store(&shared.open(1).unwrap());
    commit(&store, make_directory("/d")).unwrap();
    commit(&store, create("/d/a", "x")).unwrap();
    let names = format!("{}/d\0", shared.config.key_prefix);
    let slot = at(&names, &["CLUSTER", "KEYSLOT"]);
    let listed = {
        let servers = servers();
        let has = |one: usize| servers[one].command(&["CLUSTER", "COUNTKEYSINSLOT", &slot]);
        let from = (0..3).find(|one| has(*one).unwrap() != "0").unwrap();
        let to = (from + 1) % 3;
        let set = |one: usize, what: &[&str]| {
            let command = [&["CLUSTER", "SETSLOT", &slot], what].concat();
            assert_eq!(servers[one].command(&command).unwrap(), "OK");
        };
        set(to, &["IMPORTING", &id_of(&servers[from]).unwrap()]);
        set(from, &["MIGRATING", &id_of(&servers[to]).unwrap()]);
        let listed = store.list(&path("/d"), &range(10));
        set(from, &["STABLE"]);
        set(to, &["STABLE"]);
        listed
    };
    assert_eq!(listed.unwrap().len(), 1);
    assert_eq!(state(&store).len(), 2);
}

/// A listing of one passes a thousand names without rows in a few pages, and takes them out.
pub(crate) fn many_expired(cluster: Cluster) {
    let shared = Shared::on(&cluster);
    let store = as_store(&shared.open(1).unwrap());
    commit(&store, make_directory("/d")).unwrap();
    commit(&store, create("/d/z", "x")).unwrap();
    let names = format!("{}/d\0", shared.config.key_prefix);
    let script = "for i = 1, 1000 do redis.call('ZADD', KEYS[1], 0, 'a' .. i) end return 1";
    at(&names, &["EVAL", script, "1"]);
    let heard = heard(|| {
        let listed = store.list(&path("/d"), &range(1)).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].name, "z");
    });
    let is_page = |command: &&String| command.starts_with("lua \"ZRANGEBYLEX\"");
    let n_pages = heard.iter().flatten().filter(is_page).count();
    assert!((1..=6).contains(&n_pages), "{n_pages} pages");
    assert_eq!(at(&names, &["ZCARD"]), "1");
}
