// SPDX-License-Identifier: Apache-2.0
//! Peers in step.
