// SPDX-License-Identifier: Apache-2.0
//! Benchmarks beside upstream.

fn main() {}
