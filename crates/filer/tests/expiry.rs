// SPDX-License-Identifier: Apache-2.0
//! Expiry over replicas in memory, by a clock that the test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use dulse_filer::expiry::round;
use dulse_journal::MemDisk;
use dulse_kv::MemoryEngine;
use dulse_merge::change::MemberStep;
use dulse_namespace::{CreateOptions, DeleteOptions, Namespace, Options, UpdateOptions};
use dulse_replica::{
    Applied, Durability, Limits, Replica, ReplicaOptions, ReplicaStore, SystemClock,
};
use dulse_store::EntryStore;
use dulse_types::{Entry, EntryFields, FullPath, FuseAttributes, UnknownFields};

/// When the tests begin, in seconds since 1970.
const BEGIN_S: i64 = 1_800_000_000;

struct Filer {
    store: Arc<ReplicaStore>,
    names: Namespace,
    now_s: Arc<AtomicI64>,
}

impl Filer {
    fn new(random: u64) -> Self {
        let replica = Replica::open(ReplicaOptions {
            disk: Arc::new(MemDisk::new()),
            engine: Arc::new(MemoryEngine::new()),
            clock: Arc::new(SystemClock),
            random,
            durability: Durability::Fsync,
            limits: Limits::STANDARD,
        });
        let store = Arc::new(ReplicaStore::start(replica.unwrap()).unwrap());
        let options = Options {
            name_len_max: 255,
            buckets_folder: "/buckets".to_owned(),
            owner: (0, 0),
        };
        let now_s = Arc::new(AtomicI64::new(BEGIN_S));
        let asked = Arc::clone(&now_s);
        let clock = Arc::new(move || asked.load(Ordering::Relaxed) * 1_000_000_000);
        let names = Namespace::with_clock(store.clone(), options, clock);
        Self {
            store,
            names,
            now_s,
        }
    }

    async fn create(&self, at: &str, ttl_sec: i32, link: &'static str) {
        let entry = entry(ttl_sec, link);
        let options = CreateOptions::default();
        self.names.create(&path(at), &entry, options).await.unwrap();
    }

    async fn update(&self, at: &str, entry: Entry) {
        let options = UpdateOptions::default();
        self.names.update(&path(at), &entry, options).await.unwrap();
    }

    async fn expire(&self) {
        let now_s = self.now_s.load(Ordering::Relaxed);
        let next = round(&self.store, &self.names, now_s, None).await.unwrap();
        assert_eq!(next, None, "all hints fit one round");
    }

    fn n_hints(&self) -> usize {
        let due = self.store.shared().due(i64::MAX, None, 1_000);
        due.unwrap().len()
    }

    fn has(&self, at: &str) -> bool {
        self.store.find(&path(at)).unwrap().is_some()
    }

    /// Takes over what another did.
    async fn pull(&self, from: &Self) {
        let origin = from.store.origin();
        let after = self.store.shared().vector().get(origin);
        let records = from.store.shared().changes_after(origin, after, 1 << 20);
        let changes: Vec<Bytes> = records.unwrap().into_iter().map(|r| r.payload).collect();
        for applied in self.store.apply_remote(changes).await.unwrap() {
            assert_eq!(applied, Applied::Now);
        }
    }
}

fn path(text: &str) -> FullPath {
    FullPath::parse(text).unwrap()
}

fn entry(ttl_sec: i32, link: &'static str) -> Entry {
    let fields = EntryFields {
        attributes: Some(FuseAttributes {
            file_mode: 0o644,
            ttl_sec,
            ..FuseAttributes::default()
        }),
        hard_link_id: Bytes::from_static(link.as_bytes()),
        ..EntryFields::default()
    };
    fields.to_entry(&UnknownFields::default())
}

#[tokio::test]
async fn what_has_expired_is_removed_and_its_hints_are_forgotten() {
    let filer = Filer::new(0x1_0000_0001);
    filer.create("/d/a", 10, "").await;
    filer.create("/d/b", 1_000, "").await;
    filer.create("/d/c", 0, "").await;
    assert_eq!(filer.n_hints(), 2, "one per entry with a time to live");
    filer.expire().await;
    assert!(filer.has("/d/a"), "its time is not over");
    filer.now_s.fetch_add(11, Ordering::Relaxed);
    filer.expire().await;
    assert!(!filer.has("/d/a") && filer.has("/d/b") && filer.has("/d/c"));
    filer.expire().await;
    assert_eq!(filer.n_hints(), 1);
    // Gone by another hand: the hint is stale.
    let options = DeleteOptions::default();
    filer.names.delete(&path("/d/b"), options).await.unwrap();
    filer.now_s.fetch_add(1_000, Ordering::Relaxed);
    filer.expire().await;
    assert_eq!(filer.n_hints(), 0);
}

#[tokio::test]
async fn a_time_to_live_that_was_extended_counts() {
    let filer = Filer::new(0x1_0000_0001);
    filer.create("/a", 10, "").await;
    filer.update("/a", entry(100, "")).await;
    filer.now_s.fetch_add(50, Ordering::Relaxed);
    filer.expire().await;
    assert!(filer.has("/a"));
    filer.now_s.fetch_add(51, Ordering::Relaxed);
    filer.expire().await;
    assert!(!filer.has("/a"));
}

#[tokio::test]
async fn all_names_of_a_hard_link_expire_together() {
    const LINK: &str = "0123456789abcdef\x01";
    let filer = Filer::new(0x1_0000_0001);
    filer.create("/a", 10, LINK).await;
    filer.create("/x/b", 10, LINK).await;
    filer.now_s.fetch_add(11, Ordering::Relaxed);
    filer.expire().await;
    assert!(!filer.has("/a") && !filer.has("/x/b"));
}

#[tokio::test]
async fn the_filer_that_wrote_the_data_removes_it_and_an_extension_it_has_not_seen_wins() {
    const LINK: &str = "0123456789abcdef\x01";
    let (one, two) = (Filer::new(0x1_0000_0001), Filer::new(0x2_0000_0002));
    for (filer, store) in [(&one, &one.store), (&two, &two.store)] {
        let origin = store.origin();
        let step = MemberStep::Join {
            member: origin,
            address: "127.0.0.1:1".to_owned(),
        };
        filer.store.member(step).await.unwrap();
    }
    one.pull(&two).await;
    two.pull(&one).await;
    one.create("/a", 10, LINK).await;
    one.create("/b", 10, LINK).await;
    one.create("/c", 10, "").await;
    two.pull(&one).await;
    for filer in [&one, &two] {
        filer.now_s.fetch_add(11, Ordering::Relaxed);
    }
    // The clock of the second was late when it extended one name.
    two.now_s.fetch_sub(5, Ordering::Relaxed);
    two.update("/b", entry(100, LINK)).await;
    two.now_s.fetch_add(5, Ordering::Relaxed);
    two.expire().await;
    assert!(two.has("/c"), "the first wrote it and removes it");
    one.expire().await;
    assert!(!one.has("/a") && !one.has("/b") && !one.has("/c"));
    one.pull(&two).await;
    two.pull(&one).await;
    for filer in [&one, &two] {
        assert!(
            filer.has("/a") && filer.has("/b"),
            "both names were touched"
        );
        assert!(!filer.has("/c"));
    }
    assert_eq!(one.store.shared().digest(), two.store.shared().digest());
}
