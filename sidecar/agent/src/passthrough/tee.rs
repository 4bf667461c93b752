//! A request's body on its way, of which a copy is kept up to a bound.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};

/// Hands the copy on when the body has passed whole; none where it was longer than the bound.
pub(super) struct Tee<B, F: FnOnce(Option<Vec<u8>>)> {
    inner: B,
    copy: Option<Vec<u8>>,
    limit: usize,
    whole: Option<F>,
}

impl<B, F: FnOnce(Option<Vec<u8>>)> Tee<B, F> {
    pub(super) fn new(inner: B, limit: usize, whole: F) -> Self {
        Self {
            inner,
            copy: Some(Vec::new()),
            limit,
            whole: Some(whole),
        }
    }

    fn keep(&mut self, data: &Bytes) {
        match &mut self.copy {
            Some(copy) if copy.len() + data.len() <= self.limit => copy.extend_from_slice(data),
            _ => self.copy = None,
        }
    }

    fn ended(&mut self) {
        if let Some(whole) = self.whole.take() {
            whole(self.copy.take());
        }
    }
}

impl<B, F> Body for Tee<B, F>
where
    B: Body<Data = Bytes> + Unpin,
    F: FnOnce(Option<Vec<u8>>) + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.keep(data);
                }
                // Nobody asks for more then.
                if this.inner.is_end_stream() {
                    this.ended();
                }
            }
            Poll::Ready(None) => this.ended(),
            // One that broke off is not whole.
            Poll::Ready(Some(Err(_))) => this.whole = None,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use http_body_util::{BodyExt as _, Full};

    use super::*;

    async fn passed(body: &'static [u8], limit: usize) -> (Bytes, Vec<Option<Vec<u8>>>) {
        let copies = Rc::new(RefCell::new(Vec::new()));
        let kept = Rc::clone(&copies);
        let inner = Full::new(Bytes::from_static(body));
        let tee = Tee::new(inner, limit, move |copy| kept.borrow_mut().push(copy));
        let passed = tee.collect().await.unwrap().to_bytes();
        (passed, copies.take())
    }

    #[tokio::test]
    async fn a_body_passes_as_it_is_and_a_copy_is_kept() {
        let (body, copies) = passed(b"spans", 5).await;
        assert_eq!(
            (&body[..], copies),
            (&b"spans"[..], vec![Some(b"spans".to_vec())])
        );
        let (body, copies) = passed(b"spans", 4).await;
        assert_eq!((&body[..], copies), (&b"spans"[..], vec![None]));
    }
}
