// SPDX-License-Identifier: Apache-2.0
//! Black-box tests with real processes.
