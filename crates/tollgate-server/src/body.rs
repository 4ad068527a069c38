//! Bodies on their way: the request's towards the upstream, the answer's towards the client. Neither is ever held,
//! each passes frame by frame, and is noted in the connection's activity.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    activity::{Activity, UploadState},
    drain,
    failure::Failure,
    gate::Gate,
    pool::Connection,
    request::Arrived,
};

/// The body of a client's request, on its way to the upstream or to nowhere.
pub(crate) struct Upload {
    incoming: Incoming,
    activity: Rc<Activity>,
    /// By which the activity knows it; `None` without a body.
    turn: Option<u64>,
}

impl Upload {
    pub(crate) fn new(incoming: Incoming, activity: Rc<Activity>) -> Self {
        let turn = if incoming.is_end_stream() { None } else { Some(activity.open_upload()) };
        Self { incoming, activity, turn }
    }

    /// Nobody will read this body. What there is of it is dropped while the connection lives on, if it ends soon;
    /// `true` says that it will not, so the connection must be closed after the answer.
    pub(crate) fn dispose(self, arrived: &Arrived) -> bool {
        if self.is_end_stream() {
            return false;
        }
        // A client that waits for a 100 and gets something else may send the body all the same, or not: what comes next
        // could be either, so nothing that comes next may be read.
        if arrived.expects_continue || self.size_hint().lower() > drain::DRAINED_BYTES {
            return true;
        }
        drain::spawn(self);
        false
    }

    fn note(&self, state: UploadState) {
        if let Some(turn) = self.turn {
            self.activity.note_upload(turn, state);
        }
    }

    pub(crate) async fn read_to_end(&mut self) -> hyper::Result<()> {
        while let Some(frame) = self.frame().await {
            frame?;
        }
        Ok(())
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        let state = match &frame {
            Poll::Pending => UploadState::Wanted,
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => UploadState::Done,
            Poll::Ready(Some(Ok(_))) => UploadState::Open,
            Poll::Ready(Some(Err(_))) => UploadState::Broken,
            Poll::Ready(None) => UploadState::Done,
        };
        self.note(state);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.note(if self.is_end_stream() { UploadState::Done } else { UploadState::GivenUp });
    }
}

/// The body of an answer to a client.
pub(crate) struct ResponseBody {
    content: Content,
    activity: Rc<Activity>,
}

impl ResponseBody {
    /// A body of our own.
    pub(crate) fn whole(bytes: impl Into<Bytes>, activity: &Rc<Activity>) -> Self {
        let bytes: Bytes = bytes.into();
        Self::new(Content::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())), activity)
    }

    /// The upstream's, whose connection can serve another request when this one is through.
    pub(crate) fn streamed(incoming: Incoming, lease: Lease, activity: &Rc<Activity>) -> Self {
        if incoming.is_end_stream() {
            lease.give_back(activity.now());
            return Self::whole(Bytes::new(), activity);
        }
        Self::new(Content::Streamed { incoming, lease: Some(lease) }, activity)
    }

    fn new(content: Content, activity: &Rc<Activity>) -> Self {
        activity.begin_answering();
        Self { content, activity: Rc::clone(activity) }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { content, activity } = &mut *self;
        match content {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Streamed { incoming, lease } => {
                let frame = ready!(match lease {
                    Some(lease) => lease.connection.poll_body(incoming, cx),
                    None => Pin::new(&mut *incoming).poll_frame(cx),
                });
                let has_ended = frame.is_none() || incoming.is_end_stream();
                if let Some(Err(_)) = frame {
                    lease.take().inspect(Lease::complain);
                } else if has_ended && let Some(lease) = lease.take() {
                    lease.give_back(activity.now());
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_none(),
            Content::Streamed { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Streamed { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.activity.answer_written();
    }
}

/// An upstream connection while an answer comes from it. Dropped before the answer's end, it is closed.
pub(crate) struct Lease {
    pub(crate) gate: Rc<Gate>,
    pub(crate) connection: Connection,
}

impl Lease {
    fn give_back(self, now: Instant) {
        if let Some(pool) = &self.gate.pool {
            pool.give_back(self.connection, now);
        }
    }

    fn complain(&self) {
        self.gate.complain(Failure::BrokenOff);
    }
}

enum Content {
    Whole(Option<Bytes>),
    Streamed { incoming: Incoming, lease: Option<Lease> },
}
