// SPDX-License-Identifier: Apache-2.0
//! Rows of one table, wherever they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;

use crate::error::{Error, ErrorKind, Moved};
use crate::pb;
use crate::pool::Pool;
use crate::regions::{
    INFO, INFO_FAMILY, Known, META_REGION, Region, SERVER, meta_range, region_of_row,
};
use crate::zookeeper::{self, Address};

mod many;

/// The service of region servers.
pub(crate) const ROWS: &str = "ClientService";

/// Pauses before a call is made again.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long one attempt may take: a read can go to another server then, and the server drops a
/// mutation that it has not begun by then.
pub const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(8);

/// The attribute of a cell's time to live: milliseconds, eight bytes big-endian.
const TTL: &str = "_ttl";

/// Compares bytes at the server.
const COMPARATOR: &str = "org.apache.hadoop.hbase.filter.BinaryComparator";

/// How a table is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// ZooKeeper's servers.
    pub quorum: Vec<Address>,
    /// HBase's node in ZooKeeper, such as `/hbase`.
    pub root: String,
    /// The table, `namespace:name` or a name in the default one.
    pub table: String,
    /// The user that servers see; nothing proves it.
    pub user: String,
    /// Connections to each server.
    pub n_connections: usize,
    /// Longest time of a call, its attempts and pauses included.
    pub time_max: Duration,
}

/// A cell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CellValue {
    /// Its value.
    pub value: Bytes,
    /// The server's clock when it was written, in milliseconds.
    pub timestamp_ms: u64,
}

/// What must hold of the cell that is written, else nothing is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// There is none, or one without bytes: the server does not tell them apart.
    Absent,
    /// It has this value.
    Equal(Bytes),
}

/// A cell to write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    /// Its value.
    pub value: Bytes,
    /// After how many milliseconds the server no longer shows it; none is never.
    pub ttl_ms: Option<u64>,
}

/// What becomes of a cell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// It gets a value.
    Put(Put),
    /// Its versions up to a time go; none is the server's now.
    Delete(Option<u64>),
}

/// A table's rows. Cheap to ask concurrently; connects at first use.
pub struct Client {
    pub(crate) options: Options,
    pub(crate) pool: Pool,
    regions: Known,
    meta: Mutex<Option<Address>>,
    /// Held while a region is looked for: many who miss it ask once.
    looking: tokio::sync::Mutex<()>,
}

impl Client {
    /// A client; nothing is asked yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            pool: Pool::new(&options.user, options.n_connections),
            options,
            regions: Known::default(),
            meta: Mutex::new(None),
            looking: tokio::sync::Mutex::new(()),
        }
    }

    /// The newest version of a cell.
    ///
    /// # Errors
    ///
    /// [`Error`]; reads are tried again until the time is over.
    pub async fn get(
        &self,
        row: &[u8],
        family: &[u8],
        qualifier: &[u8],
    ) -> Result<Option<CellValue>, Error> {
        let row_bytes = Bytes::copy_from_slice(row);
        let column = column(family, &[qualifier]);
        let message = |region| pb::GetRequest {
            region: Some(region),
            get: Some(pb::Get {
                row: Some(row_bytes.clone()),
                column: vec![column.clone()],
                max_versions: Some(1),
                existence_only: None,
            }),
        };
        let answer: pb::GetResponse = self.at_row(row, "Get", message, true).await?;
        let mut cells = answer.result.unwrap_or_default().cell;
        if cells.len() > 1 {
            return Err(Error::protocol("a row has more cells than were asked for").of_read());
        }
        Ok(cells.pop().map(|cell| CellValue {
            value: cell.value.unwrap_or_default(),
            timestamp_ms: cell.timestamp.unwrap_or_default(),
        }))
    }

    /// Writes or removes a cell, if the condition holds; gives whether it did. On the server's
    /// disk, as far as that is set to sync its log, when it returns.
    ///
    /// # Errors
    ///
    /// [`Error`]; it is tried again only where nothing can have been written.
    pub async fn mutate(
        &self,
        row: &[u8],
        family: &[u8],
        qualifier: &[u8],
        mutation: &Mutation,
        condition: Option<&Condition>,
    ) -> Result<bool, Error> {
        let mutation = mutation_of(row, family, qualifier, mutation);
        let condition = condition.map(|it| condition_of(row, family, qualifier, it));
        let message = |region| pb::MutateRequest {
            region: Some(region),
            mutation: Some(mutation.clone()),
            condition: condition.clone(),
        };
        let answer: pb::MutateResponse = self.at_row(row, "Mutate", message, false).await?;
        // Without a condition nothing could have kept it from being made.
        Ok(answer.processed.unwrap_or(true) || condition.is_none())
    }

    /// Calls a method of a row's region, and again where that is safe.
    async fn at_row<M: Message, T: Message + Default>(
        &self,
        row: &[u8],
        method: &'static str,
        message: impl Fn(pb::RegionSpecifier) -> M,
        is_read: bool,
    ) -> Result<T, Error> {
        let mut patience = Patience::new(self.options.time_max);
        loop {
            let result = async {
                let region = self.region_of(row, patience.until).await?;
                // ⚠ Of a write too: the server drops what it has not begun by then, and whoever
                // looks what became of one waits for no longer.
                let until = patience.attempt();
                self.at_region(&region, method, &message(specifier(&region.name)), until)
                    .await
            };
            match result.await {
                Ok(answer) => return Ok(answer),
                Err(error) if is_read => patience.after(error.of_read()).await?,
                Err(error) => patience.after(error).await?,
            }
        }
    }

    /// Calls a method at the server of a region; forgets where it is when it is not there.
    pub(crate) async fn at_region<T: Message + Default>(
        &self,
        region: &Arc<Region>,
        method: &'static str,
        message: &impl Message,
        until: Instant,
    ) -> Result<T, Error> {
        let result = async {
            let connection = in_time(until, self.pool.get(&region.server, ROWS)).await??;
            connection.call(method, message, until).await
        };
        let result = result.await;
        if let Err(error) = &result
            && error.moved == Moved::Region
        {
            self.regions.forget(region);
        }
        result
    }

    /// The region of a row.
    ///
    /// # Errors
    ///
    /// `TableMissing`, `Unavailable`; nothing was written.
    pub(crate) async fn region_of(&self, row: &[u8], until: Instant) -> Result<Arc<Region>, Error> {
        if let Some(region) = self.regions.of(row) {
            return Ok(region);
        }
        let _looking = in_time(until, self.looking.lock()).await?;
        if let Some(region) = self.regions.of(row) {
            return Ok(region);
        }
        let region = Arc::new(self.look_up(row, until).await.map_err(Error::of_read)?);
        self.regions.put(Arc::clone(&region));
        Ok(region)
    }

    async fn look_up(&self, row: &[u8], until: Instant) -> Result<Region, Error> {
        let known = self.meta.lock().clone();
        let server = match known {
            Some(server) => server,
            None => {
                let node = format!("{}/meta-region-server", self.options.root);
                let server = zookeeper::server_of(&self.options.quorum, &node).await?;
                *self.meta.lock() = Some(server.clone());
                server
            }
        };
        let until = until.min(Instant::now() + ATTEMPT_TIME_MAX);
        let answer = self.ask_meta(&server, row, until).await;
        // Whatever it is, the server may no longer be the one.
        let answer = answer.inspect_err(|_| *self.meta.lock() = None)?;
        let table = &self.options.table;
        let Some(found) = answer.results.into_iter().next() else {
            let text = format!("HBase has no table `{table}`");
            return Err(Error::new(ErrorKind::TableMissing, text));
        };
        let name = found.cell.first().and_then(|cell| cell.row.clone());
        let value = |qualifier: &[u8]| {
            let mut cells = found.cell.iter();
            let cell = cells.find(|cell| cell.qualifier.as_deref() == Some(qualifier));
            cell.and_then(|cell| cell.value.clone()).unwrap_or_default()
        };
        let region = region_of_row(name.unwrap_or_default(), value(INFO), &value(SERVER));
        let region = region.map_err(|e| Error::new(ErrorKind::Unavailable, e.to_string()))?;
        if !region.holds(row) {
            let text = "hbase:meta has a hole where the row would be";
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        Ok(region)
    }

    async fn ask_meta(
        &self,
        server: &Address,
        row: &[u8],
        until: Instant,
    ) -> Result<pb::ScanResponse, Error> {
        let (from, to) = meta_range(&self.options.table, row);
        let request = pb::ScanRequest {
            region: Some(specifier(META_REGION)),
            scan: Some(pb::Scan {
                column: vec![column(INFO_FAMILY, &[INFO, SERVER])],
                start_row: Some(from),
                stop_row: Some(to),
                max_versions: Some(1),
                reversed: Some(true),
                ..Default::default()
            }),
            number_of_rows: Some(1),
            limit_of_rows: Some(1),
            close_scanner: Some(true),
            ..Default::default()
        };
        let connection = in_time(until, self.pool.get(server, ROWS)).await??;
        connection.call("Scan", &request, until).await
    }
}

/// Waits for what others hold, and not beyond the end of the call.
async fn in_time<T>(until: Instant, work: impl Future<Output = T>) -> Result<T, Error> {
    let waited = tokio::time::timeout_at(until.into(), work).await;
    waited.map_err(|_| Error::unreachable("no way to the server was found in time"))
}

/// How long and how often something is tried.
pub(crate) struct Patience {
    pub(crate) until: Instant,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new(time_max: Duration) -> Self {
        Self {
            until: Instant::now() + time_max,
            pause: PAUSE_MIN,
        }
    }

    /// Until when one attempt of several may take.
    pub(crate) fn attempt(&self) -> Instant {
        self.until.min(Instant::now() + ATTEMPT_TIME_MAX)
    }

    /// Pauses, or gives the error back when it is not worth another try.
    pub(crate) async fn after(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_worth_another_try() || Instant::now() + self.pause >= self.until {
            return Err(error);
        }
        tracing::debug!(%error, "asking HBase again");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

pub(crate) fn specifier(name: &[u8]) -> pb::RegionSpecifier {
    pb::RegionSpecifier {
        r#type: Some(pb::region_specifier::RegionSpecifierType::RegionName.into()),
        value: Some(Bytes::copy_from_slice(name)),
    }
}

pub(crate) fn column(family: &[u8], qualifiers: &[&[u8]]) -> pb::Column {
    let qualifiers = qualifiers.iter();
    pb::Column {
        family: Some(Bytes::copy_from_slice(family)),
        qualifier: qualifiers.map(|it| Bytes::copy_from_slice(it)).collect(),
    }
}

fn mutation_of(
    row: &[u8],
    family: &[u8],
    qualifier: &[u8],
    mutation: &Mutation,
) -> pb::MutationProto {
    use pb::mutation_proto::{ColumnValue, DeleteType, Durability, MutationType, QualifierValue};
    let qualifier = Some(Bytes::copy_from_slice(qualifier));
    let (kind, cell, ttl_ms) = match mutation {
        Mutation::Put(put) => {
            let cell = QualifierValue {
                qualifier,
                value: Some(put.value.clone()),
                ..Default::default()
            };
            (MutationType::Put, cell, put.ttl_ms)
        }
        Mutation::Delete(until_ms) => {
            let cell = QualifierValue {
                qualifier,
                timestamp: *until_ms,
                delete_type: Some(DeleteType::DeleteMultipleVersions.into()),
                ..Default::default()
            };
            (MutationType::Delete, cell, None)
        }
    };
    let ttl = ttl_ms.map(|ms| pb::NameBytesPair {
        name: Some(TTL.to_owned()),
        value: Some(Bytes::copy_from_slice(&ms.to_be_bytes())),
    });
    pb::MutationProto {
        row: Some(Bytes::copy_from_slice(row)),
        mutate_type: Some(kind.into()),
        column_value: vec![ColumnValue {
            family: Some(Bytes::copy_from_slice(family)),
            qualifier_value: vec![cell],
        }],
        timestamp: None,
        attribute: ttl.into_iter().collect(),
        // An answer means that it is in the log, whatever the table's own setting.
        durability: Some(Durability::SyncWal.into()),
    }
}

fn condition_of(
    row: &[u8],
    family: &[u8],
    qualifier: &[u8],
    condition: &Condition,
) -> pb::Condition {
    let value = match condition {
        Condition::Absent => Bytes::new(),
        Condition::Equal(value) => value.clone(),
    };
    let comparator = pb::BinaryComparator {
        comparable: Some(pb::ByteArrayComparable { value: Some(value) }),
    };
    pb::Condition {
        row: Some(Bytes::copy_from_slice(row)),
        family: Some(Bytes::copy_from_slice(family)),
        qualifier: Some(Bytes::copy_from_slice(qualifier)),
        compare_type: Some(pb::CompareType::Equal.into()),
        comparator: Some(pb::Comparator {
            name: Some(COMPARATOR.to_owned()),
            serialized_comparator: Some(comparator.encode_to_vec().into()),
        }),
    }
}

#[cfg(test)]
mod tests;
