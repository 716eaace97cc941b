// SPDX-License-Identifier: Apache-2.0
//! Names to stores: the only crate that names engines.

/// The engines an embedded filer can use; the first is the default.
pub const ENGINES: &[&str] = &["redb", "sqlite"];
