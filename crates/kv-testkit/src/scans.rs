// SPDX-License-Identifier: Apache-2.0
//! Ranges: order, both directions, limits, boundaries.

use std::ops::ControlFlow;

use dulse_kv::{Batch, Engine, Order, Read, ReadExt};

use crate::case::{Body, Case, Suite};
use crate::model::{END, put, puts, removes};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "scans",
    cases: &[
        Case {
            name: "rows_come_in_byte_order_both_ways",
            body: Body::Engine(rows_come_in_byte_order_both_ways),
        },
        Case {
            name: "the_start_belongs_to_a_range_and_the_end_does_not",
            body: Body::Engine(the_start_belongs_to_a_range_and_the_end_does_not),
        },
        Case {
            name: "empty_and_inverted_ranges_show_nothing",
            body: Body::Engine(empty_and_inverted_ranges_show_nothing),
        },
        Case {
            name: "a_limit_takes_the_first_rows_of_its_direction",
            body: Body::Engine(a_limit_takes_the_first_rows_of_its_direction),
        },
        Case {
            name: "a_visitor_that_breaks_is_not_called_again",
            body: Body::Engine(a_visitor_that_breaks_is_not_called_again),
        },
        Case {
            name: "a_removed_row_is_not_shown",
            body: Body::Engine(a_removed_row_is_not_shown),
        },
        Case {
            name: "many_rows_are_read_in_pages",
            body: Body::Engine(many_rows_are_read_in_pages),
        },
        Case {
            name: "long_rows_are_shown_whole",
            body: Body::Engine(long_rows_are_shown_whole),
        },
    ],
};

/// Keys that meet at the ends of the alphabet, in order.
const KEYS: [&[u8]; 12] = [
    b"",
    b"\0",
    b"\0\0",
    b"\x01",
    b"a",
    b"a\0",
    b"a\0\xff",
    b"a\xff",
    b"b",
    b"\xff",
    b"\xff\0",
    b"\xff\xff",
];

fn fill(engine: &dyn Engine) {
    // Not in order, and in several batches.
    for part in [1, 0, 2] {
        let keys = KEYS.iter().rev().skip(part).step_by(3);
        engine.write(puts(keys.map(|key| (*key, *key)))).unwrap();
    }
}

fn keys(read: &(impl Read + ?Sized), from: &[u8], to: &[u8], order: Order) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    read.visit(from..to, order, &mut |key, value| {
        assert_eq!(key, value);
        keys.push(key.to_vec());
        ControlFlow::Continue(())
    })
    .unwrap();
    keys
}

fn rows_come_in_byte_order_both_ways(engine: &dyn Engine) {
    fill(engine);
    let mut expect = KEYS.to_vec();
    assert_eq!(keys(engine, b"", END, Order::Ascending), expect);
    let snapshot = engine.snapshot().unwrap();
    assert_eq!(keys(&*snapshot, b"", END, Order::Ascending), expect);
    expect.reverse();
    assert_eq!(keys(engine, b"", END, Order::Descending), expect);
    assert_eq!(keys(&*snapshot, b"", END, Order::Descending), expect);
}

fn the_start_belongs_to_a_range_and_the_end_does_not(engine: &dyn Engine) {
    fill(engine);
    for from in KEYS.iter().chain([&&b"a\x01"[..], &&b"z"[..]]) {
        for to in KEYS.iter().chain([&&b"a\x01"[..], &&b"z"[..]]) {
            let inside = |key: &&&[u8]| from <= *key && *key < to;
            let mut expect: Vec<_> = KEYS.iter().filter(inside).copied().collect();
            let shown = keys(engine, from, to, Order::Ascending);
            assert_eq!(shown, expect, "{from:?}..{to:?}");
            expect.reverse();
            let shown = keys(engine, from, to, Order::Descending);
            assert_eq!(shown, expect, "{from:?}..{to:?}, backwards");
        }
    }
}

fn empty_and_inverted_ranges_show_nothing(engine: &dyn Engine) {
    fill(engine);
    for (from, to) in [
        (&b""[..], &b""[..]),
        (b"a", b"a"),
        (b"b", b"a"),
        (END, b""),
        (b"c", b"d"),
    ] {
        for order in [Order::Ascending, Order::Descending] {
            assert!(keys(engine, from, to, order).is_empty(), "{from:?}..{to:?}");
        }
    }
}

fn a_limit_takes_the_first_rows_of_its_direction(engine: &dyn Engine) {
    fill(engine);
    for limit in [
        0,
        1,
        2,
        KEYS.len() - 1,
        KEYS.len(),
        KEYS.len() + 1,
        usize::MAX,
    ] {
        let n = limit.min(KEYS.len());
        let rows = engine.scan(b"", END, limit).unwrap();
        assert!(
            rows.iter()
                .map(|(key, _)| &key[..])
                .eq(KEYS[..n].iter().copied())
        );
        let rows = engine.scan_back(b"", END, limit).unwrap();
        assert!(
            rows.iter()
                .map(|(key, _)| &key[..])
                .eq(KEYS.iter().rev().take(n).copied())
        );
    }
}

fn a_visitor_that_breaks_is_not_called_again(engine: &dyn Engine) {
    fill(engine);
    for order in [Order::Ascending, Order::Descending] {
        let mut n_calls = 0;
        let mut visitor = |_: &[u8], _: &[u8]| {
            n_calls += 1;
            if n_calls == 3 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        engine.visit(&b""[..]..END, order, &mut visitor).unwrap();
        assert_eq!(n_calls, 3);
    }
}

fn a_removed_row_is_not_shown(engine: &dyn Engine) {
    fill(engine);
    engine.write(removes([&b"a"[..], b"\xff\xff"])).unwrap();
    let shown = keys(engine, b"\x01", END, Order::Ascending);
    assert_eq!(
        shown,
        [
            &b"\x01"[..],
            b"a\0",
            b"a\0\xff",
            b"a\xff",
            b"b",
            b"\xff",
            b"\xff\0"
        ]
    );
    assert_eq!(keys(engine, b"", END, Order::Descending)[0], b"\xff\0");
}

fn many_rows_are_read_in_pages(engine: &dyn Engine) {
    const N_ROWS: u32 = 20_000;
    let numbers: Vec<_> = (0..N_ROWS).map(|n| n.wrapping_mul(7919) % N_ROWS).collect();
    for part in numbers.chunks(1000) {
        let row = |n: &u32| {
            (
                n.to_be_bytes().to_vec(),
                Some(n.to_le_bytes().to_vec().into()),
            )
        };
        let writes = part.iter().map(row).collect();
        engine.write(Batch { writes }).unwrap();
    }
    let mut from = Vec::new();
    let mut next = 0;
    loop {
        let rows = engine.scan(&from, END, 777).unwrap();
        let Some((last, _)) = rows.last() else { break };
        from = last.to_vec();
        from.push(0);
        for (key, value) in &rows {
            assert_eq!(
                (&key[..], &value[..]),
                (&u32::to_be_bytes(next)[..], &next.to_le_bytes()[..])
            );
            next += 1;
        }
    }
    assert_eq!(next, N_ROWS);
    let last = engine.scan_back(b"", END, 3).unwrap();
    assert_eq!(last[2].0, (N_ROWS - 3).to_be_bytes()[..]);
}

fn long_rows_are_shown_whole(engine: &dyn Engine) {
    let value = |at: u8| vec![at; 100_000 * usize::from(at % 3)];
    for at in 0..12 {
        engine.write(put(&[at], &value(at))).unwrap();
    }
    for (at, (key, found)) in (0..).zip(engine.scan(b"", END, 99).unwrap()) {
        assert_eq!(&key[..], [at]);
        assert!(found == value(at), "row {at}");
    }
}
