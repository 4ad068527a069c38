//! Decides plain requests on their way from the socket to hyper, and answers here those that are denied.
//!
//! That is what a flood is made of, and hyper takes most of a denial's time for maps of headers: the request's, which is not
//! passed on, and the answer's, which is taken apart again at once. A plain request that is allowed goes on to hyper, which
//! reads it for itself; the decision goes with it, in the connection's activity.
//!
//! It all depends on hyper holding nothing that it has not served, or what is read here could be the middle of something else.
//! So it goes on for as long as the connection brings one plain request at a time, and never begins again.

use std::{
    io::{self, IoSlice},
    mem::{self, MaybeUninit},
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, UNIX_EPOCH},
};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tollgate::{answer::Answer, clock::Timestamp, config::ListenerLimits, policy::Terms};

use crate::{
    activity::Activity,
    client_stream::ClientStream,
    gate::Door,
    plain::{Plain, Room},
    service,
};

/// A client's socket as hyper reads it: without the requests that are denied early.
pub(crate) struct Early {
    stream: ClientStream,
    activity: Rc<Activity>,
    door: Rc<Door>,
    peer: IpAddr,
    limits: ListenerLimits,
    /// Everything that came was plain, so that hyper holds nothing.
    goes_on: bool,
    /// An answer on its way, and how much of it is out.
    answer: Option<(Vec<u8>, usize)>,
    date: Date,
}

impl Early {
    /// For a connection from which hyper has read nothing yet, and will read within these limits.
    pub(crate) fn new(
        stream: ClientStream,
        activity: Rc<Activity>,
        door: Rc<Door>,
        peer: IpAddr,
        limits: ListenerLimits,
    ) -> Self {
        Self { stream, activity, door, peer, limits, goes_on: true, answer: None, date: Date::default() }
    }

    pub(crate) fn into_stream(self) -> ClientStream {
        self.stream
    }

    /// Takes a request that was just read, if it is a plain one and denied. Otherwise it is hyper's.
    fn take(&mut self, read: &[u8], is_beginning: bool) -> bool {
        // Until it is known that this is a plain one.
        if !mem::take(&mut self.goes_on) || !is_beginning {
            return false;
        }
        let gate = self.door.gate();
        let mut room: Room<'_> = [const { MaybeUninit::uninit() }; _];
        let Some(plain) = Plain::read(read, &mut room, &self.limits) else { return false };
        let asked = plain.as_asked(gate.front.listener_name(), self.peer);
        // If another store has to be asked, the service does that.
        let Ok(decision) = gate.front.limiter.begin(&asked, &Terms::default()) else { return false };
        service::note(&gate, &decision, &asked, plain.names());
        self.goes_on = true;
        let date = self.date.at(decision.at());
        let Some(answer) = decision.answer(&plain).and_then(|answer| written(&answer, date)) else {
            self.activity.keep_decision(decision);
            return false;
        };
        self.activity.begin_answering();
        self.answer = Some((answer, 0));
        true
    }

    /// Ready when no answer is on its way of which hyper knows nothing.
    fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((answer, sent)) = &mut self.answer {
            *sent += match ready!(Pin::new(&mut self.stream).poll_write(cx, &answer[*sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => count,
            };
            if *sent == answer.len() {
                self.answer = None;
                self.activity.answer_written();
                self.activity.flushed();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Early {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_answered(cx))?;
            let is_beginning = self.activity.is_between_requests();
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            if !self.take(&buf.filled()[before..], is_beginning) {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(before);
        }
    }
}

impl AsyncWrite for Early {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper does this whenever it has nothing to write itself, and before it shuts down.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answered(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer as it goes out, if it is one of the usual: others are hyper's to write.
fn written(answer: &Answer<'_>, date: &str) -> Option<Vec<u8>> {
    let status = StatusCode::from_u16(answer.status_code).ok()?;
    let reason = status.canonical_reason()?;
    if answer.close || answer.has_own_headers() || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    let mut bytes = Vec::with_capacity(HEAD_BYTES + answer.body.len());
    let put = |bytes: &mut Vec<u8>, texts: &[&str]| {
        texts.iter().for_each(|text| bytes.extend_from_slice(text.as_bytes()));
    };
    put(&mut bytes, &["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"]);
    answer.tell(|name, value, _| {
        // In lower case, as hyper writes them.
        let start = bytes.len();
        put(&mut bytes, &[name]);
        bytes[start..].make_ascii_lowercase();
        put(&mut bytes, &[": ", value, "\r\n"]);
    });
    let mut digits = itoa::Buffer::new();
    put(&mut bytes, &["content-length: ", digits.format(answer.body.len()), "\r\ndate: ", date, "\r\n\r\n"]);
    put(&mut bytes, &[&answer.body]);
    Some(bytes)
}

/// Room for the head of an answer about some rules.
const HEAD_BYTES: usize = 512;

/// The time as answers tell it, written anew when it is another second.
#[derive(Default)]
struct Date {
    second: u64,
    text: String,
}

impl Date {
    fn at(&mut self, at: Timestamp) -> &str {
        /// The end of the year 9999, after which there are no dates.
        const LAST: u64 = 253_402_300_799;
        let second = (at.as_micros() / 1_000_000).min(LAST);
        if self.text.is_empty() || self.second != second {
            self.text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            self.second = second;
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_its_second() {
        let mut date = Date::default();
        for (micros, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777_000_000, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_777_999_999, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_778_000_000, "Sun, 06 Nov 1994 08:49:38 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(date.at(Timestamp::from_micros(micros)), expected);
        }
    }
}
