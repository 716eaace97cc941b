// SPDX-License-Identifier: Apache-2.0
//! The dulse program.

fn main() {}
