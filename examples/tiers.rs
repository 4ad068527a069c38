//! Premium users are not limited, users have 10 a day, guests 2: decided for each request, without a restart.
//!
//! ```sh
//! cargo run -p examples --bin tiers
//! curl http://127.0.0.1:3000/                         # the third is denied
//! curl -H 'X-User: ann' http://127.0.0.1:3000/        # the eleventh is
//! curl -H 'X-User: eve' http://127.0.0.1:3000/        # premium
//! ```

use std::error::Error;

use axum::{Router, http::request::Parts, routing::get};
use examples::serve;
use tollgate::{policy::Rule, quota::Limits};
use tollgate_tower::{Limited, RateLimitLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let guests = Rule::of("api", Limits::per_day(2))?.by(["user"])?;
    let layer = RateLimitLayer::of(guests)?.user(signed_in).limits(|request| match signed_in(request)?.as_str() {
        "eve" => Some(Limits::unlimited()),
        _ => Some(Limits::per_day(10)),
    });
    let app = Router::new().route("/", get(hello)).layer(layer);
    serve(app).await
}

async fn hello(limited: Limited) -> String {
    match limited.remaining() {
        Some(remaining) => format!("{remaining} left today\n"),
        None => "as many as you like\n".to_owned(),
    }
}

/// In a real service, whatever your sessions say: no client may choose his name.
fn signed_in(request: &Parts) -> Option<String> {
    request.headers.get("x-user")?.to_str().ok().map(str::to_owned)
}
