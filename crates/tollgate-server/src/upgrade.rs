//! A connection that has left HTTP behind: bytes copied both ways until either side ends or nothing moves any more.

use std::{io, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    time::{Instant, sleep_until},
};
use tracing::debug;

use crate::{activity::Activity, client_stream::ClientStream, pool::Leftover};

/// Joins a client with its upstream, beginning with what each has sent already.
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
    let (mut upstream, from_upstream) = (parts.io.into_inner(), parts.read_buf);
    let copying = async {
        upstream.write_all(&from_client).await?;
        client.write_all(&from_upstream).await?;
        copy_bidirectional(&mut client, &mut upstream).await?;
        io::Result::Ok(())
    };
    tokio::select! {
        result = copying => if let Err(error) = result {
            debug!(%error, "upgraded connection ended early: {error}");
        },
        () = nothing_moves(activity, idle) => debug!("upgraded connection timed out"),
    }
}

/// Every byte in either direction passes the client's socket, so its activity tells.
async fn nothing_moves(activity: &Activity, idle: Duration) {
    while let Some(deadline) = activity.last_moved().checked_add(idle) {
        if deadline <= Instant::now() {
            return;
        }
        sleep_until(deadline).await;
    }
    std::future::pending().await
}
