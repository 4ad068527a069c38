//! A connection that has left HTTP behind: joined with the upstream's, beginning with what each side has sent already.

use std::time::Duration;

use bytes::Bytes;
use tracing::debug;

use crate::{
    activity::Activity,
    client_stream::ClientStream,
    pool::Leftover,
    relay::{self, Side},
};

/// Joins a client with its upstream.
pub(crate) async fn relay(
    mut client: ClientStream,
    from_client: Bytes,
    upstream: Leftover,
    activity: &Activity,
    idle: Duration,
) {
    // Not idle like a connection between two requests, and not to be closed like one.
    activity.begin_working();
    let Ok(parts) = upstream.await else { return };
    let mut upstream = parts.io.into_inner().stream;
    let client = Side { stream: &mut client, told_first: parts.read_buf.into() };
    let upstream = Side { stream: &mut upstream, told_first: from_client.into() };
    if let Err(error) = relay::relay(client, upstream, activity, idle).await {
        debug!(%error, "upgraded connection ended early: {error}");
    }
}
