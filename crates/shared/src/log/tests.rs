// SPDX-License-Identifier: Apache-2.0
//! What is left of a log whose beginning was dropped, and from where the next start looks.

use dulse_journal::{JournalOptions, MemDisk};

use super::*;

const ORIGIN: Origin = Origin(7 << 32 | 9);

fn log(segment_size_bytes: u64) -> Log {
    let options = JournalOptions {
        store: ORIGIN.0,
        segment_size_bytes,
    };
    let (journal, _) = Journal::open(Arc::new(MemDisk::new()), options).unwrap();
    Log::open(journal, ORIGIN, 0).unwrap().0
}

fn intent(n: i32) -> Payload {
    Payload::Intent {
        ticket: i64::from(n),
        announced: Announced {
            signatures: vec![n; 20],
            ..Announced::default()
        },
    }
}

/// Announcements behind the beginning, asked for one by one.
fn whole(log: &Log) -> Vec<Announcement> {
    let (mut all, mut after) = (Vec::new(), Stamp::ZERO);
    while let Some(next) = log.read_after(after, 1).unwrap().into_iter().next() {
        after = next.stamp;
        all.push(next);
    }
    all
}

#[tokio::test]
async fn what_is_left_of_a_log_whose_beginning_was_dropped_is_whole() {
    const N: usize = 60;
    let log = log(512);
    // Two are under way at a time, so that outcomes come into the segment behind their intents'.
    let mut under_way = Vec::new();
    for n in 0..N {
        let position = log.intend(&intent(n as i32)).await.unwrap();
        under_way.push((position, log.stamps(1, n as i64)));
        if under_way.len() > 2 {
            let (position, stamp) = under_way.remove(0);
            log.end(stamp, Some(position), Ending::Applied)
                .await
                .unwrap();
        }
    }
    for (position, stamp) in under_way {
        log.end(stamp, Some(position), Ending::Applied)
            .await
            .unwrap();
    }
    let all = whole(&log);
    assert_eq!(all.len(), N);
    assert!(!log.has_open());
    let mut n_dropped = 0;
    while log.trim(Stamp::ZERO, log.size_bytes() - 1).unwrap() > 0 {
        let left = whole(&log);
        assert!(!left.is_empty() && left[..] == all[N - left.len()..]);
        n_dropped += 1;
    }
    assert!(n_dropped > 3, "{n_dropped} segments were dropped");
}

#[tokio::test]
async fn the_next_start_looks_at_an_intent_that_is_on_disk_and_not_answered() {
    let log = log(1 << 20);
    let (n_bytes, written) = (log.size_bytes(), intent(1));
    let mut intending = Box::pin(log.intend(&written));
    assert!(futures::poll!(&mut intending).is_pending() || log.has_open());
    while log.journal.synced() == n_bytes {
        std::thread::yield_now();
    }
    let floor = log.floor();
    let position = intending.await.unwrap();
    assert!(floor <= position, "{floor} is behind {position}");
    assert!(log.is_open(position));
    log.void(position).await.unwrap();
    assert!(log.floor() > position && !log.has_open());
}
