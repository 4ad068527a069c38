//! A gRPC service of tonic, 3 calls a minute for each client; the fourth gets RESOURCE_EXHAUSTED (8). Serves and calls itself.
//!
//! ```sh
//! cargo run -p examples --bin grpc
//! ```

use std::error::Error;

use tollgate::limiter::Limiter;
use tollgate_tower::RateLimitLayer;
use tonic::{
    body::Body,
    transport::{
        Channel, Server,
        server::{TcpConnectInfo, TcpIncoming},
    },
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // An answer of gRPC has no body, and tonic keeps the client's address in a place of its own.
    let layer = RateLimitLayer::with_body(Limiter::allowing("3/minute")?, |_| Body::empty())
        .peer(|request| Some(request.extensions.get::<TcpConnectInfo>()?.remote_addr()?.ip()));

    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    let address = incoming.local_addr()?;
    let (_, health) = tonic_health::server::health_reporter();
    tokio::spawn(Server::builder().layer(layer).add_service(health).serve_with_incoming(incoming));

    let channel = Channel::from_shared(format!("http://{address}"))?.connect().await?;
    let mut client = HealthClient::new(channel);
    for call in 1..=4 {
        match client.check(HealthCheckRequest::default()).await {
            Ok(_) => println!("call {call}: ok"),
            Err(status) => {
                println!("call {call}: {:?} ({}), {}", status.code(), status.code() as i32, status.message())
            }
        }
    }
    Ok(())
}
