// SPDX-License-Identifier: Apache-2.0
//! Compiles the protocol files.

fn main() {}
