//! What a limit adds to a request of an axum service: time and allocations, beside other limits and beside none.
//!
//! Requests go straight into the router, without a socket, each with the address of one of a thousand clients. All are allowed.

use std::{hint::black_box, net::SocketAddr, num::NonZeroU32};

use anyhow::{Context as _, ensure};
use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, StatusCode},
    routing::get,
};
use tollgate::{clock::Clock, headers::Dialects, limiter::Limiter, policy::Rule};
use tollgate_tower::RateLimitLayer;
use tower::ServiceExt as _;
use tower_governor::{GovernorLayer, governor::GovernorConfigBuilder};

use crate::{allocations, median};

const CLIENTS: u32 = 1_000;
const REQUESTS: u32 = 50_000;
/// Odd, for a median.
const ROUNDS: usize = 7;
/// More than is ever asked for.
const BURST: u32 = 10_000_000;

pub(crate) fn run() -> anyhow::Result<()> {
    let contestants = contestants()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut times = vec![Vec::new(); contestants.len()];
    let mut counts = vec![0.0; contestants.len()];
    // Some sweep old keys by a task that they start with the first request.
    let _guard = runtime.enter();
    for round in 0..=ROUNDS {
        for (i, (name, app)) in contestants.iter().enumerate() {
            let nanos = runtime.block_on(time(app)).context(*name)?;
            // The first round brings the clients.
            if round > 0 {
                times[i].push(nanos);
            }
            let counted = allocations::during(|| {
                let _ = runtime.block_on(requests(app, CLIENTS));
            });
            counts[i] = counted as f64 / f64::from(CLIENTS);
        }
    }
    let times: Vec<f64> = times.into_iter().map(median).collect();
    println!("{:<34} {:>12} {:>8} {:>14} {:>6}", "", "ns a request", "added", "allocations", "added");
    for (((name, _), nanos), count) in contestants.iter().zip(&times).zip(&counts) {
        println!("{name:<34} {nanos:>12.0} {:>8.0} {count:>14.1} {:>6.1}", nanos - times[0], count - counts[0]);
    }
    println!();
    for (((name, _), nanos), count) in contestants.iter().zip(&times).zip(&counts).skip(1) {
        let name = name.replace([' ', '-', ','], "_");
        println!("middleware_{name}_added_ns {:.0}", nanos - times[0]);
        println!("middleware_{name}_added_allocations {:.1}", count - counts[0]);
    }
    Ok(())
}

/// The bare service first.
fn contestants() -> anyhow::Result<Vec<(&'static str, Router)>> {
    let app = || Router::new().route("/orders/{id}", get(|| async { "hello" }));
    let limits = format!("1/minute burst {BURST}");
    let rule = |name: &str| anyhow::Ok(Rule::of(name, limits.as_str())?);
    let silent = Dialects::new(Vec::new()).context("no dialects contradict each other")?;
    let three = [rule("all")?, rule("route")?.by(["client", "route"])?, rule("host")?.by(["host"])?];

    let burst = NonZeroU32::new(BURST).context("a burst above zero")?;
    let governor = || {
        let mut builder = GovernorConfigBuilder::default();
        builder.per_second(60).burst_size(BURST);
        builder
    };
    let axum_governor = axum_governor::GovernorConfigBuilder::default()
        .with_extractor(axum_governor::extractor::PeerIp::default())
        .expect_connect_info()
        .quota_default(axum_governor::Quota::requests_per_second(burst))
        .finish()?;
    Ok(vec![
        ("bare", app()),
        ("tollgate", app().layer(RateLimitLayer::of(rule("all")?)?)),
        ("tollgate, silent", app().layer(RateLimitLayer::of(rule("all")?.telling(silent))?)),
        ("tollgate, three rules", app().layer(RateLimitLayer::from(Limiter::of(three)?))),
        ("tower_governor", app().layer(GovernorLayer::new(governor().finish().context("a quota")?))),
        (
            "tower_governor, headers",
            app().layer(GovernorLayer::new(governor().use_headers().finish().context("a quota")?)),
        ),
        ("axum-governor", app().layer(axum_governor::GovernorLayer::new(axum_governor))),
    ])
}

async fn time(app: &Router) -> anyhow::Result<f64> {
    let clock = Clock::system();
    let start = clock.now();
    requests(app, REQUESTS).await?;
    Ok(clock.now().since(start).as_secs_f64() * 1e9 / f64::from(REQUESTS))
}

async fn requests(app: &Router, n: u32) -> anyhow::Result<()> {
    for i in 0..n {
        let mut request = Request::get("/orders/7").header("host", "api.example.com").body(Body::empty())?;
        let [.., c, d] = (i % CLIENTS).to_be_bytes();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([10, 0, c, d], 4_000))));
        let Ok(response) = app.clone().oneshot(request).await;
        ensure!(response.status() == StatusCode::OK, "{} instead of 200", response.status());
        black_box(response);
    }
    Ok(())
}
