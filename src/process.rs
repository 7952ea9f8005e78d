//! What belongs to the process: the registry and the pool, and what becomes of them at fork and
//! exit.
//!
//! A child has no contexts and no threads. It does not repair what it inherited, of which any part
//! may have been caught in the middle of a change; it forgets it, and makes its own when it needs
//! one. The one pointer to all of it is in a page that the kernel empties at fork, so that this
//! holds for a child that was made without libc, too.

use crate::engine::{self, Engine};
use crate::personality::libaio::table;
use crate::policy::route::Routes;
use crate::queue::{Context, OwnQueues, Pool};
use crate::registry::Registry;
use crate::request::set_personality;
use crate::ring::blank_view;
use crate::sync::Lock;
use crate::sys::host::{Host, Inside, OwnTable, set_host};
use crate::sys::private_fd;
use crate::sys::processors;
use crate::sys::progress;
use crate::sys::thread::{self, Threads, spawn_detached};
use crate::sys::{
    ErrnoGuard, NEVER, Result, Waited, is_on_alternate_stack, monotonic_ns, shielded, try_box,
    try_box_uninit,
};
use crate::syscall::carrier::{self, Interrupted};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr};

pub struct Global {
    pub registry: Registry<Context>,
    pub pool: Pool,
    /// Whose workers have the library's own descriptor table: for contexts of io_setup().
    pub libaio_pool: Pool,
    pub own_queues: OwnQueues,
    pub threads: Threads,
    pub libaio: crate::personality::libaio::Shared,
    /// How the requests of contexts that are gone were carried out.
    routes: Lock<Routes>,
    /// Whose it is.
    pid: libc::pid_t,
}

impl Global {
    fn new() -> Result<Box<Global>> {
        // Now, in a thread of the program's, which knows who else changes its environment.
        engine::allows_kernel_aio();
        let (pool, libaio_pool) = (
            Pool::new(start_worker)?,
            Pool::new_awake(start_worker_inside)?,
        );
        let threads = Threads::new()?;
        let mut new = try_box_uninit::<Global>()?;
        let at = new.as_mut_ptr();
        // SAFETY: each field is written, in its place.
        unsafe {
            (&raw mut (*at).registry).write(Registry::new());
            (&raw mut (*at).pool).write(pool);
            (&raw mut (*at).libaio_pool).write(libaio_pool);
            (&raw mut (*at).own_queues).write(OwnQueues::new());
            (&raw mut (*at).threads).write(threads);
            (&raw mut (*at).libaio).write(crate::personality::libaio::Shared::new());
            (&raw mut (*at).routes).write(Lock::new(Routes::default()));
            (&raw mut (*at).pid).write(libc::getpid());
            Ok(new.assume_init())
        }
    }
}

impl Global {
    /// A context goes, all of whose requests have ended.
    pub fn keep_routes(&self, context: &Context) {
        if let Some(routes) = context.routes(ROUTES_PATIENCE_NS) {
            self.routes.lock().add(&routes);
        }
    }

    /// How the requests of all contexts were carried out, those included that are gone; but for what is behind a
    /// lock that does not come free.
    fn routes(&'static self) -> Routes {
        let gone = self.routes.try_lock_for(ROUTES_PATIENCE_NS);
        let mut sum = gone.map_or_else(Routes::default, |gone| *gone);
        self.registry.for_each(|context| {
            if let Some(routes) = context.routes(ROUTES_PATIENCE_NS) {
                sum.add(&routes);
            }
        });
        sum
    }
}

type Cell = AtomicPtr<Global>;

/// Where the pointer is; null until the first context of the first process in line.
static CELL: AtomicPtr<Cell> = AtomicPtr::new(ptr::null_mut());

/// This process's registry and pool, if it has any.
pub fn global() -> Option<&'static Global> {
    // SAFETY: the cell is never unmapped, and what it points to is never freed. Acquire: pairs with
    // the release in `global_or_new`.
    unsafe { CELL.load(Acquire).as_ref()?.load(Acquire).as_ref() }
}

/// This process's registry and pool.
pub fn global_or_new() -> Result<&'static Global> {
    if let Some(global) = global() {
        return Ok(global);
    }
    let cell = cell_or_new()?;
    set_host(&HOST);
    thread::prepare();
    set_personality(&crate::personality::libaio::request::PERSONALITY);
    let new = Box::into_raw(Global::new()?);
    // Release: pairs with the acquire in `global`. Another thread may have been first.
    match cell.compare_exchange(ptr::null_mut(), new, AcqRel, Acquire) {
        Ok(_) => {
            // Leak checkers do not look into the cell, a mapping, but here. Release: as in
            // `before_fork`.
            FORKING.store(new, Release);
            announce();
            // SAFETY: never freed from here on.
            Ok(unsafe { &*new })
        }
        Err(first) => {
            // SAFETY: `new` was seen by nobody; `first` is never freed.
            unsafe {
                drop(Box::from_raw(new));
                Ok(&*first)
            }
        }
    }
}

static HOST: Host = Host {
    threads: || Some(&global()?.threads),
    own_table: OwnTable {
        enter: || {
            if let Some(global) = global() {
                global.libaio.table.enter();
            }
        },
        leave: || {
            if let Some(global) = global() {
                global.libaio.table.leave();
            }
        },
        doorbell: table::doorbell,
        has_process_end: || global().is_some_and(|global| global.libaio.table.has_process_end()),
    },
};

fn cell_or_new() -> Result<&'static Cell> {
    // SAFETY: never unmapped.
    if let Some(cell) = unsafe { CELL.load(Acquire).as_ref() } {
        return Ok(cell);
    }
    let bytes = crate::ring::page_bytes();
    let (prot, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new page, of zeros: a null pointer.
    let page = unsafe { libc::mmap(ptr::null_mut(), bytes, prot, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(Errno::ENOMEM);
    }
    // SAFETY: our page. On a kernel that does not know this (before 4.14), the handler below must
    // do.
    unsafe { libc::madvise(page, bytes, libc::MADV_WIPEONFORK) };
    let cell: *mut Cell = page.cast();
    match CELL.compare_exchange(ptr::null_mut(), cell, AcqRel, Acquire) {
        Ok(_) => {
            // Should it fail, for want of memory, the page alone does for all but the descriptors,
            // which children then keep open.
            // SAFETY: the handler is there for ever: the library is not unloadable.
            let _ =
                unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
            at_quick_exit();
            // SAFETY: never unmapped.
            Ok(unsafe { &*cell })
        }
        Err(first) => {
            // SAFETY: our page, which nobody has seen; `first` is never unmapped.
            unsafe {
                libc::munmap(page, bytes);
                Ok(&*first)
            }
        }
    }
}

fn start_worker(_: &'static Pool, slot: u16) -> Result<()> {
    // SAFETY: the argument is a number, not a pointer.
    unsafe { spawn_detached(worker_main, ptr::without_provenance_mut(usize::from(slot))) }
}

/// The same of one that has the library's own descriptor table, as the thread that starts it.
fn start_worker_inside(_: &'static Pool, slot: u16) -> Result<()> {
    let global = global().ok_or(Errno::EAGAIN)?;
    let table = &global.libaio.table;
    table.enter();
    let started = table.run(
        |slot| {
            let arg = ptr::without_provenance_mut(slot);
            // SAFETY: the argument is a number, not a pointer.
            unsafe { spawn_detached(worker_inside_main, arg) }.map(|()| 0)
        },
        usize::from(slot),
    );
    if started.is_err() {
        table.leave();
    }
    started.map(drop)
}

extern "C" fn worker_main(slot: *mut libc::c_void) -> *mut libc::c_void {
    // A child does not inherit threads: this is the process whose pool started this one.
    if let Some(global) = global() {
        work(&global.pool, slot);
    }
    ptr::null_mut()
}

extern "C" fn worker_inside_main(slot: *mut libc::c_void) -> *mut libc::c_void {
    if let Some(global) = global() {
        let _inside = Inside::begin();
        work(&global.libaio_pool, slot);
    }
    ptr::null_mut()
}

fn work(pool: &'static Pool, slot: *mut libc::c_void) {
    // SAFETY: names this thread.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"aio2-worker".as_ptr()) };
    processors::let_waker_go_on();
    carrier::worker_begins();
    pool.work(slot.addr() as u16);
    carrier::worker_ends();
}

/// What the process that is calling fork() has, for its child to give back. A child that was made
/// without libc has none of its own, and must not give back what its parent had: its descriptors
/// may be other files' by now.
static FORKING: AtomicPtr<Global> = AtomicPtr::new(ptr::null_mut());

/// Run by fork() in the parent, before.
extern "C" fn before_fork() {
    let here = global().map_or(ptr::null_mut(), |global| ptr::from_ref(global).cast_mut());
    // Release: for another thread that forks now and finds it stored already.
    FORKING.store(here, Release);
    let _errno = ErrnoGuard::new();
    if own_global().is_some() {
        let by = Interrupted::here();
        carrier::inside(|| settle(&by));
    }
    // Last: what is above may have to make descriptors.
    private_fd::before_fork();
}

/// Run by fork() in the parent, after.
extern "C" fn in_parent() {
    private_fd::after_fork();
}

/// Has what is in flight settle, as far as a fork has to wait for it.
fn settle(by: &Interrupted) {
    let Some(global) = global() else { return };
    global.registry.for_each(|context| {
        if !context.is_legacy() {
            return;
        }
        if by.busy || by.current != 0 {
            context.settle_inside(by.current);
        } else {
            Context::settle(context);
        }
    });
}

/// Run by fork() in the child. It takes no lock and allocates nothing.
extern "C" fn in_child() {
    private_fd::after_fork();
    // SAFETY: never unmapped.
    if let Some(cell) = unsafe { CELL.load(Acquire).as_ref() } {
        cell.store(ptr::null_mut(), Release);
    }
    // SAFETY: never freed; a copy of the parent's, as it was when it forked.
    if let Some(parent) = unsafe { FORKING.load(Acquire).as_ref() } {
        // SAFETY: descriptors that a context of the parent's owns, in the child.
        let close = |fd| drop(unsafe { OwnedFd::from_raw_fd(fd) });
        parent.registry.abandon(close, blank_view);
        parent.libaio.abandon();
        parent.own_queues.abandon();
        parent.pool.kaio.abandon();
    }
}

/// For so long it waits for the next such thing, if it does not know whether there will be one: longer
/// than for a lock.
const PATIENCE_NS: u64 = 3_000_000_000;

/// For so long is waited for a lock behind which counts are for the statistics.
const ROUTES_PATIENCE_NS: u64 = 1_000_000;

/// What the end of the process has to wait for.
struct Ending {
    by: Interrupted,
    /// It may not end, after all: it becomes another program, if that succeeds.
    goes_on: bool,
    is_over: AtomicBool,
}

impl Ending {
    fn wait(self) {
        let busy = self.by.busy;
        if !busy && !is_on_alternate_stack() {
            return self.see_to_all();
        }
        // A signal handler has interrupted a function of the library's, which may have locks that never
        // come free; or its stack may be too small for what there is to do. So another thread does it.
        // What that needs stays there.
        let Ok(ending) = try_box(self) else { return };
        progress::count();
        let ending: &'static Ending = Box::leak(ending);
        let arg = ptr::from_ref(ending).cast_mut().cast();
        // SAFETY: never freed.
        if unsafe { spawn_detached(ending_main, arg) }.is_err() {
            return;
        }
        let mut seen = progress::so_far();
        // Acquire: pairs with the release in `ending_main`.
        while !ending.is_over.load(Acquire) {
            let until = if busy {
                monotonic_ns() + PATIENCE_NS
            } else {
                NEVER
            };
            let waited = progress::wait(seen, until);
            let now = progress::so_far();
            if now == seen && waited == Waited::TimedOut {
                return;
            }
            seen = now;
        }
    }

    /// Not inlined: it needs some stack, of which its caller may have little.
    #[inline(never)]
    fn see_to_all(&self) {
        let Some(global) = global() else { return };
        global.registry.for_each(|context| {
            if self.goes_on {
                Context::flush(context, &self.by);
            } else {
                Context::drain(context, &self.by);
            }
        });
        // A file may be as large as it can be.
        shielded(|| global.libaio.stats.report(|| global.routes()));
    }
}

extern "C" fn ending_main(ending: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: what `wait` has given it, which is never freed.
    let ending: &Ending = unsafe { &*ending.cast() };
    ending.see_to_all();
    // Release: pairs with the acquire in `wait`.
    ending.is_over.store(true, Release);
    progress::made();
    ptr::null_mut()
}

/// Has quick_exit() do what exit() does. glibc has this function in a part of it that is linked to each program,
/// and there this one is called.
fn at_quick_exit() {
    type Register =
        unsafe extern "C" fn(extern "C" fn(*mut libc::c_void), *mut libc::c_void) -> i32;
    // SAFETY: a C string; the function, if there is one of that name, is glibc's; what it is given is there for
    // ever.
    unsafe {
        let name = c"__cxa_at_quick_exit";
        let register = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        if !register.is_null() {
            let register: Register = std::mem::transmute(register);
            register(at_quick_end, ptr::null_mut());
        }
    }
}

extern "C" fn at_quick_end(_: *mut libc::c_void) {
    if own_global().is_some() {
        at_exit();
    }
}

/// The process ends, or (`goes_on`) may.
fn end(goes_on: bool) {
    if global().is_some() {
        let ending = Ending {
            by: Interrupted::here(),
            goes_on,
            is_over: AtomicBool::new(false),
        };
        ending.wait();
    }
}

/// At a normal end of the process.
extern "C" fn at_exit() {
    end(false);
}

/// For the object that aio2-run preloads, which sees what a library does not: the process is about
/// to end without exit(), or (`goes_on`) to become another program, if that succeeds.
extern "C" fn at_process_end(goes_on: libc::c_int) {
    let _errno = ErrnoGuard::new();
    if own_global().is_some() {
        end(goes_on != 0);
    }
}

/// None in the child of a vfork(), which runs in its parent's memory.
fn own_global() -> Option<&'static Global> {
    // SAFETY: no arguments.
    let me = unsafe { libc::getpid() };
    global().filter(|global| global.pid == me)
}

/// For the same: the program is about to put something else in the place of a descriptor that is the
/// library's own.
extern "C" fn release_number(fd: libc::c_int) {
    let _errno = ErrnoGuard::new();
    if let Some(global) = own_global() {
        private_fd::reserve(fd);
        carrier::inside(|| {
            global.pool.kaio.release_number(fd);
            global.own_queues.release_number(fd);
            global.libaio.release_number(fd);
        });
    }
}

/// Tells that object, if it is there, of the functions that are for it: it has a variable for each.
fn announce() {
    let tell = |variable: &CStr, function: *mut libc::c_void| {
        // SAFETY: a C string; the variable, if there is one of that name, is a pointer to a function.
        unsafe {
            let variable = libc::dlsym(libc::RTLD_DEFAULT, variable.as_ptr());
            if let Some(variable) = variable.cast::<AtomicPtr<libc::c_void>>().as_ref() {
                variable.store(function, Release);
            }
        }
    };
    tell(c"aio2_at_process_end", at_process_end as *mut libc::c_void);
    tell(c"aio2_next_own", private_fd::next as *mut libc::c_void);
    tell(c"aio2_release_number", release_number as *mut libc::c_void);
}

/// Run by exit() after all that the program has registered with atexit().
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = at_exit;
