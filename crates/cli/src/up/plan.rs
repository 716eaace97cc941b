// SPDX-License-Identifier: Apache-2.0
//! What `dulse up` will start, checked before anything is started.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use dulse_types::ServerAddress;
use rustix::fs::{FlockOperation, flock};

use super::UpArgs;
use super::children::Role;
use crate::exit::Usage;

/// Most filers one `up` starts: each is a process with its own store.
const FILERS_MAX: u16 = 32;

/// One server of the plan.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// `master`, `volume`, `filer 1` …
    pub(super) name: String,
    /// Where it listens.
    pub(super) address: ServerAddress,
    /// Engine, for filers.
    pub(super) engine: Option<String>,
    /// How to start it.
    pub(super) role: Role,
}

/// What is started, and the lock of the directory it is started on.
pub(super) struct Plan {
    /// In the order they are started.
    pub(super) servers: Vec<Server>,
    _lock: File,
}

/// Plans the servers in the order they are started.
///
/// # Errors
///
/// `Usage` with one clear sentence: unknown engine, port in use, directory not writable.
pub(super) fn plan(args: &UpArgs) -> Result<Plan, Usage> {
    let engines = engines(args)?;
    if args.filers == 0 || args.filers > FILERS_MAX {
        return Err(Usage(format!(
            "--filers must be 1 to {FILERS_MAX}, got {}",
            args.filers
        )));
    }
    let dir = make_dir(&args.dir)?;
    let _lock = lock(&dir)?;
    let mut servers = vec![
        server(args, &dir, "master", args.master_port, None)?,
        server(args, &dir, "volume", args.volume_port, None)?,
    ];
    for i in 0..args.filers {
        let port = args
            .filer_port
            .checked_add(i)
            .ok_or_else(|| too_high(args.filer_port))?;
        let engine = engines[usize::from(i) % engines.len()].clone();
        servers.push(server(
            args,
            &dir,
            &format!("filer {}", i + 1),
            port,
            Some(engine),
        )?);
    }
    ports_free(args, &servers)?;
    Ok(Plan { servers, _lock })
}

fn engines(args: &UpArgs) -> Result<Vec<String>, Usage> {
    let engines: Vec<_> = args
        .engine
        .split(',')
        .map(|e| e.trim().to_owned())
        .collect();
    for engine in &engines {
        if !dulse_registry::ENGINES.contains(&engine.as_str()) {
            let known = dulse_registry::ENGINES.join(", ");
            let elsewhere = dulse_registry::build_with(engine).unwrap_or_default();
            return Err(Usage(format!(
                "unknown engine `{engine}`; expected one of {known}{elsewhere}"
            )));
        }
    }
    Ok(engines)
}

fn make_dir(dir: &Path) -> Result<PathBuf, Usage> {
    let fail = |e: std::io::Error| {
        Usage(format!(
            "cannot write to directory `{}`: {e}; choose another with --dir",
            dir.display()
        ))
    };
    std::fs::create_dir_all(dir.join("logs")).map_err(fail)?;
    let probe = dir.join(".writable");
    std::fs::write(&probe, b"").map_err(fail)?;
    std::fs::remove_file(&probe).map_err(fail)?;
    dir.canonicalize().map_err(fail)
}

/// Two clusters on one directory would fight over every file in it.
fn lock(dir: &Path) -> Result<File, Usage> {
    let path = dir.join("lock");
    let file = File::create(&path)
        .map_err(|e| Usage(format!("cannot write `{}`: {e}", path.display())))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Usage(format!(
            "another `dulse up` runs on `{}`; stop it or choose another directory with --dir",
            dir.display()
        ))
    })?;
    Ok(file)
}

/// An address as part of `host:port`.
fn host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn too_high(port: u16) -> Usage {
    Usage(format!(
        "port {port} is too high: its gRPC port would be above 65535"
    ))
}

fn server(
    args: &UpArgs,
    dir: &Path,
    name: &str,
    port: u16,
    engine: Option<String>,
) -> Result<Server, Usage> {
    let address = ServerAddress::new(&host(args.ip), port, 0);
    let address = address.map_err(|_| too_high(port))?;
    let slug = name.replace(' ', "-");
    let kind = name.split(' ').next().unwrap_or(name);
    let mut arguments: Vec<String> = vec![
        kind.to_owned(),
        format!("--ip={}", host(args.ip)),
        format!("--port={port}"),
        format!("--dir={}", dir.join(&slug).display()),
        "--exit-with-stdin".to_owned(),
    ];
    if kind != "master" {
        let master = ServerAddress::new(&host(args.ip), args.master_port, 0);
        let master = master.map_err(|_| too_high(args.master_port))?;
        arguments.push(format!("--master={}", master.http()));
    }
    if let Some(dir) = crate::edges::config_dir() {
        arguments.push(format!("--config-dir={}", dir.display()));
    }
    if let Some(engine) = &engine {
        arguments.push(format!("--engine={engine}"));
    }
    let log = dir.join("logs").join(format!("{slug}.log"));
    let role = Role {
        name: name.to_owned(),
        arguments,
        log,
    };
    Ok(Server {
        name: name.to_owned(),
        address,
        engine,
        role,
    })
}

fn ports_free(args: &UpArgs, servers: &[Server]) -> Result<(), Usage> {
    for server in servers {
        for port in [server.address.port(), server.address.grpc_port()] {
            dulse_transport::probe(&args.ip.to_string(), port).map_err(|e| {
                let flag = server.name.split(' ').next().unwrap_or_default();
                Usage(format!(
                    "cannot listen on {}:{port} for {}: {e}; stop what uses it or choose another \
                     port with --{flag}-port",
                    host(args.ip),
                    server.name
                ))
            })?;
        }
    }
    Ok(())
}
