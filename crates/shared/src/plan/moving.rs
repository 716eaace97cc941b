// SPDX-License-Identifier: Apache-2.0
//! Moving an entry with all that is below it: rows are kept by path, so each gets a new one.

use dulse_store::{Error, ErrorKind, StepResult};
use dulse_types::FullPath;

use crate::backend::Backend;
use crate::plan::{Planner, failed};

/// Names that one rename moves, at most; more are `TooLarge`.
pub const NAMES_MAX: usize = 10_000;

impl<B: Backend> Planner<'_, B> {
    pub(super) async fn rename(
        &mut self,
        from: &FullPath,
        to: &FullPath,
    ) -> Result<StepResult, Error> {
        if from == to || to.is_below(from) || from.is_root() {
            let text = format!("{from} cannot move to {to}");
            return Err(failed(ErrorKind::Invalid).with("because", text));
        }
        let top = self.there(from).await?;
        if let Some(replaced) = self.shown(to).await? {
            if replaced.is_dir() {
                return Err(
                    failed(ErrorKind::Invalid).with("because", format!("{to} is a directory"))
                );
            }
            self.unlink(&replaced, None).await?;
            self.event(Some((to, &replaced)), None, true)?;
        }
        let n_before = self.events.len();
        let mut open = vec![from.clone()];
        while let Some(path) = open.pop() {
            if self.events.len() - n_before >= NAMES_MAX {
                let text = format!("more than {NAMES_MAX} names below {from}");
                return Err(failed(ErrorKind::TooLarge).with("because", text));
            }
            let entry = self.there(&path).await?;
            if entry.is_dir() {
                open.extend(self.below(&path).await?);
            }
            let moved = path
                .moved(from, to)
                .map_err(|e| failed(ErrorKind::Invalid).source(e))?;
            // What is there was told as removed by an earlier step, or is a row nobody shows.
            self.row(&moved).await?;
            let value = self.row(&path).await?;
            self.write(&moved, value);
            self.write(&path, None);
            self.event(Some((&path, &entry)), Some((&moved, &entry)), false)?;
        }
        Ok(StepResult {
            stamp: dulse_types::Stamp::ZERO,
            old_entry: Some(top.clone()),
            new_entry: Some(top),
        })
    }

    /// The entries in a directory, those of earlier steps included; remembers their rows.
    async fn below(&mut self, dir: &FullPath) -> Result<Vec<FullPath>, Error> {
        let rows = self.children(dir, NAMES_MAX + 1).await?;
        self.names.insert(dir.clone(), rows.len() as u64);
        for (name, value) in rows {
            let path = FullPath::of(dir.as_str(), &name)
                .map_err(|e| failed(ErrorKind::Corrupt).source(e))?;
            if !self.rows.contains_key(&path) {
                self.saw(&path, Some(value))?;
            }
        }
        let inside = self.rows.iter().filter(|(path, row)| {
            row.now.is_some() && !path.is_root() && path.parent().as_ref() == Some(dir)
        });
        Ok(inside.map(|(path, _)| path.clone()).collect())
    }
}
