//! Tests of behaviour that is visible without a C caller. Tests of the behaviour for C callers are in `c-tests/`.

use crate::abi::{
    IOCB_ATTR_CACHE, IOCB_ATTR_DEADLINE, IOCB_ATTR_F_REQUIRED, IOCB_ATTR_IOPRIO, IOCB_ATTR_TIMING,
    IOCB_ATTR_WORKER, IOCB2_NOP, io_event2, iocb_attr_ret,
};
use crate::attr::{self, SubmitClock};
use crate::engine::exec;
use crate::request::{
    Chunk, IDS, List, Malformed, Record, Req, Running, Scratch, SizeClass, Slabs,
};
use libc::{ECANCELED, EINVAL, EOPNOTSUPP, ETIMEDOUT};

/// A generator that returns the same numbers in each run (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// A record under construction, in memory aligned as the ABI requires.
struct Bytes(Vec<u64>);

impl Bytes {
    fn request(data: u64) -> Bytes {
        let mut words = vec![0; 8];
        words[0] = u64::from(IOCB2_NOP) << 32 | 64;
        words[1] = data;
        Bytes(words)
    }

    fn attr(mut self, id: u16, flags: u32, cookie: u64, payload: &[u64]) -> Bytes {
        let bytes = 16 + payload.len() as u64 * 8;
        self.0
            .push(u64::from(flags) << 32 | u64::from(id) << 16 | bytes);
        self.0.push(cookie);
        self.0.extend_from_slice(payload);
        self.0[0] += bytes;
        self
    }

    fn len(&self) -> usize {
        self.0.len() * 8
    }

    fn read(&self, scratch: &mut Scratch) -> Result<Record, Malformed> {
        // SAFETY: the vector's memory, with its alignment and length.
        unsafe {
            Record::read(
                self.0.as_ptr().cast(),
                self.len(),
                &SubmitClock::new(),
                scratch,
            )
        }
    }

    fn build(&self, slabs: &mut Slabs) -> Req {
        let mut scratch = Scratch::new();
        let record = self.read(&mut scratch).expect("well-formed");
        let slab = slabs.of(record.class());
        if slab.free.len() == 0 {
            slab.add(Chunk::new(record.class(), slab.growth(1)).unwrap());
        }
        let slot = slab.free.pop().unwrap();
        record.build(slot, &scratch)
    }
}

/// The returns in an event: id, ret, cookie, words of payload. Panics if they do not fill the event exactly.
fn returns(event: &[u64]) -> Vec<(u16, i32, u64, usize)> {
    assert_eq!(event[0] as usize, event.len() * 8);
    let mut rest = &event[size_of::<io_event2>() / 8..];
    let mut all = Vec::new();
    while !rest.is_empty() {
        let words = usize::from(rest[0] as u16) / 8;
        assert!(words >= size_of::<iocb_attr_ret>() / 8);
        all.push((
            (rest[0] >> 16) as u16,
            (rest[0] >> 32) as i32,
            rest[1],
            words - 2,
        ));
        rest = &rest[words..];
    }
    all
}

#[test]
fn event_is_laid_out_at_submit() {
    let mut slabs = Slabs::new();
    let req = Bytes::request(7)
        .attr(0x8000, 0, 1, &[2, 3])
        .attr(IOCB_ATTR_TIMING, 0, 4, &[])
        .attr(IOCB_ATTR_TIMING, 0, 5, &[])
        .attr(0, 0, 6, &[])
        .build(&mut slabs);
    let expected = [
        (0x8000, -EOPNOTSUPP, 1, 0),
        (IOCB_ATTR_TIMING, 0, 4, 3),
        (IOCB_ATTR_TIMING, -EINVAL, 5, 0),
        (0, -EOPNOTSUPP, 6, 0),
    ];
    assert_eq!(returns(req.event()), expected);
    assert_eq!(req.event()[1], 7);
    assert_eq!(req.refused(), 0);
    slabs.free(req);
}

#[test]
fn required_refuses_with_its_own_errno() {
    let mut slabs = Slabs::new();
    let mut refused = |bytes: Bytes| {
        let req = bytes.build(&mut slabs);
        let errno = req.refused();
        slabs.free(req);
        errno
    };
    let required = IOCB_ATTR_F_REQUIRED;
    assert_eq!(
        refused(Bytes::request(0).attr(99, required, 0, &[])),
        -EOPNOTSUPP
    );
    assert_eq!(
        refused(Bytes::request(0).attr(IOCB_ATTR_TIMING, required, 0, &[1])),
        -EINVAL
    );
    assert_eq!(
        refused(Bytes::request(0).attr(IOCB_ATTR_TIMING, required, 0, &[])),
        0
    );
    assert_eq!(
        refused(Bytes::request(0).attr(IOCB_ATTR_TIMING, 2, 0, &[])),
        0
    );
}

#[test]
fn input_is_kept_behind_the_event() {
    let mut slabs = Slabs::new();
    let mut req = Bytes::request(7)
        .attr(IOCB_ATTR_DEADLINE, 0, 1, &[u64::MAX - 1])
        .attr(IOCB_ATTR_CACHE, 0, 2, &[])
        .attr(IOCB_ATTR_IOPRIO, 0, 3, &[1 << 32])
        .attr(IOCB_ATTR_WORKER, 0, 4, &[])
        .attr(IOCB_ATTR_IOPRIO, 0, 5, &[0x4001])
        .attr(IOCB_ATTR_IOPRIO, 0, 6, &[0x4002])
        .build(&mut slabs);
    let expected = [
        (IOCB_ATTR_DEADLINE, 0, 1, 0),
        (IOCB_ATTR_CACHE, -EOPNOTSUPP, 2, 0),
        (IOCB_ATTR_IOPRIO, -EINVAL, 3, 0),
        (IOCB_ATTR_WORKER, 0, 4, 1),
        (IOCB_ATTR_IOPRIO, 0, 5, 0),
        (IOCB_ATTR_IOPRIO, -EINVAL, 6, 0),
    ];
    assert_eq!(returns(req.event()), expected);
    // In the order of attribute numbers, whatever the order in the request.
    assert_eq!(req.answers().kept, [0x4001, u64::MAX - 1]);
    exec::cancel(&mut req);
    assert_eq!(req.event()[2] as i64, i64::from(-ECANCELED));
    assert_eq!(
        returns(req.event())[3],
        (IOCB_ATTR_WORKER, -ECANCELED, 4, 1)
    );
    slabs.free(req);
}

#[test]
fn a_request_with_every_attribute_is_not_large() {
    let mut slabs = Slabs::new();
    let bytes = Bytes::request(7)
        .attr(IOCB_ATTR_DEADLINE, 0, 1, &[1])
        .attr(IOCB_ATTR_IOPRIO, 0, 2, &[0x4001])
        .attr(IOCB_ATTR_WORKER, 0, 3, &[])
        .attr(IOCB_ATTR_TIMING, 0, 4, &[]);
    assert!(bytes.read(&mut Scratch::new()).unwrap().class() == SizeClass::Medium);
    let mut req = bytes.build(&mut slabs);
    exec::execute(&mut req, None);
    assert_eq!(req.event()[2] as i64, i64::from(-ETIMEDOUT));
    slabs.free(req);
    let mut each = Bytes::request(7);
    each.0[0] = (libc::SYS_pread64 as u64) << 32 | 64;
    for id in 0..IDS as u16 {
        if let Some(row) = attr::find(id) {
            each = each.attr(id, 0, 0, &vec![0; row.input]);
        }
    }
    assert!(each.read(&mut Scratch::new()).unwrap().class() == SizeClass::Medium);
    let one = Bytes::request(7).attr(IOCB_ATTR_TIMING, 0, 4, &[]);
    assert!(one.read(&mut Scratch::new()).unwrap().class() == SizeClass::Small);
}

#[test]
fn largest_request_fits_a_slot() {
    let mut slabs = Slabs::new();
    let mut bytes = Bytes::request(1).attr(IOCB_ATTR_TIMING, 0, 1, &[]);
    for cookie in 0..255 {
        bytes = bytes.attr(0x8000 + cookie, 0, cookie.into(), &[]);
    }
    assert_eq!(bytes.len(), 64 + 4096);
    let req = bytes.build(&mut slabs);
    assert_eq!(returns(req.event()).len(), 256);
    slabs.free(req);
    let too_many = bytes.attr(1, 0, 0, &[]);
    assert_eq!(too_many.read(&mut Scratch::new()).err(), Some(Malformed));
}

/// Reading a record ends for any bytes, and an accepted record makes a valid event.
#[test]
fn random_records() {
    let mut random = Random(1);
    let mut slabs = Slabs::new();
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut bytes = Bytes::request(random.next());
        for _ in 0..random.below(6) {
            let payload = vec![random.next(); random.below(4) as usize];
            bytes = bytes.attr(
                random.below(10) as u16,
                random.below(4) as u32,
                random.next(),
                &payload,
            );
        }
        // Half of the records are damaged, mostly in their sizes.
        if random.below(2) == 0 {
            let word = random.below(bytes.0.len() as u64) as usize;
            let word = if random.below(2) == 0 { 0 } else { word };
            bytes.0[word] ^= 1 << random.below(20);
        }
        if bytes.read(&mut Scratch::new()).is_ok() {
            let mut req = bytes.build(&mut slabs);
            let attrs = returns(req.event()).len();
            assert!(attrs <= 256);
            // It is a no-op, so no attribute can do harm.
            exec::execute(&mut req, None);
            assert_eq!(returns(req.event()).len(), attrs);
            accepted += 1;
            slabs.free(req);
        }
    }
    assert!((10_000..20_000).contains(&accepted), "{accepted}");
}

#[test]
fn slabs_reuse_and_list_keeps_order() {
    let mut slabs = Slabs::new();
    let mut list = List::new();
    let mut running = Running::new();
    let mut slots = None;
    for round in 0..10 {
        for data in 0..100 {
            list.push(Bytes::request(round * 100 + data).build(&mut slabs));
        }
        let odd: Vec<Req> =
            std::iter::from_fn(|| list.remove_first(|data, _| data % 2 == 1)).collect();
        assert_eq!(odd.len(), 50);
        for req in odd {
            running.enter(&req);
            let data = req.event()[1];
            assert!(running.iter().any(|one| one.data == data));
            running.leave(&req);
            assert!(!running.iter().any(|one| one.data == data));
            slabs.free(req);
        }
        let mut other = List::new();
        std::mem::swap(&mut list, &mut other);
        list.append(&mut other);
        let first = list.pop().unwrap();
        list.push_front(first);
        let even: Vec<u64> = std::iter::from_fn(|| {
            let req = list.pop()?;
            let data = req.event()[1];
            slabs.free(req);
            Some(data)
        })
        .collect();
        assert_eq!(
            even,
            (0..50).map(|i| round * 100 + i * 2).collect::<Vec<_>>()
        );
        // Freed slots are used again: ten rounds take no more memory than one.
        let free = slabs.of(SizeClass::Small).free.len();
        assert_eq!(*slots.get_or_insert(free), free);
    }
}
