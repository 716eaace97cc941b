// SPDX-License-Identifier: Apache-2.0
//! What is on disk when: crashes under every durability, groups, retention, full disks, formats.

mod conflicts;
mod crashes;
mod forgetting;
mod formats;
mod freed;
mod groups;
mod guards;
mod machine;
mod peers;
mod reading;
mod retention;
mod room;
mod trees;
