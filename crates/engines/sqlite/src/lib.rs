// SPDX-License-Identifier: Apache-2.0
//! The SQLite engine: one table in WAL mode, one writer, a pool of readers.
//!
//! Commits do not sync (`synchronous = OFF` until the checkpoint); a checkpoint copies
//! the WAL into the file with `synchronous = FULL`. SQLite never checkpoints by itself.

mod engine;

pub use engine::SqliteEngine;
