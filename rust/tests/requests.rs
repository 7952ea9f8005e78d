//! What the crate promises, with the installed library.

use aio2::{Buffer, Cache, Context, Event, Request, Route, Timing, Way, Worker};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn file(contents: &[u8]) -> Arc<File> {
    let path = std::env::temp_dir().join(format!(
        "aio2-rust-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(path).unwrap();
    file.write_all(contents).unwrap();
    Arc::new(file)
}

fn submit_all(context: &Context, mut requests: Vec<Request>) {
    while !requests.is_empty() {
        context.submit(&mut requests).unwrap();
    }
}

fn errno(event: &Event) -> i32 {
    event.result().unwrap_err().raw_os_error().unwrap()
}

#[test]
fn reads_and_writes_give_their_buffers_back() {
    let context = Context::new().unwrap();
    let file = file(b"");
    let writes: Vec<Request> = (0..100u8)
        .map(|i| Request::write_at(file.clone(), vec![i; 512], u64::from(i) * 512))
        .collect();
    submit_all(&context, writes);
    assert_eq!(
        context
            .events()
            .map(|event| event.unwrap().result().unwrap())
            .sum::<usize>(),
        100 * 512
    );
    submit_all(
        &context,
        vec![
            Request::sync_all(file.clone()),
            Request::sync_data(file.clone()),
        ],
    );
    assert!(
        context
            .events()
            .all(|event| event.unwrap().result().unwrap() == 0)
    );

    let reads: Vec<Request> = (0..100)
        .map(|i| Request::read_at(file.clone(), Buffer::aligned(512, 4096), i * 512))
        .collect();
    let ids: Vec<_> = reads.iter().map(Request::id).collect();
    submit_all(&context, reads);
    let mut seen = [0; 100];
    for event in context.events() {
        let event = event.unwrap();
        let i = ids.iter().position(|id| *id == event.id()).unwrap();
        seen[i] += 1;
        assert_eq!(event.bytes_read().unwrap(), [i as u8; 512]);
        assert_eq!(event.into_buffer().unwrap().as_ptr() as usize % 4096, 0);
    }
    assert_eq!(seen, [1; 100]);
    assert_eq!(context.in_flight(), 0);
}

#[test]
fn attributes_are_answered() {
    let context = Context::new().unwrap();
    let file = file(&[7; 1000]);
    let id = context
        .submit_one(
            Request::read_at(file.clone(), vec![0; 1000], 0)
                .timing()
                .cache()
                .worker()
                .route(),
        )
        .unwrap();
    let event = context.next(None).unwrap().unwrap();
    assert_eq!(event.id(), id);
    let timing: Timing = event.answer().unwrap().unwrap();
    assert!(
        0 < timing.submit_ns
            && timing.submit_ns <= timing.start_ns
            && timing.start_ns <= timing.end_ns
    );
    assert!(event.answer::<Worker>().unwrap().unwrap().tid > 0);
    assert_ne!(event.answer::<Route>().unwrap().unwrap().way, Way::NotMade);
    if let Ok(cache) = event.answer::<Cache>().unwrap() {
        assert_eq!(cache.bytes_asked, 1000);
    }

    // Not asked for; asked for where it has no meaning.
    let event = Request::nop().cache().run().unwrap();
    assert!(event.answer::<Timing>().is_none());
    assert_eq!(
        event.answer::<Cache>().unwrap().unwrap_err().raw_os_error(),
        Some(libc::EOPNOTSUPP)
    );
    // A link that fails takes the next with it, and a request that is too late is not made.
    submit_all(
        &context,
        vec![
            Request::read_at(file.clone(), vec![0; 2000], 0).link(),
            Request::nop(),
        ],
    );
    let events: Vec<Event> = context.events().map(Result::unwrap).collect();
    assert_eq!(
        (events[0].result().unwrap(), errno(&events[1])),
        (1000, libc::ECANCELED)
    );
    let late = Request::nop().begin_within(Duration::ZERO).run().unwrap();
    assert_eq!(late.result().unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(
        errno(&Request::nop().io_priority(7 << 13).run().unwrap()),
        libc::EINVAL
    );
    assert!(Request::nop().drain().run().is_ok());
}

#[test]
fn what_is_not_accepted_comes_back() {
    let context = Context::builder()
        .max_requests(2)
        .workers(1)
        .build()
        .unwrap();
    let (reader, _writer) = pipe();
    let mut requests: Vec<Request> = (0..5)
        .map(|_| Request::read(reader.clone(), vec![0; 10]))
        .collect();
    let ids: Vec<_> = requests.iter().map(Request::id).collect();
    assert_eq!(context.submit(&mut requests).unwrap(), 2);
    assert_eq!(
        requests.iter().map(Request::id).collect::<Vec<_>>(),
        ids[2..]
    );
    assert_eq!(
        context.submit(&mut requests).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    let (error, request) = context.submit_one(requests.pop().unwrap()).unwrap_err();
    assert_eq!(
        (error.kind(), request.into_buffer().unwrap().len()),
        (io::ErrorKind::WouldBlock, 10)
    );
    assert!(
        context
            .next(Some(Duration::from_millis(1)))
            .unwrap()
            .is_none()
    );
    assert_eq!(context.in_flight(), 2);
    for id in &ids[..2] {
        context.cancel(*id).unwrap();
    }
    assert!(
        context
            .events()
            .all(|event| matches!(errno(&event.unwrap()), libc::ECANCELED | libc::EINTR))
    );
    assert_eq!(
        context.cancel(ids[0]).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

fn pipe() -> (Arc<OwnedFd>, Arc<OwnedFd>) {
    let mut ends = [0; 2];
    // SAFETY: two descriptors have room, and are nobody else's.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        let [reader, writer] = ends.map(|end| Arc::new(OwnedFd::from_raw_fd(end)));
        (reader, writer)
    }
}

/// Counts how many of them there are.
struct Counted(&'static AtomicUsize);
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn what_a_request_needs_lives_until_its_event_or_the_context_is_gone() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    let counted = || {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Counted(&ALIVE)
    };
    let context = Context::new().unwrap();
    let (reader, writer) = pipe();
    let fd = reader.as_raw_fd() as u64;
    let buffer = Box::leak(Box::new(0u8));
    // SAFETY: the byte is static; the reader is kept.
    let read = |kept| unsafe {
        Request::syscall(
            libc::SYS_read,
            [fd, &raw const *buffer as u64, 1, 0, 0, 0],
            kept,
        )
    };
    let first = read((counted(), reader.clone()));
    context.submit_one(first).unwrap();
    assert_eq!(ALIVE.load(Ordering::Relaxed), 1);
    assert_eq!(
        Request::write(writer.clone(), vec![1])
            .run()
            .unwrap()
            .result()
            .unwrap(),
        1
    );
    assert_eq!(context.next(None).unwrap().unwrap().result().unwrap(), 1);
    assert_eq!(ALIVE.load(Ordering::Relaxed), 0);

    // A context that is dropped waits, and frees; one that is forgotten does not free.
    context
        .submit_one(read((counted(), reader.clone())))
        .unwrap();
    drop(context);
    assert_eq!(ALIVE.load(Ordering::Relaxed), 0);
    let context = Context::new().unwrap();
    context
        .submit_one(read((counted(), reader.clone())))
        .unwrap();
    std::mem::forget(context);
    assert_eq!(ALIVE.load(Ordering::Relaxed), 1);
    // That read takes this byte, and writes it to memory that is still there.
    Request::write(writer, vec![1])
        .run()
        .unwrap()
        .result()
        .unwrap();
}

#[test]
fn a_thread_that_waits_ends_with_the_last_event() {
    let context = Context::new().unwrap();
    let (reader, writer) = pipe();
    context
        .submit_one(Request::read(reader, vec![0; 1]))
        .unwrap();
    let taken = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| context.events().count()))
            .collect();
        Request::write(writer, vec![1])
            .run()
            .unwrap()
            .result()
            .unwrap();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum::<usize>()
    });
    assert_eq!(taken, 1);
}
