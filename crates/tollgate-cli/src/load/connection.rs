//! One connection to the server, kept for the next request when an answer has been read to its end.

use std::{io, time::Duration};

use bytes::Bytes;
use http::response;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task, time::timeout};

use super::{tally::Outcome, target::Target};

/// A connection that can take a request.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Whether it has answered before. A server closes one that idles, perhaps while a request is on its way.
    is_used: bool,
}

impl Connection {
    /// The one that was kept if it is still good, else a new one.
    pub(super) async fn kept_or_new(kept: Option<Self>, target: &Target) -> io::Result<Self> {
        if let Some(mut kept) = kept
            && matches!(timeout(READY_WITHIN, kept.sender.ready()).await, Ok(Ok(())))
        {
            return Ok(kept);
        }
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
        let stream = timeout(CONNECTED_WITHIN, TcpStream::connect(&*target.addresses)).await.map_err(late)??;
        // Requests are written whole, so waiting for more to send with them only delays them.
        let _ = stream.set_nodelay(true);
        let handshake = http1::Builder::new().max_buf_size(BUFFER_BYTES).handshake(TokioIo::new(stream));
        let (sender, http) = handshake.await.map_err(io::Error::other)?;
        // How it ends, whoever waits for an answer hears.
        task::spawn_local(async move { _ = http.await });
        Ok(Self { sender, is_used: false })
    }

    /// Sends the request, and reads the answer to its end; `on_head` sees its head as soon as that is here. Gives the connection
    /// back if it can be kept.
    pub(super) async fn send(
        mut self,
        target: &Target,
        on_head: impl FnOnce(&response::Parts),
    ) -> (Outcome, Option<Self>) {
        // Whoever asks to wait need not finish saying so.
        let mut limited = None;
        let answer = async {
            let response = match self.sender.send_request(target.request()).await {
                Ok(response) => response,
                // Either it was never sent, or it makes no difference whether it was.
                Err(error) if self.is_used && (error.is_canceled() || target.method.is_idempotent()) => {
                    return (Outcome::ClosedWhenIdle, false);
                }
                Err(_) => return (Outcome::BrokenOff, false),
            };
            let (head, mut body) = response.into_parts();
            on_head(&head);
            limited = Some(Outcome::Answered(head.status)).filter(|outcome| outcome.is_limited());
            let mut read = 0;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return (Outcome::BrokenOff, false) };
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > MAX_ANSWER_BYTES {
                    return (Outcome::Answered(head.status), false);
                }
            }
            (Outcome::Answered(head.status), true)
        };
        let (outcome, is_whole) = timeout(ANSWERED_WITHIN, answer).await.unwrap_or((Outcome::Late, false));
        (limited.unwrap_or(outcome), is_whole.then_some(Self { is_used: true, ..self }))
    }
}

const CONNECTED_WITHIN: Duration = Duration::from_secs(5);
/// From the request's first byte to the answer's last.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// The time for a connection to see that its answer has ended; at once, unless it is still sending the request.
const READY_WITHIN: Duration = Duration::from_millis(100);
/// What is read of an answer, and dropped; of a longer one the rest is not waited for, and the connection is closed.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// What a connection holds of an answer, and its largest head.
const BUFFER_BYTES: usize = 64 << 10;
