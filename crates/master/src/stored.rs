// SPDX-License-Identifier: Apache-2.0
//! The little that survives a restart: greatest volume id, a ceiling of file keys, the
//! topology's id, and the members of the filers' clusters.
//!
//! One file, `master.json`, with a checksum; replaced atomically and synced before what it
//! says is used.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Format of the file.
const VERSION: u32 = 1;

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("`{path}`: {context}")]
pub struct StoredError {
    path: PathBuf,
    context: String,
}

/// Keys given out between two writes of the file.
const KEYS_AHEAD: u64 = 1_000_000;

/// Most members remembered; a cluster has a handful of filers.
const MEMBERS_MAX: usize = 4_096;

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Content {
    version: u32,
    max_volume_id: u32,
    topology_id: String,
    /// No file key at or above it was given out.
    #[serde(default)]
    key_ceiling: u64,
    /// Members by group and origin (16 hex digits), with their addresses.
    #[serde(default)]
    members: BTreeMap<String, BTreeMap<String, String>>,
}

/// The file: the content, and CRC-32C of its compact JSON.
#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(flatten)]
    content: Content,
    #[serde(default)]
    crc32c: Option<u32>,
}

/// The state on disk.
pub(crate) struct Stored {
    path: PathBuf,
    content: Content,
}

impl Stored {
    /// Opens the state of a directory, or makes it.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written or the file is damaged or newer.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoredError> {
        let path = dir.join("master.json");
        let fail = |context: String| StoredError {
            path: path.clone(),
            context,
        };
        std::fs::create_dir_all(dir).map_err(|e| fail(e.to_string()))?;
        let content = match std::fs::read(&path) {
            Ok(bytes) => unseal(&bytes).map_err(fail)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let (a, b): (u64, u64) = (rand::random(), rand::random());
                let topology_id = format!("{a:016x}{b:016x}");
                Content {
                    version: VERSION,
                    max_volume_id: 0,
                    topology_id,
                    key_ceiling: 1,
                    members: BTreeMap::new(),
                }
            }
            Err(e) => return Err(fail(e.to_string())),
        };
        if content.version != VERSION {
            return Err(fail(format!(
                "format {}, expected {VERSION}",
                content.version
            )));
        }
        let stored = Self { path, content };
        stored.write()?;
        Ok(stored)
    }

    /// The greatest volume id ever given out.
    #[must_use]
    pub(crate) fn max_volume_id(&self) -> u32 {
        self.content.max_volume_id
    }

    /// The topology's id.
    #[must_use]
    pub(crate) fn topology_id(&self) -> &str {
        &self.content.topology_id
    }

    /// Raises the greatest volume id, durably.
    ///
    /// # Errors
    ///
    /// When it may not be on disk.
    pub(crate) fn raise(&mut self, volume_id: u32) -> Result<(), StoredError> {
        if volume_id <= self.content.max_volume_id {
            return Ok(());
        }
        self.content.max_volume_id = volume_id;
        self.write()
    }

    /// The key from which on none was given out.
    #[must_use]
    pub(crate) fn key_ceiling(&self) -> u64 {
        self.content.key_ceiling
    }

    /// Makes keys below `next` usable, durably.
    ///
    /// # Errors
    ///
    /// When it may not be on disk.
    pub(crate) fn raise_keys(&mut self, next: u64) -> Result<(), StoredError> {
        if next <= self.content.key_ceiling {
            return Ok(());
        }
        let before = self.content.key_ceiling;
        self.content.key_ceiling = next.saturating_add(KEYS_AHEAD);
        self.write()
            .inspect_err(|_| self.content.key_ceiling = before)
    }

    /// The members of a group: origin and address.
    pub(crate) fn members(&self, group: &str) -> Vec<(u64, String)> {
        let members = self.content.members.get(group).into_iter().flatten();
        let parsed = members.filter_map(|(origin, address)| {
            Some((u64::from_str_radix(origin, 16).ok()?, address.clone()))
        });
        parsed.collect()
    }

    /// How many members of all groups there are.
    pub(crate) fn n_members(&self) -> usize {
        self.content.members.values().map(BTreeMap::len).sum()
    }

    /// Remembers members and forgets those that are gone, durably.
    ///
    /// # Errors
    ///
    /// When it may not be on disk, or there are too many.
    pub(crate) fn remember(
        &mut self,
        group: &str,
        members: &[(u64, String)],
        gone: &[u64],
    ) -> Result<(), StoredError> {
        let before = self.content.members.clone();
        let known = self.content.members.entry(group.to_owned()).or_default();
        for (origin, address) in members {
            known.insert(format!("{origin:016x}"), address.clone());
        }
        for origin in gone {
            known.remove(&format!("{origin:016x}"));
        }
        let count = self.n_members();
        if self.content.members == before {
            return Ok(());
        }
        let written = if count > MEMBERS_MAX {
            Err(StoredError {
                path: self.path.clone(),
                context: format!("more than {MEMBERS_MAX} members"),
            })
        } else {
            self.write()
        };
        written.inspect_err(|_| self.content.members = before)
    }

    fn write(&self) -> Result<(), StoredError> {
        let write = || -> std::io::Result<()> {
            let temporary = self.path.with_extension("tmp");
            let mut file = File::create(&temporary)?;
            let compact = serde_json::to_vec(&self.content)?;
            let sealed = Sealed {
                content: self.content.clone(),
                crc32c: Some(crc32c::crc32c(&compact)),
            };
            file.write_all(&serde_json::to_vec_pretty(&sealed)?)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|e| StoredError {
            path: self.path.clone(),
            context: e.to_string(),
        })
    }
}

pub(crate) fn unseal(bytes: &[u8]) -> Result<Content, String> {
    let sealed: Sealed = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let compact = serde_json::to_vec(&sealed.content).map_err(|e| e.to_string())?;
    match sealed.crc32c {
        Some(sum) if sum != crc32c::crc32c(&compact) => {
            Err("its checksum does not fit its content: it was damaged or edited".to_owned())
        }
        _ => Ok(sealed.content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_promised_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut stored = Stored::open(dir.path()).unwrap();
        stored.raise(7).unwrap();
        stored.raise_keys(5_000).unwrap();
        let remembered = [(42, "h:1.2".to_owned()), (43, "h:3.4".to_owned())];
        stored.remember("g", &remembered, &[]).unwrap();
        stored.remember("g", &[], &[43]).unwrap();
        let (id, ceiling) = (stored.topology_id().to_owned(), stored.key_ceiling());
        let stored = Stored::open(dir.path()).unwrap();
        assert_eq!(stored.max_volume_id(), 7);
        assert_eq!(stored.topology_id(), id);
        assert!(stored.key_ceiling() == ceiling && ceiling > 5_000);
        assert_eq!(stored.members("g"), [(42, "h:1.2".to_owned())]);
        assert_eq!(stored.members(""), []);
    }

    #[test]
    fn the_bytes_of_the_file_are_the_documented_ones() {
        let text = r#"{
  "version": 1,
  "max_volume_id": 7,
  "topology_id": "000102030405060708090a0b0c0d0e0f",
  "key_ceiling": 1005001,
  "members": {
    "g": {
      "000000000000002a": "h:1.2"
    }
  },
  "crc32c": CHECKSUM
}"#;
        let compact = text.replace(['\n', ' '], "");
        let compact = compact.replace(",\"crc32c\":CHECKSUM", "");
        let sum = crc32c::crc32c(compact.as_bytes());
        let text = text.replace("CHECKSUM", &sum.to_string());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.json");
        std::fs::write(&path, &text).unwrap();
        let stored = Stored::open(dir.path()).unwrap();
        assert_eq!(
            (stored.max_volume_id(), stored.key_ceiling()),
            (7, 1_005_001)
        );
        // Opening writes it again.
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        std::fs::write(&path, text.replace("\"version\": 1", "\"version\": 2")).unwrap();
        assert!(Stored::open(dir.path()).is_err(), "another version");
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Stored::open(dir.path()).unwrap().raise(7).unwrap();
        let path = dir.path().join("master.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(
            &path,
            text.replace("\"max_volume_id\": 7", "\"max_volume_id\": 3"),
        )
        .unwrap();
        let error = Stored::open(dir.path()).map(drop).unwrap_err();
        assert!(error.to_string().contains("checksum"), "{error}");
    }
}
