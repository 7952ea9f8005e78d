//! Interrupting a system call that another thread is in.
//!
//! A signal does it: its handler does nothing, and the system call returns -EINTR because there was
//! one. What remains is the moment before: a signal that comes when the thread has decided to make
//! the call and has not made it yet would be lost. So the call is made by a few instructions of our
//! own, that look at a flag first; and the handler, should it find the thread between these and the
//! instruction that enters the kernel, has it go on behind. Whoever interrupts sets
//! the flag and sends the signal: either the flag is seen, or the handler comes before the call, or
//! the kernel finds the signal in the call. (musl cancels threads like this.)
//!
//! A signal that is not ours interrupts a call, too: the C library's setuid() sends one to each thread. Then
//! the call is made once more, with what is left of its time ([`Again`]), as the kernel itself would. If
//! both come, ours may find the thread in the other's handler, which will have the kernel make the call
//! once more, behind the look at the flag. So our handler then sends the signal once more and has it
//! blocked until that one has returned: it is then found where the call would be made.
//!
//! The signal is a real-time one that the program does not use, chosen when it is first needed: the
//! highest whose action is the default and that the program's threads have not been seen to block. The
//! workers that need it have it unblocked, and all other threads of the library have it blocked, as every
//! signal. Should the program set an action of its own for it later, another is chosen for the calls that
//! begin from then on; those that have begun before cannot be interrupted any more. A program may also take
//! it without an action, by signalfd(2) or sigwait(3), and then it may come to a worker: our handler sends it
//! to the process once more, this worker has it blocked from then on, and all use another.
//!
//! A signal needs room in the user's queue (RLIMIT_SIGPENDING). Each worker has made room for one
//! beforehand: that of a timer, whose signal is sent if there is no other room. If there was none then, or
//! little, a signal is used that needs no room, because it is no real-time one.

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

/// Makes the system call in a worker, which `target` interrupts; returns what the kernel does: a result, or a
/// negative errno. If nobody has asked for an interruption, there is none.
pub fn system_call(call: &Call, target: &Interruptible) -> i64 {
    let mut again = Again::of(call);
    again.asks_for_rest();
    loop {
        let Call { nr, ref args, .. } = again.call;
        // SAFETY: as of `make::system_call`: what is carried is the program's own business.
        let res = unsafe { call_unless(&target.flag, nr, args) };
        // Relaxed: whoever sets it before the signal that has ended the call is seen, as the handler has
        // run in this thread; whoever does so now sends one for the next try.
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

/// Whether a call that has no time to wait for may be made once more after it was interrupted.
pub fn may_be_made_again(call: &Call) -> bool {
    // The descriptor is closed in any case.
    c_long::from(call.nr) != libc::SYS_close
}

/// A call that may have to be made once more, and for how long it then waits.
struct Again {
    call: Call,
    began_ns: u64,
    /// What the call is given for a time that the program does not have in memory.
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

    /// The call is to be made with the time that is left.
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
            // The kernel has written there what is left.
            libc::SYS_ppoll => self.less_if_unknown(2, NS),
            libc::SYS_pselect6 => self.less_if_unknown(4, NS),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_select => self.less_if_unknown(4, US),
            // Others have no time to wait for, or a certain time.
            _ => {}
        }
    }

    fn gone_ns(&self) -> u64 {
        monotonic_ns() - self.began_ns
    }

    /// The argument is in milliseconds; negative: for ever. It is that of the call before, and so is the
    /// beginning then.
    fn less_ms(&mut self, arg: usize) {
        const MS: u64 = 1_000_000;
        if let Ok(ms) = u64::try_from(self.call.args[arg] as c_int) {
            let left_ns = (ms * MS).saturating_sub(self.gone_ns());
            self.call.args[arg] = left_ns.div_ceil(MS);
            self.began_ns = monotonic_ns();
        }
    }

    /// The argument is the address of a time, in seconds and this unit, that the kernel does not change; NULL:
    /// for ever.
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

    /// So it is with a time that the kernel changes, if it cannot.
    fn less_if_unknown(&mut self, arg: usize, unit_ns: u64) {
        let at = self.call.args[arg] as usize;
        if !crate::sys::user::writable(at) {
            self.less(arg, unit_ns);
        }
    }

    /// The kernel has written what is left to the second argument's place.
    fn sleep_on(&mut self, whole: usize, left: usize) {
        self.call.args[whole] = self.call.args[left];
    }

    /// One that sleeps is told of a place to write to what is left, if the program has none. From here on
    /// this must not be moved.
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

/// The units of struct timespec, and of struct timeval.
const NS: u64 = 1;
#[cfg(target_arch = "x86_64")]
const US: u64 = 1_000;

/// The crate does not have it.
const SYS_IO_PGETEVENTS: c_long = if cfg!(target_arch = "x86_64") {
    333
} else {
    292
};

const FUTEX_COMMAND: c_int = !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);

/// What interrupts the calls of one worker.
pub struct Interruptible {
    /// The call that it is at, or is about to make, is to end.
    flag: AtomicU32,
    tid: AtomicU32,
    /// The signal that does it; NOT_YET, or NONE.
    signal: AtomicI32,
    /// One more than the kernel's number of a timer that sends it; NO_TIMER, or NEVER_TIMER. Zeros are valid for all of
    /// these: there is a place for many workers that never come.
    timer: AtomicI32,
}

const NOT_YET: c_int = 0;
/// There is no signal to be had.
const NONE: c_int = -1;
const NO_TIMER: c_int = 0;
/// It is not tried.
const NEVER_TIMER: c_int = -1;

/// With less room in the queue than this, all of it is left to the program.
const QUEUE_LEAST: libc::rlim_t = 1024;

/// A timer of ours sends the address of this.
static MARK: u8 = 0;

impl Interruptible {
    /// The worker's thread number.
    pub fn tid(&self) -> u32 {
        self.tid.load(Relaxed)
    }

    /// It is the calling thread, a new worker.
    pub fn begins(&'static self) {
        // Relaxed: nobody interrupts it before it has taken a request, under a lock.
        self.flag.store(0, Relaxed);
        self.signal.store(NOT_YET, Relaxed);
        self.timer.store(NO_TIMER, Relaxed);
        self.tid.store(carrier::tid(), Relaxed);
        carrier::set_interruptible(self);
    }

    /// The calling thread, the worker, ends.
    pub fn ends(&self) {
        self.drop_timer();
    }

    fn drop_timer(&self) {
        let timer = self.timer.swap(NO_TIMER, Relaxed);
        if timer > 0 && !has_call_filter() {
            // SAFETY: a timer of ours.
            unsafe { libc::syscall(libc::SYS_timer_delete, timer - 1) };
        }
    }

    /// Makes sure that the calling thread, the worker, can be interrupted in a call that it is about to make.
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
        // Pairs with the one in `interrupt`: either the signal is seen there, or the flag when the call is
        // about to be made.
        fence(SeqCst);
    }

    /// Makes the timer, unless the program may need the little room that there is for itself.
    fn make_timer(&self, signal: c_int) {
        if limit(libc::RLIMIT_SIGPENDING) < QUEUE_LEAST {
            return;
        }
        if has_call_filter() {
            return self.timer.store(NEVER_TIMER, Relaxed);
        }
        let mut timer: c_int = 0;
        // SAFETY: structures of ours; zeros are valid.
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

    /// Interrupts the worker at the call at which it is, if it can be. Called under a lock that keeps the
    /// worker from going on to another request.
    pub fn interrupt(&self) -> bool {
        if self.flag.swap(1, Relaxed) != 0 {
            // The signal is on its way. Another would only take room in the queue.
            return true;
        }
        // Pairs with the one in `prepare`.
        fence(SeqCst);
        let sent = match self.signal.load(Relaxed) {
            // It has only just begun, with its first request, and will see the flag.
            NOT_YET => true,
            signal => has_our_action(signal) && self.send(signal),
        };
        if !sent {
            self.flag.store(0, Relaxed);
        }
        sent
    }

    fn send(&self, signal: c_int) -> bool {
        // SAFETY: integers.
        let ret = unsafe {
            let (process, thread) = (libc::getpid(), self.tid.load(Relaxed));
            libc::syscall(libc::SYS_tgkill, process, thread, signal)
        };
        ret == 0 || self.start_timer()
    }

    /// Has the timer send the signal at once.
    fn start_timer(&self) -> bool {
        let timer = self.timer.load(Relaxed);
        let now = libc::itimerspec {
            it_interval: timespec(0),
            it_value: timespec(1),
        };
        // SAFETY: a structure of ours.
        timer > 0 && unsafe { libc::syscall(libc::SYS_timer_settime, timer - 1, 0, &now, 0) } == 0
    }

    /// The request that it had is no longer found. True if it was to be interrupted; then `take` is to be
    /// called before the next one begins. Called under the same lock.
    pub fn was_interrupted(&self) -> bool {
        // Relaxed: set under that lock.
        self.flag.load(Relaxed) != 0 && {
            self.flag.store(0, Relaxed);
            true
        }
    }

    /// Takes a signal that was sent before now, so that the next request is not interrupted by it. One that
    /// is pending is delivered, at the latest, when the thread comes back from the kernel; the handler may
    /// have had it blocked.
    pub fn take(&self) {
        block_all_but(self.signal.load(Relaxed));
    }
}

extern "C" fn handler(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    let target = carrier::interruptible();
    let is_meant = target.is_some_and(|target| target.flag.load(Relaxed) != 0);
    // SAFETY: the kernel gives the handler what it knows of the signal, and the context that it
    // interrupted. In that, only the mask is changed, and the place where it goes on: only from one of our
    // instructions to another.
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

/// Whether a worker's signal was sent by [`Interruptible::send`].
fn is_from_us(signal: c_int, info: &siginfo_t) -> bool {
    // SAFETY: what the code says is there.
    unsafe {
        match info.si_code {
            libc::SI_TKILL => info.si_pid() == libc::getpid(),
            libc::SI_TIMER => info.si_value().sival_ptr == (&raw const MARK).cast_mut().cast(),
            // Nothing is known of one that there was no room for; a real-time one then does not come.
            libc::SI_USER => signal < libc::SIGRTMIN() && info.si_pid() == 0,
            _ => false,
        }
    }
}

/// Sends a signal, which is the program's, to the process once more: it has threads that want it. Who has
/// sent it stays true. How does as far as the kernel lets a thread say so.
///
/// # Safety
/// `info` is what a handler was given.
unsafe fn send_on(signal: c_int, info: *const siginfo_t) {
    // SAFETY: the caller's promise. What else there is in it lies where it did.
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

/// Does what the signal would have done to the process without us: a thread of the program's has it
/// unblocked, and the program has no action for it.
///
/// # Safety
/// `info` is what a handler was given.
unsafe fn end_by(signal: c_int, info: *const siginfo_t) {
    // SAFETY: zeros are a valid action, the default one; the caller's promise.
    unsafe {
        let action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, &action, std::ptr::null_mut());
        let (process, thread) = (libc::getpid(), libc::syscall(libc::SYS_gettid));
        if libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, signal, info) != 0 {
            libc::kill(process, signal);
        }
    }
}

/// The signal that is used; 0 if there is none yet. A forked child inherits it, and the action.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// A bit for each signal that has come to a worker and was the program's: these are not used any more.
/// Relaxed: a hint; where it is not seen yet, the same happens once more.
static PROGRAMS: AtomicU64 = AtomicU64::new(0);

/// The action of a signal, as far as it matters: the address of its handler.
fn action(signal: c_int) -> Option<usize> {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: looks at the action, into a structure of ours.
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

/// Whether a signal is there for the calls that begin from now on.
fn is_ours(signal: c_int) -> bool {
    has_our_action(signal) && PROGRAMS.load(Relaxed) & signal_bit(signal) == 0
}

/// Chooses a signal, unless there is one that is still ours. Two threads that do so at once may
/// choose the same one, which does no harm.
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
        .find(|&signal| take(signal))?;
    SIGNAL.store(chosen, Release);
    Some(chosen)
}

/// A signal that needs no room in a queue, and that nothing sends by itself.
fn standard() -> Option<c_int> {
    [libc::SIGSTKFLT, libc::SIGPWR]
        .into_iter()
        .find(|&signal| is_ours(signal) || take(signal))
}

/// Makes a signal ours, if the program does not use it.
fn take(signal: c_int) -> bool {
    if PROGRAMS.load(Relaxed) & signal_bit(signal) != 0 || action(signal) != Some(libc::SIG_DFL) {
        return false;
    }
    // SAFETY: zeros are a valid action; without SA_RESTART: the call shall return.
    unsafe {
        let mut new: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = handler as *const () as usize;
        new.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(signal, &new, std::ptr::null_mut()) == 0
    }
}
