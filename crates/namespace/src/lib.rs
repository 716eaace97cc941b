// SPDX-License-Identifier: Apache-2.0
//! Create, rename, link, list, expire.
