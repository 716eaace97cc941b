// SPDX-License-Identifier: Apache-2.0
//! Files of certificates and keys, re-read while the process runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::tls::TlsError;

/// How often files are looked at, at most; a look costs one `stat` each.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Something made of files, made anew with the first connection after they changed.
///
/// When they cannot be used then, what was made before stays, so that a rotation half done
/// stops nobody.
pub(crate) struct Reloading<T> {
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>,
    current: ArcSwap<T>,
    seen: Mutex<Seen>,
}

/// When the files were looked at and what they were then: times of change and lengths.
struct Seen {
    at: Instant,
    marks: Vec<Option<(SystemTime, u64)>>,
}

impl<T> Reloading<T> {
    /// Makes it for the first time.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        // Order: marks first. What changes while the files are read is read again.
        let seen = Seen {
            at: Instant::now(),
            marks: marks(&files),
        };
        Ok(Self {
            current: ArcSwap::from_pointee(make()?),
            seen: Mutex::new(seen),
            files,
            make: Box::new(make),
        })
    }

    /// What the files say now, a second old at most.
    pub(crate) fn get(&self) -> Arc<T> {
        if self.has_changed() {
            match (self.make)() {
                Ok(made) => {
                    self.current.store(Arc::new(made));
                    tracing::info!(files = ?self.files, "certificates were read again");
                }
                Err(error) => {
                    // Looked at again next time, as if nothing had been seen.
                    self.seen.lock().marks.clear();
                    tracing::warn!(%error, "changed certificates cannot be used; those read \
                        before stay");
                }
            }
        }
        self.current.load_full()
    }

    fn has_changed(&self) -> bool {
        let mut seen = self.seen.lock();
        if seen.at.elapsed() < LOOK_EVERY {
            return false;
        }
        seen.at = Instant::now();
        let now = marks(&self.files);
        let has_changed = seen.marks != now;
        seen.marks = now;
        has_changed
    }
}

fn marks(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let mark = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.iter().map(mark).collect()
}

/// A certificate with those that lead to its CA.
pub(crate) fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(file).map_err(|e| TlsError::file(file, e))?;
    let chain: Result<Vec<_>, _> = read.collect();
    let chain = chain.map_err(|e| TlsError::file(file, e))?;
    if chain.is_empty() {
        return Err(TlsError::file(file, "there is no certificate in it"));
    }
    Ok(chain)
}

/// A private key.
pub(crate) fn key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(file).map_err(|e| TlsError::file(file, e))
}

/// Whom to trust: the certificates of a file.
pub(crate) fn roots(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(file)? {
        let added = roots.add(certificate);
        added.map_err(|e| TlsError::file(file, e))?;
    }
    Ok(roots)
}

/// Whom the system trusts.
pub(crate) fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (n_added, _) = roots.add_parsable_certificates(found.certs);
    if n_added == 0 {
        return Err(TlsError::NoSystemRoots);
    }
    Ok(roots)
}
