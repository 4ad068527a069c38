//! A job that sends mails, 2 an hour to each customer: no request, no server.
//!
//! ```sh
//! cargo run -p examples --bin mails
//! ```

use std::{error::Error, time::Duration};

use tollgate::throttle::{AttemptError, Throttle};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mails = Throttle::new("2/hour")?;
    for subject in ["Welcome", "Server down", "Your invoice", "One more thing"] {
        // A mail that could not be sent is given back: it was none.
        match mails.try_attempt_async("customer:42", send(subject)).await {
            Ok(()) => println!("sent {subject:?}, {} left", mails.remaining("customer:42")),
            Err(AttemptError::Failed(why)) => println!("could not send {subject:?}: {why}"),
            Err(AttemptError::Denied(denied)) => println!("kept {subject:?}: {denied}"),
        }
    }

    // The provider takes 20 mails a second from us: who is too fast waits, for a second at most.
    let provider = Throttle::new("20/second burst 1")?;
    for _ in 0..3 {
        provider.wait("provider", Duration::from_secs(1), tokio::time::sleep).await?;
    }
    println!("sent 3 at the provider's pace");
    Ok(())
}

async fn send(subject: &str) -> Result<(), &'static str> {
    if subject == "Server down" { Err("the server is down") } else { Ok(()) }
}
