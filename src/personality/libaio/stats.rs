//! Statistics of a process, if AIO2_STATS in its environment asks for them (as aio2-run --stats does): for each path, the operations and
//! their times; the cost of io_submit(); and how many requests took which route. They are printed when the process ends.
//!
//! AIO2_STATS=FILE: they are added to FILE. If AIO2_STATS_PID is the process's id, they go to standard error instead: this is the
//! program itself, and not a child or a daemon that it has become.
//!
//! This is safe for users that have not asked for it. A program that has more rights than its user does not look at the environment
//! ([`crate::sys::variable`]). FILE must be a new file, or a regular file of the user's own that has no other name ([`open`]). Standard
//! error must still be the file that it was when the program began. A name that somebody else has chosen cannot control the terminal, nor
//! look like a line of ours ([`Escaped`]).

use crate::policy::route::{Route, Routes};
use crate::sync::Lock;
use crate::sys::{monotonic_ns, shielded, try_box, variable};
use crate::syscall::Call;
use libc::c_long;
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::fmt::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicPtr};

unsafe extern "C" {
    /// libc's: the short name in the program's first argument.
    static program_invocation_short_name: *const libc::c_char;
}

/// Times in nanoseconds, with a precision of one eighth.
struct Times {
    counts: [AtomicU64; 64 * 8],
    longest: AtomicU64,
    total: AtomicU64,
}

// All counters here are Relaxed: each is independent of the others, and they are read when the process ends.
impl Times {
    fn new() -> Times {
        Times {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            longest: AtomicU64::new(0),
            total: AtomicU64::new(0),
        }
    }

    fn add(&self, ns: u64) {
        let ns = ns.max(8);
        let log = 63 - ns.leading_zeros() as usize;
        let eighth = (ns >> (log - 3)) as usize & 7;
        self.counts[log * 8 + eighth].fetch_add(1, Relaxed);
        self.longest.fetch_max(ns, Relaxed);
        self.total.fetch_add(ns, Relaxed);
    }

    fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// The time below which `per_mille` of a thousand were.
    fn quantile(&self, per_mille: u64) -> Time {
        let wanted = (self.count() * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (i, count) in self.counts.iter().enumerate() {
            seen += count.load(Relaxed);
            if seen >= wanted {
                let (log, eighth) = (i / 8, i as u64 % 8);
                let upper = (9 + eighth) << log.saturating_sub(3);
                return Time(upper.min(self.longest.load(Relaxed)));
            }
        }
        Time(0)
    }
}

/// Nanoseconds in readable form.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let ns = self.0 as f64;
        match self.0 {
            0..10_000 => write!(f, "{:.1}us", ns / 1e3),
            10_000..1_000_000 => write!(f, "{:.0}us", ns / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.1}ms", ns / 1e6),
            _ => write!(f, "{:.1}s", ns / 1e9),
        }
    }
}

/// How many requests took each route, in readable form, without routes that none took.
impl fmt::Display for Routes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let routes = Route::ALL.into_iter().zip(self.counts);
        let routes = routes.map(|(route, count)| (count, route.words()));
        let all = routes.chain([(self.merged, "of these merged with others")]);
        for (i, (count, words)) in all.filter(|&(count, _)| count != 0).enumerate() {
            let comma = if i == 0 { "" } else { "; " };
            write!(f, "{comma}{count} {words}")?;
        }
        Ok(())
    }
}

/// The counters of one path.
pub struct Path {
    next: *mut Path,
    name: [u8; NAME_BYTES],
    name_len: usize,
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    syncs: AtomicU64,
    errors: AtomicU64,
    waiting: Times,
    device: Times,
}

const NAME_BYTES: usize = 256;

pub struct Stats {
    wanted: AtomicBool,
    /// The list of paths, newest first. A path on it is never freed, and only its counters change.
    first: AtomicPtr<Path>,
    adding: Lock<()>,
    began: u64,
    submits: Times,
    accepted: AtomicU64,
    reported: AtomicBool,
}

impl Stats {
    pub fn new() -> Stats {
        Stats {
            wanted: AtomicBool::new(wanted().is_some()),
            first: AtomicPtr::new(ptr::null_mut()),
            adding: Lock::new(()),
            began: monotonic_ns(),
            submits: Times::new(),
            accepted: AtomicU64::new(0),
            reported: AtomicBool::new(false),
        }
    }

    /// CLOCK_MONOTONIC if statistics are wanted, else 0.
    pub fn now(&self) -> u64 {
        if self.wanted.load(Relaxed) {
            monotonic_ns()
        } else {
            0
        }
    }

    /// Counts an io_submit() that began at `began` and has accepted `accepted` requests.
    pub fn submitted(&self, began: u64, accepted: usize) {
        if began != 0 {
            self.submits.add(monotonic_ns() - began);
            self.accepted.fetch_add(accepted as u64, Relaxed);
        }
    }

    /// The counters of a file, if statistics are wanted. `number`: its descriptor in the calling thread's table.
    pub fn path(&self, number: RawFd) -> Option<&'static Path> {
        if self.wanted.load(Relaxed) {
            self.find_path(number)
        } else {
            None
        }
    }

    /// A function of its own, so that processes without statistics need no stack for it.
    #[cold]
    #[inline(never)]
    fn find_path(&self, number: RawFd) -> Option<&'static Path> {
        let mut name = [0; NAME_BYTES];
        let proc = crate::sys::fd_path(number);
        // SAFETY: a C string, and a buffer of the size given.
        let len =
            unsafe { libc::readlink(proc.as_ptr().cast(), name.as_mut_ptr().cast(), NAME_BYTES) };
        let len = usize::try_from(len).unwrap_or(0);
        let _adding = self.adding.lock();
        let first = self.first.load(Acquire);
        let known = list(first).find(|path| path.name() == &name[..len]);
        let path = match known {
            Some(path) => path,
            None => {
                let path = Box::leak(
                    try_box(Path {
                        next: first,
                        name,
                        name_len: len,
                        reads: AtomicU64::new(0),
                        read_bytes: AtomicU64::new(0),
                        writes: AtomicU64::new(0),
                        written_bytes: AtomicU64::new(0),
                        syncs: AtomicU64::new(0),
                        errors: AtomicU64::new(0),
                        waiting: Times::new(),
                        device: Times::new(),
                    })
                    .ok()?,
                );
                // Release (in AcqRel): a thread that finds it sees it whole.
                self.first.swap(path, AcqRel);
                path
            }
        };
        Some(path)
    }

    /// Prints the statistics once, when the process ends.
    pub fn report(&self, routes: impl FnOnce() -> Routes) {
        if !self.wanted.load(Relaxed)
            || self.submits.count() == 0
            || self.reported.swap(true, Relaxed)
        {
            return;
        }
        let Some(wanted) = wanted() else {
            return;
        };
        // The output may be a pipe that has no reader any more, or exceed the size limit of files.
        shielded(|| {
            let mut out = Printer::open(wanted)?;
            let _ = self.print(&mut out, Escaped(wanted.program.to_bytes()), &routes());
            out.flush();
            Some(())
        });
    }

    fn print(&self, out: &mut Printer, program: Escaped, routes: &Routes) -> fmt::Result {
        // SAFETY: no arguments.
        let pid = unsafe { libc::getpid() };
        let ran = monotonic_ns() - self.began;
        writeln!(
            out,
            "--- aio2: {program} (process {pid}), {} since its first context",
            Time(ran)
        )?;
        let all = self.submits.total.load(Relaxed);
        writeln!(
            out,
            "io_submit: {} calls, {} requests; time inside {} ({:.1}% of the time), p50 {}, p99 {}, max {}",
            self.submits.count(),
            self.accepted.load(Relaxed),
            Time(all),
            all as f64 * 100.0 / ran.max(1) as f64,
            self.submits.quantile(500),
            self.submits.quantile(990),
            Time(self.submits.longest.load(Relaxed)),
        )?;
        writeln!(out, "requests: {routes}")?;
        for path in list(self.first.load(Acquire)) {
            let n = |count: &AtomicU64| count.load(Relaxed);
            writeln!(
                out,
                "{}\n  {} reads ({} bytes), {} writes ({} bytes), {} syncs, {} errors",
                Escaped(path.name()),
                n(&path.reads),
                n(&path.read_bytes),
                n(&path.writes),
                n(&path.written_bytes),
                n(&path.syncs),
                n(&path.errors),
            )?;
            for (what, times) in [("waiting", &path.waiting), ("device ", &path.device)] {
                writeln!(
                    out,
                    "  {what}  p50 {:>8}  p99 {:>8}  max {:>8}",
                    times.quantile(500),
                    times.quantile(990),
                    Time(n(&times.longest)),
                )?;
            }
        }
        Ok(())
    }
}

impl Path {
    /// Counts a request of this file that has ended, was submitted at `submitted` and begun at `began`.
    pub fn count(&self, call: &Call, res: i64, submitted: u64, began: u64) {
        self.waiting.add(began.saturating_sub(submitted));
        self.device.add(monotonic_ns() - began);
        if res < 0 {
            self.errors.fetch_add(1, Relaxed);
        }
        let bytes = res.max(0) as u64;
        match c_long::from(call.nr) {
            libc::SYS_read
            | libc::SYS_pread64
            | libc::SYS_readv
            | libc::SYS_preadv
            | libc::SYS_preadv2 => {
                self.reads.fetch_add(1, Relaxed);
                self.read_bytes.fetch_add(bytes, Relaxed);
            }
            libc::SYS_write
            | libc::SYS_pwrite64
            | libc::SYS_writev
            | libc::SYS_pwritev
            | libc::SYS_pwritev2 => {
                self.writes.fetch_add(1, Relaxed);
                self.written_bytes.fetch_add(bytes, Relaxed);
            }
            _ => {
                self.syncs.fetch_add(1, Relaxed);
            }
        }
    }

    fn name(&self) -> &[u8] {
        &self.name[..self.name_len]
    }
}

fn list(first: *mut Path) -> impl Iterator<Item = &'static Path> {
    let mut at = first;
    std::iter::from_fn(move || {
        // SAFETY: paths are never freed, and only their atomic counters change once they are on the list.
        let path: &'static Path = unsafe { at.as_ref()? };
        at = path.next;
        Some(path)
    })
}

/// The request for statistics in the environment, and the facts that decide where they go.
struct Wanted {
    /// The name with which the program was started. (The thread's name would be that of the thread that ends the process.)
    program: CString,
    /// The file to which they are added.
    path: CString,
    /// The process that prints to standard error instead.
    main: Option<libc::pid_t>,
    /// The file that standard error was.
    stderr: Option<Identity>,
}

/// The environment as it was when the library was loaded. Some programs (nginx) turn themselves into another one before they begin, and
/// write over the strings of their environment and their arguments.
fn wanted() -> Option<&'static Wanted> {
    static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| {
        Some(Wanted {
            path: variable(c"AIO2_STATS", CStr::to_owned)?,
            // SAFETY: libc has set it before any code of ours runs; a C string.
            program: unsafe { CStr::from_ptr(program_invocation_short_name) }.to_owned(),
            main: variable(c"AIO2_STATS_PID", |pid| pid.to_str().ok()?.parse().ok()).flatten(),
            stderr: look_at(libc::STDERR_FILENO).map(|file| file.identity()),
        })
    });
    wanted.as_ref()
}

extern "C" fn at_load() {
    wanted();
}

/// Run by the dynamic linker.
// SAFETY: the section holds pointers to functions of this type.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = at_load;

/// Identity of a file: device and inode.
type Identity = (libc::dev_t, libc::ino_t);

struct File(libc::stat);

fn look_at(fd: RawFd) -> Option<File> {
    let mut file = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: a structure of ours, which is filled if the call succeeds.
    unsafe { (libc::fstat(fd, file.as_mut_ptr()) == 0).then(|| File(file.assume_init())) }
}

impl File {
    fn identity(&self) -> Identity {
        (self.0.st_dev, self.0.st_ino)
    }

    /// Whether text may be added to a file that others may have put there: it is a regular file of the user's, and has only this name.
    fn is_own(&self) -> bool {
        // SAFETY: no arguments.
        let user = unsafe { libc::geteuid() };
        self.0.st_mode & libc::S_IFMT == libc::S_IFREG
            && self.0.st_uid == user
            && self.0.st_nlink == 1
    }
}

/// Opens a new file that only the user can read, or an existing one that is the user's own. Others may be able to put anything in its
/// place, such as a link or a pipe.
fn open(path: &CStr) -> Option<RawFd> {
    const FLAGS: libc::c_int = libc::O_WRONLY
        | libc::O_APPEND
        | libc::O_CLOEXEC
        | libc::O_NOFOLLOW
        | libc::O_NOCTTY
        | libc::O_NONBLOCK;
    // Try again if others make and remove it meanwhile.
    for _ in 0..3 {
        // SAFETY: a C string.
        let new = unsafe { libc::open(path.as_ptr(), FLAGS | libc::O_CREAT | libc::O_EXCL, 0o600) };
        if new >= 0 || Errno::last() != Errno::EEXIST {
            return (new >= 0).then_some(new);
        }
        // SAFETY: a C string.
        let fd = unsafe { libc::open(path.as_ptr(), FLAGS) };
        if fd >= 0 {
            if look_at(fd).is_some_and(|file| file.is_own()) {
                return Some(fd);
            }
            // SAFETY: just opened, and no one else uses it.
            unsafe { libc::close(fd) };
            return None;
        }
        if Errno::last() != Errno::ENOENT {
            return None;
        }
    }
    None
}

/// A name in a form that can be printed on one line of a terminal.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char {
                    '\'' | '"' => f.write_char(char)?,
                    _ => write!(f, "{}", char.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Writes text to a descriptor, in as few writes as the buffer allows.
struct Printer {
    fd: RawFd,
    text: [u8; 8192],
    len: usize,
}

impl Printer {
    fn open(wanted: &Wanted) -> Option<Printer> {
        let stderr = || look_at(libc::STDERR_FILENO).map(|file| file.identity());
        // SAFETY: no arguments.
        let is_main = wanted.main == Some(unsafe { libc::getpid() });
        // The program may have closed it and may have a file of its own there.
        let has_stderr = wanted.stderr.is_some() && stderr() == wanted.stderr;
        let fd = if is_main && has_stderr {
            libc::STDERR_FILENO
        } else {
            match open(&wanted.path) {
                Some(fd) => fd,
                None if has_stderr => {
                    let mut out = Printer::to(libc::STDERR_FILENO);
                    let path = Escaped(wanted.path.to_bytes());
                    let _ = writeln!(
                        out,
                        "aio2: no statistics: {path} cannot be made, or is not a file of this user's alone"
                    );
                    out.flush();
                    return None;
                }
                None => return None,
            }
        };
        Some(Printer::to(fd))
    }

    fn to(fd: RawFd) -> Printer {
        Printer {
            fd,
            text: [0; 8192],
            len: 0,
        }
    }

    fn flush(&mut self) {
        // SAFETY: the buffer holds `len` bytes.
        unsafe { libc::write(self.fd, self.text.as_ptr().cast(), self.len) };
        self.len = 0;
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        if self.fd != libc::STDERR_FILENO {
            // SAFETY: opened by `open` for this printer.
            unsafe { libc::close(self.fd) };
        }
    }
}

impl Write for Printer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.len == self.text.len() {
                self.flush();
            }
            self.text[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}
