// SPDX-License-Identifier: Apache-2.0
//! The model, proven: rows against a naive oracle, small cases exhaustively,
//! the laws, and each guard.

mod conflicts;
mod forgetting;
mod guards;
mod histories;
mod losses;
mod manifests;
mod moves;
mod naive;
mod parts;
mod reference;
mod rules;
mod small;
mod touched;
mod world;
