// SPDX-License-Identifier: Apache-2.0
//! Making the table where there is none.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;

use crate::client::{Client, Patience};
use crate::error::{Error, ErrorKind};
use crate::pb;
use crate::zookeeper;

/// The master's service.
const MASTER: &str = "MasterService";

/// How long a table may take until it is there.
const CREATE_TIME_MAX: Duration = Duration::from_secs(60);

/// Pause between two questions.
const ASK_PAUSE: Duration = Duration::from_millis(100);

/// A family of columns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its settings, by HBase's names.
    pub settings: &'static [(&'static str, &'static str)],
}

impl Client {
    /// Whether the table is there.
    ///
    /// # Errors
    ///
    /// As of reads.
    pub async fn has_table(&self) -> Result<bool, Error> {
        let mut patience = Patience::new(self.options.time_max);
        loop {
            match self.region_of(b"", patience.until).await {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::TableMissing => return Ok(false),
                Err(error) => patience.after(error).await?,
            }
        }
    }

    /// Makes the table, if it is not there, and waits until it is.
    ///
    /// - `splits`: first rows of its regions but the first, in order.
    ///
    /// # Errors
    ///
    /// As of writes. Asked again, it finds what was made.
    pub async fn create_table(
        &self,
        families: &[Family],
        settings: &[(&str, &str)],
        splits: &[&[u8]],
    ) -> Result<(), Error> {
        let mut patience = Patience::new(CREATE_TIME_MAX);
        let request = pb::CreateTableRequest {
            table_schema: Some(pb::TableSchema {
                table_name: Some(table_name(&self.options.table)),
                attributes: pairs(settings),
                column_families: families.iter().map(schema).collect(),
            }),
            split_keys: splits
                .iter()
                .map(|row| Bytes::copy_from_slice(row))
                .collect(),
            ..Default::default()
        };
        while let Err(error) = self.ask_for_table(&request, patience.until).await {
            match error.kind() {
                ErrorKind::TableExists => break,
                _ => patience.after(error).await?,
            }
        }
        while !self.has_table().await? {
            if Instant::now() >= patience.until {
                let text = format!(
                    "the table is not there after {} s",
                    CREATE_TIME_MAX.as_secs()
                );
                return Err(Error::new(ErrorKind::Unavailable, text));
            }
            tokio::time::sleep(ASK_PAUSE).await;
        }
        Ok(())
    }

    async fn ask_for_table(
        &self,
        request: &pb::CreateTableRequest,
        until: Instant,
    ) -> Result<(), Error> {
        let made: pb::CreateTableResponse = self.at_master("CreateTable", request, until).await?;
        let request = pb::GetProcedureResultRequest {
            proc_id: made.proc_id,
        };
        loop {
            let state: pb::GetProcedureResultResponse = self
                .at_master("getProcedureResult", &request, until)
                .await?;
            if state.state() != pb::get_procedure_result_response::State::Running {
                return failure(state).map_or(Ok(()), Err);
            }
            if Instant::now() >= until {
                return Err(Error::late(CREATE_TIME_MAX));
            }
            tokio::time::sleep(ASK_PAUSE).await;
        }
    }

    async fn at_master<T: Message + Default>(
        &self,
        method: &str,
        message: &impl Message,
        until: Instant,
    ) -> Result<T, Error> {
        let node = format!("{}/master", self.options.root);
        let master = zookeeper::server_of(&self.options.quorum, &node).await?;
        let connection = self.pool.get(&master, MASTER).await?;
        connection.call(method, message, until).await
    }
}

/// Why a procedure came to nothing.
fn failure(state: pb::GetProcedureResultResponse) -> Option<Error> {
    let thrown = state.exception?.generic_exception?;
    Some(crate::error::of_exception(&crate::frame::Exception {
        class: thrown.class_name.unwrap_or_default(),
        text: thrown.message.unwrap_or_default(),
        is_final: true,
    }))
}

fn table_name(table: &str) -> pb::TableName {
    let (namespace, qualifier) = table.split_once(':').unwrap_or(("default", table));
    pb::TableName {
        namespace: Some(Bytes::copy_from_slice(namespace.as_bytes())),
        qualifier: Some(Bytes::copy_from_slice(qualifier.as_bytes())),
    }
}

fn schema(family: &Family) -> pb::ColumnFamilySchema {
    pb::ColumnFamilySchema {
        name: Some(Bytes::from_static(family.name.as_bytes())),
        attributes: pairs(family.settings),
    }
}

fn pairs(settings: &[(&str, &str)]) -> Vec<pb::BytesBytesPair> {
    let pair = |(name, value): &(&str, &str)| pb::BytesBytesPair {
        first: Some(Bytes::copy_from_slice(name.as_bytes())),
        second: Some(Bytes::copy_from_slice(value.as_bytes())),
    };
    settings.iter().map(pair).collect()
}
