// SPDX-License-Identifier: Apache-2.0
//! Volumes on disk: a data file, an index, and a small description each.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::contents::{Contents, INDEX_ROW_LEN, SUPER_BLOCK_LEN, Slot, TOMBSTONE, index_row};
use crate::metrics;
use crate::needle::{Needle, record_len};

/// Why a volume takes no writes while there is no room; it does again by itself.
const DISK_FULL: &str = "disk is full";

/// Bytes that must be free before a volume that ran out of room takes writes again.
const ROOM_BYTES: u64 = 64 << 20;

/// An expired volume goes after a tenth of its life more, at most this long.
const EXPIRED_GRACE_S_MAX: u64 = 600;

/// Why a volume refused.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// No such volume here.
    #[error("volume {0} not found")]
    NoVolume(u32),
    /// It is there already.
    #[error("Volume Id {0} already exists!")]
    Exists(u32),
    /// No such needle, or deleted.
    #[error("not found")]
    NotFound,
    /// The key is there with another cookie.
    #[error("mismatching cookie")]
    Cookie,
    /// The volume takes no writes.
    #[error("volume is read only: {0}")]
    ReadOnly(String),
    /// The volume has copies elsewhere, which this version does not write.
    #[error("volume {0} has {1} copies; replicated writes are not served by this version")]
    Replicated(u32, usize),
    /// Stored bytes do not check out.
    #[error("damaged: {0}")]
    Corrupt(String),
    /// Another process serves the directory.
    #[error("`{0}` is locked: another volume server runs on this directory")]
    Locked(String),
    /// The disk failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// What a volume is for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Kind {
    /// Its number.
    pub id: u32,
    /// Collection.
    pub collection: String,
    /// Replica placement.
    pub replication: u8,
    /// Time to live: count and unit.
    pub ttl: [u8; 2],
}

/// One volume.
pub struct Volume {
    /// What it is for.
    pub kind: Kind,
    data: File,
    index: Mutex<File>,
    contents: RwLock<Contents>,
    base: PathBuf,
}

/// A volume's figures.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Figures {
    /// Bytes.
    pub size: u64,
    /// Needles that are there.
    pub n_files: u64,
    /// Needles deleted since the last compaction.
    pub n_deleted: u64,
    /// Bytes they take.
    pub deleted_bytes: u64,
    /// When it was last written, in seconds since 1970.
    pub modified_s: u64,
    /// Takes no writes.
    pub is_read_only: bool,
    /// Greatest key.
    pub max_key: u64,
}

fn base_of(dir: &Path, kind: &Kind) -> PathBuf {
    let prefix = if kind.collection.is_empty() {
        String::new()
    } else {
        format!("{}_", kind.collection)
    };
    dir.join(format!("{prefix}{}", kind.id))
}

fn open_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

impl Volume {
    fn create(dir: &Path, kind: Kind) -> Result<Self, VolumeError> {
        let base = base_of(dir, &kind);
        let data = open_file(&base.with_extension("dat"))?;
        let [count, unit] = kind.ttl;
        data.write_all_at(&[3, kind.replication, count, unit, 0, 0, 0, 0], 0)?;
        data.sync_all()?;
        let description = serde_json::json!({
            "files": [], "version": 3, "replication": format!("{:03}", kind.replication),
            "bytesOffset": 5, "datFileSize": "0", "expireAtSec": "0", "readOnly": false,
            "ecShardConfig": null, "readOnlyCanDelete": false,
        });
        std::fs::write(
            base.with_extension("vif"),
            serde_json::to_vec_pretty(&description).map_err(std::io::Error::other)?,
        )?;
        Self::open(dir, kind)
    }

    /// Opens a volume; a torn tail is cut to the last whole record that the index names.
    fn open(dir: &Path, mut kind: Kind) -> Result<Self, VolumeError> {
        let base = base_of(dir, &kind);
        let data = open_file(&base.with_extension("dat"))?;
        let mut head = [0; SUPER_BLOCK_LEN as usize];
        data.read_exact_at(&mut head, 0)?;
        if head[0] != 3 {
            return Err(VolumeError::Corrupt(format!(
                "volume format {}, expected 3",
                head[0]
            )));
        }
        kind.replication = head[1];
        kind.ttl = [head[2], head[3]];
        check_description(&base)?;
        let mut index = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(base.with_extension("idx"))?;
        let contents = Contents::open(kind.id, &data, &mut index)?;
        Ok(Self {
            kind,
            data,
            index: Mutex::new(index),
            contents: RwLock::new(contents),
            base,
        })
    }

    /// Appends a needle; the same content again is not written. Gives its size and whether
    /// it was there.
    ///
    /// # Errors
    ///
    /// `ReadOnly`, `Replicated`, `Cookie`, `Io`.
    pub fn write(&self, mut needle: Needle, is_synced: bool) -> Result<bool, VolumeError> {
        let copies = 1
            + self.kind.replication / 100
            + self.kind.replication / 10 % 10
            + self.kind.replication % 10;
        if copies > 1 {
            return Err(VolumeError::Replicated(self.kind.id, usize::from(copies)));
        }
        let mut contents = self.contents.write();
        if let Some(why) = &contents.read_only {
            return Err(VolumeError::ReadOnly(why.clone()));
        }
        if let Some(slot) = contents.index.get(&needle.key).copied() {
            let before = self.record(slot, contents.end)?;
            if before.cookie != needle.cookie {
                return Err(VolumeError::Cookie);
            }
            if self.kind.ttl == [0, 0] && before.data == needle.data {
                return Ok(true);
            }
        }
        let size = needle.body_len();
        self.append(&mut contents, &mut needle, size)?;
        drop(contents);
        if is_synced {
            self.data.sync_data()?;
        }
        Ok(false)
    }

    /// Appends a record and its index row; `size` is what the row says.
    fn append(
        &self,
        contents: &mut Contents,
        needle: &mut Needle,
        size: u32,
    ) -> Result<(), VolumeError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // A damaged record may hold any time.
        let after = contents.last_append_ns.saturating_add(1);
        needle.append_at_ns = (now.as_nanos() as u64).max(after);
        let offset = contents.end;
        let record = needle.encode();
        // Until the row is there nothing refers to the record: it is overwritten or cut.
        let written = self.data.write_all_at(&record, offset);
        let written = written.and_then(|()| {
            let row = index_row(needle.key, offset, size);
            self.index.lock().write_all(&row)
        });
        if let Err(error) = written {
            self.undo_row(contents);
            if error.kind() == std::io::ErrorKind::StorageFull {
                contents.read_only = Some(DISK_FULL.to_owned());
            }
            return Err(error.into());
        }
        contents.index_len += INDEX_ROW_LEN as u64;
        contents.end = offset + record.len() as u64;
        contents.last_append_ns = needle.append_at_ns;
        contents.modified_s = now.as_secs();
        contents.note(needle.key, offset, size);
        Ok(())
    }

    /// ⚠ A row that was written in part would shift all rows behind it.
    fn undo_row(&self, contents: &mut Contents) {
        if let Err(error) = self.index.lock().set_len(contents.index_len) {
            tracing::error!(volume = self.kind.id, %error, "an index row may be torn; the volume \
                takes no more writes");
            contents.read_only = Some("its index may be torn".to_owned());
        }
    }

    /// - `end`: where the data ends.
    fn record(&self, slot: Slot, end: u64) -> Result<Needle, VolumeError> {
        // A damaged row may tell any size; no room is made for what cannot be there.
        if slot.offset + record_len(slot.size) > end {
            metrics::INVALID_NEEDLES.add(1);
            let size = slot.size;
            let text = format!("the index tells of {size} bytes where the data has fewer");
            return Err(VolumeError::Corrupt(text));
        }
        let mut bytes = vec![0; record_len(slot.size) as usize];
        let read = self.data.read_exact_at(&mut bytes, slot.offset);
        read.inspect_err(|_| metrics::READ_FAILURES.add(1))?;
        Needle::decode(&Bytes::from(bytes)).map_err(|e| {
            metrics::INVALID_NEEDLES.add(1);
            VolumeError::Corrupt(e.to_string())
        })
    }

    /// Reads a needle and checks it.
    ///
    /// # Errors
    ///
    /// `NotFound`, also for a wrong cookie and when its time to live is over; `Corrupt`, `Io`.
    pub fn read(&self, key: u64, cookie: u32) -> Result<Needle, VolumeError> {
        let (slot, end) = {
            let contents = self.contents.read();
            let slot = contents.index.get(&key).copied();
            (slot.ok_or(VolumeError::NotFound)?, contents.end)
        };
        let needle = self.record(slot, end)?;
        let is_expired = needle.ttl != [0, 0]
            && needle.append_at_ns / 1_000_000_000 + ttl_seconds(needle.ttl) < now_s();
        if needle.cookie != cookie || is_expired {
            return Err(VolumeError::NotFound);
        }
        Ok(needle)
    }

    /// Deletes a needle; gives the size of its body. `cookie` is checked where given.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Cookie`, `Io`.
    pub fn delete(&self, key: u64, cookie: Option<u32>) -> Result<u32, VolumeError> {
        let mut contents = self.contents.write();
        let slot = contents
            .index
            .get(&key)
            .copied()
            .ok_or(VolumeError::NotFound)?;
        let before = self.record(slot, contents.end)?;
        if cookie.is_some_and(|cookie| cookie != before.cookie) {
            return Err(VolumeError::Cookie);
        }
        let mut grave = Needle {
            cookie: before.cookie,
            key,
            ..Needle::default()
        };
        self.append(&mut contents, &mut grave, TOMBSTONE)?;
        Ok(slot.size)
    }

    /// Its figures.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let contents = self.contents.read();
        Figures {
            size: contents.end,
            n_files: contents.index.len() as u64,
            n_deleted: contents.n_deleted,
            deleted_bytes: contents.deleted_bytes,
            modified_s: contents.modified_s,
            is_read_only: contents.read_only.is_some(),
            max_key: contents.max_key,
        }
    }

    /// Stops or allows writes.
    pub fn set_read_only(&self, why: Option<String>) {
        self.contents.write().read_only = why;
    }

    /// Whether all in it has outlived its time to live, by `slack` seconds more.
    fn is_expired(&self, slack: u64) -> bool {
        let contents = self.contents.read();
        let life = ttl_seconds(self.kind.ttl);
        life > 0 && contents.end > SUPER_BLOCK_LEN && contents.modified_s + life + slack < now_s()
    }

    /// Takes writes again when there is room again.
    fn recheck_room(&self, free_bytes: u64) {
        let mut contents = self.contents.write();
        if contents.read_only.as_deref() == Some(DISK_FULL) && free_bytes >= ROOM_BYTES {
            tracing::info!(volume = self.kind.id, "there is room again");
            contents.read_only = None;
        }
    }

    fn remove(&self) {
        for extension in ["dat", "idx", "vif"] {
            // What is gone needs no removing.
            let _ = std::fs::remove_file(self.base.with_extension(extension));
        }
    }
}

/// Volumes with four-byte offsets have other index rows, which this server would misread.
fn check_description(base: &Path) -> Result<(), VolumeError> {
    let Ok(text) = std::fs::read(base.with_extension("vif")) else {
        return Ok(());
    };
    let description: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|e| VolumeError::Corrupt(format!("description: {e}")))?;
    match description["bytesOffset"].as_u64() {
        None | Some(0 | 5) => Ok(()),
        Some(width) => Err(VolumeError::Corrupt(format!(
            "offsets of {width} bytes, expected 5: it was made by a server built for small volumes"
        ))),
    }
}

fn now_s() -> u64 {
    u64::try_from(crate::now_ns() / 1_000_000_000).unwrap_or(0)
}

/// Seconds of a time to live; 0 for none.
fn ttl_seconds([count, unit]: [u8; 2]) -> u64 {
    let unit = match unit {
        1 => 60,
        2 => 3_600,
        3 => 86_400,
        4 => 7 * 86_400,
        5 => 30 * 86_400,
        6 => 365 * 86_400,
        _ => 0,
    };
    u64::from(count) * unit
}

/// All volumes of one directory.
pub struct Store {
    /// Held open, and locked, for as long as this process serves the directory.
    _lock: File,
    dir: PathBuf,
    volumes: RwLock<BTreeMap<u32, Arc<Volume>>>,
    /// The directory's own id.
    pub uuid: String,
}

impl Store {
    /// Opens a directory and every volume in it.
    ///
    /// # Errors
    ///
    /// When the directory cannot be used, or another process serves it. A damaged volume is
    /// left out, with an ERROR.
    pub fn open(dir: &Path) -> Result<Self, VolumeError> {
        std::fs::create_dir_all(dir)?;
        let uuid_path = dir.join("vol_dir.uuid");
        let lock = lock(&uuid_path)?;
        let uuid = match std::fs::read_to_string(&uuid_path) {
            Ok(uuid) if !uuid.is_empty() => uuid,
            _ => {
                let h = format!("{:032x}", rand::random::<u128>());
                let uuid = format!(
                    "{}-{}-{}-{}-{}",
                    &h[..8],
                    &h[8..12],
                    &h[12..16],
                    &h[16..20],
                    &h[20..]
                );
                std::fs::write(&uuid_path, &uuid)?;
                uuid
            }
        };
        let mut volumes = BTreeMap::new();
        for item in std::fs::read_dir(dir)? {
            let path = item?.path();
            if path.extension().is_none_or(|e| e != "dat") {
                continue;
            }
            let stem = path
                .file_stem()
                .map(|s| s.to_string_lossy().into_owned())
                .unwrap_or_default();
            let (collection, id) = stem.rsplit_once('_').unwrap_or(("", &stem));
            let Ok(id) = id.parse() else { continue };
            let kind = Kind {
                id,
                collection: collection.to_owned(),
                ..Kind::default()
            };
            // One that is damaged does not keep the others from being served.
            match Volume::open(dir, kind) {
                Ok(volume) => drop(volumes.insert(id, Arc::new(volume))),
                Err(error) => {
                    tracing::error!(volume = id, %error, "a volume cannot be opened and is left \
                        out");
                }
            }
        }
        Ok(Self {
            _lock: lock,
            dir: dir.to_owned(),
            volumes: RwLock::new(volumes),
            uuid,
        })
    }

    /// Makes a volume.
    ///
    /// # Errors
    ///
    /// `Exists`, `Io`.
    pub fn allocate(&self, kind: Kind) -> Result<(), VolumeError> {
        let mut volumes = self.volumes.write();
        if volumes.contains_key(&kind.id) {
            return Err(VolumeError::Exists(kind.id));
        }
        volumes.insert(kind.id, Arc::new(Volume::create(&self.dir, kind)?));
        Ok(())
    }

    /// A volume.
    ///
    /// # Errors
    ///
    /// `NoVolume`.
    pub fn volume(&self, id: u32) -> Result<Arc<Volume>, VolumeError> {
        self.volumes
            .read()
            .get(&id)
            .cloned()
            .ok_or(VolumeError::NoVolume(id))
    }

    /// Every volume.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Volume>> {
        self.volumes.read().values().cloned().collect()
    }

    /// Removes a volume with its files; one that is not here is removed already.
    pub fn remove(&self, id: u32) {
        if let Some(volume) = self.volumes.write().remove(&id) {
            volume.remove();
        }
    }

    /// Every volume worth reporting: those whose time is over are not.
    #[must_use]
    pub fn living(&self) -> Vec<Arc<Volume>> {
        let mut all = self.all();
        all.retain(|volume| !volume.is_expired(0));
        all
    }

    /// Removes volumes whose time has been over for a while, and lets volumes take writes
    /// again that ran out of room. Gives how many are gone. To be called now and then.
    pub fn tidy(&self, free_bytes: u64) -> usize {
        let mut n_gone = 0;
        for volume in self.all() {
            volume.recheck_room(free_bytes);
            let life = ttl_seconds(volume.kind.ttl);
            if volume.is_expired((life / 10).min(EXPIRED_GRACE_S_MAX)) {
                tracing::info!(volume = volume.kind.id, "its time to live is over; removed");
                self.remove(volume.kind.id);
                n_gone += 1;
            }
        }
        n_gone
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn lock(path: &Path) -> Result<File, VolumeError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let locked = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    locked.map_err(|_| VolumeError::Locked(path.display().to_string()))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
