//! 10 a minute on GET of one resource, none of it for one client, and the headers that Flask-Limiter sends.
//!
//! ```sh
//! cargo run -p examples --bin resource
//! curl -i http://127.0.0.1:3000/slow                 # the eleventh is denied
//! curl -i -X POST http://127.0.0.1:3000/slow         # not limited
//! curl -i --interface 127.0.0.2 http://127.0.0.1:3000/slow   # exempt
//! ```

use std::error::Error;

use axum::{Router, routing::get};
use examples::serve;
use tollgate::{
    headers::{Dialect, Dialects},
    policy::Rule,
};
use tollgate_tower::RateLimitLayer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // X-RateLimit-Limit, -Remaining and -Reset on every answer, Retry-After on a denial.
    let like_flask = Dialects::new(vec![Dialect::XRateLimit]).unwrap_or_default();
    let slow = Rule::of("slow", "10/minute")?
        .methods(["GET"])
        .exempting(["127.0.0.2".parse()?].into_iter().collect())
        .telling(like_flask);

    let app = Router::new()
        .route("/slow", get(|| async { "24\n" }).post(|| async { "24\n" }).layer(RateLimitLayer::of(slow)?))
        .route("/ping", get(|| async { "PONG\n" }));
    serve(app).await
}
