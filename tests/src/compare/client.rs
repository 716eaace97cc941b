// SPDX-License-Identifier: Apache-2.0
//! Requests that both systems' filers answer.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use reqwest::Method;
use tonic::transport::Channel;

use super::tree::{Tree, tree_of};

/// How long one request may take: a filer that is frozen answers never.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(20);

/// Sends requests to the filers of one cluster.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// The filers' HTTP ports.
    pub ports: Vec<u16>,
}

impl Client {
    pub(super) fn new() -> Result<Self> {
        let http = reqwest::Client::builder();
        Ok(Self {
            http: http.timeout(REQUEST_TIME_MAX).build()?,
            ports: Vec::new(),
        })
    }

    fn url(&self, filer: usize, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[filer])
    }

    /// A client of a filer's gRPC interface.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn grpc(&self, filer: usize) -> Result<SeaweedFilerClient<Channel>> {
        let port = self.ports[filer] + 10_000;
        Ok(SeaweedFilerClient::connect(format!("http://127.0.0.1:{port}")).await?)
    }

    /// The status of a request.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn ask(&self, filer: usize, method: Method, path: &str, body: &[u8]) -> Result<u16> {
        let request = self.http.request(method, self.url(filer, path));
        let answer = request.body(body.to_vec()).send().await?;
        let status = answer.status().as_u16();
        answer.bytes().await?;
        Ok(status)
    }

    /// Writes a file.
    ///
    /// # Errors
    ///
    /// When it is not acknowledged.
    pub async fn put(&self, filer: usize, path: &str, content: &[u8]) -> Result<()> {
        let status = self.ask(filer, Method::PUT, path, content).await?;
        ensure!(status == 201, "put {path}: {status}");
        Ok(())
    }

    /// Makes a directory.
    ///
    /// # Errors
    ///
    /// When it is not acknowledged.
    pub async fn mkdir(&self, filer: usize, path: &str) -> Result<()> {
        let status = self
            .ask(filer, Method::POST, &format!("{path}/"), b"")
            .await?;
        ensure!(status == 201, "mkdir {path}: {status}");
        Ok(())
    }

    /// Deletes a file, or a directory with all that is in it.
    ///
    /// # Errors
    ///
    /// When it is not acknowledged.
    pub async fn delete(&self, filer: usize, path: &str) -> Result<()> {
        let path = format!("{path}?recursive=true");
        let status = self.ask(filer, Method::DELETE, &path, b"").await?;
        ensure!(status == 204, "delete {path}: {status}");
        Ok(())
    }

    /// Renames.
    ///
    /// # Errors
    ///
    /// When it is not acknowledged.
    pub async fn rename(&self, filer: usize, from: &str, to: &str) -> Result<()> {
        let path = format!("{to}?mv.from={from}");
        let status = self.ask(filer, Method::POST, &path, b"").await?;
        ensure!(status == 204, "rename {from} {to}: {status}");
        Ok(())
    }

    /// The content of a file; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// When the filer does not answer as it should.
    pub async fn get(&self, filer: usize, path: &str) -> Result<Option<Vec<u8>>> {
        let answer = self.http.get(self.url(filer, path)).send().await?;
        match answer.status().as_u16() {
            200 => Ok(Some(answer.bytes().await?.to_vec())),
            404 => Ok(None),
            other => bail!("get {path}: {other}"),
        }
    }

    /// All that a filer shows below a directory.
    ///
    /// # Errors
    ///
    /// When it does not answer as it should.
    pub async fn tree(&self, filer: usize, dir: &str) -> Result<Tree> {
        let base = self.url(filer, "");
        let tree = tree_of(&self.http, &base, dir).await;
        tree.with_context(|| format!("list {dir} at filer {filer}"))
    }
}
