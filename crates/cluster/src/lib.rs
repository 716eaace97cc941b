// SPDX-License-Identifier: Apache-2.0
//! Membership as state machines without IO: who is where, who may found a cluster, what
//! everybody has acknowledged. Time is an argument, counted from the process's start.

mod acknowledgements;
mod clock;
mod directory;
mod founding;

pub use acknowledgements::{Acknowledgements, Statement, WATERMARK_SILENT_MAX};
pub use clock::{HELD_MAX, Judgement, LEAD_MAX, Standing, Timekeeper, Voter};
pub use directory::{ADDRESSES_MAX, Directory};
pub use founding::{Candidate, Founding, SETTLED_FOR, Verdict};

use std::time::Duration;

use dulse_types::{Origin, ServerAddress};

/// Time since the start of whoever asks; monotonic.
pub type Now = Duration;

/// What the master says of a group. It only suggests: members come from the log.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Listing {
    /// Filers connected to the master now.
    pub filers: Vec<ServerAddress>,
    /// Members that filers have reported to it, connected or not.
    pub known_members: Vec<(Origin, ServerAddress)>,
}
