// SPDX-License-Identifier: Apache-2.0
//! An entry store over a journal and an engine.
