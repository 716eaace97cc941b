// SPDX-License-Identifier: Apache-2.0
//! Deterministic simulation.
