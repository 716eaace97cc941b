// SPDX-License-Identifier: Apache-2.0
//! Worlds in which a test says what happens: the scenarios that are best simulated, by their
//! names, and what was found by seeds, kept small.

mod determinism;
mod members;
mod operators;
mod s01;
mod s02;
mod s03;
mod s07;
mod s12;
mod s13;
mod s16;
mod s20;
mod s24;
mod s25;
mod s26;
mod s27;
mod s29;
mod s30;
mod steps;

use dulse_store::{Commit, Error, Step};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::filer::Filer;
use crate::queue::Event;
use crate::shape::Shape;
use crate::subscribers::Subscriber;
use crate::workload::make::one;
use crate::world::World;
use crate::{MS, SECOND};

/// Some filers that are ready and level; nothing happens but what the test does.
pub(crate) fn cluster(filers: usize) -> World {
    let mut world = World::new(
        Shape::quiet(filers),
        StdRng::seed_from_u64(7),
        crate::Options::default(),
    );
    world.begin();
    world
}

impl World {
    /// Starts all filers of a new world; they are ready and level then.
    #[track_caller]
    pub(crate) fn begin(&mut self) {
        for f in 0..self.filers.len() {
            self.start(f).unwrap();
            self.at(f as u64 * MS, Event::Listed(f));
        }
        self.settle().unwrap();
    }

    /// A further filer, which does not run yet.
    pub(crate) fn add_filer(&mut self) {
        let n = self.filers.len();
        self.filers.push(Filer::new(n as u16, &mut self.rng));
        self.subscribers.push(Subscriber::new(n));
        self.net.grow();
    }

    /// Lets seconds pass.
    #[track_caller]
    pub(crate) fn pass(&mut self, seconds: u64) {
        self.until(self.now + seconds * SECOND).unwrap();
    }

    /// One step of a client at a filer.
    #[track_caller]
    pub(crate) fn step(&mut self, f: usize, step: Step) -> Result<Commit, Error> {
        self.filers[f].tick(self.now);
        let mut results = self.commit(f, vec![one(step)]).unwrap();
        results.pop().expect("the filer runs")
    }

    /// Cuts a filer from all others, both ways.
    pub(crate) fn isolate(&mut self, f: usize) {
        for other in 0..self.filers.len() {
            self.net.is_cut[f][other] = f != other;
            self.net.is_cut[other][f] = f != other;
        }
    }

    /// Heals everything and demands that all are level and every invariant holds.
    #[track_caller]
    pub(crate) fn demand_level(&mut self) {
        if let Err(why) = self.settle() {
            panic!("{}", self.dated(&why));
        }
    }

    /// The names in a directory at a filer.
    pub(crate) fn names(&self, f: usize, dir: &str) -> Vec<String> {
        let running = self.filers[f].running.as_ref().expect("the filer runs");
        let range = dulse_store::ListRange {
            prefix: String::new(),
            start: String::new(),
            inclusive: true,
            limit: dulse_store::LIST_MAX,
        };
        let dir = match dir {
            "/" => dulse_types::FullPath::root(),
            dir => crate::workload::make::path(dir),
        };
        let rows = running.shared().list(&dir, &range).unwrap();
        rows.into_iter().map(|row| row.name).collect()
    }

    /// What is shown at a path at a filer.
    pub(crate) fn entry(&self, f: usize, path: &str) -> Option<dulse_types::Entry> {
        let running = self.filers[f].running.as_ref().expect("the filer runs");
        let path = crate::workload::make::path(path);
        running
            .shared()
            .find(&path)
            .unwrap()
            .map(|found| found.entry)
    }
}
