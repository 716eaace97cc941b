// SPDX-License-Identifier: Apache-2.0
//! The table: reads, and the numbers of filers.

use std::time::Duration;

use bytes::Bytes;
use dulse_hbase_client::{
    ATTEMPT_TIME_MAX, CellValue, Client, Condition, Mutation, Put, ScanRange,
};
use dulse_shared::{GroupMax, RowWrite, Rows, SharedOptions, SharedStore, Stepwise};
use dulse_store::{Error, ErrorKind, ListRange, Operation};
use dulse_types::FullPath;
use futures::StreamExt;
use futures::stream;
use parking_lot::Mutex;

use crate::config::Config;
use crate::error::{invalid, of};
use crate::layout::{
    COLUMN, ENTRIES, FAMILIES, Found, KEYS, NUMBERS, TABLE_SETTINGS, behind, inside, key_row,
    number, number_key, row_of,
};

/// Rows that a listing asks for at least: what is below its entries comes with them.
const LIST_ROWS_MIN: usize = 16;

/// Values that a page of a listing has, in bytes.
const LIST_BYTES_MAX: usize = 16 << 20;

/// Filers whose numbers are read at a time.
const NUMBERS_PAGE: usize = 10_000;

/// Writes of one transaction under way at once.
const WRITES_MAX: usize = 16;

/// How long after its attempt a write whose answer was lost may appear: the server drops what it
/// has not begun within the attempt, and what it has begun is a row and a line of its log.
const LATE_MAX: Duration = ATTEMPT_TIME_MAX.saturating_add(Duration::from_secs(4));

/// Opens the store of a table: makes the table where it is missing, and the store's id.
///
/// # Errors
///
/// As [`SharedStore::open`].
pub fn open(
    config: Config,
    options: &SharedOptions,
) -> Result<SharedStore<Stepwise<Hbase>>, Error> {
    SharedStore::open(options, move || async move {
        Ok(Stepwise(Hbase::connect(config).await?))
    })
}

/// Upstream's table in HBase.
pub struct Hbase {
    pub(crate) client: Client,
    /// This filer's number, as it was last written.
    number: Mutex<Option<(u32, Bytes)>>,
}

impl Hbase {
    /// Connects, and makes the table where it is missing.
    ///
    /// # Errors
    ///
    /// `Unavailable` when HBase does not answer, `Invalid` for settings that cannot be.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        let options = config.options().map_err(|e| invalid(Operation::Open, e))?;
        let client = Client::new(options);
        let failed = |e| of(Operation::Open, e);
        if !client.has_table().await.map_err(failed)? {
            tracing::info!(table = config.table, "making the table in HBase");
            client
                .create_table(&FAMILIES, &TABLE_SETTINGS, &[])
                .await
                .map_err(failed)?;
        }
        Ok(Self {
            client,
            number: Mutex::new(None),
        })
    }

    pub(crate) async fn cell(
        &self,
        operation: Operation,
        row: &[u8],
        family: &[u8],
    ) -> Result<Option<CellValue>, Error> {
        let cell = self.client.get(row, family, COLUMN).await;
        cell.map_err(|e| of(operation, e))
    }
}

impl Rows for Hbase {
    fn name(&self) -> &'static str {
        "hbase"
    }

    async fn get(&self, path: &FullPath) -> Result<Option<Bytes>, Error> {
        if path.is_root() {
            return Ok(None);
        }
        let row = match row_of(path) {
            // What HBase cannot have is not there.
            Err(error) if error.kind() == ErrorKind::Invalid => return Ok(None),
            row => row?,
        };
        let cell = self.cell(Operation::Find, &row, ENTRIES).await?;
        Ok(cell.map(|cell| cell.value))
    }

    /// Which of them are there is asked in one call, and then for those that are: mostly they are
    /// to be new.
    async fn get_all(&self, paths: &[FullPath]) -> Result<Vec<Option<Bytes>>, Error> {
        if let [path] = paths {
            return Ok(vec![self.get(path).await?]);
        }
        let mut rows = Vec::with_capacity(paths.len());
        for (i, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_root()) {
            match row_of(path) {
                Err(error) if error.kind() == ErrorKind::Invalid => {}
                row => rows.push((i, row?)),
            }
        }
        let keys: Vec<Bytes> = rows.iter().map(|(_, row)| row.clone()).collect();
        let there = self.client.have(&keys, ENTRIES, COLUMN).await;
        let there = there.map_err(|e| of(Operation::Find, e))?;
        let found = rows
            .into_iter()
            .zip(there)
            .filter(|(_, is_there)| *is_there);
        let reads: Vec<_> = found
            .map(|((i, row), _)| async move {
                let cell = self.cell(Operation::Find, &row, ENTRIES).await?;
                Ok::<_, Error>((i, cell.map(|cell| cell.value)))
            })
            .collect();
        let mut values = vec![None; paths.len()];
        let mut reads = stream::iter(reads).buffered(WRITES_MAX);
        while let Some(read) = reads.next().await {
            let (i, value) = read?;
            values[i] = value;
        }
        Ok(values)
    }

    async fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        let inside = inside(directory, range);
        let (mut out, mut next) = (Vec::new(), Some(inside.start.clone()));
        let mut n_rows = range.limit;
        while let Some(start) = next.take()
            && out.len() < range.limit
        {
            let n_before = out.len();
            let scanned = ScanRange {
                start,
                stop: inside.stop.clone(),
                n_rows: n_rows.min(range.limit - out.len()).max(LIST_ROWS_MIN),
                n_bytes: LIST_BYTES_MAX,
            };
            let page = self.client.scan(ENTRIES, COLUMN, &scanned).await;
            let page = page.map_err(|e| of(Operation::List, e))?;
            next = page.next;
            for row in page.rows {
                match inside.find(&row.row) {
                    Found::Name(name) => out.push((name, row.value)),
                    // Its rows are many, or one: what has come of them is read past, what has
                    // not is skipped.
                    Found::Below(behind) => next = next.map(|next| next.max(behind)),
                    Found::Foreign => {
                        let text = "a row in the table is no path";
                        return Err(Error::new(Operation::List, ErrorKind::Corrupt)
                            .with("because", text)
                            .with("row", String::from_utf8_lossy(&row.row)));
                    }
                }
            }
            // Where entries have much below them, small pages waste less.
            n_rows = 2 * (out.len() - n_before);
        }
        out.truncate(range.limit);
        Ok(out)
    }

    async fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let row = match key_row(key) {
            Err(error) if error.kind() == ErrorKind::Invalid => return Ok(None),
            row => row?,
        };
        let cell = self.cell(Operation::KvGet, &row, KEYS).await?;
        Ok(cell.map(|cell| cell.value))
    }

    async fn write(&self, group: &[RowWrite]) -> Result<bool, Error> {
        let [row] = group else {
            return Err(invalid(Operation::Commit, "HBase writes one row at a time"));
        };
        self.write_row(row).await
    }

    fn group_max(&self) -> GroupMax {
        GroupMax {
            n_rows: 1,
            n_bytes: usize::MAX,
        }
    }

    fn writes_max(&self) -> usize {
        WRITES_MAX
    }

    fn late_max(&self) -> Duration {
        LATE_MAX
    }

    async fn raise(&self, filer: u32, stamp: i64) -> Result<(), Error> {
        let row = number_key(filer);
        loop {
            let known = self.number.lock().take().filter(|(of, _)| *of == filer);
            let before = match known {
                Some((_, value)) => Some(value),
                None => {
                    let cell = self.cell(Operation::KvGet, &row, KEYS).await?;
                    cell.map(|cell| cell.value)
                }
            };
            if let Some(value) = &before
                && number(&row, value)?.1 >= stamp
            {
                *self.number.lock() = Some((filer, value.clone()));
                return Ok(());
            }
            // Under a condition: an earlier attempt that comes late does not set it back.
            let condition = before.map_or(Condition::Absent, Condition::Equal);
            let value = Bytes::copy_from_slice(&stamp.to_be_bytes());
            let mutation = Mutation::Put(Put {
                value: value.clone(),
                ttl_ms: None,
            });
            let raised = self
                .client
                .mutate(&row, KEYS, COLUMN, &mutation, Some(&condition));
            if raised.await.map_err(|e| of(Operation::Commit, e))? {
                *self.number.lock() = Some((filer, value));
                return Ok(());
            }
        }
    }

    async fn raised(&self) -> Result<Vec<(u32, i64)>, Error> {
        let (mut out, mut next) = (Vec::new(), Some(Bytes::from_static(NUMBERS)));
        while let Some(start) = next {
            let range = ScanRange {
                start,
                stop: behind(NUMBERS.to_vec()),
                n_rows: NUMBERS_PAGE,
                n_bytes: LIST_BYTES_MAX,
            };
            let page = self.client.scan(KEYS, COLUMN, &range).await;
            let page = page.map_err(|e| of(Operation::KvGet, e))?;
            for row in &page.rows {
                out.push(number(&row.row, &row.value)?);
            }
            next = page.next;
        }
        Ok(out)
    }
}
