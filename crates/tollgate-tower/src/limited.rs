//! The decision as handlers and outer layers find it.

use std::ops::Deref;

use tollgate::decision::Decision;

/// What was decided about a request, in the extensions of the request that the handler gets and of every response. With
/// several layers, it is the decision of the one closest to the handler.
///
/// With the feature `axum`, a handler extracts it:
///
/// ```
/// use tollgate_tower::Limited;
///
/// # #[cfg(feature = "axum")] {
/// async fn handler(limited: Limited) -> String {
///     format!("{} left", limited.remaining().unwrap_or(u64::MAX))
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Limited(pub(crate) Decision);

impl Deref for Limited {
    type Target = Decision;

    fn deref(&self) -> &Decision {
        &self.0
    }
}

#[cfg(feature = "axum")]
mod extract {
    use axum::{
        extract::{FromRequestParts, OptionalFromRequestParts},
        http::{StatusCode, request::Parts},
    };

    use super::Limited;

    /// A handler outside every limit that asks for one is a mistake in the program: 500, and it says so.
    impl<S: Sync> FromRequestParts<S> for Limited {
        type Rejection = (StatusCode, &'static str);

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
            let limited = parts.extensions.get::<Self>().cloned();
            limited.ok_or((
                StatusCode::INTERNAL_SERVER_ERROR,
                "this route has no limit, or the request is exempt: extract Option<Limited>",
            ))
        }
    }

    impl<S: Sync> OptionalFromRequestParts<S> for Limited {
        type Rejection = std::convert::Infallible;

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
            Ok(parts.extensions.get::<Self>().cloned())
        }
    }
}
