// SPDX-License-Identifier: Apache-2.0
//! The filer service.
pub mod http;
pub mod session;
