// SPDX-License-Identifier: Apache-2.0
//! The little that survives a restart: greatest volume id and the topology's id.
//!
//! One file, `master.json`, replaced atomically and synced before a new id is used.

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

#[derive(Serialize, Deserialize, Clone, Debug)]
struct Content {
    version: u32,
    max_volume_id: u32,
    topology_id: String,
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
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| fail(e.to_string()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let (a, b): (u64, u64) = (rand::random(), rand::random());
                let topology_id = format!("{a:016x}{b:016x}");
                Content {
                    version: VERSION,
                    max_volume_id: 0,
                    topology_id,
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

    fn write(&self) -> Result<(), StoredError> {
        let write = || -> std::io::Result<()> {
            let temporary = self.path.with_extension("tmp");
            let mut file = File::create(&temporary)?;
            file.write_all(&serde_json::to_vec_pretty(&self.content)?)?;
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
