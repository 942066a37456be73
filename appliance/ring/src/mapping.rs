//! The memfd and its mappings: the ring's only unsafe code.
//!
//! ```text
//!  file     │ header, subjects, index │ lane 0 │ lane 1 │
//!  address  │ header, subjects, index │ lane 0 │ lane 0 │ lane 1 │ lane 1 │
//! ```
//! Each lane is mapped twice, back to back, so that a frame that wraps in the file is one run of addresses.
#![expect(unsafe_code, reason = "mmap; views of shared memory as atomic words")]

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl, posix_fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use crate::layout::{HEADER_LEN, Layout};
use crate::sync::{WORD_BYTES, Word};
use crate::{LANES, Lane, LanePosition, RingError};

/// Who may write through a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// The writer may.
    ReadWrite,
    /// Nobody may: it is a reader's.
    ReadOnly,
}

/// A ring's memory in this process.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: NonZeroUsize,
    /// Bytes before the first lane.
    meta_len: usize,
    /// Offset from `base` and length.
    lanes: [(usize, usize); LANES],
}

// SAFETY: the memory belongs to no thread. It is reached only as atomic words or as raw pointers, and unmapped once, on
// drop.
unsafe impl Send for Mapping {}
// SAFETY: as above: shared references give out nothing but atomics and pointers.
unsafe impl Sync for Mapping {}

/// A memfd of the layout's size whose pages exist: a machine without the memory says so here, and not as SIGBUS later.
pub(crate) fn create_memfd(layout: &Layout) -> Result<OwnedFd, RingError> {
    let need = layout.file_len() as u64;
    // A memfd has no size limit of its own, so nothing else would stop us before the OOM killer does.
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    if let Some(available) = available_bytes(&meminfo).filter(|available| *available < need) {
        return Err(RingError::Memory { need, available });
    }
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let noexec = MFdFlags::from_bits_retain(MFD_NOEXEC_SEAL);
    let memfd = match memfd_create("fanblade-ring", flags | noexec) {
        // Linux before 6.3 does not know the flag.
        Err(Errno::EINVAL) => memfd_create("fanblade-ring", flags),
        other => other,
    }
    .map_err(RingError::system("memfd_create"))?;
    let len = i64::try_from(layout.file_len()).map_err(|_| RingError::Config("the ring is too large for a file"))?;
    match posix_fallocate(&memfd, 0, len) {
        Ok(()) => Ok(memfd),
        Err(Errno::EFBIG) => Err(RingError::FileSize { need }),
        Err(errno) => Err(RingError::system("fallocate")(errno)),
    }
}

/// Seals the file, once the writer has mapped it: nobody can resize it (a reader would die of SIGBUS) or map it
/// writable any more.
pub(crate) fn seal(memfd: BorrowedFd<'_>) -> Result<(), RingError> {
    let seals = SIZE_SEALS | SealFlag::F_SEAL_FUTURE_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(memfd, FcntlArg::F_ADD_SEALS(seals)).map_err(RingError::system("fcntl(F_ADD_SEALS)"))?;
    Ok(())
}

/// The layout of the ring in `fd`, if it is one and cannot shrink under the reader.
pub(crate) fn read_layout(fd: BorrowedFd<'_>) -> Result<Layout, RingError> {
    let seals = fcntl(fd, FcntlArg::F_GET_SEALS).map_err(|_| RingError::Foreign("it is not a memfd"))?;
    if !SealFlag::from_bits_retain(seals).contains(SIZE_SEALS) {
        return Err(RingError::Foreign("its size is not sealed"));
    }
    let file = File::from(fd.try_clone_to_owned().map_err(|source| RingError::System { call: "dup", source })?);
    let mut page = [0; HEADER_LEN];
    file.read_exact_at(&mut page, 0).map_err(|_| RingError::Foreign("it is shorter than a header"))?;
    let layout = Layout::read(&page)?;
    let len = file.metadata().map_err(|source| RingError::System { call: "fstat", source })?.len();
    if len != layout.file_len() as u64 {
        return Err(RingError::Foreign("its size does not match its capacities"));
    }
    Ok(layout)
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

impl Mapping {
    /// Maps a file of the layout's size. For a file that others may shrink, `seal` or `read_layout` must have been
    /// called.
    pub(crate) fn new(fd: BorrowedFd<'_>, layout: &Layout, access: Access) -> Result<Self, RingError> {
        let lanes_len: usize = layout.lane_len.iter().sum();
        let len = NonZeroUsize::new(layout.lanes_at + 2 * lanes_len).ok_or(RingError::Config("an empty ring"))?;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { mmap_anonymous(None, len, ProtFlags::PROT_NONE, RESERVE) }
            .map_err(RingError::system("mmap (reservation)"))?
            .cast::<u8>();
        // From here on, dropping it unmaps whatever has been mapped.
        let mut mapping = Self { base, len, meta_len: layout.lanes_at, lanes: [(0, 0); LANES] };
        mapping.place(fd, access, 0, 0, layout.lanes_at)?;
        let (mut address, mut offset) = (layout.lanes_at, layout.lanes_at);
        for (lane, lane_len) in layout.lane_len.into_iter().enumerate() {
            if lane_len > 0 {
                mapping.place(fd, access, address, offset, lane_len)?;
                mapping.place(fd, access, address + lane_len, offset, lane_len)?;
            }
            mapping.lanes[lane] = (address, lane_len);
            address += 2 * lane_len;
            offset += lane_len;
        }
        Ok(mapping)
    }

    /// Puts `len` bytes of the file, from `offset`, over the reservation at `address` from its base.
    fn place(
        &self,
        fd: BorrowedFd<'_>,
        access: Access,
        address: usize,
        offset: usize,
        len: usize,
    ) -> Result<(), RingError> {
        let out_of_range = RingError::Config("a mapping outside of its reservation");
        let (Some(at), Some(len)) = (self.base.as_ptr().addr().checked_add(address), NonZeroUsize::new(len)) else {
            return Err(out_of_range);
        };
        let (Some(at), Ok(offset)) = (NonZeroUsize::new(at), i64::try_from(offset)) else { return Err(out_of_range) };
        if address + len.get() > self.len.get() {
            return Err(out_of_range);
        }
        let protection = match access {
            Access::ReadWrite => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            Access::ReadOnly => ProtFlags::PROT_READ,
        };
        // SAFETY: MAP_FIXED replaces only pages of our own reservation (checked above), to which no reference exists
        // yet.
        unsafe { mmap(Some(at), len, protection, FIXED, fd, offset) }.map_err(RingError::system("mmap (ring)"))?;
        Ok(())
    }

    /// Header, subject table and index.
    pub(crate) fn words(&self) -> &[Word] {
        self.view(0, self.meta_len)
    }

    /// A lane's bytes, once.
    pub(crate) fn lane(&self, lane: Lane) -> &[Word] {
        let (offset, len) = self.lanes[lane as usize];
        self.view(offset, len)
    }

    /// Where `position` of a lane lies; a whole lane's length from there is mapped. Null for a lane that was not made.
    pub(crate) fn lane_ptr(&self, lane: Lane, position: LanePosition) -> *const u8 {
        let (offset, len) = self.lanes[lane as usize];
        if len == 0 {
            return std::ptr::null();
        }
        self.base.as_ptr().wrapping_add(offset + position.place(len))
    }

    pub(crate) fn lane_len(&self, lane: Lane) -> usize {
        self.lanes[lane as usize].1
    }

    fn view(&self, offset: usize, len: usize) -> &[Word] {
        // SAFETY: `offset..offset + len` is mapped (see `new`) for as long as `self` lives, and starts on a page, hence
        // aligned. All bit patterns are valid words. Every thread and process changes this memory only by atomic stores
        // of whole words, so no data race exists. Readers, whose pages are read-only, use relaxed loads only (see
        // sync.rs).
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset).cast::<Word>(), len / WORD_BYTES) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is our reservation with all that was placed over it; references into it borrow from `self`.
        // Raw pointers from `lane_ptr` are their holder's business. An error would mean a wrong range: nothing to do
        // about it.
        let _ = unsafe { munmap(self.base.cast(), self.len.get()) };
    }
}

const MFD_NOEXEC_SEAL: u32 = 8;
const SIZE_SEALS: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW);
const RESERVE: MapFlags = MapFlags::MAP_PRIVATE.union(MapFlags::MAP_NORESERVE);
/// Populated, so that the first lap takes no page faults.
const FIXED: MapFlags = MapFlags::MAP_SHARED.union(MapFlags::MAP_FIXED).union(MapFlags::MAP_POPULATE);

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::AsFd;

    use super::{Access, Layout, Mapping, available_bytes, create_memfd, read_layout, seal};
    use crate::limits::LANE_LEN_MAX;
    use crate::words::store_bytes;
    use crate::{Lane, LanePosition, RingConfig, RingError};

    fn layout() -> Layout {
        let config = RingConfig { index_len: 16, lane_len: [4096, 0, 0, 8192], subjects_max: 4, checksums: false };
        Layout::new(&config).unwrap()
    }

    #[test]
    fn a_frame_across_the_end_of_a_lane_is_one_run_of_addresses_for_a_reader() {
        let layout = layout();
        let memfd = create_memfd(&layout).unwrap();
        let writer = Mapping::new(memfd.as_fd(), &layout, Access::ReadWrite).unwrap();
        layout.write(writer.words());
        seal(memfd.as_fd()).unwrap();
        assert_eq!(read_layout(memfd.as_fd()).unwrap(), layout);
        let reader = Mapping::new(memfd.as_fd(), &layout, Access::ReadOnly).unwrap();
        for (lane, len) in [(Lane::Json, 4096_u64), (Lane::Sse, 8192)] {
            store_bytes(writer.lane(lane), LanePosition(3 * len - 5), b"across the end");
            let start = reader.lane_ptr(lane, LanePosition(len - 5));
            // SAFETY: fourteen bytes from there are mapped, and nobody writes to them now.
            let seen = unsafe { std::slice::from_raw_parts(start, 14) };
            assert_eq!(seen, b"across the end");
        }
        assert!(reader.lane_ptr(Lane::Binary, LanePosition(0)).is_null());
        assert!(reader.lane(Lane::Binary).is_empty());
    }

    #[test]
    fn a_sealed_ring_can_be_neither_resized_nor_mapped_writable_again() {
        let layout = layout();
        let memfd = create_memfd(&layout).unwrap();
        let unsealed = read_layout(memfd.as_fd());
        assert!(matches!(unsealed, Err(RingError::Foreign("its size is not sealed"))), "{unsealed:?}");
        let writer = Mapping::new(memfd.as_fd(), &layout, Access::ReadWrite).unwrap();
        seal(memfd.as_fd()).unwrap();
        assert!(nix::unistd::ftruncate(&memfd, 0).is_err());
        assert!(Mapping::new(memfd.as_fd(), &layout, Access::ReadWrite).is_err());
        assert!(matches!(read_layout(memfd.as_fd()), Err(RingError::Foreign("the magic differs"))));
        layout.write(writer.words());
        assert!(read_layout(memfd.as_fd()).is_ok());
        let plain = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(read_layout(plain.as_fd()), Err(RingError::Foreign("it is not a memfd"))));
    }
    #[test]
    fn a_ring_that_the_machine_cannot_hold_is_refused_before_anything_is_allocated() {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
        let available = available_bytes(&meminfo).unwrap();
        assert!(available < 4 * LANE_LEN_MAX as u64, "a machine with 256 GiB to spare would make this ring");
        let lane_len = [LANE_LEN_MAX; 4];
        let layout = Layout::new(&RingConfig { index_len: 16, lane_len, subjects_max: 4, checksums: false }).unwrap();
        assert!(matches!(create_memfd(&layout), Err(RingError::Memory { .. })));
        assert_eq!(available_bytes("MemTotal: 9 kB\nMemAvailable:       12 kB\n"), Some(12_288));
        assert_eq!(available_bytes("MemAvailable: a lot"), None);
    }
}
