//! Uploads of guests, 5 an hour for each client; who is signed in is not limited. (Masonite's `GuestsOnlyLimiter`.)
//!
//! ```sh
//! cargo run -p examples --bin upload
//! curl -X POST http://127.0.0.1:3000/upload                         # the sixth is denied
//! curl -X POST -H 'Authorization: Bearer ann' http://127.0.0.1:3000/upload
//! ```

use std::error::Error;

use axum::{
    Router,
    http::{header::AUTHORIZATION, request::Parts},
    routing::post,
};
use examples::serve;
use tollgate::{limiter::Limiter, policy::Rule};
use tollgate_tower::RateLimitLayer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Registered once, and referred to by name wherever it holds.
    let limits = Limiter::of([Rule::of("api", "5/hour")?.guests_only()])?;

    let app = Router::new()
        .route("/upload", post(|| async { "thank you\n" }))
        .layer(RateLimitLayer::from(limits.named("api")?).user(signed_in));
    serve(app).await
}

/// In a real service, whatever your sessions say.
fn signed_in(request: &Parts) -> Option<String> {
    let credentials = request.headers.get(AUTHORIZATION)?.to_str().ok()?;
    credentials.strip_prefix("Bearer ").map(str::to_owned)
}
