//! The table of functions that packetdrill calls.

#![expect(unsafe_code, reason = "packetdrill is written in C")]

use std::ffi::{CStr, c_char, c_int, c_longlong, c_uint, c_void};
use std::net::SocketAddr;
use std::ptr;
use std::sync::atomic::{AtomicI64, Ordering};

use libc::{sockaddr, socklen_t, ssize_t, timeval};
use nix::errno::Errno;
use nix::sys::socket::{SockaddrIn, SockaddrIn6, SockaddrLike};

use crate::numbers::LEVEL;
use crate::stack::Stack;

/// `struct packetdrill_interface` of packetdrill.h: 33 pointers. Scripts that call what is null here end with a crash.
#[repr(C)]
struct Interface {
    userdata: *mut Stack,
    free: extern "C" fn(*mut Stack),
    socket: extern "C" fn(*mut Stack, c_int, c_int, c_int) -> c_int,
    bind: extern "C" fn(*mut Stack, c_int, *const sockaddr, socklen_t) -> c_int,
    listen: extern "C" fn(*mut Stack, c_int, c_int) -> c_int,
    accept: extern "C" fn(*mut Stack, c_int, *mut sockaddr, *mut socklen_t) -> c_int,
    connect: *const c_void,
    read: extern "C" fn(*mut Stack, c_int, *mut c_void, usize) -> ssize_t,
    /// readv, recv, recvfrom, recvmsg.
    read_otherwise: [*const c_void; 4],
    write: extern "C" fn(*mut Stack, c_int, *const c_void, usize) -> ssize_t,
    /// writev, send, sendto, sendmsg; fcntl, ioctl.
    write_otherwise: [*const c_void; 6],
    close: extern "C" fn(*mut Stack, c_int) -> c_int,
    shutdown: extern "C" fn(*mut Stack, c_int, c_int) -> c_int,
    getsockopt: extern "C" fn(*mut Stack, c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int,
    setsockopt: extern "C" fn(*mut Stack, c_int, c_int, c_int, *const c_void, socklen_t) -> c_int,
    poll: *const c_void,
    netdev_send: extern "C" fn(*mut Stack, *const c_void, usize) -> c_int,
    netdev_receive: extern "C" fn(*mut Stack, *mut c_void, *mut usize, *mut c_longlong) -> c_int,
    usleep: extern "C" fn(*mut Stack, c_uint) -> c_int,
    gettimeofday: extern "C" fn(*mut Stack, *mut timeval, *mut c_void) -> c_int,
    /// epoll_create, epoll_ctl, epoll_wait, pipe, splice.
    others: [*const c_void; 5],
}

const _: () = assert!(size_of::<Interface>() == 33 * size_of::<usize>());

/// The function that packetdrill looks up.
///
/// # Safety
/// `flags` is null or a C string, and there is room for 33 pointers at `out`.
#[unsafe(no_mangle)]
unsafe extern "C" fn packetdrill_interface_init(flags: *const c_char, out: *mut Interface) {
    // SAFETY: the caller's promise.
    let flags = if flags.is_null() { c"" } else { unsafe { CStr::from_ptr(flags) } };
    let stack = Box::new(Stack::new(&flags.to_string_lossy()));
    let interface = Interface {
        userdata: Box::into_raw(stack),
        free,
        socket,
        bind,
        listen,
        accept,
        connect: ptr::null(),
        read,
        read_otherwise: [ptr::null(); 4],
        write,
        write_otherwise: [ptr::null(); 6],
        close,
        shutdown,
        getsockopt,
        setsockopt,
        poll: ptr::null(),
        netdev_send,
        netdev_receive,
        usleep,
        gettimeofday,
        others: [ptr::null(); 5],
    };
    // SAFETY: the caller's promise.
    unsafe { out.write(interface) };
}

/// `times` of libc, for a packetdrill that has this object preloaded: it waits for ten ticks of 10 ms before each
/// script, looking all the time, and a tick comes with every call here.
#[unsafe(no_mangle)]
extern "C" fn times(_buffer: *mut c_void) -> libc::clock_t {
    static TICKS: AtomicI64 = AtomicI64::new(0);
    TICKS.fetch_add(1, Ordering::Relaxed)
}

/// What a script leaves is told, and ends packetdrill with this status.
const LEFT_OVER_STATUS: i32 = 3;

fn of<'a>(stack: *mut Stack) -> &'a mut Stack {
    // SAFETY: it is what `packetdrill_interface_init` has made, and packetdrill calls from one thread at a time, as
    // long as no line of a script has an end time. The reference ends with the call.
    unsafe { &mut *stack }
}

/// The result of a call, with its error in `errno`.
fn result<T: Into<i64>>(result: Result<T, Errno>) -> i64 {
    result.map_or_else(
        |error| {
            error.set();
            -1
        },
        Into::into,
    )
}

#[expect(clippy::cast_possible_truncation, reason = "descriptors and options are C's int")]
fn int(value: Result<i32, Errno>) -> c_int {
    result(value) as c_int
}

fn count(value: Result<usize, Errno>) -> ssize_t {
    value.map_or_else(|error| int(Err(error)) as ssize_t, usize::cast_signed)
}

extern "C" fn free(stack: *mut Stack) {
    // SAFETY: `packetdrill_interface_init` has made it so, and this is the last call.
    let stack = unsafe { Box::from_raw(stack) };
    if let Some(left_over) = stack.left_over() {
        eprintln!("at the end: {left_over}");
        std::process::exit(LEFT_OVER_STATUS);
    }
}

extern "C" fn socket(stack: *mut Stack, _domain: c_int, _kind: c_int, _protocol: c_int) -> c_int {
    int(of(stack).socket())
}

extern "C" fn bind(_stack: *mut Stack, _socket: c_int, _address: *const sockaddr, _len: socklen_t) -> c_int {
    0
}

extern "C" fn listen(stack: *mut Stack, _socket: c_int, _backlog: c_int) -> c_int {
    of(stack).listen();
    0
}

extern "C" fn accept(stack: *mut Stack, _socket: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
    int(of(stack).accept().map(|(descriptor, client)| {
        match client {
            SocketAddr::V4(client) => give(&SockaddrIn::from(client), address, len),
            SocketAddr::V6(client) => give(&SockaddrIn6::from(client), address, len),
        }
        descriptor
    }))
}

fn give(from: &impl SockaddrLike, address: *mut sockaddr, len: *mut socklen_t) {
    // SAFETY: packetdrill gives room for any address, and says how much.
    unsafe {
        let count = from.len().min(*len);
        ptr::copy_nonoverlapping(from.as_ptr().cast::<u8>(), address.cast::<u8>(), count as usize);
        *len = from.len();
    }
}

extern "C" fn read(stack: *mut Stack, _socket: c_int, _buffer: *mut c_void, len: usize) -> ssize_t {
    count(of(stack).read(len))
}

extern "C" fn write(stack: *mut Stack, _socket: c_int, _buffer: *const c_void, len: usize) -> ssize_t {
    count(of(stack).write(len))
}

extern "C" fn close(stack: *mut Stack, _socket: c_int) -> c_int {
    of(stack).end();
    0
}

extern "C" fn shutdown(stack: *mut Stack, _socket: c_int, _how: c_int) -> c_int {
    of(stack).end();
    0
}

extern "C" fn getsockopt(
    stack: *mut Stack,
    _socket: c_int,
    level: c_int,
    number: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    if level != LEVEL {
        return int(Err(Errno::ENOPROTOOPT));
    }
    int(of(stack).ask(number).and_then(|answer| {
        // SAFETY: packetdrill gives room for `len` bytes.
        unsafe {
            if *len != 4 {
                return Err(Errno::EINVAL);
            }
            value.cast::<u32>().write_unaligned(answer);
        }
        Ok(0)
    }))
}

extern "C" fn setsockopt(
    stack: *mut Stack,
    _socket: c_int,
    level: c_int,
    number: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    if level != LEVEL {
        // What a script says to a kernel's socket means nothing here.
        return 0;
    }
    if len != 4 {
        return int(Err(Errno::EINVAL));
    }
    // SAFETY: `len` bytes lie there.
    let value = unsafe { value.cast::<u32>().read_unaligned() };
    int(of(stack).command(number, value).map(|()| 0))
}

extern "C" fn netdev_send(stack: *mut Stack, packet: *const c_void, len: usize) -> c_int {
    // SAFETY: `len` bytes lie there until this call ends.
    of(stack).arrived(unsafe { std::slice::from_raw_parts(packet.cast(), len) });
    0
}

extern "C" fn netdev_receive(stack: *mut Stack, buffer: *mut c_void, len: *mut usize, at_us: *mut c_longlong) -> c_int {
    let (packet, left_us) = of(stack).next_packet().unwrap_or_default();
    // SAFETY: packetdrill gives room for `len` bytes, and takes back how many there are; none end the script.
    unsafe {
        assert!(packet.len() <= *len, "packetdrill's buffer is longer than any packet");
        ptr::copy_nonoverlapping(packet.as_ptr(), buffer.cast(), packet.len());
        *len = packet.len();
        *at_us = left_us.cast_signed();
    }
    0
}

extern "C" fn usleep(stack: *mut Stack, us: c_uint) -> c_int {
    of(stack).sleep(us);
    0
}

extern "C" fn gettimeofday(stack: *mut Stack, time: *mut timeval, _zone: *mut c_void) -> c_int {
    let now_us = of(stack).clock_us().cast_signed();
    // SAFETY: packetdrill gives room for it.
    unsafe { time.write(timeval { tv_sec: now_us / 1_000_000, tv_usec: now_us % 1_000_000 }) };
    0
}
