// SPDX-License-Identifier: Apache-2.0
//! The redb engine: one file, pure Rust, the default.
//!
//! Batches are committed with `Durability::None`; a checkpoint is an empty commit
//! that is durable, with quick repair so that opening after a crash reads no whole file.

mod engine;

pub use engine::RedbEngine;
