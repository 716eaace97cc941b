// SPDX-License-Identifier: Apache-2.0
//! Values: names, paths, stamps, origins, entries, chunks; no IO.
