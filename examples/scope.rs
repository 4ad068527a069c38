//! All routes of a scope share a limit by header, behind a proxy that is trusted, with a plain answer. (Itsi's `rate_limit`.)
//!
//! ```sh
//! cargo run -p examples --bin scope
//! curl -H 'X-Api-Key: k' http://127.0.0.1:3000/api/orders    # three a minute, whichever of the two
//! curl -H 'X-Api-Key: k' http://127.0.0.1:3000/api/users
//! curl -H 'X-Forwarded-For: 203.0.113.7' http://127.0.0.1:3000/api/users   # no key: by client
//! ```

use std::error::Error;

use axum::{Router, routing::get};
use examples::serve;
use tollgate::{config::Surroundings, limiter::Limiter};
use tollgate_tower::RateLimitLayer;

const POLICY: &str = "
trusted_proxies: [{ from: 127.0.0.1, header: X-Forwarded-For }]
headers: x-ratelimit-delta
rules:
  - name: api
    limit: 3/minute
    by: header:X-Api-Key
    on_limit: { body: { plain: 'Slow down, {retry_after} s to go' }, default: plain }
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let limiter = Limiter::from_policy(POLICY, &Surroundings::none())?;
    let api = Router::new()
        .route("/orders", get(|| async { "orders\n" }))
        .route("/users", get(|| async { "users\n" }))
        .layer(RateLimitLayer::from(limiter.named("api")?));
    serve(Router::new().nest("/api", api)).await
}
