//! Ports that are free, and stay ours while their server is down.
//!
//! Asking the system for port 0 and letting go of the answer is a race: with other tests, and with every outgoing
//! connection, whose ports come from the same range. So we take numbers below that range, and bind the UDP port of the
//! same number for as long as we hold one: that is a lock which any test process sees, which costs no file, and which
//! the system lifts when its process ends.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Numbers from here on. With [`BUS`] added they stay below 32768, where Linux begins to give ports to outgoing
/// connections.
const FIRST: u32 = 11_000;
/// How many numbers there are; fewer than [`BUS`], so that no port is the bus of another.
const COUNT: u32 = 10_000;
/// A node of a Redis Cluster talks to the others at its port plus this.
const BUS: u32 = 10_000;

/// A TCP port of 127.0.0.1 that nobody else uses, nor the one 10000 above, where a node of a Redis Cluster talks to the
/// others.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: UdpSocket,
}

impl Port {
    /// Takes a free port. It is free again when this is dropped.
    ///
    /// # Panics
    ///
    /// When none is free.
    #[must_use]
    pub fn take() -> Self {
        static TAKEN: AtomicU32 = AtomicU32::new(0);

        // Processes begin at different places, so that they seldom try the same port.
        let start = process::id().wrapping_mul(211) % COUNT;
        (0..COUNT)
            .find_map(|_| Self::lock(FIRST + (start + TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT))
            .unwrap_or_else(|| panic!("no port from {FIRST} to {} is free", FIRST + COUNT - 1))
    }

    fn lock(number: u32) -> Option<Self> {
        let address = |number| SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(number).expect("below 32768")));
        let lock = UdpSocket::bind(address(number)).ok()?;
        TcpListener::bind(address(number)).ok()?;
        TcpListener::bind(address(number + BUS)).ok()?;
        Some(Self { number: address(number).port(), _lock: lock })
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Where it is reached.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}
