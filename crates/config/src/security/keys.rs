// SPDX-License-Identifier: Apache-2.0
//! Upstream's names of the keys.

use super::lookup::Lookup;
use super::{Grpc, GrpcService, Https, HttpsClient, HttpsService, Jwt, Security, TokenKey};
use crate::error::Error;

/// Life of a token for writing, in seconds, as upstream.
const WRITE_LIFE_S: u64 = 10;

/// Life of a token for reading, in seconds, as upstream.
const READ_LIFE_S: u64 = 60;

/// Keys of upstream's file that belong to services which this program does not have, or
/// change nothing here: known, so that no one is warned of them.
const ELSEWHERE: &[&str] = &[
    "admin.",
    "s3.",
    "sftp.",
    "access.ui",
    "grpc.s3.",
    "grpc.msg_broker.",
    "grpc.msg_agent.",
    "grpc.admin.",
    "grpc.worker.",
    "grpc.mq.",
    "grpc.mount.",
    "https.admin.",
    "https.s3.",
];

/// Keys that are read below, as prefixes where a table follows.
const HERE: &[&str] = &[
    "jwt.signing.key",
    "jwt.signing.expires_after_seconds",
    "jwt.signing.read.key",
    "jwt.signing.read.expires_after_seconds",
    "jwt.filer_signing.key",
    "jwt.filer_signing.expires_after_seconds",
    "jwt.filer_signing.read.key",
    "jwt.filer_signing.read.expires_after_seconds",
    "guard.white_list",
    "cors.allowed_origins.values",
    "filer.expose_directory_metadata.enabled",
    "grpc.ca",
    "grpc.allowed_wildcard_domain",
    "https.client.enabled",
    "https.client.cert",
    "https.client.key",
    "https.client.ca",
    "https.client.insecure_skip_verify",
];

const GRPC_SERVICES: [&str; 4] = ["grpc.master", "grpc.volume", "grpc.filer", "grpc.client"];
const GRPC_KEYS: [&str; 5] = [
    "cert",
    "key",
    "client_cert",
    "client_key",
    "allowed_commonnames",
];
const HTTPS_SERVICES: [&str; 3] = ["https.master", "https.volume", "https.filer"];
const HTTPS_KEYS: [&str; 4] = ["cert", "key", "ca", "disable_tls_verify_client_cert"];

pub(super) fn read(file: &Lookup<'_>) -> Result<Security, Error> {
    let token = |name: &str, life| -> Result<TokenKey, Error> {
        Ok(TokenKey {
            key: file.text(&format!("{name}.key")),
            expires_after_seconds: file.number(&format!("{name}.expires_after_seconds"), life)?,
        })
    };
    Ok(Security {
        jwt: Jwt {
            volume_write: token("jwt.signing", WRITE_LIFE_S)?,
            volume_read: token("jwt.signing.read", READ_LIFE_S)?,
            filer_write: token("jwt.filer_signing", WRITE_LIFE_S)?,
            filer_read: token("jwt.filer_signing.read", READ_LIFE_S)?,
        },
        grpc: Grpc {
            ca: file.text("grpc.ca"),
            allowed_wildcard_domain: file.text("grpc.allowed_wildcard_domain"),
            master: grpc(file, "grpc.master"),
            volume: grpc(file, "grpc.volume"),
            filer: grpc(file, "grpc.filer"),
            client: grpc(file, "grpc.client"),
        },
        https: Https {
            client: HttpsClient {
                enabled: file.boolean("https.client.enabled", false)?,
                cert: file.text("https.client.cert"),
                key: file.text("https.client.key"),
                ca: file.text("https.client.ca"),
                insecure_skip_verify: file.boolean("https.client.insecure_skip_verify", false)?,
            },
            master: https(file, "https.master")?,
            volume: https(file, "https.volume")?,
            filer: https(file, "https.filer")?,
        },
        white_list: file.list("guard.white_list").unwrap_or_default(),
        allowed_origins: file.list("cors.allowed_origins.values"),
        lists_directories: file.boolean("filer.expose_directory_metadata.enabled", true)?,
        path: None,
        unknown: unknown(file),
    })
}

fn grpc(file: &Lookup<'_>, name: &str) -> GrpcService {
    let text = |key: &str| file.text(&format!("{name}.{key}"));
    GrpcService {
        cert: text("cert"),
        key: text("key"),
        client_cert: text("client_cert"),
        client_key: text("client_key"),
        allowed_common_names: file
            .list(&format!("{name}.allowed_commonNames"))
            .unwrap_or_default(),
    }
}

fn https(file: &Lookup<'_>, name: &str) -> Result<HttpsService, Error> {
    let text = |key: &str| file.text(&format!("{name}.{key}"));
    let disable = format!("{name}.disable_tls_verify_client_cert");
    Ok(HttpsService {
        cert: text("cert"),
        key: text("key"),
        ca: text("ca"),
        disable_tls_verify_client_cert: file.boolean(&disable, false)?,
    })
}

fn unknown(file: &Lookup<'_>) -> Vec<String> {
    let of = |services: &[&str], keys: &[&str], key: &str| {
        let within = key.rsplit_once('.');
        within.is_some_and(|(service, key)| services.contains(&service) && keys.contains(&key))
    };
    let is_known = |key: &str| {
        HERE.contains(&key)
            || ELSEWHERE.iter().any(|prefix| key.starts_with(prefix))
            || of(&GRPC_SERVICES, &GRPC_KEYS, key)
            || of(&HTTPS_SERVICES, &HTTPS_KEYS, key)
    };
    let keys = file.keys().filter(|(key, _)| !is_known(key));
    keys.map(|(key, found)| format!("`{key}` in line {}", found.line))
        .collect()
}
