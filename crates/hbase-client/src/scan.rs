// SPDX-License-Identifier: Apache-2.0
//! Rows in order, a page at a time, over as many regions as it takes.
//!
//! A scanner at the server serves the pages of one region. It goes when the server forgets it, or
//! restarts, or the region moves; then a new one begins behind the last row that came.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use prost::Message;

use crate::client::{Client, Patience, column, specifier};
use crate::error::Error;
use crate::pb;
use crate::regions::Region;

/// About how many bytes one answer has.
const ANSWER_BYTES: u64 = 2 << 20;

/// Which rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScanRange {
    /// First row.
    pub start: Bytes,
    /// First row behind them; empty is the end of the table.
    pub stop: Bytes,
    /// Most rows.
    pub n_rows: usize,
    /// Stops behind this many bytes of values, even before `n_rows`.
    pub n_bytes: usize,
}

/// One row: one cell of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its key.
    pub row: Bytes,
    /// The cell's value.
    pub value: Bytes,
    /// The server's clock when it was written, in milliseconds.
    pub timestamp_ms: u64,
}

/// Rows in ascending order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Row>,
    /// Where the next page begins; none when there is nothing behind.
    pub next: Option<Bytes>,
}

/// A scanner at a server.
struct Scanner {
    region: Arc<Region>,
    id: Option<u64>,
    sequence: u64,
}

impl Client {
    /// Reads one cell each of the rows of a range.
    ///
    /// A row that is written meanwhile may come as it was or as it is.
    ///
    /// # Errors
    ///
    /// [`Error`]; what breaks is tried again until the time is over.
    pub async fn scan(
        &self,
        family: &[u8],
        qualifier: &[u8],
        range: &ScanRange,
    ) -> Result<Page, Error> {
        let mut patience = Patience::new(self.options.time_max);
        let (mut rows, mut n_bytes): (Vec<Row>, usize) = (Vec::new(), 0);
        let mut next = Some(range.start.clone());
        let mut scanner = None;
        while let Some(start) = next.clone() {
            let is_behind = !range.stop.is_empty() && start >= range.stop;
            if is_behind {
                next = None;
                break;
            }
            if rows.len() >= range.n_rows || n_bytes >= range.n_bytes {
                break;
            }
            let n_left = range.n_rows - rows.len();
            let first = start.clone();
            let wanted = pb::Scan {
                column: vec![column(family, &[qualifier])],
                start_row: Some(start),
                stop_row: Some(range.stop.clone()),
                max_versions: Some(1),
                max_result_size: Some(ANSWER_BYTES),
                reversed: None,
            };
            let answer = self.more(&mut scanner, wanted, n_left, patience.attempt());
            let answer = match answer.await {
                Ok(answer) => answer,
                Err(error) => {
                    scanner = None;
                    patience.after(error.of_read()).await?;
                    continue;
                }
            };
            let n_before = rows.len();
            for result in answer.results {
                let row = row_of(result)?;
                if row.row < first || rows.last().is_some_and(|last| row.row <= last.row) {
                    return Err(Error::protocol("a scan gives rows in no order").of_read());
                }
                n_bytes += row.row.len() + row.value.len();
                rows.push(row);
            }
            if let Some(last) = rows.last().filter(|_| rows.len() > n_before) {
                next = Some([&last.row[..], b"\0"].concat().into());
                // Time is for what does not move.
                patience = Patience::new(self.options.time_max);
            }
            // Behind the last row of a region, and behind the last that was asked for, the server
            // closes the scanner by itself.
            let is_over =
                answer.more_results == Some(false) || answer.more_results_in_region != Some(true);
            let ended = if is_over { scanner.take() } else { None };
            if let Some(it) = ended.filter(|_| rows.len() < range.n_rows) {
                // Rows of a region that was split meanwhile lie before its end, too.
                next = (!it.region.end.is_empty()).then(|| it.region.end.clone());
            }
        }
        if let Some(scanner) = scanner {
            self.close(scanner, patience.attempt()).await;
        }
        Ok(Page { rows, next })
    }

    /// Asks a scanner for more, or opens one.
    async fn more(
        &self,
        scanner: &mut Option<Scanner>,
        wanted: pb::Scan,
        n_left: usize,
        until: Instant,
    ) -> Result<pb::ScanResponse, Error> {
        let n_left = u32::try_from(n_left).unwrap_or(u32::MAX);
        let mut request = pb::ScanRequest {
            number_of_rows: Some(n_left),
            limit_of_rows: Some(n_left),
            close_scanner: Some(false),
            client_handles_partials: Some(false),
            client_handles_heartbeats: Some(true),
            ..Default::default()
        };
        let region = match scanner {
            Some(it) => {
                request.scanner_id = it.id;
                request.next_call_seq = Some(it.sequence);
                Arc::clone(&it.region)
            }
            None => {
                let start = wanted.start_row.as_deref().unwrap_or_default();
                let region = self.region_of(start, until).await?;
                request.region = Some(specifier(&region.name));
                request.scan = Some(wanted);
                region
            }
        };
        let answer: pb::ScanResponse = self.at_region(&region, "Scan", &request, until).await?;
        match scanner {
            Some(it) => it.sequence += 1,
            None => {
                *scanner = Some(Scanner {
                    region,
                    id: answer.scanner_id,
                    sequence: 1,
                });
            }
        }
        Ok(answer)
    }

    /// Lets a scanner go; the server would forget it by itself after a minute.
    async fn close(&self, scanner: Scanner, until: Instant) {
        if scanner.id.is_none() {
            return;
        }
        let request = pb::ScanRequest {
            scanner_id: scanner.id,
            close_scanner: Some(true),
            number_of_rows: Some(0),
            ..Default::default()
        };
        let closed: Result<pb::ScanResponse, Error> = self
            .at_region(&scanner.region, "Scan", &request, until)
            .await;
        if let Err(error) = closed {
            tracing::debug!(%error, "a scanner stays until the server forgets it");
        }
    }
}

/// The rows of an answer to a scan, as it comes from a server.
///
/// # Errors
///
/// `Protocol` for bytes that are none.
pub fn decode_rows(message: Bytes) -> Result<Vec<Row>, Error> {
    let answer = pb::ScanResponse::decode(message);
    let answer = answer.map_err(|e| Error::protocol(e.to_string()).of_read())?;
    answer.results.into_iter().map(row_of).collect()
}

fn row_of(result: pb::Result) -> Result<Row, Error> {
    let mut cells = result.cell.into_iter();
    match (cells.next(), cells.next()) {
        (Some(cell), None) => Ok(Row {
            row: cell.row.unwrap_or_default(),
            value: cell.value.unwrap_or_default(),
            timestamp_ms: cell.timestamp.unwrap_or_default(),
        }),
        _ => Err(Error::protocol("a row has not the one cell that was asked for").of_read()),
    }
}
