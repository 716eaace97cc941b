// SPDX-License-Identifier: Apache-2.0
//! Our clients of masters, volume servers and filers.
//!
//! [`Masters`] asks one master after the other until one answers and remembers which did:
//! the leader, as only it answers what matters. [`Channels`] keeps connections by address.

mod channels;
mod clients;
mod masters;

pub use channels::Channels;
pub use clients::{FilerStatus, filer, filer_status, volume_server};
pub use masters::{Ask, MasterClient, Masters, listed_filers};
