// SPDX-License-Identifier: Apache-2.0
//! What is said of filers.

use dulse_proto::status::{Component, StatusReply};

use super::*;
use crate::status::report::Filer;

fn seen(stamp: i64, digest: u8) -> Seen {
    let filer = Filer::of(StatusReply {
        ready: true,
        entries: 7,
        vector: vec![Component { origin: 1, stamp }],
        digest: vec![digest].into(),
        ..StatusReply::default()
    });
    Seen {
        name: "filer 1".to_owned(),
        filer: Some(filer),
        is_starting: false,
        changes_per_second: 12.4,
    }
}

#[test]
fn filers_that_have_different_changes_are_behind_and_else_must_be_equal() {
    assert_eq!(agreement(&[seen(1, 1), seen(1, 1)]), Agreement::Equal);
    assert_eq!(agreement(&[seen(1, 1), seen(2, 2)]), Agreement::Behind);
    assert_eq!(agreement(&[seen(1, 1), seen(1, 2)]), Agreement::Differ);
}

#[test]
fn a_live_line_tells_readiness_rate_lag_and_digest() {
    let line = detail(&seen(1, 1), Agreement::Equal);
    let expect = "ready       12 changes/s  lag 0 changes 0.0 s  digest equal  7 entries";
    assert_eq!(line, expect);
    let away = Seen {
        filer: None,
        ..seen(1, 1)
    };
    assert_eq!(detail(&away, Agreement::Equal), "does not answer");
}
