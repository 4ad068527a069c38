//! What becomes of bytes that a client still sends when it has its answer. To close a socket while bytes are waiting in
//! it makes the kernel reset the connection, and the client may lose an answer that it had not read yet.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task,
    time::timeout,
};

use crate::body::Upload;

/// Reads and drops the rest of a body beside the connection, which stays usable if it ends within the bounds, and is
/// closed by hyper if the rest is given up.
pub(crate) fn spawn(mut upload: Upload) {
    task::spawn_local(timeout(DRAINED_FOR, async move {
        let mut left = DRAINED_BYTES;
        while let Some(Ok(frame)) = upload.frame().await {
            let bytes = frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
            if bytes > left {
                return;
            }
            left -= bytes;
        }
    }));
}

/// Says to the client that nothing more will come, and reads until it has closed its side too.
pub(crate) async fn linger(mut stream: TcpStream) {
    let reading = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut dropped = vec![0; 16 * 1024];
        let mut left = LINGERED_BYTES;
        while let Ok(count @ 1..) = stream.read(&mut dropped).await {
            match left.checked_sub(count) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // An error means that the connection is gone, and the time being over that it soon will be.
    let _ = timeout(DRAINED_FOR, reading).await;
}

/// Reading a small rest is cheaper than a new connection; a large one is not.
pub(crate) const DRAINED_BYTES: u64 = 256 * 1024;
/// Ample for what was on the way when the answer went out.
const DRAINED_FOR: Duration = Duration::from_secs(1);
/// More than kernels buffer, so that a client which stops at our answer is heard to its end.
const LINGERED_BYTES: usize = 16 * 1024 * 1024;
