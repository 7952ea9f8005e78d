//! The objects that exist once in a process: the registry, the pools, and the objects that personalities have beside their contexts.
//!
//! A forked child has no contexts and no threads. Any part of the instance that it inherits may be half changed. So it forgets this
//! instance, and makes a new one when it needs it. The only pointer to the instance is in a page that the kernel empties at fork, so
//! this also holds for a child that was made without libc.

use super::libaio::{self, files, table};
use crate::policy::route::Routes;
use crate::queue::{Context, ContextRef, Engines, OwnQueues, Pool, allowed};
use crate::registry::Registry;
use crate::request::set_personality;
use crate::ring::page_bytes;
use crate::sync::Lock;
use crate::sys::host::{Host, OwnTable, set_host};
use crate::sys::thread::{self, Threads, spawn};
use crate::sys::{Result, processors, try_box_uninit};
use crate::syscall::carrier;
use nix::errno::Errno;
use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

/// How long to wait for a lock that guards counts for the statistics.
const ROUTES_PATIENCE_NS: u64 = 1_000_000;

pub struct Global {
    pub registry: Registry<Context>,
    pub pool: Pool,
    /// Its workers have the library's own descriptor table. It serves contexts of io_setup().
    pub libaio_pool: Pool,
    pub own_queues: OwnQueues,
    pub threads: Threads,
    pub libaio: libaio::Shared,
    /// How the requests of contexts that are gone were carried out.
    routes: Lock<Routes>,
    /// The process that it belongs to.
    pub pid: libc::pid_t,
}

impl Global {
    // Not inlined: an earlier call of its caller needs the stack, which may be small.
    #[inline(never)]
    fn new() -> Result<Box<Global>> {
        // Read now, in a thread of the program's: the program knows which of its threads change the environment.
        allowed();
        let (pool, libaio_pool) = (
            Pool::new(start_worker, false, || {})?,
            Pool::new(start_worker_inside, true, table::retry_workers)?,
        );
        let threads = Threads::new()?;
        let mut new = try_box_uninit::<Global>()?;
        let at = new.as_mut_ptr();
        // SAFETY: each field is written, at its own address.
        unsafe {
            (&raw mut (*at).registry).write(Registry::new());
            (&raw mut (*at).pool).write(pool);
            (&raw mut (*at).libaio_pool).write(libaio_pool);
            (&raw mut (*at).own_queues).write(OwnQueues::new());
            (&raw mut (*at).threads).write(threads);
            (&raw mut (*at).libaio).write(libaio::Shared::new());
            (&raw mut (*at).routes).write(Lock::new(Routes::default()));
            (&raw mut (*at).pid).write(libc::getpid());
            Ok(new.assume_init())
        }
    }
}

impl Global {
    /// The engines of contexts that `pool` serves.
    pub fn engines(&'static self, pool: &'static Pool) -> Engines {
        Engines {
            pool,
            own_queues: &self.own_queues,
        }
    }

    /// Inserts a context and returns its handle. From here on the program's calls find it.
    pub fn insert(&'static self, context: Context) -> Result<usize> {
        let (handle, pool) = (context.handle(), context.pool());
        let has = (handle, context.fds());
        self.registry
            .insert(context, has, |contexts| pool.reserve(contexts))?;
        Ok(handle)
    }

    /// Ends the context of this handle if it is live and `may` still go; waits until no thread uses it. `close` ends its requests. Its
    /// counts are kept.
    pub fn remove(
        &'static self,
        handle: usize,
        may: impl FnOnce(&Context) -> bool,
        close: impl FnOnce(&ContextRef),
    ) -> Result<()> {
        self.registry.remove(handle, may, |context| {
            close(context);
            if let Some(routes) = context.routes(ROUTES_PATIENCE_NS) {
                self.routes.lock().add(&routes);
            }
            context.pool().forget(context);
        })
    }

    /// How the requests of all contexts were carried out, also of contexts that are gone. Counts are left out if their lock does not come
    /// free.
    pub fn routes(&'static self) -> Routes {
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

/// The page with the pointer; null until this process, or one that it was forked from, makes its first context.
static CELL: AtomicPtr<Cell> = AtomicPtr::new(ptr::null_mut());

/// This process's instance, if it has one.
pub fn global() -> Option<&'static Global> {
    // SAFETY: the cell is never unmapped, and the instance is never freed. Acquire: pairs with the release in `global_or_new`.
    unsafe { CELL.load(Acquire).as_ref()?.load(Acquire).as_ref() }
}

// Functions of `process`. The linker finds them, because the first context may be made before any initializer has run.
// SAFETY: `process` defines both, with these arguments.
unsafe extern "Rust" {
    /// Called once, for this process and its children: registers their actions at fork and exit.
    #[link_name = "aio2_prepare_process"]
    safe fn prepare_process();
    /// Called when this process has got its instance.
    #[link_name = "aio2_begin_process"]
    safe fn begin_process(global: &'static Global);
}

/// This process's instance. If it has none, makes it.
pub fn global_or_new() -> Result<&'static Global> {
    if let Some(global) = global() {
        return Ok(global);
    }
    let cell = cell_or_new()?;
    set_host(&HOST);
    thread::prepare();
    set_personality(&libaio::request::PERSONALITY);
    let new = Box::into_raw(Global::new()?);
    // Release: pairs with the acquire in `global`. Another thread may have been first.
    match cell.compare_exchange(ptr::null_mut(), new, AcqRel, Acquire) {
        Ok(_) => {
            // SAFETY: from here on it is never freed.
            let new = unsafe { &*new };
            begin_process(new);
            Ok(new)
        }
        Err(first) => {
            // SAFETY: no other thread has seen `new`; `first` is never freed.
            unsafe {
                drop(Box::from_raw(new));
                Ok(&*first)
            }
        }
    }
}

/// Called in a forked child: drops the instance that it has inherited.
pub fn forget() {
    // SAFETY: the cell is never unmapped.
    if let Some(cell) = unsafe { CELL.load(Acquire).as_ref() } {
        cell.store(ptr::null_mut(), Release);
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
        run: table::run,
        hold: files::hold_here,
        fd: files::fd_of,
        give_back: files::give_back,
        has_process_end: || global().is_some_and(|global| global.libaio.table.has_process_end()),
    },
};

fn cell_or_new() -> Result<&'static Cell> {
    // SAFETY: the cell is never unmapped.
    if let Some(cell) = unsafe { CELL.load(Acquire).as_ref() } {
        return Ok(cell);
    }
    let bytes = page_bytes();
    let (prot, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new page. It is zeroed, which is a null pointer.
    let page = unsafe { libc::mmap(ptr::null_mut(), bytes, prot, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(Errno::ENOMEM);
    }
    // SAFETY: our page. If the kernel does not know this advice (before 4.14), the fork handler alone empties the page.
    unsafe { libc::madvise(page, bytes, libc::MADV_WIPEONFORK) };
    let cell: *mut Cell = page.cast();
    match CELL.compare_exchange(ptr::null_mut(), cell, AcqRel, Acquire) {
        Ok(_) => {
            prepare_process();
            // SAFETY: the cell is never unmapped.
            Ok(unsafe { &*cell })
        }
        Err(first) => {
            // SAFETY: our page, which no other thread has seen; `first` is never unmapped.
            unsafe {
                libc::munmap(page, bytes);
                Ok(&*first)
            }
        }
    }
}

fn start_worker(_: &'static Pool, slot: u16) -> Result<()> {
    let main = |slot| work(|global| &global.pool, slot);
    spawn(c"aio2-worker", main, slot.into())
}

/// Starts a worker that has the library's own descriptor table, because the keeper, which starts it, has that.
fn start_worker_inside(_: &'static Pool, slot: u16) -> Result<()> {
    let start = |slot| {
        let main = |slot| work(|global| &global.libaio_pool, slot);
        spawn(c"aio2-worker", main, slot).map(|()| 0)
    };
    table::run(start, slot.into()).map(drop)
}

fn work(pool: fn(&'static Global) -> &'static Pool, slot: usize) {
    // A child does not inherit threads, so this is the process whose pool has started this one.
    let Some(global) = global() else { return };
    processors::let_waker_go_on();
    carrier::worker_begins();
    pool(global).work(slot as u16);
    carrier::worker_ends();
}
