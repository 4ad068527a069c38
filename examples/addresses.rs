//! Limits by address, for a subnet, for a subnet as one client, and for everybody. (Pode's `limit`.)
//!
//! Behind a proxy on this machine, so that you can be whoever you like:
//!
//! ```sh
//! cargo run -p examples --bin addresses
//! curl -H 'X-Forwarded-For: 192.0.2.1' http://127.0.0.1:3000/    # 5 in 10 s
//! curl -H 'X-Forwarded-For: 10.10.0.1' http://127.0.0.1:3000/    # 5 a minute for each address of it
//! curl -H 'X-Forwarded-For: 10.20.0.1' http://127.0.0.1:3000/    # 5 a minute for all of it together
//! curl -H 'X-Forwarded-For: 2001:db8::1' http://127.0.0.1:3000/  # 10 a minute, like everybody
//! ```

use std::error::Error;

use axum::{Router, routing::get};
use examples::serve;
use tollgate::{config::Surroundings, limiter::Limiter};
use tollgate_tower::RateLimitLayer;

const POLICY: &str = "
trusted_proxies: [{ from: [127.0.0.1, '::1'], header: X-Forwarded-For }]
rules:
  - { name: two, match: { client: [192.0.2.1, 192.0.2.2] }, limit: 5/10 seconds }
  - { name: each, match: { client: 10.10.0.0/24 }, limit: 5/minute }
  - { name: grouped, match: { client: 10.20.0.0/24 }, limit: 5/minute, by: subnet }
  - { name: all, limit: 10/minute }
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let limiter = Limiter::from_policy(POLICY, &Surroundings::none())?;
    let app = Router::new().route("/", get(|| async { "hello\n" })).layer(RateLimitLayer::from(limiter));
    serve(app).await
}
