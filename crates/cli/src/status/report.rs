// SPDX-License-Identifier: Apache-2.0
//! What `dulse status --format json` prints: field names are an interface.

use std::collections::BTreeMap;

use dulse_proto::status::{Component, StatusReply};
use dulse_types::{Origin, ServerAddress};
use serde::Serialize;

/// The answers of all filers.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Cluster {
    /// All filers answered, are ready, have equal vectors and equal digests; upstream's are on the
    /// same store.
    pub(crate) converged: bool,
    pub(crate) filers: Vec<Filer>,
    /// Upstream's filers.
    pub(crate) foreign: Vec<Foreign>,
    /// Known to the master or to a filer, without an answer.
    pub(crate) unreachable: Vec<Missing>,
    /// Members no more: nobody waits for them.
    pub(crate) gone: Vec<Former>,
}

/// A filer that left, was fenced or removed.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Former {
    pub(crate) address: String,
    pub(crate) origin: String,
    /// left, fenced or removed.
    pub(crate) state: String,
}

/// A filer of upstream's, which says less.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Foreign {
    pub(crate) address: String,
    pub(crate) version: String,
    /// `filer.store.id`.
    pub(crate) store_id: i32,
}

/// A filer that did not answer.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Missing {
    pub(crate) address: String,
    /// Empty where nobody knows it.
    pub(crate) origin: String,
    pub(crate) error: String,
}

/// One filer's answer.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Filer {
    pub(crate) address: String,
    pub(crate) origin: String,
    pub(crate) engine: String,
    /// embedded or shared.
    pub(crate) store_kind: String,
    /// Where the database of a shared store is; else empty.
    pub(crate) store_place: String,
    pub(crate) ready: bool,
    pub(crate) not_ready_reason: String,
    /// Origin to stamp in nanoseconds; as text, since many readers of JSON round numbers of
    /// this size.
    pub(crate) vector: BTreeMap<String, String>,
    pub(crate) digest: String,
    pub(crate) entries: u64,
    pub(crate) changes_applied: u64,
    pub(crate) garbage_chunks: u64,
    pub(crate) conflicts: Conflicts,
    pub(crate) peers: Vec<Peer>,
    /// Why it must not be stopped; empty when it may.
    pub(crate) not_safe_to_stop: Vec<String>,
    pub(crate) safe_to_stop: bool,
    /// Changes that cannot be applied there.
    pub(crate) stuck: Vec<Stuck>,
    /// The member for which logs are kept longest.
    pub(crate) log_holder: Option<Holder>,
    pub(crate) clock_lead_seconds: f64,
    pub(crate) clock_refuses: bool,
    pub(crate) writes_awaited: u64,
    /// Its log could not be written.
    pub(crate) log_failed: bool,
    /// Its engine does not take in what the log has.
    pub(crate) engine_failed: bool,
    /// A running bootstrap.
    pub(crate) transfer: Option<Transfer>,
    /// Filers with the same changes and another digest.
    pub(crate) divergent_peers: u32,
    /// The pass over all that is stored.
    pub(crate) scrub: Scrub,
    #[serde(skip)]
    pub(crate) gone: Vec<Former>,
    /// Trees being moved or removed in parts.
    pub(crate) tree_changes: Vec<TreeChange>,
}

/// What lost, as the filer counted it last.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Conflicts {
    pub(crate) data: u64,
    pub(crate) shadows: u64,
    pub(crate) pending: u64,
    pub(crate) pinned_bytes: u64,
}

impl Conflicts {
    fn of(counts: dulse_proto::status::Conflicts) -> Self {
        Self {
            data: counts.data,
            shadows: counts.shadows,
            pending: counts.pending,
            pinned_bytes: counts.pinned_bytes,
        }
    }

    /// Recorded and pending ones.
    pub(crate) fn total(&self) -> u64 {
        self.data + self.shadows + self.pending
    }
}

/// Whose changes cannot be applied, and why.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Stuck {
    pub(crate) origin: String,
    pub(crate) reason: String,
}

/// Who holds back the logs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Holder {
    pub(crate) address: String,
    pub(crate) origin: String,
    pub(crate) state: String,
    pub(crate) seconds: f64,
}

/// One peer as a filer sees it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Peer {
    pub(crate) address: String,
    pub(crate) origin: String,
    pub(crate) state: String,
    /// Changes of the peer that this filer lacks.
    pub(crate) lag_changes: u64,
    pub(crate) lag_seconds: f64,
    /// About.
    pub(crate) lag_bytes: u64,
    pub(crate) last_error: String,
}

/// How far the scrub is.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub(crate) struct Scrub {
    pub(crate) running: bool,
    pub(crate) rows: u64,
    /// Places found damaged by this pass, else by the last one.
    pub(crate) found: u64,
    /// Of those, places that could not be repaired.
    pub(crate) unrepaired: u64,
    /// When the last pass ended, in nanoseconds since 1970; 0 for none since start.
    pub(crate) last_pass_ns: i64,
}

/// How far a bootstrap is.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Transfer {
    pub(crate) rows: u64,
    pub(crate) rows_total: u64,
    pub(crate) bytes: u64,
    pub(crate) eta_seconds: f64,
}

/// How far a tree change is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct TreeChange {
    pub(crate) path: String,
    /// Empty when the tree is removed.
    pub(crate) to: String,
    pub(crate) names: u64,
    pub(crate) parts: u32,
    /// Names that stay, as others wrote them meanwhile.
    pub(crate) left: u64,
    /// running, held, waiting.
    pub(crate) state: String,
    /// Why it waits.
    pub(crate) reason: String,
    /// When it began: nanoseconds since 1970, as text like the vector's.
    pub(crate) since_ns: String,
}

impl Cluster {
    pub(crate) fn new(
        filers: Vec<Filer>,
        foreign: Vec<Foreign>,
        mut unreachable: Vec<Missing>,
    ) -> Self {
        let mut gone: Vec<Former> = Vec::new();
        for former in filers.iter().filter(|f| f.ready).flat_map(|f| &f.gone) {
            if !gone.contains(former) {
                gone.push(former.clone());
            }
        }
        unreachable.retain(|missing| {
            let is_same = |former: &Former| match missing.origin.as_str() {
                "" => is_same_server(&former.address, &missing.address),
                origin => former.origin == origin,
            };
            !gone.iter().any(is_same)
        });
        let mut cluster = Self {
            converged: false,
            filers,
            foreign,
            unreachable,
            gone,
        };
        cluster.converged = cluster.why_not_converged().is_none();
        cluster
    }

    /// Whether all that answered have the same vector. On a shared store, which has no vector,
    /// whether each has heard what the others that are here announced.
    pub(crate) fn is_level(&self) -> bool {
        if self.is_shared() {
            let heard = |by: &Filer, of: &Filer| {
                let told = of.vector.get(&of.origin);
                told.is_none_or(|told| told == "0") || told == by.vector.get(&of.origin)
            };
            let mut pairs = self
                .filers
                .iter()
                .flat_map(|by| self.filers.iter().map(move |of| (by, of)));
            return pairs.all(|(by, of)| heard(by, of));
        }
        self.filers.windows(2).all(|w| w[0].vector == w[1].vector)
    }

    /// Whether all that answered are on a shared store.
    pub(crate) fn is_shared(&self) -> bool {
        let mut filers = self.filers.iter();
        !self.filers.is_empty() && filers.all(|filer| filer.is_shared())
    }

    /// Whether one of upstream's filers is on the store that all of ours are on.
    pub(crate) fn is_on_our_store(&self, foreign: &Foreign) -> bool {
        let mut filers = self.filers.iter();
        self.is_shared() && filers.all(|filer| filer.store_id() == Some(foreign.store_id))
    }

    /// The first reason why the filers do not agree; `None` when they do.
    pub(crate) fn why_not_converged(&self) -> Option<String> {
        let waiting = self.filers.iter().filter(|f| !f.ready).count();
        let n_shared = self.filers.iter().filter(|f| f.is_shared()).count();
        if n_shared > 0 && n_shared < self.filers.len() {
            let text = "filers on a shared store beside embedded ones: their changes never meet";
            return Some(text.to_owned());
        }
        let is_alike = self.filers.windows(2).all(|w| w[0].digest == w[1].digest);
        if !self.unreachable.is_empty() {
            Some(format!("{} of the filers down", self.unreachable.len()))
        } else if self.filers.is_empty() {
            Some("the master lists no filer".to_owned())
        } else if waiting > 0 {
            Some(format!("{waiting} of the filers not ready"))
        } else if !self.is_level() {
            Some("changes are on their way".to_owned())
        } else if let Some(foreign) = self.foreign.iter().find(|f| !self.is_on_our_store(f)) {
            Some(format!(
                "upstream's filer {} has a store of its own: its changes never meet ours",
                foreign.address
            ))
        } else if !is_alike {
            Some(
                "equal vectors with different digests, a defect that is being repaired; \
                 `dulse verify` shows where"
                    .to_owned(),
            )
        } else {
            None
        }
    }
}

fn is_same_server(a: &str, b: &str) -> bool {
    let parse = |address: &str| address.parse::<ServerAddress>().ok();
    parse(a)
        .zip(parse(b))
        .is_some_and(|(a, b)| a.is_same_server(&b))
}

impl Filer {
    /// Whether its store is a database that others use as well.
    pub(crate) fn is_shared(&self) -> bool {
        self.store_kind == "shared"
    }

    /// `filer.store.id`; `None` while nobody knows.
    pub(crate) fn store_id(&self) -> Option<i32> {
        self.origin.parse::<Origin>().ok().map(Origin::signature)
    }

    /// The greatest lag behind any peer, in changes.
    pub(crate) fn lag_changes(&self) -> u64 {
        self.peers.iter().map(|p| p.lag_changes).max().unwrap_or(0)
    }

    /// The greatest lag behind any peer, in seconds.
    pub(crate) fn lag_seconds(&self) -> f64 {
        self.peers.iter().map(|p| p.lag_seconds).fold(0.0, f64::max)
    }

    pub(crate) fn of(reply: StatusReply) -> Self {
        let vector = reply
            .vector
            .iter()
            .map(|Component { origin, stamp }| (Origin(*origin).to_string(), stamp.to_string()));
        let stuck = reply.stuck.into_iter().map(|stuck| Stuck {
            origin: name(stuck.origin),
            reason: stuck.reason,
        });
        let peers = reply.peers.into_iter().map(|p| Peer {
            address: p.address,
            origin: name(p.origin),
            state: p.state,
            lag_changes: p.lag_changes,
            lag_seconds: p.lag_seconds,
            lag_bytes: p.lag_bytes,
            last_error: p.last_error,
        });
        let trees = reply.tree_changes.into_iter().map(|t| TreeChange {
            path: t.path,
            to: t.to,
            names: t.names,
            parts: t.parts,
            left: t.left,
            state: t.state,
            reason: t.reason,
            since_ns: t.since_ns.to_string(),
        });
        Self {
            address: reply.address,
            origin: name(reply.origin),
            engine: reply.engine,
            store_kind: reply.store_kind,
            store_place: reply.store_place,
            ready: reply.ready,
            not_ready_reason: reply.not_ready_reason,
            vector: vector.collect(),
            digest: reply.digest.iter().map(|b| format!("{b:02x}")).collect(),
            entries: reply.entries,
            changes_applied: reply.changes_applied,
            garbage_chunks: reply.garbage_chunks,
            conflicts: Conflicts::of(reply.conflicts.unwrap_or_default()),
            peers: peers.collect(),
            safe_to_stop: reply.not_safe_to_stop.is_empty(),
            not_safe_to_stop: reply.not_safe_to_stop,
            stuck: stuck.collect(),
            log_holder: reply.log_holder.map(|holder| Holder {
                address: holder.address,
                origin: name(holder.origin),
                state: holder.state,
                seconds: holder.seconds,
            }),
            clock_lead_seconds: reply.clock_lead_seconds,
            clock_refuses: reply.clock_refuses,
            writes_awaited: reply.writes_awaited,
            log_failed: reply.log_failed,
            engine_failed: reply.engine_failed,
            transfer: reply.transfer.map(|t| Transfer {
                rows: t.rows,
                rows_total: t.rows_total,
                bytes: t.bytes,
                eta_seconds: t.eta_seconds,
            }),
            divergent_peers: reply.repairs.as_ref().map_or(0, |r| r.divergent_peers),
            scrub: reply
                .repairs
                .and_then(|repairs| repairs.scrub)
                .map(|scrub| Scrub {
                    running: scrub.is_running,
                    rows: scrub.rows,
                    found: scrub.found,
                    unrepaired: scrub.unrepaired,
                    last_pass_ns: scrub.last_pass_ns,
                })
                .unwrap_or_default(),
            gone: reply
                .gone
                .into_iter()
                .map(|former| Former {
                    address: former.address,
                    origin: name(former.origin),
                    state: former.state,
                })
                .collect(),
            tree_changes: trees.collect(),
        }
    }
}

/// An origin as text; empty where it is not known.
pub(crate) fn name(origin: u64) -> String {
    match origin {
        0 => String::new(),
        origin => Origin(origin).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filer(stamp: i64, digest: u8) -> Filer {
        Filer::of(StatusReply {
            ready: true,
            vector: vec![Component { origin: 1, stamp }],
            digest: vec![digest].into(),
            ..StatusReply::default()
        })
    }

    #[test]
    fn filers_agree_when_all_answer_are_ready_and_have_the_same() {
        let why = |filers, missing| Cluster::new(filers, Vec::new(), missing).why_not_converged();
        assert_eq!(why(vec![filer(5, 1), filer(5, 1)], Vec::new()), None);
        let moved = why(vec![filer(5, 1), filer(6, 2)], Vec::new());
        assert_eq!(moved.as_deref(), Some("changes are on their way"));
        let wrong = why(vec![filer(5, 1), filer(5, 2)], Vec::new());
        assert!(wrong.is_some_and(|w| w.contains("a defect")));
        let waiting = Filer {
            ready: false,
            ..filer(5, 1)
        };
        assert!(why(vec![waiting], Vec::new()).is_some());
        assert!(why(Vec::new(), Vec::new()).is_some());
        let missing = Missing {
            address: "h:1".to_owned(),
            origin: String::new(),
            error: String::new(),
        };
        assert!(!Cluster::new(vec![filer(5, 1)], Vec::new(), vec![missing]).converged);
    }

    #[test]
    fn upstreams_filer_is_no_filer_that_is_down_and_agrees_on_the_same_shared_store_alone() {
        let foreign = |store_id| Foreign {
            address: "h:9.19".to_owned(),
            version: "4.48".to_owned(),
            store_id,
        };
        let shared = |id: u64| Filer {
            store_kind: "shared".to_owned(),
            origin: name(1 << 32 | id),
            ..filer(5, 1)
        };
        let why = |filers, id| {
            let cluster = Cluster::new(filers, vec![foreign(id)], Vec::new());
            cluster.why_not_converged().unwrap_or_default()
        };
        assert_eq!(why(vec![shared(7), shared(7)], 7), "");
        for (filers, id) in [
            (vec![shared(7)], 8),
            (vec![shared(7), shared(8)], 7),
            (vec![filer(5, 1)], 7),
        ] {
            let text = why(filers, id);
            assert!(text.contains("h:9.19 has a store of its own"), "{text}");
        }
    }

    #[test]
    fn a_filer_that_is_a_member_no_more_is_missed_by_nobody() {
        let missing = |origin: &str, address: &str| Missing {
            address: address.to_owned(),
            origin: origin.to_owned(),
            error: String::new(),
        };
        let removed = Former {
            address: "h:7.17".to_owned(),
            origin: name(7),
            state: "removed".to_owned(),
        };
        let says = Filer {
            gone: vec![removed.clone()],
            ..filer(5, 1)
        };
        let both = vec![missing(&name(7), "h:9.19"), missing("", "h:7.17")];
        let cluster = Cluster::new(vec![says.clone()], Vec::new(), both);
        assert!(cluster.converged && cluster.unreachable.is_empty());
        assert_eq!(cluster.gone, [removed]);
        let another = vec![missing(&name(8), "h:7.17")];
        assert!(!Cluster::new(vec![says], Vec::new(), another).converged);
    }
}
