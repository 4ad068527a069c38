//! The decision as handlers and outer middleware find it.

use std::{
    future::{Ready, ready},
    ops::Deref,
};

use actix_web::{Error, FromRequest, HttpMessage as _, HttpRequest, dev::Payload, error::ErrorInternalServerError};
use tollgate::decision::Decision;

/// What was decided about a request, in the extensions of the request and of every response. With several limits, it is the
/// decision of the one closest to the handler.
///
/// A handler extracts it, or `Option<Limited>` where there may be none:
///
/// ```
/// use tollgate_actix::Limited;
///
/// async fn handler(limited: Limited) -> String {
///     format!("{} left", limited.remaining().unwrap_or(u64::MAX))
/// }
/// # let _ = actix_web::web::to(handler);
/// ```
#[derive(Clone, Debug)]
pub struct Limited(pub(crate) Decision);

impl Deref for Limited {
    type Target = Decision;

    fn deref(&self) -> &Decision {
        &self.0
    }
}

/// A handler outside every limit that asks for one is a mistake in the program: 500, and it says so.
impl FromRequest for Limited {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let limited = request.extensions().get::<Self>().cloned();
        ready(limited.ok_or_else(|| {
            ErrorInternalServerError("this route has no limit, or the request is exempt: extract Option<Limited>")
        }))
    }
}
