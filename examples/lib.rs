//! Where the examples listen.

use std::{error::Error, net::SocketAddr};

use axum::Router;
use tokio::net::TcpListener;

/// Serves at the address that the first argument names, else at 127.0.0.1:3000.
///
/// # Errors
///
/// The address is none, or taken.
pub async fn serve(app: Router) -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    // With the addresses of clients: without them, all are counted as one.
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(listener, service).await?)
}
