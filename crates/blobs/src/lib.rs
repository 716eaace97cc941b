// SPDX-License-Identifier: Apache-2.0
//! Contents on volume servers.
