// SPDX-License-Identifier: Apache-2.0
//! Every listener and dialer.
