//! Interrupting another thread's system call.
//!
//! A signal interrupts the call: its handler does nothing, and the system call returns -EINTR. If the signal arrives
//! after the thread has decided to make the call and before it makes it, the signal would be lost. Therefore the call
//! is made by a few instructions of our own, which check a flag first. If the handler finds the thread between these
//! instructions and the one that enters the kernel, it moves the thread past the call. An interrupter sets the flag and
//! sends the signal. Then either the thread sees the flag, or the handler runs before the call, or the kernel sees the
//! signal during the call. (musl cancels threads in this way.)
//!
//! A foreign signal interrupts a call, too: the C library's setuid() sends one to each thread. The call is then made
//! again for the rest of its time ([`Again`]), as the kernel itself would do. If both signals arrive, ours may find the
//! thread in the other handler, after which the kernel repeats the call without checking the flag. So our handler sends
//! our signal again, and blocks it until the other handler has returned. The second one arrives where the call would be
//! made.
//!
//! The signal is a real-time one that the program does not use. It is chosen at the first need: the highest whose
//! action is the default, and which the program's threads were not seen to block. The workers that need it unblock it;
//! all other library threads block it, as they block every signal. If the program later sets its own action for the
//! signal, another one is chosen for new calls; calls that began before can no longer be interrupted. A program may
//! also receive the signal without an action, by signalfd(2) or sigwait(3); the kernel may then deliver it to a worker.
//! In that case our handler sends it to the process again, this worker blocks it from then on, and all workers use
//! another signal.
//!
//! A signal needs room in the user's queue (RLIMIT_SIGPENDING). Each worker reserves room for one by a timer, which
//! sends the signal if the queue is full. If there was no room for the timer, or little, a signal is used that needs no
//! room, because it is not a real-time signal.

use super::{Call, carrier};
use crate::sys::raw::{
    NOT_MADE, aio2_interruptible_begin, aio2_interruptible_cancel, aio2_interruptible_end,
    call_unless,
};
use crate::sys::{
    block_all_but, has_call_filter, limit, monotonic_ns, read_memory, seen_blocked, signal_bit,
    timespec,
};
use libc::{c_int, c_long, c_void, siginfo_t, ucontext_t};
use nix::errno::Errno;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, fence};

/// Makes the system call in a worker that `target` interrupts. Returns the kernel's result, or a negative errno. A call
/// is only interrupted if somebody asked for it.
pub fn system_call(call: &Call, target: &Interruptible) -> i64 {
    let mut again = Again::of(call);
    again.asks_for_rest();
    loop {
        let Call { nr, ref args, .. } = again.call;
        // SAFETY: as in `make::system_call`: the program may make the call itself.
        let res = unsafe { call_unless(&target.flag, nr, args) };
        // Relaxed: a flag set before the signal that ended the call is seen, because the handler ran in this thread. If
        // the flag is set now, its signal interrupts the next attempt.
        let is_meant = target.flag.load(Relaxed) != 0;
        match res {
            NOT_MADE if is_meant => return -i64::from(libc::ECANCELED),
            NOT_MADE => {}
            _ if res != -i64::from(libc::EINTR) || is_meant => return res,
            _ => again.interrupted(),
        }
        // The signal may have turned out to be the program's.
        target.prepare();
    }
}

/// Whether a call without a timeout may be made again after an interruption.
pub fn may_be_made_again(call: &Call) -> bool {
    // An interrupted close has closed the descriptor already.
    c_long::from(call.nr) != libc::SYS_close
}

/// A call that may be made again, and its remaining time.
struct Again {
    call: Call,
    began_ns: u64,
    /// The remaining time, if the call must not use the program's memory for it.
    left: UnsafeCell<libc::timespec>,
}

impl Again {
    fn of(call: &Call) -> Again {
        Again {
            call: *call,
            began_ns: monotonic_ns(),
            left: UnsafeCell::new(timespec(0)),
        }
    }

    /// Changes the call to wait for the remaining time only.
    fn interrupted(&mut self) {
        let args = self.call.args;
        match c_long::from(self.call.nr) {
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll => self.less_ms(2),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait => self.less_ms(3),
            libc::SYS_epoll_pwait => self.less_ms(3),
            libc::SYS_epoll_pwait2 | libc::SYS_semtimedop => self.less(3, NS),
            libc::SYS_io_getevents | SYS_IO_PGETEVENTS => self.less(4, NS),
            libc::SYS_futex if args[1] as c_int & FUTEX_COMMAND == libc::FUTEX_WAIT => {
                self.less(3, NS);
            }
            libc::SYS_nanosleep => self.sleep_on(0, 1),
            libc::SYS_clock_nanosleep if args[1] as c_int & libc::TIMER_ABSTIME == 0 => {
                self.sleep_on(2, 3);
            }
            // The kernel has written the remaining time there.
            libc::SYS_ppoll => self.less_if_unknown(2, NS),
            libc::SYS_pselect6 => self.less_if_unknown(4, NS),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_select => self.less_if_unknown(4, US),
            // Other calls have no timeout, or an absolute one.
            _ => {}
        }
    }

    fn gone_ns(&self) -> u64 {
        monotonic_ns() - self.began_ns
    }

    /// The argument is a timeout in milliseconds; negative: no limit. It and `began_ns` are those of the previous
    /// attempt.
    fn less_ms(&mut self, arg: usize) {
        const MS: u64 = 1_000_000;
        if let Ok(ms) = u64::try_from(self.call.args[arg] as c_int) {
            let left_ns = (ms * MS).saturating_sub(self.gone_ns());
            self.call.args[arg] = left_ns.div_ceil(MS);
            self.began_ns = monotonic_ns();
        }
    }

    /// The argument is the address of a timeout, in seconds and this unit, that the kernel does not change; NULL: no
    /// limit.
    fn less(&mut self, arg: usize, unit_ns: u64) {
        let at = self.call.args[arg];
        if at == 0 {
            return;
        }
        let mut bytes = [0; 16];
        if read_memory(at as usize, &mut bytes).is_err() {
            return;
        }
        let [seconds, units] =
            [0, 8].map(|at| u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i])));
        let part_ns = units.saturating_mul(unit_ns);
        let whole_ns = seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(part_ns);
        let mut left = timespec(whole_ns.saturating_sub(self.gone_ns()));
        left.tv_nsec /= unit_ns as c_long;
        *self.left.get_mut() = left;
        self.began_ns = monotonic_ns();
        self.call.args[arg] = self.left.get() as u64;
    }

    /// For a timeout that the kernel changes, unless it is read-only.
    fn less_if_unknown(&mut self, arg: usize, unit_ns: u64) {
        let at = self.call.args[arg] as usize;
        if !crate::sys::user::writable(at) {
            self.less(arg, unit_ns);
        }
    }

    /// The kernel has written the remaining time to the address in the second argument.
    fn sleep_on(&mut self, whole: usize, left: usize) {
        self.call.args[whole] = self.call.args[left];
    }

    /// If a sleep gives no address for the remaining time, it gets ours. From here on `self` must not be moved.
    fn asks_for_rest(&mut self) {
        let args = &mut self.call.args;
        let left = match c_long::from(self.call.nr) {
            libc::SYS_nanosleep => &mut args[1],
            libc::SYS_clock_nanosleep => &mut args[3],
            _ => return,
        };
        if *left == 0 {
            *left = self.left.get() as u64;
        }
    }
}

/// The units of struct timespec and of struct timeval.
const NS: u64 = 1;
#[cfg(target_arch = "x86_64")]
const US: u64 = 1_000;

/// Not in the crate.
const SYS_IO_PGETEVENTS: c_long = if cfg!(target_arch = "x86_64") {
    333
} else {
    292
};

const FUTEX_COMMAND: c_int = !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);

/// Interrupts the calls of one worker.
pub struct Interruptible {
    /// 1: the worker's current or next call must end.
    flag: AtomicU32,
    tid: AtomicU32,
    /// The signal that interrupts it; NOT_YET, or NONE.
    signal: AtomicI32,
    /// The kernel's number of the timer that sends it, plus one; NO_TIMER, or NEVER_TIMER. Zeros are valid for all
    /// fields, because most workers that have a place never start.
    timer: AtomicI32,
}

const NOT_YET: c_int = 0;
/// No signal is available.
const NONE: c_int = -1;
const NO_TIMER: c_int = 0;
/// No timer is tried.
const NEVER_TIMER: c_int = -1;

/// If the queue has less room than this, all of it is left to the program.
const QUEUE_LEAST: libc::rlim_t = 1024;

/// Our timers send the address of this.
static MARK: u8 = 0;

impl Interruptible {
    /// The worker's thread number.
    pub fn tid(&self) -> u32 {
        self.tid.load(Relaxed)
    }

    /// The calling thread is a new worker.
    pub fn begins(&'static self) {
        // Relaxed: nobody interrupts it before it has taken a request, which happens under a lock.
        self.flag.store(0, Relaxed);
        self.signal.store(NOT_YET, Relaxed);
        self.timer.store(NO_TIMER, Relaxed);
        self.tid.store(carrier::tid(), Relaxed);
        carrier::set_interruptible(self);
    }

    /// The calling worker ends.
    pub fn ends(&self) {
        self.drop_timer();
    }

    fn drop_timer(&self) {
        let timer = self.timer.swap(NO_TIMER, Relaxed);
        if timer > 0 && !has_call_filter() {
            // SAFETY: our own timer.
            unsafe { libc::syscall(libc::SYS_timer_delete, timer - 1) };
        }
    }

    /// Makes sure that the next call of the calling worker can be interrupted.
    pub fn prepare(&self) {
        let before = self.signal.load(Relaxed);
        let mut signal = choose().unwrap_or(NONE);
        if signal != before && signal != NONE {
            self.drop_timer();
            self.make_timer(signal);
        }
        if signal != NONE && self.timer.load(Relaxed) == NO_TIMER {
            signal = standard().unwrap_or(signal);
        }
        if signal != before {
            block_all_but(signal);
            self.signal.store(signal, Relaxed);
        }
        // Pairs with the fence in `interrupt`: either `interrupt` sees the signal, or the next call sees the flag.
        fence(SeqCst);
    }

    /// Makes the timer, unless the queue has so little room that the program may need it.
    fn make_timer(&self, signal: c_int) {
        if limit(libc::RLIMIT_SIGPENDING) < QUEUE_LEAST {
            return;
        }
        if has_call_filter() {
            return self.timer.store(NEVER_TIMER, Relaxed);
        }
        let mut timer: c_int = 0;
        // SAFETY: the kernel accesses our structures, for which zeros are valid.
        let ret = unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal;
            event.sigev_notify_thread_id = self.tid.load(Relaxed) as c_int;
            event.sigev_value.sival_ptr = (&raw const MARK).cast_mut().cast();
            let clock = libc::CLOCK_MONOTONIC;
            libc::syscall(
                libc::SYS_timer_create,
                clock,
                &raw mut event,
                &raw mut timer,
            )
        };
        let timer = match ret {
            0 => timer + 1,
            _ if Errno::last() == Errno::EAGAIN => NO_TIMER,
            _ => NEVER_TIMER,
        };
        self.timer.store(timer, Relaxed);
    }

    /// Interrupts the worker's current call, if possible. Called under a lock that keeps the worker from starting
    /// another request.
    pub fn interrupt(&self) -> bool {
        if self.flag.swap(1, Relaxed) != 0 {
            // A signal is already on its way; another one would only take room in the queue.
            return true;
        }
        // Pairs with the fence in `prepare`.
        fence(SeqCst);
        let sent = match self.signal.load(Relaxed) {
            // The worker has just begun its first request, and will see the flag.
            NOT_YET => true,
            signal => has_our_action(signal) && self.send(signal),
        };
        if !sent {
            self.flag.store(0, Relaxed);
        }
        sent
    }

    fn send(&self, signal: c_int) -> bool {
        // SAFETY: integer arguments only.
        let ret = unsafe {
            let (process, thread) = (libc::getpid(), self.tid.load(Relaxed));
            libc::syscall(libc::SYS_tgkill, process, thread, signal)
        };
        ret == 0 || self.start_timer()
    }

    /// Makes the timer send the signal at once.
    fn start_timer(&self) -> bool {
        let timer = self.timer.load(Relaxed);
        let now = libc::itimerspec {
            it_interval: timespec(0),
            it_value: timespec(1),
        };
        // SAFETY: the kernel reads our structure.
        timer > 0 && unsafe { libc::syscall(libc::SYS_timer_settime, timer - 1, 0, &now, 0) } == 0
    }

    /// The worker's request can no longer be found. True if an interruption was requested: the worker must then call
    /// `consume` before the next request. Called under the same lock as `interrupt`.
    pub fn was_interrupted(&self) -> bool {
        // Relaxed: set under that lock.
        self.flag.load(Relaxed) != 0 && {
            self.flag.store(0, Relaxed);
            true
        }
    }

    /// Consumes a signal sent earlier, so that it does not interrupt the next request. Unblocking delivers a pending
    /// signal before the thread returns from the kernel; the handler may have blocked it.
    pub fn consume(&self) {
        block_all_but(self.signal.load(Relaxed));
    }
}

extern "C" fn handler(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    let target = carrier::interruptible();
    let is_meant = target.is_some_and(|target| target.flag.load(Relaxed) != 0);
    // SAFETY: the kernel passes the signal's information and the interrupted context. Only the mask and the instruction
    // pointer change; the latter only from one of our instructions to another.
    unsafe {
        let context = context.cast::<ucontext_t>();
        let mcontext = &raw mut (*context).uc_mcontext;
        #[cfg(target_arch = "x86_64")]
        let at = &raw mut (*mcontext).gregs[libc::REG_RIP as usize];
        #[cfg(target_arch = "aarch64")]
        let at = &raw mut (*mcontext).pc;
        let begin = &raw const aio2_interruptible_begin as usize;
        let end = &raw const aio2_interruptible_end as usize;
        let is_at_call = (begin..end).contains(&(*at as usize));
        match target {
            Some(target) if is_from_us(signal, &*info) => {
                if !is_at_call && is_meant && target.send(signal) {
                    libc::sigaddset(&raw mut (*context).uc_sigmask, signal);
                }
            }
            Some(_) => {
                PROGRAMS.fetch_or(signal_bit(signal), Relaxed);
                libc::sigaddset(&raw mut (*context).uc_sigmask, signal);
                send_on(signal, info);
            }
            None => end_by(signal, info),
        }
        if is_at_call {
            *at = &raw const aio2_interruptible_cancel as usize as _;
        }
    }
    Errno::set_raw(errno);
}

/// Whether [`Interruptible::send`] sent this signal to a worker.
fn is_from_us(signal: c_int, info: &siginfo_t) -> bool {
    // SAFETY: `si_code` says which fields are valid.
    unsafe {
        match info.si_code {
            libc::SI_TKILL => info.si_pid() == libc::getpid(),
            libc::SI_TIMER => info.si_value().sival_ptr == (&raw const MARK).cast_mut().cast(),
            // If the queue was full, the kernel delivers a standard signal without information, and no real-time
            // signal.
            libc::SI_USER => signal < libc::SIGRTMIN() && info.si_pid() == 0,
            _ => false,
        }
    }
}

/// Sends a signal of the program's to the process again, where a thread of the program waits for it. The sender's
/// identity is kept; `si_code` is kept as far as the kernel allows.
///
/// # Safety
/// `info` was passed to a handler.
unsafe fn send_on(signal: c_int, info: *const siginfo_t) {
    // SAFETY: the caller guarantees `info`. The other fields stay where they were.
    unsafe {
        let mut info = *info;
        info.si_code = match info.si_code {
            libc::SI_USER | libc::SI_KERNEL | libc::SI_TKILL => libc::SI_QUEUE,
            // A descriptor is ready.
            1.. => libc::SI_SIGIO,
            code => code,
        };
        let process = libc::getpid();
        if libc::syscall(libc::SYS_rt_sigqueueinfo, process, signal, &raw const info) != 0 {
            libc::kill(process, signal);
        }
    }
}

/// Has the effect that the signal would have had on the process without the library. A program's thread received it
/// unblocked, and the program has no action for it.
///
/// # Safety
/// `info` was passed to a handler.
unsafe fn end_by(signal: c_int, info: *const siginfo_t) {
    // SAFETY: zeros are a valid action (the default); the caller guarantees `info`.
    unsafe {
        let action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, &action, std::ptr::null_mut());
        let (process, thread) = (libc::getpid(), libc::syscall(libc::SYS_gettid));
        if libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, signal, info) != 0 {
            libc::kill(process, signal);
        }
    }
}

/// The signal in use; 0: none yet. A forked child inherits it, and its action. Release in `choose` pairs with the
/// acquire there.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// A bit for each signal of the program's that a worker received; these are no longer used. Relaxed: a hint. A thread
/// that misses a bit sets it again.
static PROGRAMS: AtomicU64 = AtomicU64::new(0);

/// The action of a signal: the address of its handler.
fn action(signal: c_int) -> Option<usize> {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: reads the action into our structure.
    unsafe {
        match libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) {
            0 => Some(now.assume_init().sa_sigaction),
            _ => None,
        }
    }
}

fn has_our_action(signal: c_int) -> bool {
    signal > 0 && action(signal) == Some(handler as *const () as usize)
}

/// Whether calls that begin now can use the signal.
fn is_ours(signal: c_int) -> bool {
    has_our_action(signal) && PROGRAMS.load(Relaxed) & signal_bit(signal) == 0
}

/// Chooses a signal, unless the current one is still usable. Two threads may choose the same one concurrently, without
/// harm.
fn choose() -> Option<c_int> {
    let now = SIGNAL.load(Acquire);
    if is_ours(now) {
        return Some(now);
    }
    let real_time = || (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev();
    let blocked = seen_blocked();
    let unlikely = |signal: &c_int| blocked & signal_bit(*signal) != 0;
    let chosen = real_time()
        .filter(|signal| !unlikely(signal))
        .chain(real_time().filter(unlikely))
        .find(|&signal| acquire_signal(signal))?;
    SIGNAL.store(chosen, Release);
    Some(chosen)
}

/// A signal that needs no room in a queue and has no sender of its own.
fn standard() -> Option<c_int> {
    [libc::SIGSTKFLT, libc::SIGPWR]
        .into_iter()
        .find(|&signal| is_ours(signal) || acquire_signal(signal))
}

/// Takes over a signal, if the program does not use it.
fn acquire_signal(signal: c_int) -> bool {
    if PROGRAMS.load(Relaxed) & signal_bit(signal) != 0 || action(signal) != Some(libc::SIG_DFL) {
        return false;
    }
    // SAFETY: zeros are a valid action. No SA_RESTART, because the call must return.
    unsafe {
        let mut new: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = handler as *const () as usize;
        new.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(signal, &new, std::ptr::null_mut()) == 0
    }
}
