// SPDX-License-Identifier: Apache-2.0
//! A disk that can lose its power, be slow, and fail to sync: a FUSE file system in memory.
//!
//! What it promises is what POSIX does and no more. `fsync` of a file makes its bytes and its
//! length durable, not its name; a name is durable after `fsync` of its directory, and so up to
//! the top. What nobody synced may be on the disk after a power loss, or not, sector by sector
//! and name by name in any order ([`Loss`]); only a rename is one step. File systems with a
//! journal keep more (a new file's name with its content, names in their order), so what holds
//! here holds there. After a failed sync the system believes that the pages are on the disk, and
//! only writing them again puts them there.
//!
//! Refused: passing writes through to a directory of the machine and copying it at the cut,
//! which knows neither what was synced nor in which order it might reach a disk.

mod content;
mod image;
mod inside;
mod loss;
mod names;
mod served;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fuser::{BackgroundSession, Config, MountOption};

pub use inside::enter;
pub use loss::Loss;

use image::Image;
use served::{Served, Shared};

/// Threads that answer the kernel.
const THREADS: usize = 2;

/// A mounted disk; unmounted when dropped.
pub struct Disk {
    at: PathBuf,
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
}

/// What happened to a disk so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Requests that change something, syncs included.
    pub requests: u64,
    /// Syncs that succeeded.
    pub synced: u64,
    /// Syncs that failed.
    pub failed: u64,
}

impl Disk {
    /// Mounts a new disk on a directory, which is made; all its choices follow from the seed.
    ///
    /// # Errors
    ///
    /// When nothing can be mounted here.
    pub fn mount(at: &Path, seed: u64) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let mut disk = Self {
            at: at.to_owned(),
            shared: Arc::new(Shared::new(Image::new(seed))),
            session: None,
        };
        disk.attach()?;
        Ok(disk)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Cuts the power when so many more requests have come that change something, the last of
    /// them unanswered; 0 is now.
    pub fn cut_after(&self, n: u64, loss: Loss) {
        let mut image = self.shared.image();
        image.cut_after(n, loss);
        let is_off = image.is_off;
        drop(image);
        self.shared.off.send_replace(is_off);
    }

    /// Waits until the power is off.
    pub async fn wait_off(&self) {
        let mut off = self.shared.off.subscribe();
        // The sender lives as long as this.
        let _ = off.wait_for(|is_off| *is_off).await;
    }

    /// The power is back. Nothing may have a file of it open.
    ///
    /// # Errors
    ///
    /// When the power is on, or it cannot be mounted again.
    pub fn power_on(&mut self) -> Result<()> {
        ensure!(self.shared.image().is_off, "the power is on");
        // What the kernel knew went with the power.
        self.detach();
        self.shared.image().power_on();
        self.shared.off.send_replace(false);
        self.attach()
    }

    /// Copies what the power loss left into a directory.
    ///
    /// # Errors
    ///
    /// When the power is on, or it cannot be copied.
    pub fn copy_to(&self, to: &Path) -> Result<()> {
        let image = self.shared.image();
        ensure!(image.is_off, "the power is on");
        for (path, bytes) in image.files() {
            let path = path.to_string_lossy();
            let at = to.join(path.trim_start_matches('/'));
            std::fs::create_dir_all(at.parent().context("a parent")?)?;
            std::fs::write(at, bytes)?;
        }
        Ok(())
    }

    /// Lets each sync take so long.
    pub fn slow_syncs(&self, range: Option<Range<Duration>>) {
        self.shared.image().slowness.sync = range;
    }

    /// Lets each write take so long.
    pub fn slow_writes(&self, range: Option<Range<Duration>>) {
        self.shared.image().slowness.write = range;
    }

    /// Lets syncs fail of files whose names contain something, or of none.
    pub fn fail_syncs(&self, of: Option<&str>) {
        self.shared.image().failing = of.map(str::to_owned);
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let image = self.shared.image();
        Counts {
            requests: image.n_requests,
            synced: image.n_synced,
            failed: image.n_failed,
        }
    }

    fn attach(&mut self) -> Result<()> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("dulse-test-disk".to_owned())];
        config.n_threads = Some(THREADS);
        let served = Served(Arc::clone(&self.shared));
        let session = fuser::spawn_mount(served, &self.at, &config);
        self.session = Some(session.context("mount a disk of the tests")?);
        Ok(())
    }

    /// Lazily: what still uses it gets errors.
    fn detach(&mut self) {
        let session = self.session.take();
        for (program, flags) in [("umount", "-l"), ("fusermount3", "-uz")] {
            let done = Command::new(program).arg(flags).arg(&self.at).output();
            if done.is_ok_and(|o| o.status.success()) {
                break;
            }
        }
        drop(session);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.image().is_off = true;
        self.detach();
    }
}
