//! A request of tower's as the engine sees it, without a copy.

use std::{net::IpAddr, sync::Once};

use http::{HeaderMap, HeaderValue, header::HOST, request::Parts, uri::PathAndQuery};
use tollgate::request::{Headers, Request};

/// Header fields as the engine looks them up.
pub(crate) struct Fields<'a>(pub(crate) &'a HeaderMap);

impl Headers for Fields<'_> {
    fn each<'a>(&'a self, name: &str, show: &mut dyn FnMut(&'a [u8])) {
        match self.0.keys_len() <= FEW {
            true => {
                let lines = self.0.iter().filter(|(field, _)| field.as_str() == name);
                lines.map(|(_, value)| value.as_bytes()).for_each(show);
            }
            false => self.0.get_all(name).iter().map(HeaderValue::as_bytes).for_each(show),
        }
    }
}

/// So many names are compared one by one, which takes less than to hash the one that is looked for.
const FEW: usize = 4;

/// The request, with its headers shown by `fields`.
pub(crate) fn shown<'a>(parts: &'a Parts, fields: &'a Fields<'a>) -> Request<'a> {
    Request {
        peer: peer(parts),
        // There is one way in, and rules for listeners are for proxies.
        listener: Some(""),
        method: parts.method.as_str(),
        host: host(parts),
        target: parts.uri.path_and_query().map_or("/", PathAndQuery::as_str),
        route: route(parts),
        headers: fields,
        ..Request::default()
    }
}

/// What frameworks take for the host: the header, and where there is none, as in HTTP/2, that of the target.
fn host(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| parts.uri.authority().map(|authority| authority.as_str()))
}

#[cfg(feature = "axum")]
fn peer(parts: &Parts) -> Option<IpAddr> {
    use std::net::SocketAddr;

    use axum::extract::ConnectInfo;

    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip())
}

#[cfg(not(feature = "axum"))]
fn peer(_: &Parts) -> Option<IpAddr> {
    None
}

#[cfg(feature = "axum")]
fn route(parts: &Parts) -> Option<&str> {
    parts.extensions.get::<axum::extract::MatchedPath>().map(axum::extract::MatchedPath::as_str)
}

#[cfg(not(feature = "axum"))]
fn route(_: &Parts) -> Option<&str> {
    None
}

/// Says once in the life of the process that a request came without an address.
pub(crate) fn complain_of_no_peer() {
    static COMPLAINED: Once = Once::new();
    COMPLAINED.call_once(|| {
        tracing::warn!(
            "requests come without the client's address, so all clients are counted as one: serve with \
             into_make_service_with_connect_info::<SocketAddr>() and the feature `axum`, or use RateLimitLayer::peer"
        );
    });
}
