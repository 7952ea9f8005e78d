use crate::context::lock;
use crate::{Context, Event, Id, Request};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::{fmt, io, mem, thread};

/// A context whose events are awaited: [`Reactor::submit`] returns a future. A thread of its own takes the events and wakes the tasks, so that it
/// works with any executor.
///
/// ```
/// use aio2::{Context, Reactor, Request};
/// use std::{fs::File, sync::Arc};
/// # use std::{future::Future, pin::pin, task, thread};
/// # struct Unpark(thread::Thread);
/// # impl task::Wake for Unpark {
/// #     fn wake(self: Arc<Self>) { self.0.unpark() }
/// # }
/// # fn block_on<F: Future>(future: F) -> F::Output {
/// #     let mut future = pin!(future);
/// #     let waker = Arc::new(Unpark(thread::current())).into();
/// #     loop {
/// #         match future.as_mut().poll(&mut task::Context::from_waker(&waker)) {
/// #             task::Poll::Ready(output) => return output,
/// #             task::Poll::Pending => thread::park(),
/// #         }
/// #     }
/// # }
///
/// async fn beginnings(reactor: &Reactor, file: Arc<File>) -> std::io::Result<usize> {
///     // Both are in flight at once.
///     let first = reactor.submit(Request::read_at(file.clone(), vec![0; 8], 0)).map_err(|(error, _)| error)?;
///     let second = reactor.submit(Request::read_at(file, vec![0; 8], 8)).map_err(|(error, _)| error)?;
///     Ok(first.await?.bytes_read()?.len() + second.await?.bytes_read()?.len())
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let reactor = Reactor::new(Context::new()?)?;
/// let file = Arc::new(File::open("/etc/passwd")?);
/// assert_eq!(block_on(beginnings(&reactor, file))?, 16);
/// # Ok(())
/// # }
/// ```
///
/// Dropping it cancels all of its requests: their futures are ready with `ECANCELED`.
pub struct Reactor {
    shared: Arc<Shared>,
}

struct Shared {
    context: Context,
    state: Mutex<State>,
    /// A request was submitted, or the reactor ends.
    changed: Condvar,
}

/// Requests are submitted under its lock, so that the thread finds none without its future.
#[derive(Default)]
struct State {
    futures: HashMap<Id, Progress>,
    ends: bool,
}

enum Progress {
    /// The event has not come. The task to wake, once the future was polled.
    Waits(Option<Waker>),
    Ended(io::Result<Event>),
}

impl Reactor {
    /// Takes over a context, and starts the thread.
    pub fn new(context: Context) -> io::Result<Reactor> {
        let shared = Arc::new(Shared {
            context,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let reaper = shared.clone();
        thread::Builder::new()
            .name("aio2-reactor".into())
            .spawn(move || reaper.reap())?;
        Ok(Reactor { shared })
    }

    /// Submits a request, whether or not its future is ever polled. One that is not accepted comes back with the error.
    pub fn submit(&self, request: Request) -> Result<Pending, (io::Error, Request)> {
        let mut state = lock(&self.shared.state);
        let id = self.shared.context.submit_one(request)?;
        state.futures.insert(id, Progress::Waits(None));
        self.shared.changed.notify_one();
        Ok(Pending {
            id,
            shared: self.shared.clone(),
        })
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.ends = true;
        self.shared.changed.notify_one();
        drop(state);
        for id in self.shared.end_all(libc::ECANCELED) {
            // One that cannot be cancelled ends by itself.
            let _ = self.shared.context.cancel(id);
        }
        // The thread may wait for an event. If as many requests are in flight as there may be, one of them sends it back.
        let _ = self.shared.context.submit_one(Request::nop());
    }
}

impl Shared {
    /// The main loop of the thread.
    fn reap(&self) {
        loop {
            match self.context.next(None) {
                Ok(Some(event)) => self.ended(event),
                Ok(None) => {
                    let nothing = |state: &mut State| !state.ends && self.context.in_flight() == 0;
                    drop(
                        self.changed
                            .wait_while(lock(&self.state), nothing)
                            .unwrap_or_else(PoisonError::into_inner),
                    );
                }
                // Some events are lost, and it is not known which.
                Err(error) => drop(self.end_all(error.raw_os_error().unwrap_or(libc::EIO))),
            }
            if lock(&self.state).ends {
                return;
            }
        }
    }

    fn ended(&self, event: Event) {
        let mut state = lock(&self.state);
        // Otherwise nobody waits for it any more, and the event is dropped.
        let Some(progress @ Progress::Waits(_)) = state.futures.get_mut(&event.id()) else {
            return;
        };
        let before = mem::replace(progress, Progress::Ended(Ok(event)));
        drop(state);
        wake(before);
    }

    /// Makes all futures ready with an error, and returns those that waited.
    fn end_all(&self, errno: i32) -> Vec<Id> {
        let mut waited = Vec::new();
        for (id, progress) in &mut lock(&self.state).futures {
            if matches!(progress, Progress::Waits(_)) {
                let error = Err(io::Error::from_raw_os_error(errno));
                waited.push((*id, mem::replace(progress, Progress::Ended(error))));
            }
        }
        let ids = waited.iter().map(|(id, _)| *id).collect();
        for (_, before) in waited {
            wake(before);
        }
        ids
    }
}

/// Called without the lock, because a waker may poll or drop futures.
fn wake(before: Progress) {
    if let Progress::Waits(Some(waker)) = before {
        waker.wake();
    }
}

/// A request of a [`Reactor`], and then its event: made by [`Reactor::submit`].
///
/// If it is dropped before it is ready, the request is cancelled as by [`Context::cancel`], and its event is dropped when it comes: until then
/// the request has its buffer.
#[must_use = "dropping it cancels the request"]
pub struct Pending {
    id: Id,
    shared: Arc<Shared>,
}

impl Pending {
    /// The request's name.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Cancels the request, as [`Context::cancel`] does: the future is ready with the event, which says how the request ended.
    pub fn cancel(&self) -> io::Result<()> {
        self.shared.context.cancel(self.id)
    }
}

impl Future for Pending {
    type Output = io::Result<Event>;

    fn poll(self: Pin<&mut Self>, task: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let waits = Progress::Waits(Some(task.waker().clone()));
        let mut state = lock(&self.shared.state);
        let before = match state.futures.remove(&self.id) {
            Some(Progress::Ended(event)) => return Poll::Ready(event),
            None => panic!("polled again after it was ready"),
            waits => waits,
        };
        state.futures.insert(self.id, waits);
        drop(state);
        // Without the lock, because a waker may own futures.
        drop(before);
        Poll::Pending
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let progress = lock(&self.shared.state).futures.remove(&self.id);
        if let Some(Progress::Waits(_)) = progress {
            let _ = self.cancel();
        }
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("context", &self.shared.context)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
