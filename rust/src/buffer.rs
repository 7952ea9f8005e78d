use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::{fmt, slice};

/// Memory for one request: it goes into the request, and comes back with the request's event.
///
/// It dereferences to `[u8]`. One made of a `Vec` keeps its memory; O_DIRECT needs one of [`Buffer::aligned`].
pub struct Buffer {
    start: NonNull<u8>,
    len: usize,
    /// Of the allocation; its size is `len`, or 1 for an empty one that was allocated.
    layout: Layout,
}

// SAFETY: it owns its memory, as a Vec does.
unsafe impl Send for Buffer {}
// SAFETY: as above; through a shared reference it is only read.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` bytes of zeros.
    pub fn zeroed(len: usize) -> Buffer {
        Buffer::aligned(len, 1)
    }

    /// `len` bytes of zeros at an address that is a multiple of `align`, in bytes.
    ///
    /// # Panics
    /// If `align` is not a power of two, or the length overflows an `isize`.
    pub fn aligned(len: usize, align: usize) -> Buffer {
        let layout =
            Layout::from_size_align(len.max(1), align).expect("a buffer's size and alignment");
        // SAFETY: the size is not 0.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Buffer { start, len, layout }
    }

    /// The address that the system call gets. A raw pointer, so that no reference to the bytes exists while the kernel
    /// or a worker writes them.
    pub(crate) fn address(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Buffer {
        let len = bytes.len();
        if len == 0 {
            return Buffer::zeroed(0);
        }
        let start = Box::into_raw(bytes.into_boxed_slice()).cast::<u8>();
        // SAFETY: the pointer of a box is not null. A boxed slice has just this layout.
        unsafe {
            Buffer {
                start: NonNull::new_unchecked(start),
                len,
                layout: Layout::from_size_align_unchecked(len, 1),
            }
        }
    }
}

impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Buffer {
        bytes.to_vec().into()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes that were initialised; a buffer that has a reference is in no request any more.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; and the reference is the only one.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}
