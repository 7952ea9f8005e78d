//! Which system calls are carried, and how: one table, with a row for every system call of Linux 6.18 on x86_64 and
//! aarch64.
//!
//! A worker makes the call in place of the program's thread. For most calls this makes no difference, because their
//! objects (files, descriptors, memory, signal actions, the working directory, timers, children) belong to the process.
//! The rules:
//!
//! - A call that acts on the calling thread or answers about it is refused. That thread would be a worker: the answer
//!   would be wrong, or the worker would be unusable for later requests. This includes credentials, which the kernel
//!   keeps for each thread. If a call can name other threads, and 0 names the calling one, it is refused altogether.
//! - A call is refused if it ends or replaces the process, takes the machine down, or removes something that the C
//!   library depends on. A program may still harm itself by other means (munmap, kill, close).
//! - If only certain values of an argument name the calling thread, only those are refused ([`Rule`]). Values in memory
//!   and the targets of paths (/proc/thread-self) are not checked, because the program could change them at any time.
//! - A call that ends by itself is carried as [`Class::Finite`]: it works on the file system, the process or the system,
//!   and waits for a device at most. Delays by a file system's other side (a server, a FUSE daemon), or by the last
//!   close of a descriptor, do not count.
//! - A call that may wait for somebody else is carried as [`Class::Indefinite`]: pipes, sockets, terminals, locks, sleeping,
//!   children. So are calls with unknown behaviour (ioctl).
//! - A number without a row is refused. A new system call gets a row of its own.

use self::Reason::*;
use self::Rule::*;
use self::Verdict::*;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("which system calls are carried is decided for x86_64 and aarch64 only");

/// How long a system call may take, which decides how it is carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// It ends by itself. It is not interrupted.
    Finite,
    /// It may wait for somebody else, without limit. A signal interrupts it.
    Indefinite,
}

impl Class {
    pub fn other(self) -> Class {
        match self {
            Class::Finite => Class::Indefinite,
            Class::Indefinite => Class::Finite,
        }
    }
}

/// How the system call is carried; None if it is refused with these arguments or with all.
///
/// IOCB2_NOP is not a system call: the result is None.
#[inline]
pub fn class(nr: u32, args: &[u64; 6]) -> Option<Class> {
    match verdict(nr) {
        Finite => Some(Class::Finite),
        Indefinite => Some(Class::Indefinite),
        When(rule) => rule.class(args),
        Refused(_) => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Finite,
    Indefinite,
    /// The arguments decide.
    When(Rule),
    Refused(Reason),
}

/// The arguments decide. They are truncated as the kernel truncates them, so that ignored bits do not change the
/// result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// preadv2 and pwritev2: finite, because only files have offsets. Offset -1 means the descriptor's own position; the
    /// calls then equal readv and writev, also for pipes.
    Offset,
    /// Waits with a signal mask in this argument. The worker would get the mask: the program's handlers could run in
    /// it, or the signal that interrupts the wait could be blocked.
    Mask(u8),
    /// wait4 and waitid, with options in this argument: __WNOTHREAD means only the calling thread's children.
    Children(u8),
    /// fcntl: F_SETLEASE and F_NOTIFY send their signals to the calling thread, and stop when it ends. Indefinite, because
    /// F_SETLKW waits.
    Owner,
    /// futex: a lock with priority inheritance belongs to the thread that takes it. Waking and requeueing do not wait,
    /// and must not be queued behind waiters.
    Futex,
    /// Calls on a clock: one clock counts the calling thread's processor time.
    Clock,
    /// getrusage: may ask for the calling thread.
    Usage,
    /// pidfd_send_signal: one negative descriptor means the calling thread.
    Pidfd,
    /// close_range: may give the calling thread its own descriptor table, in which it would execute all later requests.
    Range,
    /// io_uring_enter: the kernel cancels a thread's submissions when the thread ends (see [`Reason::Rings`]). So the
    /// call may only wait, without a signal mask.
    Enter,
}

/// PIDFD_SELF_THREAD of Linux 6.14. Not in the libc crate.
const PIDFD_SELF_THREAD: i32 = -10000;

impl Rule {
    fn class(self, args: &[u64; 6]) -> Option<Class> {
        let class = match self {
            Offset if args[3] != u64::MAX => Class::Finite,
            Futex => match args[1] as i32 & libc::FUTEX_CMD_MASK {
                libc::FUTEX_WAKE
                | libc::FUTEX_WAKE_BITSET
                | libc::FUTEX_WAKE_OP
                | libc::FUTEX_REQUEUE
                | libc::FUTEX_CMP_REQUEUE
                | libc::FUTEX_CMP_REQUEUE_PI => Class::Finite,
                _ => Class::Indefinite,
            },
            Offset | Mask(_) | Children(_) | Owner | Enter => Class::Indefinite,
            Clock | Usage | Pidfd | Range => Class::Finite,
        };
        (!self.names_caller(args)).then_some(class)
    }

    /// Whether the call with these arguments acts on the calling thread, or answers about it.
    fn names_caller(self, args: &[u64; 6]) -> bool {
        match self {
            Offset => false,
            Mask(arg) => args[usize::from(arg)] != 0,
            Children(arg) => args[usize::from(arg)] as i32 & libc::__WNOTHREAD != 0,
            Owner => matches!(args[1] as i32, libc::F_SETLEASE | libc::F_NOTIFY),
            Futex => matches!(
                args[1] as i32 & libc::FUTEX_CMD_MASK,
                libc::FUTEX_LOCK_PI
                    | libc::FUTEX_LOCK_PI2
                    | libc::FUTEX_TRYLOCK_PI
                    | libc::FUTEX_UNLOCK_PI
                    | libc::FUTEX_WAIT_REQUEUE_PI
            ),
            // -4 to -2: the clocks of thread 0, the calling thread. clock_getcpuclockid() and similar functions build
            // clock numbers from ~0 << 3, plus 4 for a thread, plus the kind (0 to 2).
            Clock => matches!(args[0] as i32, libc::CLOCK_THREAD_CPUTIME_ID | -4..=-2),
            Usage => args[0] as i32 == libc::RUSAGE_THREAD,
            Pidfd => args[0] as i32 == PIDFD_SELF_THREAD,
            Range => args[2] as u32 & libc::CLOSE_RANGE_UNSHARE != 0,
            // The number to submit; a mask, or a structure that may contain one.
            Enter => args[1] as u32 != 0 || args[4] != 0,
        }
    }
}

/// Why a system call is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reason {
    /// No such system call was known when this library was made.
    Unknown,
    /// 64-bit Linux does not have this system call, or has no longer.
    Gone,
    /// Ends the calling thread or the process, or replaces its program.
    Ends,
    /// Makes a copy of the calling thread, which would run on a worker's stack.
    Forks,
    /// For code that the kernel, the C library or a probe has put in place.
    Placed,
    /// An address that the C library registers for each thread.
    Registered,
    /// State of the processor that threads run with: segments, ports, keys.
    Processor,
    /// Attributes of the calling thread.
    Attributes,
    /// Separates the calling thread from objects that it shares with the process.
    Namespaces,
    /// The calling thread's confinement, or its security attributes.
    Security,
    /// The tracer is one thread: other threads cannot continue its work.
    Tracing,
    /// Counts the activity of the calling thread if the argument is 0, and of the threads that it starts.
    Counters,
    /// Answers which thread the caller is, or where it runs.
    Identity,
    /// How a thread is scheduled, where 0 names the calling one.
    Scheduling,
    /// The kernel keeps credentials for each thread.
    Credentials,
    /// The calling thread's signals: its mask, its stack, those that wait for it.
    Signals,
    /// Where the calling thread's memory comes from.
    MemoryPolicy,
    /// The calling thread's keyrings are among those that it uses.
    Keyrings,
    /// Ties a ring to the calling thread, and its requests end with that thread.
    Rings,
    /// The end of the heap is the allocator's to move.
    Heap,
    /// Takes the machine down, or prepares it.
    Machine,
}

/// The architecture has no number for the call.
const NONE: u16 = u16::MAX;

/// Name, number on x86_64, number on aarch64, verdict.
type Row = (&'static str, u16, u16, Verdict);

/// In the order of x86_64's table in the kernel (arch/x86/entry/syscalls/syscall_64.tbl). aarch64 uses the numbers of
/// scripts/syscall.tbl, and has no call that x86_64 lacks.
const TABLE: &[Row] = &[
    ("read", 0, 63, Indefinite),
    ("write", 1, 64, Indefinite),
    // Waits for the other end of a FIFO, and for some devices.
    ("open", 2, NONE, Indefinite),
    ("close", 3, 57, Finite),
    ("stat", 4, NONE, Finite),
    ("fstat", 5, 80, Finite),
    ("lstat", 6, NONE, Finite),
    ("poll", 7, NONE, Indefinite),
    ("lseek", 8, 62, Finite),
    ("mmap", 9, 222, Finite),
    ("mprotect", 10, 226, Finite),
    ("munmap", 11, 215, Finite),
    ("brk", 12, 214, Refused(Heap)),
    ("rt_sigaction", 13, 134, Finite),
    ("rt_sigprocmask", 14, 135, Refused(Signals)),
    ("rt_sigreturn", 15, 139, Refused(Placed)),
    ("ioctl", 16, 29, Indefinite),
    ("pread64", 17, 67, Finite),
    ("pwrite64", 18, 68, Finite),
    ("readv", 19, 65, Indefinite),
    ("writev", 20, 66, Indefinite),
    ("access", 21, NONE, Finite),
    ("pipe", 22, NONE, Finite),
    ("select", 23, NONE, Indefinite),
    ("sched_yield", 24, 124, Refused(Scheduling)),
    ("mremap", 25, 216, Finite),
    ("msync", 26, 227, Finite),
    ("mincore", 27, 232, Finite),
    ("madvise", 28, 233, Finite),
    ("shmget", 29, 194, Finite),
    ("shmat", 30, 196, Finite),
    ("shmctl", 31, 195, Finite),
    ("dup", 32, 23, Finite),
    ("dup2", 33, NONE, Finite),
    ("pause", 34, NONE, Refused(Signals)),
    ("nanosleep", 35, 101, Indefinite),
    ("getitimer", 36, 102, Finite),
    ("alarm", 37, NONE, Finite),
    ("setitimer", 38, 103, Finite),
    ("getpid", 39, 172, Finite),
    ("sendfile", 40, 71, Indefinite),
    ("socket", 41, 198, Finite),
    ("connect", 42, 203, Indefinite),
    ("accept", 43, 202, Indefinite),
    ("sendto", 44, 206, Indefinite),
    ("recvfrom", 45, 207, Indefinite),
    ("sendmsg", 46, 211, Indefinite),
    ("recvmsg", 47, 212, Indefinite),
    ("shutdown", 48, 210, Finite),
    ("bind", 49, 200, Finite),
    ("listen", 50, 201, Finite),
    ("getsockname", 51, 204, Finite),
    ("getpeername", 52, 205, Finite),
    ("socketpair", 53, 199, Finite),
    // Finite, though SCTP has options of both that connect, and may wait for the peer.
    ("setsockopt", 54, 208, Finite),
    ("getsockopt", 55, 209, Finite),
    ("clone", 56, 220, Refused(Forks)),
    ("fork", 57, NONE, Refused(Forks)),
    ("vfork", 58, NONE, Refused(Forks)),
    ("execve", 59, 221, Refused(Ends)),
    ("exit", 60, 93, Refused(Ends)),
    ("wait4", 61, 260, When(Children(2))),
    ("kill", 62, 129, Finite),
    ("uname", 63, 160, Finite),
    ("semget", 64, 190, Finite),
    ("semop", 65, 193, Indefinite),
    ("semctl", 66, 191, Finite),
    ("shmdt", 67, 197, Finite),
    ("msgget", 68, 186, Finite),
    ("msgsnd", 69, 189, Indefinite),
    ("msgrcv", 70, 188, Indefinite),
    ("msgctl", 71, 187, Finite),
    ("fcntl", 72, 25, When(Owner)),
    ("flock", 73, 32, Indefinite),
    ("fsync", 74, 82, Finite),
    ("fdatasync", 75, 83, Finite),
    ("truncate", 76, 45, Finite),
    ("ftruncate", 77, 46, Finite),
    ("getdents", 78, NONE, Finite),
    ("getcwd", 79, 17, Finite),
    ("chdir", 80, 49, Finite),
    ("fchdir", 81, 50, Finite),
    ("rename", 82, NONE, Finite),
    ("mkdir", 83, NONE, Finite),
    ("rmdir", 84, NONE, Finite),
    ("creat", 85, NONE, Indefinite),
    ("link", 86, NONE, Finite),
    ("unlink", 87, NONE, Finite),
    ("symlink", 88, NONE, Finite),
    ("readlink", 89, NONE, Finite),
    ("chmod", 90, NONE, Finite),
    ("fchmod", 91, 52, Finite),
    ("chown", 92, NONE, Finite),
    ("fchown", 93, 55, Finite),
    ("lchown", 94, NONE, Finite),
    ("umask", 95, 166, Finite),
    ("gettimeofday", 96, 169, Finite),
    ("getrlimit", 97, 163, Finite),
    ("getrusage", 98, 165, When(Usage)),
    ("sysinfo", 99, 179, Finite),
    ("times", 100, 153, Finite),
    ("ptrace", 101, 117, Refused(Tracing)),
    ("getuid", 102, 174, Refused(Credentials)),
    ("syslog", 103, 116, Indefinite),
    ("getgid", 104, 176, Refused(Credentials)),
    ("setuid", 105, 146, Refused(Credentials)),
    ("setgid", 106, 144, Refused(Credentials)),
    ("geteuid", 107, 175, Refused(Credentials)),
    ("getegid", 108, 177, Refused(Credentials)),
    ("setpgid", 109, 154, Finite),
    ("getppid", 110, 173, Finite),
    ("getpgrp", 111, NONE, Finite),
    ("setsid", 112, 157, Finite),
    ("setreuid", 113, 145, Refused(Credentials)),
    ("setregid", 114, 143, Refused(Credentials)),
    ("getgroups", 115, 158, Refused(Credentials)),
    ("setgroups", 116, 159, Refused(Credentials)),
    ("setresuid", 117, 147, Refused(Credentials)),
    ("getresuid", 118, 148, Refused(Credentials)),
    ("setresgid", 119, 149, Refused(Credentials)),
    ("getresgid", 120, 150, Refused(Credentials)),
    // 0 is the process, whichever thread asks.
    ("getpgid", 121, 155, Finite),
    ("setfsuid", 122, 151, Refused(Credentials)),
    ("setfsgid", 123, 152, Refused(Credentials)),
    ("getsid", 124, 156, Finite),
    ("capget", 125, 90, Refused(Credentials)),
    ("capset", 126, 91, Refused(Credentials)),
    ("rt_sigpending", 127, 136, Refused(Signals)),
    ("rt_sigtimedwait", 128, 137, Refused(Signals)),
    ("rt_sigqueueinfo", 129, 138, Finite),
    ("rt_sigsuspend", 130, 133, Refused(Signals)),
    ("sigaltstack", 131, 132, Refused(Signals)),
    ("utime", 132, NONE, Finite),
    ("mknod", 133, NONE, Finite),
    ("uselib", 134, NONE, Refused(Gone)),
    ("personality", 135, 92, Refused(Attributes)),
    ("ustat", 136, NONE, Finite),
    ("statfs", 137, 43, Finite),
    ("fstatfs", 138, 44, Finite),
    ("sysfs", 139, NONE, Finite),
    ("getpriority", 140, 141, Refused(Scheduling)),
    ("setpriority", 141, 140, Refused(Scheduling)),
    ("sched_setparam", 142, 118, Refused(Scheduling)),
    ("sched_getparam", 143, 121, Refused(Scheduling)),
    ("sched_setscheduler", 144, 119, Refused(Scheduling)),
    ("sched_getscheduler", 145, 120, Refused(Scheduling)),
    // About a policy, not about a thread.
    ("sched_get_priority_max", 146, 125, Finite),
    ("sched_get_priority_min", 147, 126, Finite),
    ("sched_rr_get_interval", 148, 127, Refused(Scheduling)),
    ("mlock", 149, 228, Finite),
    ("munlock", 150, 229, Finite),
    ("mlockall", 151, 230, Finite),
    ("munlockall", 152, 231, Finite),
    ("vhangup", 153, 58, Finite),
    // The table is the process's, but threads stand on its entries.
    ("modify_ldt", 154, NONE, Refused(Processor)),
    ("pivot_root", 155, 41, Finite),
    ("_sysctl", 156, NONE, Refused(Gone)),
    ("prctl", 157, 167, Refused(Attributes)),
    ("arch_prctl", 158, NONE, Refused(Processor)),
    ("adjtimex", 159, 171, Finite),
    ("setrlimit", 160, 164, Finite),
    ("chroot", 161, 51, Finite),
    ("sync", 162, 81, Finite),
    ("acct", 163, 89, Finite),
    ("settimeofday", 164, 170, Finite),
    ("mount", 165, 40, Finite),
    ("umount2", 166, 39, Finite),
    ("swapon", 167, 224, Finite),
    ("swapoff", 168, 225, Finite),
    ("reboot", 169, 142, Refused(Machine)),
    ("sethostname", 170, 161, Finite),
    ("setdomainname", 171, 162, Finite),
    ("iopl", 172, NONE, Refused(Processor)),
    ("ioperm", 173, NONE, Refused(Processor)),
    ("create_module", 174, NONE, Refused(Gone)),
    ("init_module", 175, 105, Finite),
    ("delete_module", 176, 106, Finite),
    ("get_kernel_syms", 177, NONE, Refused(Gone)),
    ("query_module", 178, NONE, Refused(Gone)),
    ("quotactl", 179, 60, Finite),
    ("nfsservctl", 180, 42, Refused(Gone)),
    ("getpmsg", 181, NONE, Refused(Gone)),
    ("putpmsg", 182, NONE, Refused(Gone)),
    ("afs_syscall", 183, NONE, Refused(Gone)),
    ("tuxcall", 184, NONE, Refused(Gone)),
    ("security", 185, NONE, Refused(Gone)),
    ("gettid", 186, 178, Refused(Identity)),
    ("readahead", 187, 213, Finite),
    ("setxattr", 188, 5, Finite),
    ("lsetxattr", 189, 6, Finite),
    ("fsetxattr", 190, 7, Finite),
    ("getxattr", 191, 8, Finite),
    ("lgetxattr", 192, 9, Finite),
    ("fgetxattr", 193, 10, Finite),
    ("listxattr", 194, 11, Finite),
    ("llistxattr", 195, 12, Finite),
    ("flistxattr", 196, 13, Finite),
    ("removexattr", 197, 14, Finite),
    ("lremovexattr", 198, 15, Finite),
    ("fremovexattr", 199, 16, Finite),
    ("tkill", 200, 130, Finite),
    ("time", 201, NONE, Finite),
    ("futex", 202, 98, When(Futex)),
    ("sched_setaffinity", 203, 122, Refused(Scheduling)),
    ("sched_getaffinity", 204, 123, Refused(Scheduling)),
    ("set_thread_area", 205, NONE, Refused(Processor)),
    ("io_setup", 206, 0, Finite),
    ("io_destroy", 207, 1, Finite),
    ("io_getevents", 208, 4, Indefinite),
    // The kernel carries some requests out in the call: a read from a pipe waits in it.
    ("io_submit", 209, 2, Indefinite),
    ("io_cancel", 210, 3, Finite),
    ("get_thread_area", 211, NONE, Refused(Processor)),
    // Not there since Linux 6.7; before, an answer from the file system.
    ("lookup_dcookie", 212, 18, Finite),
    ("epoll_create", 213, NONE, Finite),
    ("epoll_ctl_old", 214, NONE, Refused(Gone)),
    ("epoll_wait_old", 215, NONE, Refused(Gone)),
    ("remap_file_pages", 216, 234, Finite),
    ("getdents64", 217, 61, Finite),
    ("set_tid_address", 218, 96, Refused(Registered)),
    ("restart_syscall", 219, 128, Refused(Placed)),
    ("semtimedop", 220, 192, Indefinite),
    ("fadvise64", 221, 223, Finite),
    ("timer_create", 222, 107, When(Clock)),
    ("timer_settime", 223, 110, Finite),
    ("timer_gettime", 224, 108, Finite),
    ("timer_getoverrun", 225, 109, Finite),
    ("timer_delete", 226, 111, Finite),
    ("clock_settime", 227, 112, Finite),
    ("clock_gettime", 228, 113, When(Clock)),
    ("clock_getres", 229, 114, Finite),
    ("clock_nanosleep", 230, 115, Indefinite),
    ("exit_group", 231, 94, Refused(Ends)),
    ("epoll_wait", 232, NONE, Indefinite),
    ("epoll_ctl", 233, 21, Finite),
    ("tgkill", 234, 131, Finite),
    ("utimes", 235, NONE, Finite),
    ("vserver", 236, NONE, Refused(Gone)),
    ("mbind", 237, 235, Finite),
    ("set_mempolicy", 238, 237, Refused(MemoryPolicy)),
    ("get_mempolicy", 239, 236, Refused(MemoryPolicy)),
    ("mq_open", 240, 180, Finite),
    ("mq_unlink", 241, 181, Finite),
    ("mq_timedsend", 242, 182, Indefinite),
    ("mq_timedreceive", 243, 183, Indefinite),
    ("mq_notify", 244, 184, Finite),
    ("mq_getsetattr", 245, 185, Finite),
    ("kexec_load", 246, 104, Refused(Machine)),
    ("waitid", 247, 95, When(Children(3))),
    ("add_key", 248, 217, Refused(Keyrings)),
    ("request_key", 249, 218, Refused(Keyrings)),
    ("keyctl", 250, 219, Refused(Keyrings)),
    ("ioprio_set", 251, 30, Refused(Scheduling)),
    ("ioprio_get", 252, 31, Refused(Scheduling)),
    ("inotify_init", 253, NONE, Finite),
    ("inotify_add_watch", 254, 27, Finite),
    ("inotify_rm_watch", 255, 28, Finite),
    // 0 is the process's memory, whichever thread asks. So it is for move_pages.
    ("migrate_pages", 256, 238, Finite),
    ("openat", 257, 56, Indefinite),
    ("mkdirat", 258, 34, Finite),
    ("mknodat", 259, 33, Finite),
    ("fchownat", 260, 54, Finite),
    ("futimesat", 261, NONE, Finite),
    ("newfstatat", 262, 79, Finite),
    ("unlinkat", 263, 35, Finite),
    ("renameat", 264, 38, Finite),
    ("linkat", 265, 37, Finite),
    ("symlinkat", 266, 36, Finite),
    ("readlinkat", 267, 78, Finite),
    ("fchmodat", 268, 53, Finite),
    ("faccessat", 269, 48, Finite),
    ("pselect6", 270, 72, When(Mask(5))),
    ("ppoll", 271, 73, When(Mask(3))),
    ("unshare", 272, 97, Refused(Namespaces)),
    ("set_robust_list", 273, 99, Refused(Registered)),
    ("get_robust_list", 274, 100, Refused(Registered)),
    ("splice", 275, 76, Indefinite),
    ("tee", 276, 77, Indefinite),
    ("sync_file_range", 277, 84, Finite),
    ("vmsplice", 278, 75, Indefinite),
    ("move_pages", 279, 239, Finite),
    ("utimensat", 280, 88, Finite),
    ("epoll_pwait", 281, 22, When(Mask(4))),
    ("signalfd", 282, NONE, Finite),
    ("timerfd_create", 283, 85, Finite),
    ("eventfd", 284, NONE, Finite),
    ("fallocate", 285, 47, Finite),
    ("timerfd_settime", 286, 86, Finite),
    ("timerfd_gettime", 287, 87, Finite),
    ("accept4", 288, 242, Indefinite),
    ("signalfd4", 289, 74, Finite),
    ("eventfd2", 290, 19, Finite),
    ("epoll_create1", 291, 20, Finite),
    ("dup3", 292, 24, Finite),
    ("pipe2", 293, 59, Finite),
    ("inotify_init1", 294, 26, Finite),
    ("preadv", 295, 69, Finite),
    ("pwritev", 296, 70, Finite),
    ("rt_tgsigqueueinfo", 297, 240, Finite),
    ("perf_event_open", 298, 241, Refused(Counters)),
    ("recvmmsg", 299, 243, Indefinite),
    ("fanotify_init", 300, 262, Finite),
    ("fanotify_mark", 301, 263, Finite),
    ("prlimit64", 302, 261, Finite),
    ("name_to_handle_at", 303, 264, Finite),
    ("open_by_handle_at", 304, 265, Indefinite),
    ("clock_adjtime", 305, 266, Finite),
    ("syncfs", 306, 267, Finite),
    ("sendmmsg", 307, 269, Indefinite),
    ("setns", 308, 268, Refused(Namespaces)),
    ("getcpu", 309, 168, Refused(Identity)),
    ("process_vm_readv", 310, 270, Finite),
    ("process_vm_writev", 311, 271, Finite),
    ("kcmp", 312, 272, Finite),
    ("finit_module", 313, 273, Finite),
    ("sched_setattr", 314, 274, Refused(Scheduling)),
    ("sched_getattr", 315, 275, Refused(Scheduling)),
    ("renameat2", 316, 276, Finite),
    ("seccomp", 317, 277, Refused(Security)),
    ("getrandom", 318, 278, Indefinite),
    ("memfd_create", 319, 279, Finite),
    ("kexec_file_load", 320, 294, Refused(Machine)),
    ("bpf", 321, 280, Finite),
    ("execveat", 322, 281, Refused(Ends)),
    // Makes a descriptor, as signalfd, eventfd and others do. Reading from it waits.
    ("userfaultfd", 323, 282, Finite),
    ("membarrier", 324, 283, Finite),
    ("mlock2", 325, 284, Finite),
    ("copy_file_range", 326, 285, Finite),
    ("preadv2", 327, 286, When(Offset)),
    ("pwritev2", 328, 287, When(Offset)),
    ("pkey_mprotect", 329, 288, Finite),
    // Sets the new key's rights in a register of the calling thread. pkey_free sets nothing.
    ("pkey_alloc", 330, 289, Refused(Processor)),
    ("pkey_free", 331, 290, Finite),
    ("statx", 332, 291, Finite),
    ("io_pgetevents", 333, 292, When(Mask(5))),
    ("rseq", 334, 293, Refused(Registered)),
    ("uretprobe", 335, NONE, Refused(Placed)),
    ("uprobe", 336, NONE, Refused(Placed)),
    ("pidfd_send_signal", 424, 424, When(Pidfd)),
    ("io_uring_setup", 425, 425, Refused(Rings)),
    ("io_uring_enter", 426, 426, When(Enter)),
    ("io_uring_register", 427, 427, Refused(Rings)),
    ("open_tree", 428, 428, Finite),
    ("move_mount", 429, 429, Finite),
    ("fsopen", 430, 430, Finite),
    ("fsconfig", 431, 431, Finite),
    ("fsmount", 432, 432, Finite),
    ("fspick", 433, 433, Finite),
    ("pidfd_open", 434, 434, Finite),
    ("clone3", 435, 435, Refused(Forks)),
    ("close_range", 436, 436, When(Range)),
    ("openat2", 437, 437, Indefinite),
    ("pidfd_getfd", 438, 438, Finite),
    ("faccessat2", 439, 439, Finite),
    ("process_madvise", 440, 440, Finite),
    ("epoll_pwait2", 441, 441, When(Mask(4))),
    ("mount_setattr", 442, 442, Finite),
    ("quotactl_fd", 443, 443, Finite),
    ("landlock_create_ruleset", 444, 444, Finite),
    ("landlock_add_rule", 445, 445, Finite),
    ("landlock_restrict_self", 446, 446, Refused(Security)),
    ("memfd_secret", 447, 447, Finite),
    ("process_mrelease", 448, 448, Finite),
    ("futex_waitv", 449, 449, Indefinite),
    ("set_mempolicy_home_node", 450, 450, Finite),
    ("cachestat", 451, 451, Finite),
    ("fchmodat2", 452, 452, Finite),
    ("map_shadow_stack", 453, 453, Finite),
    ("futex_wake", 454, 454, Finite),
    ("futex_wait", 455, 455, Indefinite),
    ("futex_requeue", 456, 456, Finite),
    ("statmount", 457, 457, Finite),
    ("listmount", 458, 458, Finite),
    ("lsm_get_self_attr", 459, 459, Refused(Security)),
    ("lsm_set_self_attr", 460, 460, Refused(Security)),
    ("lsm_list_modules", 461, 461, Finite),
    ("mseal", 462, 462, Finite),
    ("setxattrat", 463, 463, Finite),
    ("getxattrat", 464, 464, Finite),
    ("listxattrat", 465, 465, Finite),
    ("removexattrat", 466, 466, Finite),
    ("open_tree_attr", 467, 467, Finite),
    ("file_getattr", 468, 468, Finite),
    ("file_setattr", 469, 469, Finite),
];

/// All numbers are below this.
const LIMIT: usize = 512;

/// Indexed by the numbers of this architecture.
static VERDICTS: [Verdict; LIMIT] = by_number(cfg!(target_arch = "x86_64"));

const fn by_number(x86_64: bool) -> [Verdict; LIMIT] {
    let mut verdicts = [Refused(Unknown); LIMIT];
    let mut i = 0;
    while i < TABLE.len() {
        let (_, on_x86_64, on_aarch64, verdict) = TABLE[i];
        let number = if x86_64 { on_x86_64 } else { on_aarch64 };
        if number != NONE {
            let number = number as usize;
            assert!(
                matches!(verdicts[number], Refused(Unknown)),
                "two system calls with one number"
            );
            verdicts[number] = verdict;
        }
        i += 1;
    }
    verdicts
}

/// The effect of a system call on files. The end of the process waits for accepted calls that read or write files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Files {
    /// Nothing, or nothing that outlives the process.
    Nothing,
    /// It changes a file system, and ends by itself.
    Changes,
    /// As `Changes` if the first argument is a file's descriptor; otherwise it may wait.
    FirstArg,
    /// As `Changes` if the first two arguments are files' descriptors.
    TwoArgs,
    /// As `Changes` if it creates or truncates a file. If its path does not lead to a file, it may wait.
    Opens,
}

/// The effect of a system call on files.
pub fn files(nr: u32) -> Files {
    let files = FILES.get(nr as usize);
    files.copied().unwrap_or(Files::Nothing)
}

const ABOUT_FILES: &[(Files, &[&str])] = &[
    (
        Files::Changes,
        &[
            "fsync",
            "fdatasync",
            "sync",
            "syncfs",
            "sync_file_range",
            "msync",
            "truncate",
            "ftruncate",
            "fallocate",
            "copy_file_range",
            "rename",
            "renameat",
            "renameat2",
            "mkdir",
            "mkdirat",
            "rmdir",
            "link",
            "linkat",
            "unlink",
            "unlinkat",
            "symlink",
            "symlinkat",
            "mknod",
            "mknodat",
            "chmod",
            "fchmod",
            "fchmodat",
            "fchmodat2",
            "chown",
            "fchown",
            "lchown",
            "fchownat",
            "utime",
            "utimes",
            "futimesat",
            "utimensat",
            "setxattr",
            "lsetxattr",
            "fsetxattr",
            "setxattrat",
            "removexattr",
            "lremovexattr",
            "fremovexattr",
            "removexattrat",
            "file_setattr",
        ],
    ),
    (
        Files::FirstArg,
        &[
            "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev",
            "preadv2", "pwritev2", "ioctl",
        ],
    ),
    (Files::TwoArgs, &["sendfile"]),
    (Files::Opens, &["open", "creat", "openat", "openat2"]),
];

/// Indexed by the numbers of this architecture.
static FILES: [Files; LIMIT] = {
    let mut files = [Files::Nothing; LIMIT];
    let mut kind = 0;
    while kind < ABOUT_FILES.len() {
        let (what, names) = ABOUT_FILES[kind];
        let mut i = 0;
        while i < names.len() {
            if let Some(number) = number_of(names[i]) {
                files[number] = what;
            }
            i += 1;
        }
        kind += 1;
    }
    files
};

/// The number of a call in the table on this architecture, if it has one.
const fn number_of(name: &str) -> Option<usize> {
    let mut row = 0;
    while !same(TABLE[row].0, name) {
        row += 1;
    }
    let (_, on_x86_64, on_aarch64, _) = TABLE[row];
    let number = if cfg!(target_arch = "x86_64") {
        on_x86_64
    } else {
        on_aarch64
    };
    if number == NONE {
        None
    } else {
        Some(number as usize)
    }
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

fn verdict(nr: u32) -> Verdict {
    match VERDICTS.get(nr as usize) {
        Some(verdict) => *verdict,
        None => Refused(Unknown),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::io::Write;

    /// The last system call of Linux 6.18.
    const LAST: u16 = 469;

    fn row(name: &str) -> &'static Row {
        TABLE
            .iter()
            .find(|row| row.0 == name)
            .unwrap_or_else(|| panic!("{name} is not in the table"))
    }

    /// This architecture's number of a call that both architectures have.
    fn nr(name: &str) -> u32 {
        let &(_, on_x86_64, on_aarch64, _) = row(name);
        assert!(on_x86_64 != NONE && on_aarch64 != NONE, "{name}");
        u32::from(if cfg!(target_arch = "x86_64") {
            on_x86_64
        } else {
            on_aarch64
        })
    }

    /// Six arguments: the given ones, and 0 for the others.
    fn args(those: &[(usize, i64)]) -> [u64; 6] {
        let mut args = [0; 6];
        for &(place, value) in those {
            args[place] = value as u64;
        }
        args
    }

    #[test]
    fn each_number_and_name_once() {
        let names: BTreeSet<_> = TABLE.iter().map(|row| row.0).collect();
        assert_eq!(names.len(), TABLE.len());
        let on_x86_64: BTreeSet<_> = TABLE.iter().map(|row| row.1).collect();
        let expected: BTreeSet<_> = (0..=336).chain(424..=LAST).collect();
        assert_eq!(on_x86_64, expected);
        assert_eq!(on_x86_64.len(), TABLE.len());
        let on_aarch64: Vec<_> = TABLE
            .iter()
            .map(|row| row.2)
            .filter(|n| *n != NONE)
            .collect();
        let expected: BTreeSet<_> = (0..=243).chain(260..=294).chain(424..=LAST).collect();
        assert_eq!(on_aarch64.len(), expected.len());
        assert_eq!(BTreeSet::from_iter(on_aarch64), expected);
    }

    /// Calls for which the end of the process waits end by themselves.
    #[test]
    fn files_are_carried() {
        for &(what, names) in ABOUT_FILES {
            for name in names {
                let verdict = row(name).3;
                match what {
                    Files::Changes => assert_eq!(verdict, Finite, "{name}"),
                    _ => assert!(!matches!(verdict, Refused(_)), "{name}"),
                }
            }
        }
        assert_eq!(files(nr("unlinkat")), Files::Changes);
        assert_eq!(files(nr("pread64")), Files::FirstArg);
        assert_eq!(files(nr("munmap")), Files::Nothing);
        assert_eq!(files(u32::MAX), Files::Nothing);
    }

    #[test]
    fn every_number_has_an_answer() {
        let known: BTreeMap<u32, Verdict> = TABLE
            .iter()
            .map(|row| {
                let number = if cfg!(target_arch = "x86_64") {
                    row.1
                } else {
                    row.2
                };
                (number, row.3)
            })
            .filter(|(number, _)| *number != NONE)
            .map(|(number, verdict)| (number.into(), verdict))
            .collect();
        // 1 << 30 is x32's bit for the same calls.
        let far = [1 << 30, 1 << 31, u32::MAX - 1, u32::MAX];
        for nr in (0..=1023).chain(far) {
            let zeros = class(nr, &[0; 6]);
            let ones = class(nr, &[u64::MAX; 6]);
            let all = |class| (Some(class), Some(class));
            match known.get(&nr) {
                None | Some(Refused(_)) => assert_eq!((zeros, ones), (None, None), "{nr}"),
                Some(Finite) => assert_eq!((zeros, ones), all(Class::Finite), "{nr}"),
                Some(Indefinite) => assert_eq!((zeros, ones), all(Class::Indefinite), "{nr}"),
                // No rule rejects zeros.
                Some(When(_)) => assert!(zeros.is_some(), "{nr}"),
            }
        }
    }

    #[test]
    fn whole_families() {
        let users = [
            "uid", "gid", "euid", "egid", "reuid", "regid", "resuid", "resgid", "fsuid", "fsgid",
        ];
        for &(name, _, _, verdict) in TABLE {
            let user = name.strip_prefix("set").or(name.strip_prefix("get"));
            if user.is_some_and(|user| users.contains(&user)) {
                assert_eq!(verdict, Refused(Credentials), "{name}");
            }
            let about_a_policy = name.starts_with("sched_get_priority_");
            if name.starts_with("sched_") && !about_a_policy {
                assert_eq!(verdict, Refused(Scheduling), "{name}");
            }
            let mut may_wait = name.starts_with("accept") || name.starts_with("mq_timed");
            may_wait |= ["send", "recv", "open"]
                .iter()
                .any(|family| name.starts_with(family));
            may_wait &= !name.starts_with("open_tree");
            if may_wait {
                assert_eq!(verdict, Indefinite, "{name}");
            }
        }
    }

    #[test]
    fn arguments_decide() {
        const REFUSED: Option<Class> = None;
        const FINITE: Option<Class> = Some(Class::Finite);
        const INDEFINITE: Option<Class> = Some(Class::Indefinite);
        // Bits above those of an int, which the kernel ignores.
        const HIGH: i64 = 1 << 32;
        type Case = (&'static str, &'static [(usize, i64)], Option<Class>);
        let cases: &[Case] = &[
            ("preadv2", &[(3, 4096)], FINITE),
            ("preadv2", &[(3, -1)], INDEFINITE),
            ("preadv2", &[(3, 0xffff_ffff)], FINITE),
            ("preadv2", &[(4, -1)], FINITE),
            ("pwritev2", &[(3, -1), (5, 8)], INDEFINITE),
            ("ppoll", &[(0, 1), (1, 1), (2, 1), (4, 8)], INDEFINITE),
            ("ppoll", &[(3, 1)], REFUSED),
            ("pselect6", &[(4, 1)], INDEFINITE),
            ("pselect6", &[(5, 1)], REFUSED),
            ("epoll_pwait", &[(3, -1), (5, 8)], INDEFINITE),
            ("epoll_pwait", &[(4, 1)], REFUSED),
            ("epoll_pwait2", &[(4, 1)], REFUSED),
            ("io_pgetevents", &[(4, 1)], INDEFINITE),
            ("io_pgetevents", &[(5, 1)], REFUSED),
            ("wait4", &[(0, -1), (2, 0x4000_0000)], INDEFINITE),
            ("wait4", &[(2, 0x2000_0000)], REFUSED),
            ("waitid", &[(3, 4)], INDEFINITE),
            ("waitid", &[(3, 0x2000_0004)], REFUSED),
            ("fcntl", &[(1, 7)], INDEFINITE),
            ("fcntl", &[(1, 1024)], REFUSED),
            ("fcntl", &[(1, HIGH | 1026)], REFUSED),
            ("futex", &[(1, 0)], INDEFINITE),
            ("futex", &[(1, 9 | 128 | 256)], INDEFINITE),
            ("futex", &[(1, 1 | 128)], FINITE),
            ("futex", &[(1, 12)], FINITE),
            ("futex", &[(1, 6 | 128)], REFUSED),
            ("futex", &[(1, HIGH | 13 | 256)], REFUSED),
            ("futex", &[(1, 77)], INDEFINITE),
            ("clock_gettime", &[(0, 1)], FINITE),
            ("clock_gettime", &[(0, 2)], FINITE),
            ("clock_gettime", &[(0, 3)], REFUSED),
            ("clock_gettime", &[(0, HIGH | 3)], REFUSED),
            ("clock_gettime", &[(0, -2)], REFUSED),
            ("clock_gettime", &[(0, -6)], FINITE),
            ("timer_create", &[(0, 3)], REFUSED),
            ("getrusage", &[(0, -1)], FINITE),
            ("getrusage", &[(0, 1)], REFUSED),
            ("pidfd_send_signal", &[(0, -10001)], FINITE),
            ("pidfd_send_signal", &[(0, -10000)], REFUSED),
            ("close_range", &[(2, 4)], FINITE),
            ("close_range", &[(2, 6)], REFUSED),
            ("io_uring_enter", &[(2, 1), (3, 1)], INDEFINITE),
            ("io_uring_enter", &[(1, 1)], REFUSED),
            ("io_uring_enter", &[(3, 8), (4, 1)], REFUSED),
            ("clock_nanosleep", &[(0, 3)], INDEFINITE),
        ];
        for (name, those, expected) in cases {
            if row(name).2 != NONE {
                assert_eq!(class(nr(name), &args(those)), *expected, "{name} {those:?}");
            }
        }
        let mut ruled: Vec<_> = TABLE
            .iter()
            .filter(|row| matches!(row.3, When(_)))
            .map(|row| row.0)
            .collect();
        ruled.retain(|name| !cases.iter().any(|case| case.0 == *name));
        assert!(ruled.is_empty(), "rules without a case here: {ruled:?}");
    }

    /// The refused clocks are exactly the kernel's clocks of the calling thread: they stand still while another thread
    /// works.
    #[test]
    fn clocks_of_the_thread() {
        fn now(clock: i32) -> Option<i128> {
            let mut time = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // SAFETY: the kernel writes to our structure.
            let made = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &raw mut time) };
            (made == 0).then(|| i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec))
        }
        let clocks: Vec<_> = (-8..16)
            .filter_map(|clock| Some((clock, now(clock)?)))
            .collect();
        // Negative numbers: the clocks of the process, of a device on descriptor 0, of the thread. The thread uses 200
        // ms of processor time, mostly in user mode, because some clocks move in steps of 10 ms.
        std::thread::spawn(|| {
            while now(libc::CLOCK_THREAD_CPUTIME_ID).unwrap() < 200_000_000 {
                (0..1_000_000).for_each(|i| _ = std::hint::black_box(i));
            }
        })
        .join()
        .unwrap();
        let mut found = Vec::new();
        for (clock, before) in clocks {
            let stood_still = now(clock).unwrap() - before < 50_000_000;
            if stood_still {
                found.push(clock);
            }
            let refused = class(nr("clock_gettime"), &args(&[(0, clock.into())])).is_none();
            assert_eq!(refused, stood_still, "clock {clock}");
        }
        assert!(found.contains(&libc::CLOCK_THREAD_CPUTIME_ID), "{found:?}");
    }

    /// The name and number of each system call that a header defines for aarch64 or x86_64. Does as much of the
    /// preprocessor's work as these headers need.
    fn header_calls(text: &str) -> BTreeMap<String, u16> {
        // Definitions of arch/arm64. All other names are undefined.
        const DEFINED: &[&str] = &[
            "__ARCH_WANT_RENAMEAT",
            "__ARCH_WANT_NEW_STAT",
            "__ARCH_WANT_SET_GET_RLIMIT",
            "__ARCH_WANT_TIME32_SYSCALLS",
            "__ARCH_WANT_MEMFD_SECRET",
            "__ARCH_WANT_SYS_CLONE3",
        ];
        let defined = |name: &str| DEFINED.contains(&name);
        let term = |term: &str| match term {
            "__BITS_PER_LONG == 64" | "__BITS_PER_LONG != 32" => true,
            "__BITS_PER_LONG == 32" | "__BITS_PER_LONG != 64" => false,
            _ => {
                let (no, term) = match term.strip_prefix('!') {
                    Some(term) => (true, term),
                    None => (false, term),
                };
                let name = term
                    .strip_prefix("defined(")
                    .and_then(|t| t.strip_suffix(')'));
                no ^ defined(name.unwrap_or_else(|| panic!("condition not understood: {term}")))
            }
        };
        let mut calls: BTreeMap<String, u16> = BTreeMap::new();
        let mut shown = vec![true];
        for line in text.lines() {
            let line = line.split("/*").next().unwrap().trim();
            let Some((word, rest)) = line.strip_prefix('#').map(|line| {
                line.trim()
                    .split_once(char::is_whitespace)
                    .unwrap_or((line, ""))
            }) else {
                continue;
            };
            let rest = rest.trim();
            match word.trim_start_matches('#') {
                "ifdef" => shown.push(defined(rest)),
                "ifndef" => shown.push(!defined(rest)),
                "if" => shown.push(
                    rest.split("||")
                        .any(|all| all.split("&&").all(|one| term(one.trim()))),
                ),
                "else" => *shown.last_mut().unwrap() ^= true,
                "endif" => drop(shown.pop()),
                "define" if shown.iter().all(|shown| *shown) => {
                    let Some((name, value)) = rest.split_once(char::is_whitespace) else {
                        continue;
                    };
                    let value = value.trim();
                    // __NR3264_: the number of a call that gets its name further down.
                    let number = value.parse().ok().or(calls.get(value).copied());
                    if let Some(number) = number.filter(|_| name.starts_with("__NR")) {
                        calls.insert(name.into(), number);
                    }
                }
                "elif" => panic!("condition not understood: {line}"),
                _ => {}
            }
        }
        assert_eq!(shown, [true]);
        calls
            .into_iter()
            .filter_map(|(name, number)| Some((name.strip_prefix("__NR_")?.to_owned(), number)))
            .filter(|(name, _)| name != "syscalls" && name != "arch_specific_syscall")
            .collect()
    }

    /// Prints past the test harness, which hides the output of a passing test.
    fn say(text: &str) {
        let _ = writeln!(std::io::stderr(), "\nsyscalls: {text}");
    }

    /// Each call of the header is in the table with the header's number, and vice versa.
    fn compare(paths: &[&str], number: fn(&Row) -> u16) {
        let Some(text) = paths
            .iter()
            .find_map(|path| std::fs::read_to_string(path).ok())
        else {
            return say(&format!("SKIPPED: not there: {paths:?}"));
        };
        let calls = header_calls(&text);
        assert!(calls.len() > 300, "{}: not read right", calls.len());
        let (known, newer): (Vec<_>, Vec<_>) = calls.iter().partition(|(_, n)| **n <= LAST);
        if !newer.is_empty() {
            say(&format!("to be decided, until then refused: {newer:?}"));
        }
        for (name, in_header) in &known {
            assert_eq!(number(row(name)), **in_header, "{name}");
        }
        let last = *known.iter().map(|(_, n)| *n).max().unwrap();
        for row in TABLE {
            let number = number(row);
            // Probes have numbers between those of older headers.
            let later = number > last || matches!(row.0, "uretprobe" | "uprobe");
            assert!(
                number == NONE || later || calls.contains_key(row.0),
                "{} is not in the header",
                row.0
            );
        }
    }

    #[test]
    fn header_of_x86_64() {
        let paths = [
            "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
            #[cfg(target_arch = "x86_64")]
            "/usr/include/asm/unistd_64.h",
        ];
        compare(&paths, |row| row.1);
    }

    #[test]
    fn header_of_aarch64() {
        compare(&["/usr/include/asm-generic/unistd.h"], |row| row.2);
    }
}
