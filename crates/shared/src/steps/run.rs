// SPDX-License-Identifier: Apache-2.0
//! Writing the rows of a plan, from wherever an earlier run left them.
//!
//! Until something went, a row that is not as it was read has all of it taken back; from then
//! on it goes forward, and what others changed meanwhile is followed (`chase`). Both may be
//! done again from any point: what is there says how far it was.

use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use dulse_store::{Error, Outcome};
use dulse_types::FullPath;
use futures::StreamExt;
use futures::stream;

use super::Steps;
use crate::backend::Guard;
use crate::plan::is_directory;
use crate::record::{Announced, Event};
use crate::rows::{At, RowWrite, Rows};

mod put;

pub(super) use put::Put;

/// What became of a plan.
pub(crate) enum Ran {
    /// All of it is there.
    Made {
        announced: Announced,
        /// Whether that is not what was planned: others wrote meanwhile.
        is_adjusted: bool,
        /// Whether others may have done part of it: nobody may build on that this did.
        is_unsure: bool,
    },
    /// It was taken back, or never was.
    Undone {
        /// Rows that others may have seen in between: they are told as they are now.
        touched: Vec<usize>,
        /// Whether others built on part of it, so that it is not known as undone.
        is_over: bool,
        /// Why, where the database refused a row for good: to plan it again makes nothing better.
        refused: Option<Error>,
    },
}

/// One plan at work.
pub(crate) struct Runner<'a, R> {
    pub(super) rows: &'a R,
    pub(super) steps: &'a Steps,
    /// Rows that are as planned, or were before others wrote over them.
    pub(super) made: Vec<bool>,
    /// What each row is to be in the end.
    pub(crate) finals: Vec<Option<Bytes>>,
    pub(super) announced: Announced,
    pub(super) is_adjusted: bool,
    is_unsure: bool,
    /// Whether an earlier run began.
    is_resumed: bool,
    is_over: bool,
    touched: Vec<usize>,
    /// Whether the answer to a write was lost, so that it may have been made unseen.
    was_lost: AtomicBool,
}

impl<'a, R: Rows> Runner<'a, R> {
    pub(crate) fn new(rows: &'a R, steps: &'a Steps, announced: &Announced) -> Self {
        Self {
            rows,
            steps,
            made: vec![false; steps.rows.len()],
            finals: steps.rows.iter().map(|row| row.after.clone()).collect(),
            announced: announced.clone(),
            is_adjusted: false,
            is_unsure: false,
            is_resumed: false,
            is_over: false,
            touched: Vec::new(),
            was_lost: AtomicBool::new(false),
        }
    }

    /// Finds out how far an earlier run was; `false` when nothing of it shows.
    ///
    /// What came shows by its value. What is not there any more may have been taken by others:
    /// it shows nothing where something was to come before it went.
    pub(crate) async fn look_back(&mut self) -> Result<bool, Error> {
        self.is_resumed = true;
        let all: Vec<At> = self.steps.rows.iter().map(|row| row.at.clone()).collect();
        self.settle(&all).await?;
        let now = self.read_all().await?;
        let rows = &self.steps.rows;
        let is_as_planned = |i: usize| now[i] == rows[i].after && !rows[i].stays();
        let comes = |i: &usize| rows[*i].after.is_some() && !rows[*i].stays();
        let all = 0..rows.len();
        let is_begun = match all.clone().any(|i| comes(&i)) {
            true => all.clone().filter(comes).any(is_as_planned),
            false => all.clone().any(is_as_planned),
        };
        if !is_begun {
            self.touched = all.filter(|i| now[*i] != rows[*i].before).collect();
            for i in self.touched.clone() {
                let row = &rows[i];
                let is_gone = row.goes() && now[i].is_none();
                if let (At::Path(path), true, Some(before)) = (&row.at, is_gone, &row.before)
                    && is_directory(before.clone())
                    && self.count(path, 1).await? > 0
                {
                    // It went, and others put something into it before that was looked for.
                    self.put(&[row.undo()]).await?;
                }
            }
            return Ok(false);
        }
        // Others took it before it was copied, or its copy. A directory is made all the same:
        // something may be to come into it.
        let is_taken = |i: usize| {
            let copy = self.steps.moved.get(&i);
            let is_file = rows[i].before.clone().is_some_and(|v| !is_directory(v));
            is_file && is_as_planned(i) && copy.is_some_and(|copy| now[*copy] == rows[*copy].before)
        };
        let taken: Vec<usize> = all.clone().filter(|i| is_taken(*i)).collect();
        let levels = self.steps.levels();
        let shown: Vec<usize> = all
            .filter(|i| is_as_planned(*i) && !taken.contains(i))
            .collect();
        let reached = shown.iter().map(|i| levels[*i]).max();
        for i in shown {
            self.made[i] = true;
        }
        for i in 0..rows.len() {
            let is_others = now[i] != rows[i].after && now[i] != rows[i].before;
            if !is_others || self.steps.moved.contains_key(&i) {
                continue;
            }
            if rows[i].goes() {
                // Time has passed: what others made there since is not what was to go.
                self.made[i] = true;
                self.finals[i].clone_from(&now[i]);
                self.forget(i);
            }
            // Later ones are there, so it was, too.
            self.made[i] |= reached.is_some_and(|reached| levels[i] < reached);
        }
        for i in taken {
            let copy = self.steps.moved.get(&i).copied();
            for i in [Some(i), copy].into_iter().flatten() {
                self.made[i] = true;
                self.finals[i] = None;
            }
            self.forget(i);
        }
        Ok(true)
    }

    /// Nothing is told of what was to go.
    pub(super) fn forget(&mut self, i: usize) {
        let At::Path(path) = &self.steps.rows[i].at else {
            return;
        };
        self.is_adjusted = true;
        let is_of = |event: &Event| event.old.as_ref().is_some_and(|(old, _)| old == path);
        self.announced.events.retain(|event| !is_of(event));
    }

    /// What was left when nothing of it shows.
    pub(crate) fn nothing(self) -> Ran {
        Ran::Undone {
            is_over: !self.touched.is_empty(),
            touched: self.touched,
            refused: None,
        }
    }

    /// Writes what is missing; gives what each row is then.
    ///
    /// # Errors
    ///
    /// `NotApplied` when nothing was written; else the outcome is unknown, and the plan is to be
    /// run again.
    pub(crate) async fn run(mut self) -> Result<(Ran, Vec<Option<Bytes>>), Error> {
        let mut refused = None;
        let is_made = match self.go().await {
            Ok(is_made) => is_made,
            Err(error) if is_refusal(&error) && self.may_go_back() => {
                // A later run would be told the same, and a filer that keeps the plan not open.
                refused = Some(error);
                false
            }
            Err(error) if self.may_show() => return Err(error.unknown_outcome()),
            Err(error) => return Err(error),
        };
        if !is_made {
            self.back().await.map_err(Error::unknown_outcome)?;
        }
        let ran = if is_made {
            Ran::Made {
                announced: self.announced,
                is_adjusted: self.is_adjusted,
                is_unsure: self.is_unsure,
            }
        } else {
            Ran::Undone {
                touched: self.touched,
                is_over: self.is_over || self.was_lost.into_inner(),
                refused,
            }
        };
        Ok((ran, self.finals))
    }

    /// Whether something of it is or was there. Of a write that was lost and that others have
    /// written over, rows of ours may be left though it is not known as made.
    fn may_show(&mut self) -> bool {
        self.made.contains(&true) || self.is_over || *self.was_lost.get_mut()
    }

    /// Goes forward; `false` when it has to be taken back.
    async fn go(&mut self) -> Result<bool, Error> {
        let steps = self.steps;
        let mut is_checked = false;
        let n_levels = steps.groups.last().map_or(0, |group| group.level + 1);
        for level in 0..n_levels {
            let groups = || {
                steps
                    .groups
                    .iter()
                    .filter(move |group| group.level == level)
            };
            if groups().any(|group| group.goes) && !is_checked {
                is_checked = true;
                if !self.holds(true).await? && self.may_go_back() {
                    return Ok(false);
                }
            }
            let differing = self.write_level(level).await?;
            if !differing.is_empty() && self.may_go_back() {
                return Ok(false);
            }
            for row in differing {
                match self.goes(row) {
                    true => self.chase(row).await?,
                    // Others wrote where something was to come, and it is theirs now.
                    false => self.leave(row).await?,
                }
            }
            for i in groups().flat_map(|group| group.rows.clone()) {
                if !self.stays_gone(i).await? {
                    return Ok(false);
                }
            }
        }
        if self.is_resumed && !self.may_go_back() {
            self.reach().await?;
            return Ok(true);
        }
        Ok(is_checked || self.holds(false).await? || !self.may_go_back())
    }

    /// Makes the writes of one level; gives the rows that are not as they were read.
    async fn write_level(&mut self, level: usize) -> Result<Vec<usize>, Error> {
        let groups = self
            .steps
            .groups
            .iter()
            .filter(|group| group.level == level);
        let left = |rows: std::ops::Range<usize>| -> Vec<usize> {
            rows.filter(|i| !self.made[*i]).collect()
        };
        let writes: Vec<Vec<usize>> = groups
            .map(|group| left(group.rows.clone()))
            .filter(|rows| !rows.is_empty())
            .collect();
        let of = |i: &usize| self.steps.rows[*i].clone();
        let groups: Vec<Vec<RowWrite>> = writes
            .iter()
            .map(|rows| rows.iter().map(of).collect())
            .collect();
        let results = self.put_all(&groups).await;
        let (mut differing, mut failed) = (Vec::new(), None);
        for (rows, result) in writes.into_iter().zip(results) {
            match result {
                Ok(Put::Made) => rows.iter().for_each(|i| self.made[*i] = true),
                Ok(Put::Gone) => rows.iter().for_each(|i| self.gone(*i)),
                Ok(Put::Differs) => differing.extend(rows),
                Ok(Put::Lost) if rows.iter().any(|i| self.goes(*i)) => {
                    // It went, as far as anybody knows: to take it back could lose what moved.
                    rows.iter().for_each(|i| self.gone(*i));
                }
                Ok(Put::Lost) => {
                    self.is_over = true;
                    self.touched.extend(&rows);
                    differing.extend(rows);
                }
                Err(error) => {
                    let is_first = failed
                        .as_ref()
                        .is_none_or(|failed: &Error| failed.outcome() == Outcome::NotApplied);
                    failed = if is_first { Some(error) } else { failed };
                }
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(differing),
        }
    }

    /// A row went, or others took it.
    pub(super) fn gone(&mut self, i: usize) {
        self.made[i] = true;
        self.is_unsure = true;
        self.is_adjusted = true;
        if let At::Path(path) = &self.steps.rows[i].at {
            // Whoever took it has its chunks.
            self.events_of(path)
                .for_each(|event| event.delete_chunks = false);
        }
    }

    fn goes(&self, i: usize) -> bool {
        self.steps.rows[i].goes()
    }

    /// Whether everything can be taken back: nothing went yet, or all that goes went at once.
    fn may_go_back(&self) -> bool {
        let groups = self.steps.groups.iter();
        let n_going = groups.filter(|group| group.rows.clone().any(|i| self.goes(i)));
        let mut rows = 0..self.steps.rows.len();
        n_going.count() <= 1 || !rows.any(|i| self.goes(i) && self.made[i])
    }

    /// Whether what must hold does, beside the rows that are written when they are.
    async fn holds(&self, with_going: bool) -> Result<bool, Error> {
        let checks = self.steps.checks.iter().map(|check| self.check(check));
        let checks: Vec<_> = checks.collect();
        let mut checks = stream::iter(checks).buffered(self.rows.writes_max());
        while let Some(holds) = checks.next().await {
            if !holds? {
                return Ok(false);
            }
        }
        let left = |i: &usize| self.goes(*i) && !self.made[*i];
        let going: Vec<usize> = (0..self.steps.rows.len()).filter(left).collect();
        if !with_going || going.len() <= 1 {
            return Ok(true);
        }
        let reads = going.iter().map(|i| self.read(&self.steps.rows[*i].at));
        let reads: Vec<_> = reads.collect();
        let reads = stream::iter(reads).buffered(self.rows.writes_max());
        let values: Vec<Result<Option<Bytes>, Error>> = reads.collect().await;
        for (i, value) in going.into_iter().zip(values) {
            if value? != self.steps.rows[i].before {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn check(&self, check: &Guard) -> Result<bool, Error> {
        Ok(match check {
            Guard::Absent(path) => self.read(&At::Path(path.clone())).await?.is_none(),
            Guard::Same(path, value) => {
                self.read(&At::Path(path.clone())).await?.as_ref() == Some(value)
            }
            Guard::Directory(path) => {
                let value = self.read(&At::Path(path.clone())).await?;
                value.is_some_and(is_directory)
            }
            Guard::Names(dir, n) => {
                let expected = self.n_names(dir, *n);
                self.count(dir, expected + 1).await? == expected
            }
            Guard::Key(key, value) => self.read(&At::Key(key.clone())).await? == *value,
        })
    }

    /// How many names a directory has by now if nobody else wrote there.
    fn n_names(&self, dir: &FullPath, n: u64) -> u64 {
        let mut n = n;
        let rows = self.steps.rows.iter().zip(&self.made);
        for (row, _) in rows.filter(|(_, made)| **made) {
            let At::Path(path) = &row.at else { continue };
            if path.parent().as_ref() == Some(dir) {
                match (&row.before, &row.after) {
                    (None, Some(_)) => n += 1,
                    (Some(_), None) => n = n.saturating_sub(1),
                    _ => {}
                }
            }
        }
        n
    }

    /// Sees to it that a directory that went has nothing in it: what others made there meanwhile
    /// brings it back. `false` when all is to be taken back.
    async fn stays_gone(&mut self, i: usize) -> Result<bool, Error> {
        let row = &self.steps.rows[i];
        let (At::Path(path), Some(before)) = (&row.at, &row.before) else {
            return Ok(true);
        };
        let is_gone = self.made[i] && self.finals[i].is_none();
        if !is_gone || !is_directory(before.clone()) || self.count(path, 1).await? == 0 {
            return Ok(true);
        }
        if self.may_go_back() {
            return Ok(false);
        }
        self.bring_back(i, before.clone()).await?;
        Ok(true)
    }

    /// Takes back what was made, last first.
    async fn back(&mut self) -> Result<(), Error> {
        for group in self.steps.groups.iter().rev() {
            let is_to_do = |i: &usize| self.made[*i] && !self.steps.rows[*i].stays();
            let rows: Vec<usize> = group.rows.clone().filter(is_to_do).collect();
            if rows.is_empty() {
                continue;
            }
            let undo = |i: &usize| self.steps.rows[*i].undo();
            let undone: Vec<RowWrite> = rows.iter().rev().map(undo).collect();
            if let Put::Made | Put::Gone = self.put(&undone).await? {
                for i in rows {
                    self.is_back(i, true).await?;
                }
                continue;
            }
            for i in rows.into_iter().rev() {
                let row = &self.steps.rows[i];
                // Where it is as before already, others have taken it: a directory that was moved
                // took it along, and nobody may say that it was not made.
                let is_back = matches!(self.put(&[row.undo()]).await?, Put::Made | Put::Gone);
                self.is_back(i, is_back).await?;
            }
        }
        self.made.fill(false);
        Ok(())
    }

    /// A row was taken back, or others have written over it.
    async fn is_back(&mut self, i: usize, is_back: bool) -> Result<(), Error> {
        let row = &self.steps.rows[i];
        if !is_back {
            self.is_over = true;
            self.touched.push(i);
            return Ok(());
        }
        if row.goes() {
            // Others may have been told meanwhile that it is not there.
            self.touched.push(i);
        }
        if let (At::Path(path), None, Some(after)) = (&row.at, &row.before, &row.after)
            && is_directory(after.clone())
            && self.count(path, 1).await? > 0
        {
            // Others put something into it: it stays.
            self.put(std::slice::from_ref(row)).await?;
            self.is_over = true;
            self.touched.push(i);
        }
        Ok(())
    }
}

/// Whether the database said no, and says so whenever it is asked.
fn is_refusal(error: &Error) -> bool {
    error.outcome() == Outcome::NotApplied && !error.is_retryable()
}
