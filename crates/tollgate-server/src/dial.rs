//! A new connection to an upstream.

use std::{io, time::Duration};

use tokio::{net::TcpStream, time::timeout};
use tollgate::config::Upstream;

use crate::failure::Failure;

/// Connects, trying every address of the name in turn.
pub(crate) async fn dial(upstream: &Upstream, within: Duration) -> Result<TcpStream, Failure> {
    let stream = timeout(within, connect(upstream)).await.map_err(|_| Failure::ConnectTimeout)??;
    // Nobody here writes less than there is to say, so waiting for more to send with it only delays it.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn connect(upstream: &Upstream) -> Result<TcpStream, Failure> {
    let addresses =
        tokio::net::lookup_host((upstream.host.as_str(), upstream.port)).await.map_err(|_| Failure::Unresolved)?;
    let mut failure = Failure::Unresolved;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => failure = Failure::Refused,
            Err(_) => failure = Failure::Unreachable,
        }
    }
    Err(failure)
}
