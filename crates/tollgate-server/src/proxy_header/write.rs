//! A PROXY header written, for an upstream that wants to know its client.

use std::net::{IpAddr, Ipv6Addr};

use tollgate::config::ProxyVersion;

use super::parse::{Ends, SIGNATURE};

/// The header that says who is connected to what.
pub(crate) fn write(version: ProxyVersion, ends: Ends) -> Vec<u8> {
    let (source_port, destination_port) = (ends.source.port(), ends.destination.port());
    match (version, ends.source.ip(), ends.destination.ip()) {
        (ProxyVersion::V1, IpAddr::V4(source), IpAddr::V4(destination)) => {
            format!("PROXY TCP4 {source} {destination} {source_port} {destination_port}\r\n").into_bytes()
        }
        (ProxyVersion::V1, source, destination) => {
            let (source, destination) = (v6(source), v6(destination));
            format!("PROXY TCP6 {source} {destination} {source_port} {destination_port}\r\n").into_bytes()
        }
        (ProxyVersion::V2, IpAddr::V4(source), IpAddr::V4(destination)) => {
            binary(0x11, &[&source.octets(), &destination.octets()], [source_port, destination_port])
        }
        (ProxyVersion::V2, source, destination) => {
            binary(0x21, &[&v6(source).octets(), &v6(destination).octets()], [source_port, destination_port])
        }
    }
}

fn binary(family: u8, addresses: &[&[u8]; 2], ports: [u16; 2]) -> Vec<u8> {
    let mut payload = addresses.concat();
    payload.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    let mut header = SIGNATURE.to_vec();
    header.extend([0x21, family, 0]);
    // 12 or 36 bytes.
    header.extend(u8::try_from(payload.len()));
    header.extend(payload);
    header
}

/// Both ends are of one family, so of two the older is mapped into the other.
fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}
