#![no_std]
//! Map types shared with the kernel programs (under construction).
