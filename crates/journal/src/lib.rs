// SPDX-License-Identifier: Apache-2.0
//! The write-ahead log.
