//! The part of its file that a request with an extension claims, for [`crate::queue::order::claims`].

/// The access of a request to its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Access {
    /// Nothing that other requests can notice.
    Nothing,
    /// Through the page cache.
    Read,
    Write,
    /// A write past the file's end at its first use: the bytes before it appear, too.
    Grow,
    /// At the end that the file has at that time.
    Append,
    /// Bypasses the page cache.
    DirectRead,
    DirectWrite,
    DirectAppend,
    Sync,
    /// A file without positions. Reads and writes are ordered separately.
    StreamRead,
    StreamWrite,
}

/// The claim of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The file: see [`Claim::of_file`]. If two files get the same value, their requests wait for each other
    /// needlessly.
    pub what: u64,
    pub start: u64,
    pub bytes: u32,
    pub access: Access,
}

impl Claim {
    pub const NOTHING: Claim = Claim {
        what: 0,
        start: 0,
        bytes: 0,
        access: Access::Nothing,
    };

    /// For a regular file or a block device. `inode`: its device and its number there.
    pub fn of_file(inode: (u64, u64), start: u64, bytes: u32, access: Access) -> Claim {
        // Odd and irregular, because device numbers are small and similar.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let (device, number) = inode;
        Claim {
            what: number.wrapping_add(device.wrapping_mul(SPREAD)),
            start,
            bytes,
            access,
        }
    }

    /// For any other file.
    pub fn of_stream(inode: (u64, u64), writes: bool) -> Claim {
        let access = if writes {
            Access::StreamWrite
        } else {
            Access::StreamRead
        };
        Claim::of_file(inode, 0, 0, access)
    }

    pub fn end(&self) -> u64 {
        self.start.saturating_add(u64::from(self.bytes))
    }

    pub fn overlaps(&self, other: &Claim) -> bool {
        self.bytes != 0 && other.bytes != 0 && self.start < other.end() && other.start < self.end()
    }
}

impl Access {
    pub fn reads(self) -> bool {
        matches!(self, Access::Read | Access::DirectRead)
    }

    pub fn appends(self) -> bool {
        matches!(self, Access::Append | Access::DirectAppend)
    }

    /// Whether it bypasses the page cache.
    pub fn is_direct(self) -> bool {
        matches!(
            self,
            Access::DirectRead | Access::DirectWrite | Access::DirectAppend
        )
    }

    /// Whether a program may rely on it once io_submit() has returned, even if the process then ends.
    pub fn is_owed(self) -> bool {
        !matches!(self, Access::Nothing | Access::StreamRead)
    }
}
