// SPDX-License-Identifier: Apache-2.0
//! The model, proven: rows against a naive oracle, and small cases exhaustively.

mod histories;
mod naive;
mod small;
mod world;
