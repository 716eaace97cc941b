// SPDX-License-Identifier: Apache-2.0
//! Rows that count in no digest and do not decode: what others have under the same key.

use bytes::Bytes;
use dulse_merge::keys::Space;
use dulse_merge::repair::is_row;
use dulse_proto::repair::{KnownRequest, Wanted};
use dulse_replica::{Repair, Restored};
use prost::Message;

use super::super::serve::WANTED_MAX;
use super::{Local, Peer, Report};

/// Restores damaged rows that a scrub found, by their keys.
///
/// A row that no member has is removed, it being unreadable: of graves, places, links and
/// garbage a filer that lacks one does no worse than one that has forgotten it. Members and
/// what lies where no row can lie are removed only when others were asked.
///
/// # Errors
///
/// When nobody answers or the own store fails.
pub fn restore(
    local: &mut dyn Local,
    peers: &mut [&mut dyn Peer],
    keys: &[Bytes],
) -> Result<Report, String> {
    let mut report = Report::default();
    for keys in keys.chunks(WANTED_MAX) {
        let mut values: Vec<Option<Bytes>> = vec![None; keys.len()];
        let mut n_answered = 0;
        for peer in peers.iter_mut() {
            match ask(&mut **peer, keys, &mut values, &mut report) {
                Ok(()) => n_answered += 1,
                Err(_) => report.n_silent += 1,
            }
        }
        if n_answered == 0 {
            return Err("no other filer answers".to_owned());
        }
        let repair = Repair {
            restored: restored(local, keys, values)?,
            ..Repair::default()
        };
        report.n_items += repair.restored.len() as u64;
        let done = local.repair(repair).map_err(|e| e.to_string())?;
        report.repaired.add(done);
    }
    Ok(report)
}

fn restored(
    local: &mut dyn Local,
    keys: &[Bytes],
    values: Vec<Option<Bytes>>,
) -> Result<Vec<Restored>, String> {
    let census = local.shared().census().map_err(|e| e.to_string())?;
    let mut restored = Vec::with_capacity(keys.len());
    for (key, value) in keys.iter().zip(values) {
        let is_member = key.first() == Some(&(Space::Members as u8));
        if value.is_none() && is_member {
            continue;
        }
        restored.push(Restored {
            dir: Bytes::new(),
            key: key.clone(),
            seen: census.row(key).map_err(|e| e.to_string())?,
            value,
        });
    }
    Ok(restored)
}

fn ask(
    peer: &mut dyn Peer,
    keys: &[Bytes],
    values: &mut [Option<Bytes>],
    report: &mut Report,
) -> Result<(), String> {
    let mut n_done = 0;
    while n_done < keys.len() {
        let wanted = keys[n_done..].iter().map(|key| Wanted {
            key: key.clone(),
            ..Wanted::default()
        });
        let request = KnownRequest {
            group: String::new(),
            wanted: wanted.collect(),
        };
        report.n_messages += 1;
        report.n_sent_bytes += request.encoded_len() as u64;
        let reply = peer.known(request)?;
        report.n_bytes += reply.encoded_len() as u64;
        if reply.found.is_empty() || reply.found.len() > keys.len() - n_done {
            return Err("an answer does not fit its question".to_owned());
        }
        for found in reply.found {
            let row = found.rows.into_iter().find(|row| row.key == keys[n_done]);
            if let Some(row) = row.filter(|row| is_row(&row.key, &row.value)) {
                report.n_rows += 1;
                values[n_done].get_or_insert(row.value);
            }
            n_done += 1;
        }
    }
    Ok(())
}
