// SPDX-License-Identifier: Apache-2.0
//! The replicated model: registers, names, inodes and the tree they make. Pure.
//!
//! A [`Change`] is one atomic step of one origin. [`fn@apply`] merges it into rows
//! seen through a [`Txn`]; whatever order changes of different origins arrive in,
//! the rows end alike: merging is the greater value per register, so it is
//! commutative, associative and idempotent. There is no IO, no clock, no thread.
//!
//! Reading order: [`change`] (what is recorded), [`row`] (what is kept), [`keys`]
//! (where), [`txn`] (how rows are read and written), [`mod@apply`] (merging), [`view`]
//! (what a path shows), [`local`] (turning operations into steps), [`mod@events`],
//! [`mod@touched`] (what a transfer that goes on sends again), [`mod@forget`] (what need
//! not be kept), [`holders`] (what manifests list), [`mod@repair`] (merging rows of another replica).

pub mod apply;
pub mod change;
pub mod codec;
pub mod conflict;
pub mod digest;
pub mod events;
pub mod forget;
pub mod holders;
pub mod intent;
pub mod keys;
pub mod local;
pub mod repair;
pub mod row;
pub mod touched;
pub mod txn;
pub mod view;

pub use apply::{ApplyError, apply};
pub use change::{
    AttributesWrite, Change, ConflictStep, DataWrite, Kills, KvStep, MemberStep, NameStep, Place,
    Step,
};
pub use events::{Event, events};
pub use forget::{Pass, forget};
pub use intent::{TreeIntent, TreeWork};
pub use row::{ConflictRow, Content, InodeRow, KvRow, MemberRow, MovedRow, NameRow};
pub use touched::touched;
pub use txn::{Rows, Txn};
