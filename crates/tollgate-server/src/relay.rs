//! Bytes copied both ways, of a TCP connection or of one that has left HTTP, until both sides have ended or nothing moves
//! any more.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncWriteExt, copy_bidirectional_with_sizes},
    net::TcpStream,
    time::{Instant, sleep_until},
};

use crate::{activity::Activity, client_stream::ClientStream};

/// One side of the copying, and what it is to be told before the other side's bytes.
pub(crate) struct Side<'a, S> {
    pub(crate) stream: &'a mut S,
    pub(crate) told_first: &'a [u8],
}

/// Copies until each side has said that it is done; one that has can still be written to. An error if a side fails, or if
/// no byte has moved for `idle`.
pub(crate) async fn relay(
    client: Side<'_, ClientStream>,
    upstream: Side<'_, TcpStream>,
    activity: &Activity,
    idle: Duration,
) -> io::Result<()> {
    let copying = async {
        upstream.stream.write_all(upstream.told_first).await?;
        client.stream.write_all(client.told_first).await?;
        copy_bidirectional_with_sizes(client.stream, upstream.stream, BUFFER_BYTES, BUFFER_BYTES).await
    };
    tokio::select! {
        copied = copying => copied.map(|_| ()),
        () = nothing_moves(activity, idle) => Err(io::ErrorKind::TimedOut.into()),
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

/// What a connection may hold in each direction.
const BUFFER_BYTES: usize = 16 * 1024;
