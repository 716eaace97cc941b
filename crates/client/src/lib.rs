// SPDX-License-Identifier: Apache-2.0
//! Our clients of masters and filers.
