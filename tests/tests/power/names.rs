// SPDX-License-Identifier: Apache-2.0
//! Names of the journal's files, with the disk of the journal alone.

use anyhow::{Context, Result, ensure};
use dulse_journal::{Disk as _, RealDisk};
use dulse_tests::disk::{Disk, Loss};

use crate::rig::seed;

/// A file that was made while its directory could not be synced was taken for one whose name
/// is on the disk, since it was there at the next try. A power loss then took all that was
/// synced into it. Now it is removed and made anew.
pub(crate) async fn failed_sync() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut disk = Disk::mount(&dir.path().join("disk"), seed("names::failed_sync")?)?;
    let at = disk.path().join("journal");
    let worked = tokio::task::spawn_blocking(move || -> Result<Disk> {
        let journal = RealDisk::open(&at)?;
        disk.fail_syncs(Some("journal"));
        ensure!(journal.append("a.seg", b"header").is_err(), "no error");
        disk.fail_syncs(None);
        journal.append("a.seg", b"header")?;
        journal.sync("a.seg")?;
        drop(journal);
        disk.cut_after(0, Loss::All);
        disk.power_on()?;
        Ok(disk)
    });
    let disk = worked.await??;
    let content = std::fs::read(disk.path().join("journal/a.seg"));
    ensure!(content.context("lost with its name")? == b"header");
    Ok(())
}
