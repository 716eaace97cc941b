// SPDX-License-Identifier: Apache-2.0
//! Upstream's FUSE mounts on our filers: each sees what the other writes, renames and
//! deletes, and goes on while the other's filer is dead.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dulse_tests::{Cluster, Role, wait_for, weed};

/// A file of several chunks.
const LARGE: usize = 9_000_000;

/// A mounted filer; unmounted when dropped.
struct Mount {
    dir: PathBuf,
    _role: Role,
}

impl Mount {
    async fn start(cluster: &Cluster, filer: usize) -> Result<Self> {
        let home = cluster.dir.path().join(format!("mount-{filer}"));
        let (dir, cache) = (home.join("on"), home.join("cache"));
        std::fs::create_dir_all(&dir)?;
        std::fs::create_dir_all(&cache)?;
        let role = Role::start_program(
            weed()?,
            vec![
                "mount".to_owned(),
                format!("-filer=127.0.0.1:{}", cluster.filer_ports[filer]),
                format!("-dir={}", dir.display()),
                format!("-cacheDir={}", cache.display()),
            ],
        )?;
        let mount = Self { dir, _role: role };
        let outside = std::fs::metadata(&home)?.dev();
        let is_mounted = || async {
            let on = mount.dir.clone();
            let dev = blocking(move || Ok(std::fs::metadata(on)?.dev())).await;
            dev.is_ok_and(|dev| dev != outside)
        };
        wait_for("a mounted filer", is_mounted).await?;
        Ok(mount)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    /// Waits until a file here has this content.
    async fn has(&self, path: &str, content: &[u8]) -> Result<()> {
        let at = self.at(path);
        let same = || {
            let (at, content) = (at.clone(), content.to_vec());
            async move {
                let read = blocking(move || Ok(std::fs::read(at)?)).await;
                read.is_ok_and(|read| read == content)
            }
        };
        wait_for(&format!("the content of {}", at.display()), same).await
    }

    /// Waits until nothing is at a path here.
    async fn lacks(&self, path: &str) -> Result<()> {
        let at = self.at(path);
        let gone = || {
            let at = at.clone();
            async move {
                blocking(move || Ok(!at.try_exists()?))
                    .await
                    .unwrap_or(false)
            }
        };
        wait_for(&format!("the end of {}", at.display()), gone).await
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: what still uses it gets an error when its process ends, behind this.
        for (program, flags) in [("umount", "-l"), ("fusermount3", "-uz")] {
            let done = Command::new(program).arg(flags).arg(&self.dir).output();
            if done.is_ok_and(|o| o.status.success()) {
                return;
            }
        }
    }
}

/// Runs calls of the file system on a thread of their own, for as long as they may take.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let called = tokio::task::spawn_blocking(call);
    let waited = tokio::time::timeout(Duration::from_secs(30), called).await;
    waited.context("the file system does not answer")??
}

async fn write(path: &Path, content: &[u8]) -> Result<()> {
    let (path, content) = (path.to_owned(), content.to_vec());
    blocking(move || Ok(std::fs::write(path, content)?)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_mounts_on_two_filers_see_each_other_and_one_goes_on_alone() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite"]).await?;
    let first = Mount::start(&cluster, 0).await?;
    let second = Mount::start(&cluster, 1).await?;

    write(&first.at("a.txt"), b"from the first").await?;
    second.has("a.txt", b"from the first").await?;
    let dir = second.at("d");
    blocking(move || Ok(std::fs::create_dir(dir)?)).await?;
    write(&second.at("d/b.txt"), b"from the second").await?;
    first.has("d/b.txt", b"from the second").await?;

    let (from, to) = (first.at("a.txt"), first.at("d/c.txt"));
    blocking(move || Ok(std::fs::rename(from, to)?)).await?;
    second.has("d/c.txt", b"from the first").await?;
    second.lacks("a.txt").await?;
    let gone = second.at("d/b.txt");
    blocking(move || Ok(std::fs::remove_file(gone)?)).await?;
    first.lacks("d/b.txt").await?;

    let large: Vec<u8> = (0..LARGE).map(|i| (i * 7 + i / 251) as u8).collect();
    write(&first.at("large"), &large).await?;
    second.has("large", &large).await?;
    let log = second.at("d/c.txt");
    blocking(move || {
        let mut log = std::fs::OpenOptions::new().append(true).open(log)?;
        Ok(log.write_all(b", and more")?)
    })
    .await?;
    first.has("d/c.txt", b"from the first, and more").await?;
    let (target, link) = (first.at("large"), first.at("d/hard"));
    blocking(move || Ok(std::fs::hard_link(target, link)?)).await?;
    second.has("d/hard", &large).await?;
    let linked = second.at("d/hard");
    let n_links = blocking(move || Ok(std::fs::metadata(linked)?.nlink())).await?;
    ensure!(n_links == 2, "{n_links} links");

    cluster.filers[0].kill()?;
    write(&second.at("alone.txt"), b"the first is dead").await?;
    second.has("alone.txt", b"the first is dead").await?;
    second.has("large", &large).await?;
    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await?;
    first.has("alone.txt", b"the first is dead").await?;
    write(&first.at("back.txt"), b"both again").await?;
    second.has("back.txt", b"both again").await?;

    cluster.wait_converged().await?;
    assert_eq!(cluster.verify()?, Some(0));
    Ok(())
}
