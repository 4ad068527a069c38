//! Answers as hyper's responses: the engine's, and our own.

use std::rc::Rc;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE},
};
use tollgate::answer::Answer;
use tollgate_tower::response::answered;

use crate::{activity::Activity, body::ResponseBody, failure::Failure, request::Refusal};

/// What the engine answers to a denied request, in the map of its headers.
pub(crate) fn denied(
    answer: Answer<'_>,
    headers: HeaderMap,
    must_close: bool,
    activity: &Rc<Activity>,
) -> Response<ResponseBody> {
    let mut response = answered(answer, headers).map(|body| ResponseBody::whole(body, activity));
    if must_close {
        announce_close(&mut response);
    }
    response
}

/// The answer to an allowed request where there is no upstream.
pub(crate) fn allowed(activity: &Rc<Activity>) -> Response<ResponseBody> {
    let mut response = ours(StatusCode::OK, "allowed\n", activity);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The answer to a request that is none. Where the next one begins is anybody's guess, so there is no next one.
pub(crate) fn refused(refusal: Refusal, activity: &Rc<Activity>) -> Response<ResponseBody> {
    let mut response = problem(refusal.status(), refusal.detail(), activity);
    announce_close(&mut response);
    response
}

/// The answer to an allowed request that the upstream did not answer.
pub(crate) fn failed(failure: Failure, activity: &Rc<Activity>) -> Response<ResponseBody> {
    let mut response = problem(failure.status(), failure.detail(), activity);
    // hyper hears that the connection is to end only between two of its turns, and this can be read and written in one.
    if failure.is_the_clients() || activity.is_hurried() {
        announce_close(&mut response);
    }
    response
}

fn problem(status: StatusCode, detail: &str, activity: &Rc<Activity>) -> Response<ResponseBody> {
    let title = status.canonical_reason().unwrap_or("Error");
    let code = status.as_u16();
    // Every word of it is our own, and none needs escaping.
    let body = format!(r#"{{"type":"about:blank","title":"{title}","status":{code},"detail":"{detail}"}}"#);
    let mut response = ours(status, body, activity);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn ours(status: StatusCode, body: impl Into<Bytes>, activity: &Rc<Activity>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::whole(body, activity));
    *response.status_mut() = status;
    response
}

fn announce_close(response: &mut Response<ResponseBody>) {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}
