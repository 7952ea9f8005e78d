//! Loom models: `make check` runs them with `RUSTFLAGS="--cfg loom"`. They run the code that ships; only memory mapping, handles, time and
//! futexes are replaced.

use crate::abi::{
    IOCB_ATTR_LINK, IOCB2_NOP, io_event2, io_setup2_params, iocb_attr, iocb_attr_ret, iocb2,
};
use crate::attr::SubmitClock;
use crate::engine::pool::StartWorker;
use crate::queue::{Behaviour, Context, ContextRef, Deadline, Engines, OwnQueue, OwnQueues, Pool};
use crate::registry::Ref;
use crate::request::{Chunk, Record, Req, Scratch, SizeClass, Slabs};
use crate::ring::wait::{Alarm, Waiter, Wakes};
use crate::ring::{Backlog, Out, Reaped, Ring, RingMem};
use crate::sync::Lock;
use loom::sync::Arc;
use loom::thread;
use nix::errno::Errno;

const EVENT: usize = size_of::<io_event2>();
/// The same with the return of an attribute.
const EVENT_MAX: usize = EVENT + size_of::<iocb_attr_ret>();

fn nop(data: u64) -> iocb2 {
    iocb2 {
        bytes: 64,
        nr: IOCB2_NOP,
        data,
        args: [0; 6],
    }
}

/// The buffer of a model's reaper, and the `data` of the events that it has seen.
#[derive(Default)]
struct Seen {
    buffer: Vec<u8>,
    data: Vec<u64>,
}

impl Seen {
    /// Lets `reap` fill a buffer, and notes the `data` of its events.
    fn collect<T>(&mut self, events: usize, reap: impl FnOnce(&mut Out) -> T) -> T {
        self.buffer.resize(events * EVENT_MAX, 0);
        // SAFETY: the buffer has that size, and nothing else uses it meanwhile.
        let mut out = unsafe { Out::new(self.buffer.as_mut_ptr(), self.buffer.len()) };
        let result = reap(&mut out);
        let mut rest = &self.buffer[..out.len()];
        while !rest.is_empty() {
            let (bytes, data) = (&rest[..4], &rest[8..16]);
            self.data.push(u64::from_ne_bytes(data.try_into().unwrap()));
            rest = &rest[u32::from_ne_bytes(bytes.try_into().unwrap()) as usize..];
        }
        result
    }
}

/// A ring with room for two events, and its backlog.
struct Completions {
    ring: Ring,
    state: Lock<(Backlog, Slabs)>,
}

impl Completions {
    fn new(first: u32) -> Completions {
        let (ring, backlog) = Ring::new(RingMem::new(64).unwrap(), 64, first);
        let mut slabs = Slabs::new();
        slabs
            .of(SizeClass::Small)
            .add(Chunk::new(SizeClass::Small, 4).unwrap());
        Completions {
            ring,
            state: Lock::new((backlog, slabs)),
        }
    }

    fn publish(&self, data: u64) {
        let mut wakes = Wakes::new();
        let mut state = self.state.lock();
        let (backlog, slabs) = &mut *state;
        let req = build(slabs, data);
        self.ring.publish(backlog, req, slabs, &mut wakes);
        drop(state);
        wakes.wake();
    }

    fn collect(&self, seen: &mut Seen) {
        let mut state = self.state.lock();
        let (backlog, slabs) = &mut *state;
        let reaped = seen.collect(8, |out| self.ring.collect(backlog, slabs, out));
        assert_eq!(reaped, Reaped::Empty);
    }
}

fn build(slabs: &mut Slabs, data: u64) -> Req {
    let (iocb, mut scratch) = (nop(data), Scratch::new());
    // SAFETY: a whole record of ours.
    let record = unsafe {
        Record::read(
            (&raw const iocb).cast(),
            64,
            &SubmitClock::new(),
            &mut scratch,
        )
    };
    record
        .unwrap()
        .build(slabs.of(SizeClass::Small).free.pop().unwrap(), &scratch)
}

fn ascending(data: &[u64]) -> bool {
    data.windows(2).all(|pair| pair[0] < pair[1])
}

/// Three events, of which the ring holds two, and two lock-free reapers. One of them goes on to the overflow list, as a program does. Each
/// event is seen once, and each reaper sees events in order.
fn reapers(preemptions: usize, first: u32) {
    model(preemptions, move || {
        let shared = Arc::new(Completions::new(first));
        let reaper = |by_flag: bool| {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut seen = Seen::default();
                for _ in 0..2 {
                    let reaped = seen.collect(1, |out| shared.ring.reap(out));
                    assert!(matches!(reaped, Reaped::Event | Reaped::Empty));
                    if by_flag && reaped == Reaped::Empty && shared.ring.overflowing() {
                        shared.collect(&mut seen);
                    }
                }
                assert!(ascending(&seen.data));
                seen.data
            })
        };
        let others = [reaper(false), reaper(true)];
        (1..=3).for_each(|data| shared.publish(data));
        let mut all: Vec<u64> = others
            .into_iter()
            .flat_map(|other| other.join().unwrap())
            .collect();
        let mut rest = Seen::default();
        shared.collect(&mut rest);
        assert!(ascending(&rest.data));
        assert!(!shared.ring.overflowing());
        all.extend(rest.data);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
    });
}

#[test]
fn loom_reapers() {
    // The third takes longer than all other models together.
    let long = std::env::var("LONG").is_ok_and(|long| long != "0");
    reapers(if long { 3 } else { 2 }, 0);
}

/// The same while the counters wrap.
#[test]
fn loom_reapers_wrap() {
    reapers(2, u32::MAX - 31);
}

/// A waiter lists itself under the lock under which it saw too few events; publishers wake it. It never stays asleep.
#[test]
fn loom_wait() {
    model(3, || {
        let shared = Arc::new(Completions::new(0));
        let publishers: Vec<_> = (1..=2)
            .map(|data| {
                let shared = shared.clone();
                thread::spawn(move || shared.publish(data))
            })
            .collect();
        let mut seen = Seen::default();
        let waiter = Waiter::new(Alarm::Futex);
        while seen.data.len() < 2 {
            shared.collect(&mut seen);
            let mut state = shared.state.lock();
            // As in Context::get_events: looking and listing are one step.
            let (backlog, slabs) = &mut *state;
            seen.collect(8, |out| shared.ring.collect(backlog, slabs, out));
            if seen.data.len() == 2 {
                break;
            }
            backlog
                .waiters
                .enter(&waiter, ((2 - seen.data.len()) * EVENT) as u64);
            drop(state);
            waiter.park(crate::sys::NEVER);
            if !shared.state.lock().0.waiters.leave(&waiter) {
                while !waiter.woken() {
                    waiter.park(crate::sys::NEVER);
                }
            }
        }
        publishers
            .into_iter()
            .for_each(|publisher| publisher.join().unwrap());
    });
}

/// The workers of the current execution. An idle worker ends.
static WORKERS: std::sync::Mutex<Vec<thread::JoinHandle<()>>> = std::sync::Mutex::new(Vec::new());

fn start_worker(pool: &'static Pool, slot: u16) -> crate::sys::Result<()> {
    let worker = thread::spawn(move || pool.work(slot));
    WORKERS.lock().unwrap().push(worker);
    Ok(())
}

/// Explores every execution of `body`, with at most `preemptions` preemptions, and joins its workers.
fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    let executions = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = executions.clone();
    builder.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        body();
        loop {
            let Some(worker) = WORKERS.lock().unwrap().pop() else {
                break;
            };
            worker.join().unwrap();
        }
    });
    println!(
        "{} executions",
        executions.load(std::sync::atomic::Ordering::Relaxed)
    );
}

fn no_worker(_: &'static Pool, _: u16) -> crate::sys::Result<()> {
    Err(Errno::EAGAIN)
}

fn context(start: StartWorker<ContextRef>) -> ContextRef {
    let pool = Box::leak(Box::new(Pool::new(start, false, || {}).unwrap()));
    let own_queues = Box::leak(Box::new(OwnQueues::new()));
    let mut params = io_setup2_params {
        bytes: 64,
        flags: 0,
        ring_bytes: 64,
        max_requests: 0,
        workers: 0,
        eventfd: -1,
        features: 0,
        reserved: [0; 4],
    };
    let behaviour = Behaviour {
        holds_files: false,
        has_claims: false,
        cancels_at_close: true,
        submit_may_fault: false,
        usual_size: SizeClass::Small,
    };
    pool.reserve(1).unwrap();
    Ref(std::sync::Arc::new(
        Context::new(&mut params, 1, behaviour, Engines { pool, own_queues }).unwrap(),
    ))
}

/// Submits one record, or several behind each other.
fn submit<T: ?Sized>(context: &ContextRef, records: &T) {
    // SAFETY: whole records of ours.
    let accepted =
        unsafe { Context::submit(context, (&raw const *records).cast(), size_of_val(records)) };
    assert_eq!(accepted, Ok(size_of_val(records)));
}

fn wait_for(context: &ContextRef, events: usize) -> Vec<u64> {
    let mut seen = Seen::default();
    let result = seen.collect(events, |out| {
        Context::get_events(context, events * EVENT, out, Deadline::Never, None)
    });
    assert_eq!(result, Ok(events * EVENT));
    seen.data
}

/// The whole way of a request: submit, the queue, a worker that starts, sleeps and ends, the ring.
#[test]
fn loom_queue() {
    model(2, || {
        let context = context(start_worker);
        submit(&context, &[nop(1)]);
        Context::wait_until_idle(&context);
        submit(&context, &[nop(2)]);
        assert_eq!(wait_for(&context, 2), [1, 2]);
    });
}

/// Two threads submit, and the main thread waits for both requests.
fn submitters(start: StartWorker<ContextRef>) {
    model(2, move || {
        let context = context(start);
        let other = {
            let context = context.clone();
            thread::spawn(move || submit(&context, &[nop(1)]))
        };
        submit(&context, &[nop(2)]);
        let mut seen = wait_for(&context, 2);
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
        other.join().unwrap();
    });
}

#[test]
fn loom_queue_submitters() {
    submitters(start_worker);
}

/// The same if no thread can be started: the waiter carries the requests out.
#[test]
fn loom_queue_no_threads() {
    submitters(no_worker);
}

/// A request is cancelled while a worker may be taking it. It ends exactly once.
#[test]
fn loom_queue_cancel() {
    model(2, || {
        let context = context(start_worker);
        submit(&context, &[nop(1)]);
        match Context::cancel(&context, |data, _| data == 1) {
            Ok(()) | Err(Errno::EALREADY | Errno::ENOENT) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(wait_for(&context, 1), [1]);
        let mut seen = Seen::default();
        let more = seen.collect(1, |out| {
            Context::get_events(&context, 0, out, Deadline::Now, None)
        });
        assert_eq!(more, Ok(0));
    });
}

/// Two requests, the second linked to the first.
#[repr(C)]
struct Linked {
    first: iocb2,
    link: iocb_attr,
    second: iocb2,
}

impl Linked {
    fn new(first: u64, second: u64) -> Linked {
        let bytes = size_of::<iocb_attr>() as u16;
        Linked {
            first: iocb2 {
                bytes: 64 + u32::from(bytes),
                ..nop(first)
            },
            link: iocb_attr {
                bytes,
                id: IOCB_ATTR_LINK,
                flags: 0,
                cookie: 0,
            },
            second: nop(second),
        }
    }
}

/// The last request of a chain is cancelled while the first may end. Each ends exactly once.
#[test]
fn loom_queue_cancel_linked() {
    model(2, || {
        let context = context(start_worker);
        submit(&context, &Linked::new(1, 2));
        match Context::cancel(&context, |data, _| data == 2) {
            Ok(()) | Err(Errno::EALREADY | Errno::ENOENT) => {}
            other => panic!("{other:?}"),
        }
        let mut seen = Seen::default();
        let bytes = EVENT_MAX + EVENT;
        let got = seen.collect(2, |out| {
            Context::get_events(&context, bytes, out, Deadline::Never, None)
        });
        assert_eq!(got, Ok(bytes));
        seen.data.sort_unstable();
        assert_eq!(seen.data, [1, 2]);
        Context::close(&context);
    });
}

/// io_destroy2() is called while another thread waits.
#[test]
fn loom_queue_close() {
    model(2, || {
        let context = context(start_worker);
        let waiter = {
            let context = context.clone();
            thread::spawn(move || {
                let mut seen = Seen::default();
                let result = seen.collect(1, |out| {
                    Context::get_events(&context, EVENT, out, Deadline::Never, None)
                });
                assert!(matches!(result, Ok(EVENT) | Err(Errno::EINVAL)));
            })
        };
        let iocb = nop(1);
        // SAFETY: a whole record of ours.
        let accepted = unsafe { Context::submit(&context, (&raw const iocb).cast(), 64) };
        assert_eq!(accepted, Ok(64));
        Context::close(&context);
        waiter.join().unwrap();
    });
}

/// A caller that has carried its requests out itself submits one more and does not come for it: the monitor makes sure that it is carried
/// out.
#[test]
fn loom_queue_listed() {
    model(2, || {
        let context = context(start_worker);
        submit(&context, &[nop(1)]);
        assert_eq!(wait_for(&context, 1), [1]);
        submit(&context, &[nop(2)]);
        Context::wait_until_idle(&context);
        assert_eq!(wait_for(&context, 1), [2]);
    });
}

/// The same with a caller that does come, concurrently with the monitor.
#[test]
fn loom_queue_listed_and_waited_for() {
    model(2, || {
        let context = context(start_worker);
        for data in 1..=2 {
            submit(&context, &[nop(data)]);
            assert_eq!(wait_for(&context, 1), [data]);
        }
    });
}

/// A read, which in a model waits for its device. If a worker makes the call, the file does not exist.
fn read(data: u64) -> iocb2 {
    iocb2 {
        nr: libc::SYS_pread64 as u32,
        args: [u64::MAX, 0, 0, 0, 0, 0],
        ..nop(data)
    }
}

/// Explores a context whose callers hand over to the kernel in a queue of their own. At the end the kernel completes all that it has, and
/// the monitor collects it.
fn own_queue(
    start: StartWorker<ContextRef>,
    body: impl Fn(&ContextRef, &'static OwnQueue) + Sync + Send + 'static,
) {
    model(2, move || {
        let context = context(start);
        let own_queue = context.expect_reaper().unwrap();
        body(&context, own_queue);
        own_queue.end_kernel();
        own_queue.run_kernel(usize::MAX);
        context.wait_for_others();
    });
}

/// Runs `body` concurrently with a kernel that completes requests at any time.
fn beside_kernel(own_queue: &'static OwnQueue, body: impl FnOnce()) {
    let kernel = thread::spawn(|| own_queue.run_kernel(usize::MAX));
    body();
    own_queue.end_kernel();
    kernel.join().unwrap();
}

fn wait_for_sorted(context: &ContextRef, events: usize) -> Vec<u64> {
    let mut seen = wait_for(context, events);
    seen.sort_unstable();
    seen
}

fn wait_in_thread(context: &ContextRef) -> thread::JoinHandle<()> {
    let context = context.clone();
    thread::spawn(move || drop(wait_for(&context, 1)))
}

fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        thread::yield_now();
    }
}

/// Collects the completions of the kernel, without room for an event.
fn look(context: &ContextRef) {
    let look = |out: &mut Out| Context::get_events(context, 0, out, Deadline::Now, None);
    assert!(matches!(
        Seen::default().collect(0, look),
        Ok(0) | Err(Errno::ENOBUFS)
    ));
}

/// A caller hands over and sleeps: it gets its events, whatever the monitor does.
#[test]
fn loom_own_queue() {
    own_queue(start_worker, |context, own_queue| {
        beside_kernel(own_queue, || {
            submit(context, &[read(1), read(2)]);
            assert_eq!(wait_for_sorted(context, 2), [1, 2]);
        });
    });
}

/// A caller hands two requests over, gets one event and leaves: the monitor collects the other.
#[test]
fn loom_own_queue_left() {
    own_queue(start_worker, |context, own_queue| {
        beside_kernel(own_queue, || {
            submit(context, &[read(1), read(2)]);
            let mut seen = wait_for(context, 1);
            context.wait_for_others();
            seen.extend(wait_for(context, 1));
            seen.sort_unstable();
            assert_eq!(seen, [1, 2]);
        });
    });
}

/// A caller sleeps, or is about to, while another thread submits. That thread hands over beside it, or leaves the request to a worker.
#[test]
fn loom_own_queue_submitter() {
    own_queue(start_worker, |context, own_queue| {
        beside_kernel(own_queue, || {
            let sleeper = wait_in_thread(context);
            submit(context, &[read(1)]);
            sleeper.join().unwrap();
        });
    });
}

/// The same if no thread can be started, and so there is no monitor: the sleeper gets one event, and collects the other before it leaves.
#[test]
fn loom_own_queue_no_threads() {
    own_queue(no_worker, |context, own_queue| {
        beside_kernel(own_queue, || {
            let sleeper = wait_in_thread(context);
            submit(context, &[read(1), read(2)]);
            sleeper.join().unwrap();
            context.wait_for_others();
        });
    });
}

/// The same, and while the sleeper leaves, another thread collects the second of three events: one of the two collects the third.
#[test]
fn loom_own_queue_looker_no_threads() {
    own_queue(no_worker, |context, own_queue| {
        let sleeper = wait_in_thread(context);
        wait_until(|| context.is_reaper_asleep());
        submit(context, &[read(1), read(2), read(3)]);
        own_queue.end_kernel();
        own_queue.run_kernel(1);
        wait_until(|| !context.is_reaper_asleep());
        own_queue.run_kernel(1);
        beside_kernel(own_queue, || {
            look(context);
            sleeper.join().unwrap();
        });
    });
}

/// One thread sleeps, or is about to; another thread submits, and hands over. It then looks for completions without room for an event, and
/// may collect the one that would have woken the sleeper. The sleeper must not have to wait for the kernel's next completion.
#[test]
fn loom_own_queue_looker() {
    own_queue(start_worker, |context, own_queue| {
        let sleeper = wait_in_thread(context);
        wait_until(|| context.is_reaper_asleep());
        submit(context, &[read(1), read(2)]);
        own_queue.run_kernel(1);
        look(context);
        look(context);
        sleeper.join().unwrap();
    });
}
