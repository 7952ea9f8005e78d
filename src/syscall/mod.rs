//! System calls: their description, their properties, and making them.

pub mod carrier;
pub mod interrupt;
mod make;
mod manner;
mod nowait;
mod ready;
mod table;

pub use make::{is_full, make, make_interruptibly, make_nowait};
pub use manner::{Manner, is_carried};
pub use nowait::{Tried, rest_of, try_nowait};
pub use ready::{
    can_be_announced, is_on_file, is_ready, is_ready_plainly, may_be_repeated, waits_for_nobody,
};
pub use table::Class;

use crate::sys::kernel_version;
use libc::c_long;

/// In place of a system call's number: waits until poll(2) reports an event. The arguments: a descriptor, and events.
pub const AWAIT_FILE: u32 = 0xffff_fffe;

/// A system call to make.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub nr: u32,
    /// Identifies its file for learning.
    pub key: Key,
    pub args: [u64; 6],
}

impl Call {
    /// How many bytes a plain read or write asks for.
    pub fn plain_bytes(&self) -> Option<u64> {
        let nr = libc::c_long::from(self.nr);
        matches!(nr, libc::SYS_pread64 | libc::SYS_pwrite64).then_some(self.args[2])
    }

    /// For a write to a file that was inspected at submit: the flag (RWF_*) that keeps it an append, or none, as the file's flags said then.
    /// The program may change these meanwhile (F_SETFL). 0: nothing has to be kept, or the kernel does not know the flag.
    pub fn append_flag(&self) -> u32 {
        const RWF_APPEND: u32 = 0x10;
        const RWF_NOAPPEND: u32 = 0x20;
        let given = match c_long::from(self.nr) {
            libc::SYS_pwrite64 | libc::SYS_pwritev => 0,
            libc::SYS_pwritev2 => self.args[5] as u32,
            _ => return 0,
        };
        let facts = self.key.facts().filter(|facts| facts.file);
        let known = kernel_version();
        match facts {
            Some(facts) if given & (RWF_APPEND | RWF_NOAPPEND) == 0 => match facts.appends {
                true if known >= (4, 16) => RWF_APPEND,
                false if known >= (6, 9) => RWF_NOAPPEND,
                _ => 0,
            },
            _ => 0,
        }
    }

    /// A call of the program's. Its first argument is the program's descriptor, if the call has one.
    pub fn new(nr: u32, args: [u64; 6]) -> Call {
        Call {
            nr,
            key: Key::of_descriptor(args[0]),
            args,
        }
    }
}

/// Identifies a file for learning. It is the program's descriptor. If the file was inspected at submit, it is a hash of
/// the inode together with the facts found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key(u32);

impl Key {
    const LOOKED_AT: u32 = 1 << 31;
    const FILE: u32 = 1 << 30;
    const REGULAR: u32 = 1 << 29;
    const DIRECT: u32 = 1 << 28;
    const APPENDS: u32 = 1 << 27;
    const NUMBER: u32 = Key::APPENDS - 1;
    /// The bits of the hash that depend on the device only.
    const DEVICE: u32 = Key::NUMBER & !(Key::NUMBER >> 6);

    fn of_descriptor(fd: u64) -> Key {
        Key(fd as u32 & !Key::LOOKED_AT)
    }

    /// For a file of this type (S_IFMT) and inode.
    pub fn of_file(format: u32, inode: (u64, u64), direct: bool, appends: bool) -> Key {
        let (device, number) = inode;
        let of_file =
            crate::sys::hash(number ^ device.rotate_left(40)) & Key::NUMBER & !Key::DEVICE;
        let mut key = Key::LOOKED_AT | of_file | crate::sys::hash(device) & Key::DEVICE;
        for (bit, is) in [
            (Key::FILE, matches!(format, libc::S_IFREG | libc::S_IFBLK)),
            (Key::REGULAR, format == libc::S_IFREG),
            (Key::DIRECT, direct),
            (Key::APPENDS, appends),
        ] {
            key |= if is { bit } else { 0 };
        }
        Key(key)
    }

    /// Identifies the file, with the facts found. Never 0.
    pub fn file(self) -> u32 {
        let aside = match self.0 & Key::LOOKED_AT {
            0 => 0,
            _ => Key::LOOKED_AT | Key::APPENDS,
        };
        (self.0 & !aside) + 1
    }

    pub fn number(self) -> u32 {
        match self.facts() {
            Some(_) => self.0 & Key::NUMBER,
            None => self.0,
        }
    }

    /// A hash of the device, if the file was inspected at submit.
    pub fn device(self) -> Option<u64> {
        #[cfg(loom)]
        return None;
        #[cfg(not(loom))]
        self.facts().map(|_| u64::from(self.0 & Key::DEVICE))
    }

    /// The facts found at submit, if the file was inspected.
    pub fn facts(self) -> Option<Facts> {
        let is = |bit| self.0 & bit != 0;
        is(Key::LOOKED_AT).then(|| Facts {
            file: is(Key::FILE),
            regular: is(Key::REGULAR),
            direct: is(Key::DIRECT),
            appends: is(Key::APPENDS),
        })
    }
}

/// Facts about a file, found when its request was submitted.
#[derive(Clone, Copy)]
pub struct Facts {
    /// It is a regular file or a block device.
    pub file: bool,
    pub regular: bool,
    /// It is open with O_DIRECT.
    pub direct: bool,
    /// Writes go to its end.
    pub appends: bool,
}
