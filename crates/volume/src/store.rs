// SPDX-License-Identifier: Apache-2.0
//! Volumes on disk: a data file, an index, and a small description each.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::metrics;
use crate::needle::{ALIGNMENT, HEADER_LEN, Needle, record_len};

/// Bytes of an index row: key, offset of five bytes, size.
const INDEX_ROW_LEN: usize = 17;

/// Bytes of a super block.
const SUPER_BLOCK_LEN: u64 = 8;

/// Size that marks a delete in the index.
const TOMBSTONE: u32 = u32::MAX;

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

#[derive(Clone, Copy, Debug)]
struct Slot {
    offset: u64,
    size: u32,
}

struct Contents {
    index: HashMap<u64, Slot>,
    end: u64,
    deleted_bytes: u64,
    n_deleted: u64,
    last_append_ns: u64,
    modified_s: u64,
    read_only: Option<String>,
    max_key: u64,
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
        let index_path = base.with_extension("idx");
        let mut index = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&index_path)?;
        let rows = std::fs::read(&index_path)?;
        let whole = rows.len() - rows.len() % INDEX_ROW_LEN;
        if whole < rows.len() {
            index.set_len(whole as u64)?;
        }
        let mut contents = Contents {
            index: HashMap::new(),
            end: SUPER_BLOCK_LEN,
            deleted_bytes: 0,
            n_deleted: 0,
            last_append_ns: 0,
            modified_s: 0,
            read_only: None,
            max_key: 0,
        };
        for row in rows[..whole].chunks(INDEX_ROW_LEN) {
            contents.load(row);
        }
        contents.recover(&data, &mut index)?;
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
            let before = self.record(slot)?;
            if before.cookie != needle.cookie {
                return Err(VolumeError::Cookie);
            }
            if self.kind.ttl == [0, 0] && before.data == needle.data {
                return Ok(true);
            }
        }
        self.append(&mut contents, &mut needle)?;
        drop(contents);
        if is_synced {
            self.data.sync_data()?;
        }
        Ok(false)
    }

    fn append(&self, contents: &mut Contents, needle: &mut Needle) -> Result<(), VolumeError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        needle.append_at_ns = (now.as_nanos() as u64).max(contents.last_append_ns + 1);
        let offset = contents.end;
        let record = needle.encode();
        if let Err(error) = self.data.write_all_at(&record, offset) {
            // Nothing refers to what was written; it is overwritten or cut.
            if error.kind() == std::io::ErrorKind::StorageFull {
                contents.read_only = Some("disk is full".to_owned());
            }
            return Err(error.into());
        }
        let size = needle.body_len();
        let stored = if needle.data.is_empty() && contents.index.contains_key(&needle.key) {
            TOMBSTONE
        } else {
            size
        };
        self.index
            .lock()
            .write_all(&index_row(needle.key, offset, stored))?;
        contents.end = offset + record.len() as u64;
        contents.last_append_ns = needle.append_at_ns;
        contents.modified_s = now.as_secs();
        contents.note(needle.key, offset, stored);
        Ok(())
    }

    fn record(&self, slot: Slot) -> Result<Needle, VolumeError> {
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
    /// `NotFound`, also for a wrong cookie; `Corrupt`, `Io`.
    pub fn read(&self, key: u64, cookie: u32) -> Result<Needle, VolumeError> {
        let slot = self
            .contents
            .read()
            .index
            .get(&key)
            .copied()
            .ok_or(VolumeError::NotFound)?;
        let needle = self.record(slot)?;
        if needle.cookie != cookie {
            Err(VolumeError::NotFound)
        } else {
            Ok(needle)
        }
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
        let before = self.record(slot)?;
        if cookie.is_some_and(|cookie| cookie != before.cookie) {
            return Err(VolumeError::Cookie);
        }
        let mut grave = Needle {
            cookie: before.cookie,
            key,
            ..Needle::default()
        };
        self.append(&mut contents, &mut grave)?;
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

    fn remove(&self) {
        for extension in ["dat", "idx", "vif"] {
            // What is gone needs no removing.
            let _ = std::fs::remove_file(self.base.with_extension(extension));
        }
    }
}

impl Contents {
    fn load(&mut self, row: &[u8]) {
        let key = u64::from_be_bytes(row[..8].try_into().unwrap_or_default());
        let low = u32::from_be_bytes(row[8..12].try_into().unwrap_or_default());
        let offset = (u64::from(row[12]) << 32 | u64::from(low)) * ALIGNMENT;
        let size = u32::from_be_bytes(row[13..17].try_into().unwrap_or_default());
        self.note(key, offset, size);
        let body = if size == TOMBSTONE { 0 } else { size };
        if offset > 0 {
            self.end = self.end.max(offset + record_len(body));
        }
    }

    fn note(&mut self, key: u64, offset: u64, size: u32) {
        self.max_key = self.max_key.max(key);
        let before = if size == TOMBSTONE || offset == 0 {
            self.index.remove(&key)
        } else {
            self.index.insert(key, Slot { offset, size })
        };
        if let Some(before) = before {
            self.n_deleted += 1;
            self.deleted_bytes += u64::from(before.size);
        }
    }

    /// Takes in whole records that the index lacks and cuts what is no whole record.
    fn recover(&mut self, data: &File, index: &mut File) -> Result<(), VolumeError> {
        let length = data.metadata()?.len();
        if self.end > length {
            self.read_only = Some(format!("data ends at {length}, the index at {}", self.end));
            return Ok(());
        }
        while self.end + (HEADER_LEN as u64) <= length {
            let mut head = [0; HEADER_LEN];
            data.read_exact_at(&mut head, self.end)?;
            let size = u32::from_be_bytes(head[12..].try_into().unwrap_or_default());
            let whole = record_len(size);
            if self.end + whole > length {
                break;
            }
            let mut record = vec![0; whole as usize];
            data.read_exact_at(&mut record, self.end)?;
            let Ok(needle) = Needle::decode(&Bytes::from(record)) else {
                break;
            };
            let size = if size == 0 { TOMBSTONE } else { size };
            index.write_all(&index_row(needle.key, self.end, size))?;
            self.note(needle.key, self.end, size);
            self.last_append_ns = self.last_append_ns.max(needle.append_at_ns);
            self.end += whole;
        }
        if self.end < length {
            tracing::warn!(bytes = length - self.end, "cut a torn tail off a volume");
            data.set_len(self.end)?;
        }
        Ok(())
    }
}

fn index_row(key: u64, offset: u64, size: u32) -> [u8; INDEX_ROW_LEN] {
    let mut row = [0; INDEX_ROW_LEN];
    let units = offset / ALIGNMENT;
    row[..8].copy_from_slice(&key.to_be_bytes());
    row[8..12].copy_from_slice(&((units & u64::from(u32::MAX)) as u32).to_be_bytes());
    row[12] = (units >> 32) as u8;
    row[13..].copy_from_slice(&size.to_be_bytes());
    row
}

/// All volumes of one directory.
pub struct Store {
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
    /// When the directory cannot be used or a volume is damaged.
    pub fn open(dir: &Path) -> Result<Self, VolumeError> {
        std::fs::create_dir_all(dir)?;
        let uuid_path = dir.join("vol_dir.uuid");
        let uuid = match std::fs::read_to_string(&uuid_path) {
            Ok(uuid) => uuid,
            Err(_) => {
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
            volumes.insert(id, Arc::new(Volume::open(dir, kind)?));
        }
        Ok(Self {
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

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needle(key: u64, text: &'static str) -> Needle {
        Needle {
            cookie: 7,
            key,
            data: Bytes::from_static(text.as_bytes()),
            ..Needle::default()
        }
    }

    #[test]
    fn needles_survive_a_reopen_and_a_torn_tail_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store
            .allocate(Kind {
                id: 3,
                ..Kind::default()
            })
            .unwrap();
        let volume = store.volume(3).unwrap();
        assert!(!volume.write(needle(1, "one"), true).unwrap());
        assert!(volume.write(needle(1, "one"), true).unwrap(), "unchanged");
        volume.write(needle(2, "two"), true).unwrap();
        volume.delete(1, Some(7)).unwrap();
        assert!(matches!(volume.read(2, 8), Err(VolumeError::NotFound)));
        drop((volume, store));
        let data = dir.path().join("3.dat");
        let mut file = OpenOptions::new().append(true).open(&data).unwrap();
        file.write_all(&needle(9, "torn").encode()[..20]).unwrap();
        // A row that the crash tore off is taken in again from the data.
        let index = OpenOptions::new()
            .write(true)
            .open(dir.path().join("3.idx"))
            .unwrap();
        index.set_len(index.metadata().unwrap().len() - 5).unwrap();
        let store = Store::open(dir.path()).unwrap();
        let volume = store.volume(3).unwrap();
        assert_eq!(&volume.read(2, 7).unwrap().data[..], b"two");
        assert!(matches!(volume.read(1, 7), Err(VolumeError::NotFound)));
        volume.write(needle(4, "four"), true).unwrap();
        assert_eq!(&volume.read(4, 7).unwrap().data[..], b"four");
        assert_eq!(volume.figures().n_files, 2);
    }

    #[test]
    fn a_flipped_byte_is_not_served() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store
            .allocate(Kind {
                id: 1,
                ..Kind::default()
            })
            .unwrap();
        let volume = store.volume(1).unwrap();
        volume.write(needle(1, "one"), true).unwrap();
        let file = OpenOptions::new()
            .write(true)
            .open(dir.path().join("1.dat"))
            .unwrap();
        file.write_all_at(b"X", 8 + 16 + 4).unwrap();
        assert!(matches!(volume.read(1, 7), Err(VolumeError::Corrupt(_))));
    }
}
