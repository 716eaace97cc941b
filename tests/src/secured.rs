// SPDX-License-Identifier: Apache-2.0
//! Clusters with certificates and tokens.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use dulse_config::Security;
use dulse_transport::{Service, Transport, Wire};
use jsonwebtoken::{EncodingKey, Header};

use crate::authority::Authority;
use crate::{Cluster, wait_for};

/// The key that writes at filers are signed with.
pub const FILER_WRITE: &str = "filer-write-secret";

/// The key that reads at filers are signed with.
pub const FILER_READ: &str = "filer-read-secret";

/// Keys of all four kinds.
pub const TOKENS: &str = "\
    [jwt.signing]\nkey = \"volume-write-secret\"\n\
    [jwt.signing.read]\nkey = \"volume-read-secret\"\n\
    [jwt.filer_signing]\nkey = \"filer-write-secret\"\n\
    [jwt.filer_signing.read]\nkey = \"filer-read-secret\"\n";

/// Makes certificates for every service and a `security.toml` with mutual TLS of gRPC and
/// whatever more is given.
///
/// # Errors
///
/// When the directory cannot be written to.
pub fn certify(dir: &Path, more: &str) -> Result<()> {
    let authority = Authority::new(dir).map_err(|e| anyhow!("{e}"))?;
    let at = dir.display();
    let mut text = format!("[grpc]\nca = \"{at}/ca.crt\"\n");
    for name in ["master", "volume", "filer", "client"] {
        // HTTPS checks the address, gRPC no name at all.
        authority
            .sign(name, &["127.0.0.1"])
            .map_err(|e| anyhow!("{e}"))?;
        text += &format!("[grpc.{name}]\ncert = \"{at}/{name}.crt\"\nkey = \"{at}/{name}.key\"\n");
    }
    std::fs::write(dir.join("security.toml"), text + more)?;
    Ok(())
}

/// A token signed with a key, with nothing but an end far away.
///
/// # Errors
///
/// Never with such claims.
pub fn token(key: &str) -> Result<String> {
    let claims = serde_json::json!({ "exp": 4_000_000_000_u64 });
    let key = EncodingKey::from_secret(key.as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?)
}

/// The transport of a command in this cluster.
///
/// # Errors
///
/// When its files cannot be used.
pub fn transport(dir: &Path) -> Result<Transport> {
    let nothing = |_: &str| None;
    let security = Security::read(&dir.join("security.toml"), &nothing)?;
    Ok(Transport::new(Service::Client, &security, Wire::USUAL)?)
}

/// The status of a request with a token or none.
///
/// # Errors
///
/// When there is no answer.
pub async fn ask(
    cluster: &Cluster,
    method: &str,
    url: &str,
    token: Option<&str>,
    body: &[u8],
) -> Result<(u16, Vec<u8>)> {
    let mut request = cluster
        .http
        .request(method.parse()?, url)
        .body(body.to_vec());
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.bytes().await?.to_vec()))
}

/// Writes, reads and deletes over HTTP at one filer and another, with tokens and without.
///
/// # Errors
///
/// When something is let in that should not be, or the reverse.
pub async fn exercise(cluster: &Cluster, writer: &str, reader: &str) -> Result<()> {
    let (write, read, wrong) = (token(FILER_WRITE)?, token(FILER_READ)?, token("other")?);
    let path = "/guarded/file.bin";
    let (put_at, get_at) = (format!("{writer}{path}"), format!("{reader}{path}"));
    let content: Vec<u8> = (0..9_000_000_u32).map(|i| (i % 251) as u8).collect();
    let put = || async {
        let put = ask(cluster, "PUT", &put_at, Some(&write), &content).await;
        put.is_ok_and(|(status, _)| status == 201)
    };
    wait_for("a write with a token", put).await?;
    for method in ["PUT", "DELETE"] {
        for token in [None, Some(&wrong), Some(&read)] {
            let token = token.map(String::as_str);
            let (status, body) = ask(cluster, method, &put_at, token, b"x").await?;
            let body = String::from_utf8_lossy(&body).into_owned();
            ensure!(
                status == 401 && body.contains("wrong jwt"),
                "{method} {status} {body}"
            );
        }
    }
    let got = || async {
        let got = ask(cluster, "GET", &get_at, Some(&read), b"").await;
        got.is_ok_and(|(status, body)| status == 200 && body == content)
    };
    wait_for("a read with a token", got).await?;
    for token in [None, Some(&wrong), Some(&write)] {
        let (status, _) = ask(cluster, "GET", &get_at, token.map(String::as_str), b"").await?;
        ensure!(status == 401, "GET {status}");
    }
    let (status, _) = ask(cluster, "DELETE", &put_at, Some(&write), b"").await?;
    ensure!(status == 204, "DELETE {status}");
    Ok(())
}
