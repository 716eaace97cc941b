// SPDX-License-Identifier: Apache-2.0
//! An entry store over a database that several filers share.
//!
//! [`SharedStore`] is a [`dulse_store::EntryStore`] over any [`Backend`]: it turns transactions
//! into guarded writes of rows, in upstream's values, and tells of every change. A filer writes
//! into its own journal what it is about to do, has the database do it, and writes that it is
//! done; subscribers are fed from the journal. What becomes of an attempt whose answer was lost
//! is found out, never guessed: until it is known, the caller is told that it is unknown.
//!
//! A database without transactions is [`Rows`] under [`Stepwise`]: the journal then holds the
//! whole plan, and its rows are written one after another, in an order in which nothing is ever
//! lost or out of reach; what is begun is ended, by this run or the next.
//!
//! Directories may be in stores of their own ([`Located`]); each transaction is made in one of
//! them, and all take their time from one clock. Beside an embedded store, or where one of them
//! has no transactions, each has a journal and a clock of its own ([`Beside`]).
//!
//! What the database keeps is upstream's alone; the journal lies in the filer's own directory.

mod any;
mod backend;
mod beside;
mod commit;
mod erased;
mod located;
mod locks;
mod log;
mod placed;
mod plan;
mod record;
mod rows;
mod settle;
pub mod sql;
mod steps;
mod store;
pub mod value;

pub use any::AnyShared;
pub use backend::{Backend, Guard, Held, Holding, Location, PATHS_MAX, Settled, Work, Write, held};
pub use beside::{Beside, check_apart};
pub use erased::Erased;
pub use located::{Located, Place};
pub use log::Announcement;
pub use placed::Placed;
pub use plan::{ENTRY_BYTES_MAX, NAMES_MAX, is_directory};
pub use record::{Announced, EVENTS_MAX, Event, Payload};
pub use rows::{At, GroupMax, RowWrite, Rows, Stepwise, pair_key};
pub use store::{SharedOptions, SharedStore};
