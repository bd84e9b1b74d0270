//! The body of an answer, whoever it is from. What is in it is known to those who make it.

use std::{
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use bytes::Bytes;
use dunlin_proto::ApiError;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use super::compress::Compressed;
use crate::{cache::Recorder, dispatch::ResponseBody};

/// The body of an answer: the platform's own, or a function's.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    /// The platform's.
    Own(Full<Bytes>),
    /// A function's.
    Function(Box<ResponseBody>),
    /// A function's, of which a copy is kept.
    Recorded(Box<Recorder<ResponseBody>>),
    /// One of both, compressed on its way.
    Compressed(Compressed),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Function(body) => Pin::new(body.as_mut()).poll_frame(context),
            Self::Recorded(body) => Pin::new(body.as_mut()).poll_frame(context),
            Self::Compressed(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Function(body) => body.is_end_stream(),
            Self::Recorded(body) => body.is_end_stream(),
            Self::Compressed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Function(body) => body.size_hint(),
            Self::Recorded(body) => body.size_hint(),
            Self::Compressed(body) => body.size_hint(),
        }
    }
}
