//! A request of actix-web's as the engine sees it, without a copy.

use std::{net::IpAddr, sync::Once};

use actix_web::{
    HttpRequest,
    http::{
        header::{HOST, HeaderMap, HeaderValue},
        uri::PathAndQuery,
    },
};
use tollgate::request::{Headers, Request};

/// Header fields as the engine looks them up.
pub(crate) struct Fields<'a>(pub(crate) &'a HeaderMap);

impl Headers for Fields<'_> {
    fn each<'a>(&'a self, name: &str, show: &mut dyn FnMut(&'a [u8])) {
        self.0.get_all(name).map(HeaderValue::as_bytes).for_each(show);
    }
}

/// The request, with its headers shown by `fields`.
pub(crate) fn shown<'a>(own: &'a HttpRequest, fields: &'a Fields<'a>, route: Option<&'a str>) -> Request<'a> {
    Request {
        peer: peer(own),
        // There is one way in, and rules for listeners are for proxies.
        listener: Some(""),
        method: own.method().as_str(),
        host: host(own),
        target: own.uri().path_and_query().map_or("/", PathAndQuery::as_str),
        route,
        headers: fields,
        ..Request::default()
    }
}

/// The pattern of the resource that answers; before actix-web has chosen one, the first that fits the path.
pub(crate) fn route(own: &HttpRequest) -> Option<String> {
    let decoded = own.match_info().as_str();
    if decoded == own.path() {
        return own.match_pattern();
    }
    // Resources are chosen by the decoded path, but `match_pattern` looks at the path as it came: `/%75sers/1` would be another
    // route than `/users/1`, with a limit of its own.
    own.resource_map().match_pattern(decoded)
}

fn peer(own: &HttpRequest) -> Option<IpAddr> {
    own.peer_addr().map(|address| address.ip())
}

/// What actix-web takes for the host: the header, and where there is none, as in HTTP/2, that of the target.
fn host(own: &HttpRequest) -> Option<&str> {
    let header = own.headers().get(HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| own.uri().authority().map(|authority| authority.as_str()))
}

/// Says once in the life of the process that a request came without an address.
pub(crate) fn complain_of_no_peer() {
    static COMPLAINED: Once = Once::new();
    COMPLAINED.call_once(|| {
        tracing::warn!(
            "requests come without the client's address, as they do through a Unix socket, so all clients are counted as one: \
             use RateLimit::peer"
        );
    });
}
