//! The process's instance ([`Global`]: registry, pools) at fork and exit.

use crate::engine::Engine;
use crate::personality::instance::{Global, forget, global};
use crate::personality::libaio::files::claimed;
use crate::queue::{Context, Settling};
use crate::ring::blank_view;
use crate::sys::preload;
use crate::sys::private_fd;
use crate::sys::progress;
use crate::sys::thread::{self, spawn};
use crate::sys::{
    ErrnoGuard, NEVER, Waited, is_on_alternate_stack, monotonic_ns, on_new_stack, shielded, try_box,
};
use crate::syscall::carrier::{self, Interrupted};
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64};

/// Called once for this process and its children, before the first of them has a [`Global`].
#[unsafe(export_name = "aio2_prepare_process")]
fn prepare() {
    register_at_fork();
    at_quick_exit();
}

/// Registers the actions at fork: as soon as the library is loaded, so that the program's own come within them and can use it.
extern "C" fn register_at_fork() {
    static IS_REGISTERED: AtomicBool = AtomicBool::new(false);
    if !IS_REGISTERED.swap(true, Acquire) {
        // If it fails (no memory), children still find no instance, because the kernel empties its page at fork; but they
        // keep the descriptors open.
        // SAFETY: the handlers stay valid, because the library cannot be unloaded.
        let _ = unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
    }
}

/// The first context may be made before this is called: see `prepare`.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = register_at_fork;

/// This process has its [`Global`] now.
#[unsafe(export_name = "aio2_begin_process")]
fn begin(global: &'static Global) {
    // Leak checkers do not search the mapped cell, but they search this variable. Release: as in `before_fork`.
    FORKING.store(ptr::from_ref(global).cast_mut(), Release);
    announce();
}

/// The instance of the process that calls fork(), whose child releases inherited descriptors. Null if that process was
/// itself made without libc and has no instance: its child must not release descriptors of an earlier process, whose
/// numbers may name other files by now.
static FORKING: AtomicPtr<Global> = AtomicPtr::new(ptr::null_mut());

/// fork() calls it in the parent, before the fork.
extern "C" fn before_fork() {
    let here = global().map_or(ptr::null_mut(), |global| ptr::from_ref(global).cast_mut());
    // Release: pairs with the acquire in `in_child`, if another thread forks now and finds it stored already.
    FORKING.store(here, Release);
    settle(Settling::All);
    // Last, because the code above may have to make descriptors.
    private_fd::before_fork();
}

/// fork() calls it in the parent, after the fork.
extern "C" fn in_parent() {
    private_fd::after_fork(false);
}

/// Lets requests in flight settle that the kernel would have carried out within io_submit().
fn settle(which: Settling) {
    let _errno = ErrnoGuard::new();
    if let Some(global) = own_global() {
        let by = Interrupted::here();
        carrier::inside(|| {
            let settle = |context: &_| Context::settle(context, &by, which);
            global.registry.for_each(settle);
        });
    }
}

/// Whether the calling thread makes a call of the program's, and not of the library's own. A signal handler that has interrupted the library
/// counts as the library: it must not wait for the thread that it has interrupted.
fn is_programs() -> bool {
    !thread::is_ours() && !Interrupted::here().busy
}

/// For the preloaded library: the program is about to change the flags of a file.
extern "C" fn before_flags(fd: libc::c_int) {
    if is_programs() {
        settle(Settling::File(claimed(fd)));
    }
}

/// The same: the program is about to close this descriptor; -1: many.
extern "C" fn before_close(fd: libc::c_int) {
    let _errno = ErrnoGuard::new();
    let Some(global) = own_global().filter(|_| is_programs()) else {
        return;
    };
    if fd == -1 {
        settle(Settling::Files);
    } else if carrier::inside(|| global.libaio.files.are_held(fd)) {
        settle(Settling::File(claimed(fd)));
    }
}

/// fork() calls it in the child. It takes no lock and allocates nothing.
extern "C" fn in_child() {
    private_fd::after_fork(true);
    forget();
    // SAFETY: never freed; the child has a copy of the parent's memory as of the fork.
    if let Some(parent) = unsafe { FORKING.load(Acquire).as_ref() } {
        parent
            .registry
            .abandon(private_fd::close_marked, blank_view);
        parent.libaio.abandon();
        parent.own_queues.abandon();
        parent.pool.kaio.abandon();
        parent.pool.readiness.abandon();
        parent.libaio_pool.readiness.abandon();
        private_fd::close_inherited();
    }
}

/// How long an exit waits for the next progress if it may never come: longer than for a lock.
const PATIENCE_NS: u64 = 3_000_000_000;

/// The end of the process, and the progress that it waits for.
struct Ending {
    by: Interrupted,
    /// The process may go on: it becomes another program, if that succeeds.
    may_continue: bool,
    is_over: AtomicBool,
}

impl Ending {
    fn wait(self) {
        let busy = self.by.busy;
        if !busy && !is_on_alternate_stack() {
            return self.see_to_all();
        }
        // Either a signal handler has interrupted a library function, whose locks may never be released, or its stack
        // may be too small. So another thread does the work. The memory for it is not freed.
        let Ok(ending) = try_box(self) else { return };
        progress::count();
        let ending: &'static Ending = Box::leak(ending);
        let main = |ending: usize| {
            // SAFETY: `ending` above, which is never freed.
            let ending: &'static Ending = unsafe { &*(ending as *const Ending) };
            ending.see_to_all();
            // Release: pairs with the acquire below.
            ending.is_over.store(true, Release);
            progress::made();
        };
        let at = ptr::from_ref(ending) as usize;
        if spawn(c"aio2-ending", main, at).is_err() {
            if !busy {
                on_new_stack(main, at);
            }
            return;
        }
        let mut seen = progress::so_far();
        // Acquire: pairs with the release above.
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

    /// Not inlined, because it needs some stack, and its caller may have little.
    #[inline(never)]
    fn see_to_all(&self) {
        let Some(global) = global() else { return };
        global.registry.for_each(|context| {
            if self.may_continue {
                Context::flush(context, &self.by);
            } else {
                Context::drain(context, &self.by);
            }
        });
        // Shielded, because the report's file may have reached its size limit.
        shielded(|| global.libaio.stats.report(|| global.routes()));
    }
}

/// Makes quick_exit() do what exit() does. at_quick_exit() itself is in the part of glibc that is linked to each
/// program; it calls this function.
fn at_quick_exit() {
    type Register =
        unsafe extern "C" fn(extern "C" fn(*mut libc::c_void), *mut libc::c_void) -> i32;
    // SAFETY: the name is a C string. If the function exists, it is glibc's. The registered handler stays valid.
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

/// The process ends, or (`may_continue`) may end.
fn end(may_continue: bool) {
    if global().is_some() {
        let ending = Ending {
            by: Interrupted::here(),
            may_continue,
            is_over: AtomicBool::new(false),
        };
        ending.wait();
    }
}

/// exit() ends the process.
extern "C" fn at_exit() {
    end(false);
}

/// For the library that aio2-run preloads, which sees more than this one: the process is about to end without exit(),
/// or (`may_continue`) to become another program, if that succeeds.
extern "C" fn at_process_end(may_continue: libc::c_int) {
    let _errno = ErrnoGuard::new();
    if own_global().is_some() {
        end(may_continue != 0);
    }
}

/// None in a vfork() child, which runs in its parent's memory.
fn own_global() -> Option<&'static Global> {
    // SAFETY: no arguments.
    let me = unsafe { libc::getpid() };
    global().filter(|global| global.pid == me)
}

/// For the preloaded library: the program is about to replace one of the library's own descriptors.
extern "C" fn release_number(fd: libc::c_int) {
    let _errno = ErrnoGuard::new();
    if let Some(global) = own_global() {
        private_fd::reserve(fd);
        carrier::inside(|| {
            // If not, other threads and forked children still have it by this number.
            if private_fd::is_in_first_table(&[fd]) {
                global.pool.kaio.release_number(fd);
                global.pool.readiness.release_number(fd);
                global.libaio_pool.readiness.release_number(fd);
                global.own_queues.release_number(fd);
            }
            global.libaio.release_number(fd);
            private_fd::disown(fd);
        });
    }
}

/// For the preloaded library: a system call filter may be about to come. It may forbid the call by which files that are on their way
/// arrive.
extern "C" fn before_filter() {
    let _errno = ErrnoGuard::new();
    if let Some(global) = own_global()
        && !Interrupted::here().busy
    {
        carrier::inside(|| global.libaio.table.receive_sent());
    }
}

/// Passes functions to the preloaded library, if there is one, and gets its count of changed rights. It has a variable for
/// each. Release: a thread that sees the function sees the instance.
fn announce() {
    // SAFETY: the name is a C string.
    let find = |variable: &CStr| unsafe { libc::dlsym(libc::RTLD_DEFAULT, variable.as_ptr()) };
    let set_variable = |variable: &CStr, function: *mut libc::c_void| {
        // SAFETY: if the variable exists, it is a pointer to a function.
        if let Some(variable) = unsafe { find(variable).cast::<AtomicPtr<libc::c_void>>().as_ref() }
        {
            variable.store(function, Release);
        }
    };
    // SAFETY: if the variable exists, it is an unsigned long that threads change by atomic operations.
    let changes = unsafe { find(c"aio2_rights_changes").cast::<AtomicU64>().as_ref() };
    if let Some(changes) = changes {
        preload::is_there(changes, thread::is_single());
    }
    set_variable(c"aio2_at_process_end", at_process_end as *mut libc::c_void);
    set_variable(c"aio2_before_close", before_close as *mut libc::c_void);
    set_variable(c"aio2_before_flags", before_flags as *mut libc::c_void);
    set_variable(c"aio2_before_filter", before_filter as *mut libc::c_void);
    set_variable(c"aio2_next_own", private_fd::next as *mut libc::c_void);
    set_variable(c"aio2_release_number", release_number as *mut libc::c_void);
}

/// exit() calls it after all handlers that the program registered with atexit().
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = at_exit;
