// SPDX-License-Identifier: Apache-2.0
//! HTTP/1.1 by hand: what is sent is what was written, byte by byte.
//!
//! Client libraries clean paths, join headers and hide what a server sends early.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::PATIENCE;

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value, several joined by `, `; `None` when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let values = self.headers.iter().filter(|(n, _)| n == name);
        let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection whose bytes are written as they are given.
#[derive(Debug)]
pub struct Raw {
    stream: BufReader<TcpStream>,
}

impl Raw {
    /// Connects to a port of this machine.
    ///
    /// # Errors
    ///
    /// When nothing listens there.
    pub async fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let stream = BufReader::new(stream);
        Ok(Self { stream })
    }

    /// Writes bytes.
    ///
    /// # Errors
    ///
    /// When the other side has closed.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes).await?)
    }

    /// Writes the head of a request; `Host` is added, nothing else.
    ///
    /// # Errors
    ///
    /// When the other side has closed.
    pub async fn head(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: filer\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.send(head.as_bytes()).await
    }

    /// Reads an answer; `is_head` says that no body follows whatever its length.
    ///
    /// # Errors
    ///
    /// When it is cut off, is no HTTP, or does not come in time.
    pub async fn answer(&mut self, is_head: bool) -> Result<Answer> {
        let read = tokio::time::timeout(PATIENCE, self.read(is_head));
        read.await.context("no answer in time")?
    }

    /// Reads some of what arrives, at most `n` bytes; none at the end.
    ///
    /// # Errors
    ///
    /// When nothing comes in time.
    pub async fn some(&mut self, n: usize, within: Duration) -> Result<Vec<u8>> {
        let mut bytes = vec![0; n];
        let got = tokio::time::timeout(within, self.stream.read(&mut bytes)).await??;
        bytes.truncate(got);
        Ok(bytes)
    }

    async fn read(&mut self, is_head: bool) -> Result<Answer> {
        let line = self.line().await?;
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status: u16 = status.with_context(|| format!("no status line: `{line}`"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("no header line")?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        if !is_head && status >= 200 && status != 204 && status != 304 {
            answer.body = self.body(&answer).await?;
        }
        Ok(answer)
    }

    async fn body(&mut self, answer: &Answer) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        if answer.header("transfer-encoding").as_deref() == Some("chunked") {
            loop {
                let line = self.line().await?;
                let n = usize::from_str_radix(line.split(';').next().unwrap_or(""), 16)
                    .with_context(|| format!("no chunk length: `{line}`"))?;
                let start = body.len();
                body.resize(start + n, 0);
                self.stream.read_exact(&mut body[start..]).await?;
                self.line().await?;
                if n == 0 {
                    return Ok(body);
                }
            }
        }
        match answer.header("content-length") {
            Some(n) => {
                body.resize(n.parse()?, 0);
                self.stream.read_exact(&mut body).await?;
            }
            None => drop(self.stream.read_to_end(&mut body).await?),
        }
        Ok(body)
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).await?;
        if line.pop() != Some(b'\n') {
            bail!(
                "the connection ended within `{}`",
                String::from_utf8_lossy(&line)
            );
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

/// One request on a connection of its own; the body's length is added.
///
/// # Errors
///
/// Those of [`Raw`].
pub async fn ask(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let mut raw = Raw::connect(port).await?;
    let length = body.len().to_string();
    let mut all = headers.to_vec();
    if !body.is_empty() || matches!(method, "PUT" | "POST") {
        all.push(("Content-Length", &length));
    }
    raw.head(method, path, &all).await?;
    raw.send(body).await?;
    raw.answer(method == "HEAD").await
}
