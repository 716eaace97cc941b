// SPDX-License-Identifier: Apache-2.0
//! The one handle that the other crates hold.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use dulse_transport::Transport;

use crate::assign::Assigner;
use crate::control::Control;
use crate::locations::Locations;
use crate::strays::Strays;
use crate::wire::Wire;

/// Chunks of one cluster. Cheap to share, one per process.
///
/// What it does lies in the files `upload`, `read`, `manifest`, `delete` and `strays`.
pub struct Blobs {
    pub(crate) control: Arc<dyn Control>,
    pub(crate) assigner: Assigner,
    pub(crate) locations: Arc<Locations>,
    pub(crate) wire: Wire,
    pub(crate) strays: Arc<Strays>,
    /// Counts reads, so that copies take turns.
    pub(crate) turn: AtomicUsize,
}

impl Blobs {
    /// Makes the handle; nothing is asked before the first call.
    #[must_use]
    pub fn new(control: Arc<dyn Control>, transport: &Transport) -> Self {
        Self {
            assigner: Assigner::new(control.clone()),
            control,
            locations: Arc::default(),
            wire: Wire::new(transport.clone()),
            strays: Arc::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The cache of locations, for whoever listens to the master's stream.
    #[must_use]
    pub fn locations(&self) -> &Arc<Locations> {
        &self.locations
    }

    /// Calls to masters that are no part of reading and writing, such as assignments for others.
    #[must_use]
    pub fn control(&self) -> &Arc<dyn Control> {
        &self.control
    }
}
