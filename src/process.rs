//! What becomes of the process's registry and pools ([`Global`]) at fork and exit.

use crate::engine::Engine;
use crate::personality::instance::{Global, forget, global};
use crate::queue::Context;
use crate::ring::blank_view;
use crate::sys::private_fd;
use crate::sys::progress;
use crate::sys::thread::spawn_detached;
use crate::sys::{
    ErrnoGuard, NEVER, Waited, is_on_alternate_stack, monotonic_ns, shielded, try_box,
};
use crate::syscall::carrier::{self, Interrupted};
use std::ffi::CStr;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr};

/// For this process and its children, before the first of them has a [`Global`].
#[unsafe(export_name = "aio2_prepare_process")]
fn prepare() {
    // Should it fail, for want of memory, the page alone does for all but the descriptors, which
    // children then keep open.
    // SAFETY: the handlers are there for ever: the library is not unloadable.
    let _ = unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
    at_quick_exit();
}

/// This process has got one.
#[unsafe(export_name = "aio2_begin_process")]
fn begin(global: &'static Global) {
    // Leak checkers do not look into the cell, a mapping, but here. Release: as in `before_fork`.
    FORKING.store(ptr::from_ref(global).cast_mut(), Release);
    announce();
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
    global
        .registry
        .for_each(|context| Context::settle(context, by));
}

/// Run by fork() in the child. It takes no lock and allocates nothing.
extern "C" fn in_child() {
    private_fd::after_fork();
    forget();
    // SAFETY: never freed; a copy of the parent's, as it was when it forked.
    if let Some(parent) = unsafe { FORKING.load(Acquire).as_ref() } {
        // SAFETY: descriptors that a context of the parent's owns, in the child.
        let close = |fd| drop(unsafe { OwnedFd::from_raw_fd(fd) });
        parent.registry.abandon(close, blank_view);
        parent.libaio.abandon();
        parent.own_queues.abandon();
        parent.pool.kaio.abandon();
        parent.pool.readiness.abandon();
    }
}

/// For so long it waits for the next such thing, if it does not know whether there will be one: longer
/// than for a lock.
const PATIENCE_NS: u64 = 3_000_000_000;

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
            global.pool.readiness.release_number(fd);
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
