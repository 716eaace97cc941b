// SPDX-License-Identifier: Apache-2.0
//! The ordered key-value trait and the memory engine.
