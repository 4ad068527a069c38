//! 300 in 30 seconds with an answer in JSON, as in the snippet for Flask and Redis that everybody knows. It lets 299 pass;
//! here, 300 do. `--silent` turns the headers off.
//!
//! The rule is a policy file, so that the same one can be given to `tollgate serve`.
//!
//! ```sh
//! cargo run -p examples --bin hits -- 127.0.0.1:3000 [--silent]
//! curl -i http://127.0.0.1:3000/rate-limited
//! ```

use std::error::Error;

use axum::{Json, Router, routing::get};
use examples::serve;
use tollgate::{config::Surroundings, limiter::Limiter};
use tollgate_tower::RateLimitLayer;

const POLICY: &str = r#"
rules:
  - name: hits
    match: { path: /rate-limited }
    limit: 300/30 seconds
    by: [client, route]
    on_limit:
      body: { json: '{"data": "You hit the rate limit", "error": 429}' }
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let is_silent = std::env::args().any(|argument| argument == "--silent");
    let policy = if is_silent { format!("headers: []\n{POLICY}") } else { POLICY.to_owned() };
    let limiter = Limiter::from_policy(&policy, &Surroundings::none())?;

    let app = Router::new()
        .route("/rate-limited", get(|| async { Json("This is a rate limited response") }))
        .layer(RateLimitLayer::from(limiter));
    serve(app).await
}
