// SPDX-License-Identifier: Apache-2.0
//! What the core is told of this filer and of others.

use dulse_types::{Origin, ServerAddress, Vector};

/// Who this filer is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who stamps its changes.
    pub origin: Origin,
    /// A random number of this process: tells a copied store from the same one.
    pub instance: u64,
    /// Where it is.
    pub address: ServerAddress,
    /// Found a cluster without looking for others.
    pub is_alone: bool,
}

/// The own replica at this moment.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What is applied of everybody's log.
    pub applied: &'a Vector,
    /// Members as the log knows them, with the address they joined from.
    pub members: &'a [(Origin, ServerAddress)],
}

/// What a peer answered to the handshake.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// Who it is.
    pub origin: Origin,
    /// Its process.
    pub instance: u64,
    /// Whether it has no history.
    pub is_fresh: bool,
    /// What it has.
    pub vector: Vector,
}

/// Why a handshake came to nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No connection or no answer: tried again soon.
    Broken(String),
    /// It does not speak our protocol.
    Foreign,
    /// It may not replicate with us, or we not with it.
    Refused(String),
}
