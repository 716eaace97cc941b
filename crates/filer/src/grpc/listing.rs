// SPDX-License-Identifier: Apache-2.0
//! Listings and walks: streams that read a page when they are asked for more.
//!
//! No task and no queue: a slow reader is simply asked less often, and entries go from the
//! store's row to the wire as the bytes they are.

use std::collections::VecDeque;

use dulse_namespace::Namespace;
use dulse_proto::filer as pb;
use dulse_store::{ListRange, Listed};
use dulse_types::{Entry, FullPath};
use futures::StreamExt;
use tonic::metadata::MetadataMap;
use tonic::{Code, Response, Status};

use super::{Answers, FilerService, convert, now_ns};
use crate::errors;

/// Entries of one page, read without leaving the thread: some 200 µs.
const PAGE: usize = 256;

/// Most entries a listing without a limit yields, as upstream's default.
const LIST_LIMIT: u32 = 100_000;

/// Trailer of a listing: when it was taken, in nanoseconds since 1970.
const SNAPSHOT_TRAILER: &str = "sw-list-snapshot-ts-ns";

impl FilerService {
    pub(crate) fn list(&self, r: pb::ListEntriesRequest) -> Answers<pb::ListEntriesResponse> {
        let snapshot_ts_ns = if r.snapshot_ts_ns == 0 {
            now_ns()
        } else {
            r.snapshot_ts_ns
        };
        let listing = Listing {
            namespace: self.state.namespace.clone(),
            // What cannot be a directory has no entries, as a missing one.
            directory: FullPath::parse(&r.directory).ok(),
            range: ListRange {
                prefix: r.prefix,
                start: r.start_from_file_name,
                inclusive: r.inclusive_start_from,
                limit: 0,
            },
            left: if r.limit == 0 { LIST_LIMIT } else { r.limit } as usize,
            omit_chunks: r.omit_chunks,
            snapshot_ts_ns,
            is_first: true,
            rows: VecDeque::new(),
            is_over: false,
        };
        let answers = futures::stream::unfold(listing, |mut listing| async {
            let answer = listing.next()?;
            Some((answer, listing))
        });
        answers.boxed()
    }

    pub(crate) fn traverse(
        &self,
        r: pb::TraverseBfsMetadataRequest,
    ) -> Result<Response<Answers<pb::TraverseBfsMetadataResponse>>, Status> {
        let top = convert::path(&r.directory, "")?;
        let found = self.state.namespace.find(&top);
        let entry = found.map_err(|e| Status::unknown(format!("find dir {top}: {e}")))?;
        let excluded = r.excluded_prefixes.iter();
        let walk = Walk {
            namespace: self.state.namespace.clone(),
            excluded: excluded.filter_map(|p| FullPath::parse(p).ok()).collect(),
            ready: VecDeque::from([pb::TraverseBfsMetadataResponse {
                directory: top.parent().unwrap_or_else(FullPath::root).to_string(),
                entry: Some(entry.with_name(top.name())),
            }]),
            open: VecDeque::from([top]),
            start: String::new(),
            is_over: false,
        };
        let answers = futures::stream::unfold(walk, |mut walk| async {
            let answer = walk.next()?;
            Some((answer, walk))
        });
        Ok(Response::new(answers.boxed()))
    }
}

struct Listing {
    namespace: Namespace,
    directory: Option<FullPath>,
    range: ListRange,
    left: usize,
    omit_chunks: bool,
    snapshot_ts_ns: i64,
    is_first: bool,
    rows: VecDeque<Listed>,
    is_over: bool,
}

impl Listing {
    fn next(&mut self) -> Option<Result<pb::ListEntriesResponse, Status>> {
        while self.rows.is_empty() {
            if self.is_over {
                return None;
            }
            match self.read() {
                Ok(true) => {}
                Ok(false) => {
                    self.is_over = true;
                    return Some(Err(self.trailer()));
                }
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(errors::status(&error)));
                }
            }
        }
        let row = self.rows.pop_front()?;
        let entry = if self.omit_chunks {
            without_chunks(&row.entry).with_name(&row.name)
        } else {
            row.entry.with_name(&row.name)
        };
        let is_first = std::mem::take(&mut self.is_first);
        Some(Ok(pb::ListEntriesResponse {
            entry: Some(entry),
            snapshot_ts_ns: if is_first { self.snapshot_ts_ns } else { 0 },
        }))
    }

    /// Reads a page; false at the end. A page may be empty: all in it has expired.
    fn read(&mut self) -> Result<bool, dulse_namespace::Error> {
        let Some(directory) = self.directory.as_ref().filter(|_| self.left > 0) else {
            return Ok(false);
        };
        self.range.limit = self.left.min(PAGE);
        let page = self.namespace.page(directory, &self.range)?;
        self.left -= page.rows.len();
        match page.next {
            Some(next) => {
                self.range.start = next;
                self.range.inclusive = false;
            }
            None => self.left = 0,
        }
        self.rows = page.rows.into();
        Ok(true)
    }

    /// A good end, with the trailer that upstream's clients read.
    fn trailer(&self) -> Status {
        let mut trailers = MetadataMap::new();
        trailers.insert(SNAPSHOT_TRAILER, self.snapshot_ts_ns.into());
        Status::with_metadata(Code::Ok, "", trailers)
    }
}

struct Walk {
    namespace: Namespace,
    excluded: Vec<FullPath>,
    ready: VecDeque<pb::TraverseBfsMetadataResponse>,
    /// Directories to look into, breadth first: as many as one level of the tree has.
    open: VecDeque<FullPath>,
    start: String,
    is_over: bool,
}

impl Walk {
    fn next(&mut self) -> Option<Result<pb::TraverseBfsMetadataResponse, Status>> {
        while self.ready.is_empty() {
            if self.is_over || self.open.is_empty() {
                return None;
            }
            if let Err(error) = self.read() {
                self.is_over = true;
                return Some(Err(errors::status(&error)));
            }
        }
        self.ready.pop_front().map(Ok)
    }

    fn read(&mut self) -> Result<(), dulse_namespace::Error> {
        let Some(dir) = self.open.front().cloned() else {
            return Ok(());
        };
        let range = ListRange {
            prefix: String::new(),
            start: std::mem::take(&mut self.start),
            inclusive: false,
            limit: PAGE,
        };
        let page = self.namespace.page(&dir, &range)?;
        for row in page.rows {
            let path = FullPath::of(dir.as_str(), &row.name)?;
            let is_excluded = |prefix: &FullPath| *prefix == path || path.is_below(prefix);
            if self.excluded.iter().any(is_excluded) {
                continue;
            }
            if row.entry.is_dir() {
                self.open.push_back(path);
            }
            self.ready.push_back(pb::TraverseBfsMetadataResponse {
                directory: dir.to_string(),
                entry: Some(row.entry.with_name(&row.name)),
            });
        }
        match page.next {
            Some(next) => self.start = next,
            None => drop(self.open.pop_front()),
        }
        Ok(())
    }
}

/// The entry without chunks, its size kept in the attributes.
fn without_chunks(entry: &Entry) -> Entry {
    if !entry.has_chunks() {
        return entry.clone();
    }
    let Ok(mut fields) = entry.fields() else {
        return entry.clone();
    };
    let size = fields.size();
    fields.chunks.clear();
    fields.attrs_mut().file_size = size;
    fields.to_entry(&entry.unknown())
}
