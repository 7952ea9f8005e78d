//! Requests as futures, with an executor that does no more than it must.

use aio2::{Context, Pending, Reactor, Request};
use std::fs::File;
use std::future::Future;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Arc::new(Unpark(thread::current())).into();
    loop {
        match future.as_mut().poll(&mut task::Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Polls once, with a waker that does nothing.
fn is_ready(future: &mut Pending) -> bool {
    let mut task = task::Context::from_waker(task::Waker::noop());
    Pin::new(future).poll(&mut task).is_ready()
}

fn reactor() -> Reactor {
    Reactor::new(Context::new().unwrap()).unwrap()
}

fn read_of(reactor: &Reactor, from: &Arc<UnixStream>) -> Pending {
    reactor
        .submit(Request::read(from.clone(), vec![0; 8]))
        .unwrap()
}

fn sockets() -> (Arc<UnixStream>, UnixStream) {
    let (from, to) = UnixStream::pair().unwrap();
    (Arc::new(from), to)
}

/// Waits until no request has it any more.
fn wait_until_free<T>(kept: &Arc<T>) {
    while Arc::strong_count(kept) != 1 {
        thread::sleep(Duration::from_millis(1));
    }
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn each_future_is_ready_with_its_own_event() {
    let reactor = reactor();
    let file = Arc::new(File::open("/proc/self/exe").unwrap());
    for _ in 0..20 {
        let all: Vec<Pending> = (0..100)
            .map(|i| {
                let read = Request::read_at(file.clone(), vec![0; 1 + i], 0);
                reactor.submit(read).unwrap()
            })
            .collect();
        // The last one first.
        for (i, pending) in all.into_iter().enumerate().rev() {
            let id = pending.id();
            let event = block_on(pending).unwrap();
            assert_eq!((event.id(), event.result().unwrap()), (id, 1 + i));
        }
    }
}

#[test]
fn one_that_waits_wakes_its_task() {
    let reactor = reactor();
    let (from, mut to) = sockets();
    let mut read = read_of(&reactor, &from);
    assert!(!is_ready(&mut read));
    let waits = thread::spawn(move || block_on(read).unwrap().bytes_read().unwrap().to_vec());
    to.write_all(b"abc").unwrap();
    assert_eq!(waits.join().unwrap(), b"abc");
}

#[test]
fn one_that_is_cancelled_or_dropped_takes_nothing() {
    let reactor = reactor();
    let (from, mut to) = sockets();
    let cancelled = read_of(&reactor, &from);
    cancelled.cancel().unwrap();
    assert!(block_on(cancelled).unwrap().result().is_err());
    let mut dropped = read_of(&reactor, &from);
    assert!(!is_ready(&mut dropped));
    drop(dropped);
    wait_until_free(&from);
    to.write_all(b"abc").unwrap();
    let event = block_on(read_of(&reactor, &from)).unwrap();
    assert_eq!(event.bytes_read().unwrap(), b"abc");
}

#[test]
fn the_end_of_the_reactor_ends_what_waits() {
    let reactor = reactor();
    let (from, _to) = sockets();
    let (waits, polled) = (read_of(&reactor, &from), read_of(&reactor, &from));
    let polled = thread::spawn(move || errno(block_on(polled)));
    drop(reactor);
    assert_eq!(errno(block_on(waits)), Some(libc::ECANCELED));
    assert_eq!(polled.join().unwrap(), Some(libc::ECANCELED));
    // The thread has ended, too, and with it the context, which has the requests.
    wait_until_free(&from);
}

#[test]
fn one_that_is_not_accepted_comes_back() {
    let context = Context::builder().max_requests(1).build().unwrap();
    let reactor = Reactor::new(context).unwrap();
    let (from, mut to) = sockets();
    let first = read_of(&reactor, &from);
    let (error, request) = reactor
        .submit(Request::read(from.clone(), vec![7; 8]))
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(&request.into_buffer().unwrap()[..], &[7; 8]);
    to.write_all(b"abc").unwrap();
    assert_eq!(block_on(first).unwrap().result().unwrap(), 3);
    block_on(reactor.submit(Request::nop()).unwrap()).unwrap();
}
