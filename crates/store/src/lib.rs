// SPDX-License-Identifier: Apache-2.0
//! The entry store trait.
