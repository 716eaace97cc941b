// SPDX-License-Identifier: Apache-2.0
//! Several rows in one call: which of them are there.
//!
//! Their values are not asked for. The server bounds no answer of this kind, and one that is
//! larger than a frame would end the connection for everybody who waits on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Client, Patience, column, specifier};
use crate::error::{Error, Moved, of_exception};
use crate::frame::Exception;
use crate::pb;
use crate::regions::Region;

impl Client {
    /// Whether rows have a cell in a column, in their order; each is looked at at a moment of its
    /// own.
    ///
    /// # Errors
    ///
    /// [`Error`]; what breaks is tried again until the time is over.
    pub async fn have(
        &self,
        rows: &[Bytes],
        family: &[u8],
        qualifier: &[u8],
    ) -> Result<Vec<bool>, Error> {
        let mut patience = Patience::new(self.options.time_max);
        let (column, mut found) = (column(family, &[qualifier]), vec![None; rows.len()]);
        loop {
            let asked = self.ask_missing(rows, &column, &mut found, &patience);
            match asked.await {
                Ok(()) => return Ok(found.into_iter().flatten().collect()),
                Err(error) => patience.after(error.of_read()).await?,
            }
        }
    }

    /// Asks for what is not known yet.
    async fn ask_missing(
        &self,
        rows: &[Bytes],
        column: &pb::Column,
        found: &mut [Option<bool>],
        patience: &Patience,
    ) -> Result<(), Error> {
        let mut regions: BTreeMap<Bytes, (Arc<Region>, Vec<usize>)> = BTreeMap::new();
        for (i, row) in rows.iter().enumerate() {
            if found[i].is_none() {
                let region = self.region_of(row, patience.until).await?;
                let of = regions.entry(region.name.clone());
                of.or_insert_with(|| (region, Vec::new())).1.push(i);
            }
        }
        for (region, which) in regions.values() {
            let until = patience.attempt();
            let asked = self.ask_region(region, rows, which, column, until);
            let answers = asked.await.inspect_err(|error| {
                if error.moved == Moved::Region {
                    self.regions.forget(region);
                }
            })?;
            for (i, is_there) in which.iter().zip(answers) {
                found[*i] = Some(is_there);
            }
        }
        Ok(())
    }

    async fn ask_region(
        &self,
        region: &Arc<Region>,
        rows: &[Bytes],
        which: &[usize],
        column: &pb::Column,
        until: Instant,
    ) -> Result<Vec<bool>, Error> {
        let action = |(n, i): (usize, &usize)| pb::Action {
            index: u32::try_from(n).ok(),
            get: Some(pb::Get {
                row: Some(rows[*i].clone()),
                column: vec![column.clone()],
                max_versions: Some(1),
                existence_only: Some(true),
            }),
        };
        let request = pb::MultiRequest {
            region_action: vec![pb::RegionAction {
                region: Some(specifier(&region.name)),
                action: which.iter().enumerate().map(action).collect(),
            }],
        };
        let answer: pb::MultiResponse = self.at_region(region, "Multi", &request, until).await?;
        there(answer, which.len())
    }
}

/// Which of `n` rows an answer says are there.
fn there(answer: pb::MultiResponse, n: usize) -> Result<Vec<bool>, Error> {
    let wrong = || Error::protocol("not every row of a call is answered, and once").of_read();
    let results = answer.region_action_result.into_iter().next();
    let results = results.ok_or_else(wrong)?;
    if let Some(thrown) = results.exception {
        return Err(of_exception(&exception(thrown)));
    }
    let mut out = vec![None; n];
    for result in results.result_or_exception {
        if let Some(thrown) = result.exception {
            return Err(of_exception(&exception(thrown)));
        }
        let at = usize::try_from(result.index.unwrap_or_default()).ok();
        let slot = at.and_then(|at| out.get_mut(at)).ok_or_else(wrong)?;
        let is_there = result.result.and_then(|result| result.exists);
        if slot.replace(is_there.ok_or_else(wrong)?).is_some() {
            return Err(wrong());
        }
    }
    let out: Option<Vec<bool>> = out.into_iter().collect();
    out.ok_or_else(wrong)
}

fn exception(thrown: pb::NameBytesPair) -> Exception {
    Exception {
        class: thrown.name.unwrap_or_default(),
        text: String::from_utf8_lossy(&thrown.value.unwrap_or_default()).into_owned(),
        is_final: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn one(index: u32, exists: Option<bool>) -> pb::ResultOrException {
        pb::ResultOrException {
            index: Some(index),
            result: Some(pb::Result {
                exists,
                ..Default::default()
            }),
            exception: None,
        }
    }

    fn answer(results: Vec<pb::ResultOrException>) -> pb::MultiResponse {
        pb::MultiResponse {
            region_action_result: vec![pb::RegionActionResult {
                result_or_exception: results,
                exception: None,
            }],
        }
    }

    #[test]
    fn every_row_is_answered_once_in_whatever_order() {
        let both = answer(vec![one(1, Some(true)), one(0, Some(false))]);
        assert_eq!(there(both, 2).unwrap(), [false, true]);
        for wrong in [
            answer(vec![one(0, Some(true))]),
            answer(vec![one(0, Some(true)), one(0, Some(true))]),
            answer(vec![one(0, Some(true)), one(2, Some(true))]),
            answer(vec![one(0, Some(true)), one(1, None)]),
            pb::MultiResponse::default(),
        ] {
            assert_eq!(there(wrong, 2).unwrap_err().kind(), ErrorKind::Protocol);
        }
    }

    #[test]
    fn a_region_that_is_elsewhere_is_looked_for_again() {
        let name = "org.apache.hadoop.hbase.NotServingRegionException";
        let thrown = || {
            Some(pb::NameBytesPair {
                name: Some(name.to_owned()),
                value: None,
            })
        };
        let mut of_region = answer(Vec::new());
        of_region.region_action_result[0].exception = thrown();
        let mut of_row = answer(vec![one(0, None)]);
        of_row.region_action_result[0].result_or_exception[0].exception = thrown();
        for said in [of_region, of_row] {
            let error = there(said, 1).unwrap_err();
            assert_eq!(error.moved, Moved::Region);
            assert!(error.of_read().is_worth_another_try());
        }
    }
}
