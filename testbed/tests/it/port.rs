//! Ports are ours alone for as long as we hold them.

use std::{collections::HashSet, net::TcpListener, thread};

use testbed::Port;

#[test]
fn no_two_are_the_same_or_the_bus_of_another() {
    let takers: Vec<_> = (0..4).map(|_| thread::spawn(|| (0..50).map(|_| Port::take()).collect::<Vec<_>>())).collect();
    let ports: Vec<_> = takers.into_iter().flat_map(|taker| taker.join().expect("there are ports")).collect();
    let numbers: HashSet<u16> = ports.iter().flat_map(|port| [port.number(), port.number() + 10_000]).collect();
    assert_eq!(numbers.len(), 2 * ports.len());
}

#[test]
fn a_listener_can_be_bound_again_and_again() {
    let port = Port::take();
    for _ in 0..3 {
        TcpListener::bind(port.addr()).expect("it is ours");
    }
}
