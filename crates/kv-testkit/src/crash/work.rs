// SPDX-License-Identifier: Apache-2.0
//! The work that a crash interrupts.

use dulse_kv::{Batch, Engine};
use rand::Rng;
use rand::rngs::StdRng;

use crate::model::{Model, apply, random_batch};

/// What the work has reached, by the number of batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// This many batches are written or being written.
    Begun(usize),
    /// A checkpoint returned that covers this many.
    Checkpointed(usize),
}

/// Work on an engine; it passes on each event when it happens.
pub type Work<'a> = dyn FnMut(&dyn Engine, &mut dyn FnMut(Event)) + 'a;

/// Batches with checkpoints between them.
pub(crate) struct Plan {
    batches: Vec<(Batch, bool)>,
    /// The rows after each number of batches.
    pub(crate) states: Vec<Model>,
}

impl Plan {
    /// Random batches on top of these rows.
    pub(crate) fn random(random: &mut StdRng, rows: &Model) -> Self {
        let mut states = vec![rows.clone()];
        // Checkpoints are rare in some plans and frequent in others.
        let often = random.random_range(0.05..0.4);
        let batches = (0..random.random_range(20..60)).map(|n: u32| {
            let mut batch = random_batch(random, 30);
            // Every batch changes something, so that each state is another.
            let number = bytes::Bytes::copy_from_slice(&n.to_be_bytes());
            batch
                .writes
                .push((b"number of the batch".to_vec(), Some(number)));
            (batch, random.random_bool(often))
        });
        let batches: Vec<_> = batches.collect();
        for (batch, _) in &batches {
            let mut rows = states.last().cloned().unwrap_or_default();
            apply(&mut rows, batch);
            states.push(rows);
        }
        Self { batches, states }
    }

    pub(crate) fn run(&self, engine: &dyn Engine, mark: &mut dyn FnMut(Event)) {
        for (at, (batch, is_checkpoint)) in self.batches.iter().enumerate() {
            mark(Event::Begun(at + 1));
            engine.write(batch.clone()).expect("write a batch");
            if *is_checkpoint {
                engine.checkpoint().expect("checkpoint");
                mark(Event::Checkpointed(at + 1));
            }
        }
    }
}
