// SPDX-License-Identifier: Apache-2.0
//! What goes wrong: one file for each fault.

mod clock;
mod clone;
mod crash;
mod cut;
mod disk_full;
mod freeze;
mod heal;
mod hour;
mod leave;
mod loss;
mod master;
mod remove;
mod restore;
mod split;
mod volumes;
mod wipe;

use crate::world::World;

/// Something that goes wrong now and then.
pub(crate) trait Fault: Sync {
    /// A word or two for the trace.
    fn name(&self) -> &'static str;

    /// How often it happens, relative to the others.
    fn weight(&self) -> u32;

    /// Happens now, to whomever the world's dice say.
    ///
    /// # Errors
    ///
    /// A violation that shows at once.
    fn strike(&self, world: &mut World) -> Result<(), String>;

    /// Ends what lasts of it, once trouble is over: then progress is demanded.
    fn heal(&self, _world: &mut World) {}
}

/// Every fault. New ones go to the end: a seed throws dice for each in this order.
pub(crate) const ALL: &[&dyn Fault] = &[
    &crash::Crash,
    &wipe::Wipe,
    &cut::Cut,
    &heal::Heal,
    &freeze::Freeze,
    &clock::Clock,
    &master::Away,
    &loss::Loss,
    &split::Split,
    &disk_full::DiskFull,
    &hour::Hour,
    &restore::Restore,
    &clone::Clone,
    &leave::Leave,
    &remove::Remove,
    &volumes::Away,
];

/// Disks that operators put back or copy.
pub(crate) const OF_DISKS: &[&str] = &["backup or restore", "copied store"];

/// Members that operators take away.
pub(crate) const OF_MEMBERS: &[&str] = &["filer leaves", "member removed"];

/// What keeps filers apart.
pub(crate) const OF_LINKS: &[&str] = &[
    "cut link",
    "frozen process",
    "lossy link",
    "machine replaced",
    "master away or back",
    "partition",
];
