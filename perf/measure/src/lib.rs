//! What all measurements share: the clock, CPU time, memory, the machine's description, result files, and the
//! scheduling of children and threads.

pub mod clock;
pub mod cpu_time;
pub mod machine;
pub mod memory;
pub mod report;
pub mod sys;
