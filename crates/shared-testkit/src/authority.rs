// SPDX-License-Identifier: Apache-2.0
//! Certificates of a test's own.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};

/// An authority, and the file that its certificate is in.
pub struct Authority {
    /// PEM.
    pub file: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, its file in `dir`.
    ///
    /// # Panics
    ///
    /// When that cannot be written.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are names");
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("there is randomness");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("it signs itself");
        let file = dir.join("authority.crt");
        std::fs::write(&file, issuer.pem()).expect("there is room");
        Self { file, issuer }
    }

    /// A certificate of a name, and its key, both PEM.
    ///
    /// # Panics
    ///
    /// When that is no name.
    #[must_use]
    pub fn signed(&self, name: &str) -> [String; 2] {
        let key = KeyPair::generate().expect("there is randomness");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a case names a name");
        let signed = params.signed_by(&key, &self.issuer).expect("it signs");
        [signed.pem(), key.serialize_pem()]
    }
}
