//! 3 wrong passwords an hour; right ones do not count.
//!
//! Every attempt is charged when it comes, so that a thousand at one time do not slip through, and a right one is given back.
//!
//! ```sh
//! cargo run -p examples --bin login
//! curl -X POST -d wrong http://127.0.0.1:3000/login          # the fourth is denied
//! curl -X POST -d 'correct horse' http://127.0.0.1:3000/login
//! ```

use std::error::Error;

use axum::{Router, http::StatusCode, routing::post};
use examples::serve;
use tollgate_tower::RateLimitLayer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let failures = RateLimitLayer::new("3/hour")?
        .count(|response| response.status() == StatusCode::UNAUTHORIZED)
        .on_denied(|decision, _| eprintln!("{:?} guesses passwords", decision.client().address()));
    serve(Router::new().route("/login", post(login).layer(failures))).await
}

async fn login(password: String) -> Result<&'static str, StatusCode> {
    if password == "correct horse" { Ok("welcome\n") } else { Err(StatusCode::UNAUTHORIZED) }
}
