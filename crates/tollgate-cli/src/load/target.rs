//! What is sent, and where to: the URL, method, headers and body of the arguments, read once into a request that can be sent
//! again and again.

use std::{fs::File, io::Read as _, net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, USER_AGENT},
    uri::PathAndQuery,
};
use http_body_util::Full;
use tokio::{net::lookup_host, time::timeout};

use crate::args::Load;

/// A request, and the addresses of the server that is to answer it.
pub(super) struct Target {
    pub(super) addresses: Vec<SocketAddr>,
    /// As the user wrote it.
    pub(super) url: String,
    pub(super) method: Method,
    path: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Target {
    /// Looks the server's name up, once for all requests.
    pub(super) async fn resolve(load: &Load) -> anyhow::Result<Self> {
        let (host, port) = (load.url.host().unwrap_or_default(), load.url.port_u16().unwrap_or(80));
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let found = timeout(RESOLVED_WITHIN, lookup_host((name, port))).await;
        let found = found.with_context(|| format!("{host}: no address within {} s", RESOLVED_WITHIN.as_secs()))?;
        let addresses: Vec<_> = found.with_context(|| format!("{host}: no address"))?.take(MAX_ADDRESSES).collect();
        if addresses.is_empty() {
            bail!("{host}: no address");
        }
        let path = load.url.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        Ok(Self {
            addresses,
            url: load.url.to_string(),
            method: load.method.clone(),
            path: path.into(),
            headers: headers(load)?,
            body: load.body.clone().unwrap_or_default(),
        })
    }

    pub(super) fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Those of the arguments, and what a request needs besides.
fn headers(load: &Load) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &load.headers {
        headers.try_append(name, value.clone()).context("--header")?;
    }
    let host = load.url.authority().map_or("", |authority| authority.as_str());
    let needed = [(HOST, host), (USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION"))), (ACCEPT, "*/*")];
    for (name, value) in needed {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_str(value).context("the URL's host")?);
        }
    }
    Ok(headers)
}

/// Reads the argument `URL`.
pub(crate) fn url(text: &str) -> Result<Uri, String> {
    let has_scheme = |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if has_scheme("https://") {
        return Err("TLS is not spoken yet, give the http:// URL of a server without it".to_owned());
    }
    let expected = |why: &str| format!("{why}expected http://HOST:PORT/PATH, such as http://127.0.0.1:8080/");
    let uri: Uri = text.parse().map_err(|error| expected(&format!("{error}, ")))?;
    let authority = uri.authority().filter(|_| has_scheme("http://")).ok_or_else(|| expected(""))?;
    if authority.as_str().contains('@') {
        return Err("a user's name in a URL is not sent, say it as --header 'Authorization: …'".to_owned());
    }
    let port = authority.as_str()[authority.host().len()..].trim_start_matches(':');
    if authority.host().is_empty() {
        return Err(expected("there is no host, "));
    }
    if !port.is_empty() && !port.parse().is_ok_and(|port: u16| port != 0) {
        return Err(expected("the port is not one from 1 to 65535, "));
    }
    Ok(uri)
}

/// Reads `--method`.
pub(crate) fn method(text: &str) -> Result<Method, String> {
    match text.parse() {
        Ok(Method::CONNECT) | Err(_) => Err("expected a method such as GET, POST or DELETE".to_owned()),
        Ok(method) => Ok(method),
    }
}

/// Reads `--header`.
pub(crate) fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected 'Name: value'")?;
    let name: HeaderName = name.trim().parse().map_err(|_| "that is no name of a header, expected 'Name: value'")?;
    if [CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
        return Err("how long the body is follows from --body".to_owned());
    }
    let value = value.trim().parse().map_err(|_| "the value has characters that no header may have")?;
    Ok((name, value))
}

/// Reads `--body`: a text, or a file's name after `@`.
pub(crate) fn body(text: &str) -> Result<Bytes, String> {
    let Some(file) = text.strip_prefix('@') else { return Ok(Bytes::copy_from_slice(text.as_bytes())) };
    let mut body = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MAX_BODY_BYTES + 1).read_to_end(&mut body));
    match read.map_err(|error| format!("{file}: {error}"))? {
        read if u64::try_from(read).is_ok_and(|read| read <= MAX_BODY_BYTES) => Ok(body.into()),
        _ => Err(format!("{file}: larger than {} MiB", MAX_BODY_BYTES >> 20)),
    }
}

/// It is kept in memory, once.
const MAX_BODY_BYTES: u64 = 64 << 20;
/// Each is tried when the one before it refuses.
const MAX_ADDRESSES: usize = 16;
const RESOLVED_WITHIN: Duration = Duration::from_secs(5);
