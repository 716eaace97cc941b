// SPDX-License-Identifier: Apache-2.0
//! The common name of a certificate, and whether it is allowed.
//!
//! The certificate's chain is verified before; this only finds the subject in it (RFC 5280,
//! section 4.1). A whole X.509 library for one field was considered.

/// Object identifier 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// Tag of the optional version, which stands first.
const TAG_VERSION: u8 = 0xa0;

/// Serial number, signature algorithm, issuer and validity stand before the subject.
const FIELDS_BEFORE_SUBJECT: usize = 4;

/// Common names that may call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Allowed {
    /// Exactly these.
    pub(crate) names: Vec<String>,
    /// And whatever ends so; empty adds none.
    pub(crate) suffix: String,
}

impl Allowed {
    /// Whether a certificate may call: anyone where nothing is listed, as upstream.
    pub(crate) fn admits(&self, certificate: &[u8]) -> Result<(), String> {
        if self.names.is_empty() && self.suffix.is_empty() {
            return Ok(());
        }
        let name = common_name(certificate).unwrap_or_default();
        let by_suffix = !self.suffix.is_empty() && name.ends_with(&self.suffix);
        if by_suffix || self.names.contains(&name) {
            return Ok(());
        }
        Err(format!("common name `{name}` is not among those allowed"))
    }
}

/// The last common name of the subject, as upstream takes it.
pub(crate) fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    let (tag, _, after) = element(rest)?;
    if tag == TAG_VERSION {
        rest = after;
    }
    for _ in 0..FIELDS_BEFORE_SUBJECT {
        (_, _, rest) = element(rest)?;
    }
    let (_, mut subject, _) = element(rest)?;
    let mut found = None;
    while !subject.is_empty() {
        let (_, mut set, after) = element(subject)?;
        subject = after;
        while !set.is_empty() {
            let (_, pair, after) = element(set)?;
            set = after;
            let (_, kind, value) = element(pair)?;
            let (_, text, _) = element(value)?;
            if kind == COMMON_NAME {
                found = String::from_utf8(text.to_vec()).ok();
            }
        }
    }
    found
}

/// Tag, content and what follows of one DER element.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let n = usize::from(first & 0x7f);
        if n == 0 || n > size_of::<u32>() {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(n)?;
        let len = digits.iter().fold(0, |len, d| len << 8 | usize::from(*d));
        (len, rest)
    };
    let (content, after) = rest.split_at_checked(len)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(names: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_is_found_among_others() {
        let der = certificate(&[
            (DnType::OrganizationName, "somebody"),
            (DnType::CommonName, "filer1.example.com"),
        ]);
        assert_eq!(common_name(&der).unwrap(), "filer1.example.com");
        assert_eq!(common_name(&certificate(&[])), None);
    }

    #[test]
    fn damaged_certificates_have_no_name_and_do_not_panic() {
        let der = certificate(&[(DnType::CommonName, "n")]);
        for len in 0..der.len() {
            let _ = common_name(&der[..len]);
            let mut bent = der.clone();
            bent[len] ^= 0x5a;
            let _ = common_name(&bent);
        }
        assert_eq!(common_name(&[]), None);
        assert_eq!(common_name(&[0x30, 0xff, 1]), None);
    }

    #[test]
    fn names_and_suffixes_admit() {
        let der = certificate(&[(DnType::CommonName, "filer1.example.com")]);
        let allowed = |names: &[&str], suffix: &str| Allowed {
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            suffix: suffix.to_owned(),
        };
        assert!(allowed(&[], "").admits(&der).is_ok());
        assert!(allowed(&["filer1.example.com"], "").admits(&der).is_ok());
        assert!(allowed(&["x"], ".example.com").admits(&der).is_ok());
        let error = allowed(&["filer2"], ".example.org")
            .admits(&der)
            .unwrap_err();
        assert!(error.contains("`filer1.example.com`"), "{error}");
    }
}
