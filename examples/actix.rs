//! A service of actix-web with one limit for a scope and another on one of its routes.
//!
//! ```sh
//! cargo run -p examples --bin actix
//! curl -i http://127.0.0.1:3000/api/search    # the third is denied
//! curl -i http://127.0.0.1:3000/api/orders    # the sixth of both together is
//! ```

use std::error::Error;

use actix_web::{App, HttpServer, web};
use tollgate_actix::RateLimit;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Made once, outside: every worker of the server gets a clone, and they count together.
    let api = RateLimit::new("5/minute")?;
    let search = RateLimit::new("2/minute")?;

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let server = HttpServer::new(move || {
        let search = web::resource("/search").wrap(search.clone()).to(|| async { "found\n" });
        let scope = web::scope("/api").wrap(api.clone()).service(search);
        App::new().service(scope.route("/orders", web::get().to(|| async { "orders\n" })))
    });
    let server = server.workers(2).bind(address)?;
    for address in server.addrs() {
        println!("listening on http://{address}");
    }
    Ok(server.run().await?)
}
