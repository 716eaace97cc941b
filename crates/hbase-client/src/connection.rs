// SPDX-License-Identifier: Apache-2.0
//! One connection to one service of one server, shared by many callers.
//!
//! Calls are numbered; a task writes them, another reads answers and hands them out. Whatever
//! breaks ends the connection, and everybody who waits is told that the answer is lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::error::{Error, of_exception};
use crate::frame::{self, Response};
use crate::zookeeper::Address;
use crate::{FRAME_BYTES_MAX, pb};

/// How long a connection may take until it stands.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Calls that wait for answers at a time.
const CALLS_MAX: usize = 256;

/// Memory that a frame gets before its bytes are there.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// Requests are written together up to about so many bytes.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Who waits, by number; none once the connection is over.
type Waiting = Mutex<Option<HashMap<u32, oneshot::Sender<Result<Bytes, Error>>>>>;

struct Shared {
    address: Address,
    waiting: Waiting,
    /// Answers that came, to tell a server that is slow from one that is gone.
    n_answers: AtomicU64,
    is_over: AtomicBool,
}

/// A connection; it ends when it is dropped.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Bytes>,
    next_call: AtomicU32,
    calls: Semaphore,
    tasks: [JoinHandle<()>; 2],
}

impl Connection {
    /// Connects to a service, such as `ClientService`.
    ///
    /// # Errors
    ///
    /// `Unavailable`; nothing was written.
    pub(crate) async fn open(address: &Address, service: &str, user: &str) -> Result<Self, Error> {
        let failed = |why: String| Error::unreachable(format!("{address}: {why}"));
        let connecting = async {
            let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
            stream.set_nodelay(true)?;
            stream.write_all(&frame::hello(service, user)).await?;
            Ok::<_, std::io::Error>(stream)
        };
        let connected = tokio::time::timeout(CONNECT_TIME_MAX, connecting).await;
        let stream = connected
            .map_err(|_| failed(format!("no connection in {} s", CONNECT_TIME_MAX.as_secs())))?
            .map_err(|e| failed(e.to_string()))?;
        let (read, write) = stream.into_split();
        let (requests, queue) = mpsc::channel(CALLS_MAX);
        let shared = Arc::new(Shared {
            address: address.clone(),
            waiting: Mutex::new(Some(HashMap::new())),
            n_answers: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let (reading, writing) = (Arc::clone(&shared), Arc::clone(&shared));
        let tasks = [
            tokio::spawn(async move {
                let why = read_all(read, &reading).await;
                reading.end(&why);
            }),
            tokio::spawn(async move {
                if let Err(error) = write_all(write, queue).await {
                    writing.end(&error.to_string());
                }
            }),
        ];
        Ok(Self {
            shared,
            requests,
            next_call: AtomicU32::new(1),
            calls: Semaphore::new(CALLS_MAX),
            tasks,
        })
    }

    /// Whether it takes no more calls.
    pub(crate) fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Acquire)
    }

    /// Calls a method and waits for its answer until `until`.
    ///
    /// # Errors
    ///
    /// What the server says; a lost or late answer leaves the outcome unknown.
    pub(crate) async fn call<T: Message + Default>(
        &self,
        method: &str,
        message: &impl Message,
        until: Instant,
    ) -> Result<T, Error> {
        let limit = until.saturating_duration_since(Instant::now());
        let busy = || {
            Error::new(
                crate::ErrorKind::Unavailable,
                "too many calls are under way",
            )
        };
        let permit = tokio::time::timeout(limit, self.calls.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return Err(busy());
        };
        let limit = until.saturating_duration_since(Instant::now());
        let call = self.next_call.fetch_add(1, Ordering::Relaxed);
        let header = pb::RequestHeader {
            call_id: Some(call),
            method_name: Some(method.to_owned()),
            request_param: Some(true),
            timeout: Some(u32::try_from(limit.as_millis()).unwrap_or(u32::MAX).max(1)),
        };
        let request = frame::request(&header, message);
        if request.len() > FRAME_BYTES_MAX {
            let text = format!(
                "a request of {} bytes; at most {FRAME_BYTES_MAX}",
                request.len()
            );
            return Err(Error::new(crate::ErrorKind::TooLarge, text));
        }
        let (answer, answered) = oneshot::channel();
        match self.shared.waiting.lock().as_mut() {
            Some(waiting) => drop(waiting.insert(call, answer)),
            None => return Err(self.shared.gone()),
        }
        let _forgotten = Forget(&self.shared, call);
        let n_before = self.shared.n_answers.load(Ordering::Relaxed);
        match tokio::time::timeout(limit, self.requests.send(request)).await {
            Ok(Ok(())) => {}
            // It never reached the task that writes.
            Ok(Err(_)) => return Err(self.shared.gone()),
            Err(_) => {
                self.shared.end("it takes no requests");
                return Err(busy());
            }
        }
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(answer)) => {
                let message = T::decode(answer?);
                message.map_err(|e| Error::protocol(format!("{method}: {e}")))
            }
            Ok(Err(_)) => Err(Error::lost(format!("{}: it is gone", self.shared.address))),
            Err(_) => {
                // One that has answered nobody meanwhile is not met again.
                if self.shared.n_answers.load(Ordering::Relaxed) == n_before {
                    self.shared.end("no answer came in time");
                }
                Err(Error::late(limit))
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Nobody waits for the call any more, however that came.
struct Forget<'a>(&'a Shared, u32);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.0.waiting.lock().as_mut() {
            waiting.remove(&self.1);
        }
    }
}

impl Shared {
    fn gone(&self) -> Error {
        Error::unreachable(format!("{}: the connection is over", self.address))
    }

    /// Ends it; who waits is told that the answer is lost.
    fn end(&self, why: &str) {
        self.is_over.store(true, Ordering::Release);
        let waiting = self.waiting.lock().take();
        for (_, answer) in waiting.into_iter().flatten() {
            let text = format!("{}: the answer is lost: {why}", self.address);
            let _ = answer.send(Err(Error::lost(text)));
        }
    }

    fn hand_out(&self, response: Response) {
        self.n_answers.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.waiting.lock();
        let answer = waiting.as_mut().and_then(|all| all.remove(&response.call));
        drop(waiting);
        // Who gave up does not wait.
        if let Some(answer) = answer {
            let _ = answer.send(response.outcome.map_err(|thrown| of_exception(&thrown)));
        }
    }
}

async fn write_all(
    mut stream: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Bytes>,
) -> std::io::Result<()> {
    while let Some(first) = queue.recv().await {
        let Ok(mut next) = queue.try_recv() else {
            stream.write_all(&first).await?;
            continue;
        };
        // What waits behind it goes with it.
        let mut all = BytesMut::from(first);
        loop {
            all.extend_from_slice(&next);
            match queue.try_recv() {
                Ok(more) if all.len() < WRITE_BYTES_MAX => next = more,
                Ok(last) => {
                    all.extend_from_slice(&last);
                    break;
                }
                Err(_) => break,
            }
        }
        stream.write_all(&all).await?;
    }
    Ok(())
}

/// Reads answers until something is wrong; says what.
async fn read_all(mut stream: impl AsyncRead + Unpin, shared: &Shared) -> String {
    loop {
        let frame = match read(&mut stream).await {
            Ok(frame) => frame,
            Err(error) => return error.to_string(),
        };
        match frame::decode_response(frame) {
            Ok(response) => shared.hand_out(response),
            Err(error) => return error.to_string(),
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Bytes> {
    let len = stream.read_u32().await? as usize;
    if len > FRAME_BYTES_MAX {
        let text = format!("a frame of {len} bytes; at most {FRAME_BYTES_MAX}");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, text));
    }
    let mut frame = BytesMut::with_capacity(len.min(READ_AHEAD_BYTES));
    while frame.len() < len {
        // No length that is only claimed takes memory.
        let n_left = len - frame.len();
        frame.reserve(n_left.min(READ_AHEAD_BYTES.max(frame.len())));
        if (&mut *stream)
            .take(n_left as u64)
            .read_buf(&mut frame)
            .await?
            == 0
        {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(frame.freeze())
}
