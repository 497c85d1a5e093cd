//! Gives memory that is free back to the system.
//!
//! glibc keeps what a burst of work has freed, unless it lies at the end of one of its arenas. After 100 calls the worker
//! had 45 MB of heap, of which 1.3 MB were in use (heaptrack). 11 MB of its own memory stay after [`give_back`], and 7 MB
//! if threads keep no caches of free blocks: each holds up to seven blocks of 64 sizes, and each block a page of 4 kB.
//! Fewer arenas made no difference. mimalloc and jemalloc in glibc's place kept 20 MB, and cost 2 MB idle and 7 MB with
//! calls.

/// Gives whole free pages of all arenas back. Takes some milliseconds, in which allocations of other threads wait. Does
/// nothing where the C library is not glibc. Returns whether something was given back.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back() -> bool {
    #[expect(unsafe_code, reason = "a function of the C library")]
    // SAFETY: it has no pointer, may be called at any time, and locks the arenas itself.
    let given_back = unsafe { libc::malloc_trim(0) };
    given_back == 1
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() -> bool {
    false
}

/// Starts this program again, in the same process, with threads that keep no caches of free blocks: glibc takes that only
/// from its environment, and only at the start. What a call allocates is so little that it costs no CPU that could be
/// measured. Returns where this is so already, where the C library is not glibc, and where it fails.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn without_thread_caches() {
    use std::{
        env::{args_os, current_exe, var},
        os::unix::process::CommandExt,
        process::Command,
    };

    const TUNABLES: &str = "GLIBC_TUNABLES";
    const CACHES: &str = "glibc.malloc.tcache_count";
    let others = var(TUNABLES).unwrap_or_default();
    // Also if an operator has set another number.
    if others.contains(CACHES) {
        return;
    }
    let (Ok(program), mut arguments) = (current_exe(), args_os()) else { return };
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    let tunables = format!("{others}:{CACHES}=0");
    // It only returns if it fails, and then everything works with caches.
    let _ = again.args(arguments).env(TUNABLES, tunables.trim_start_matches(':')).exec();
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn without_thread_caches() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn what_was_freed_is_given_back() {
        let resident = || -> usize {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(1).unwrap().parse().unwrap()
        };
        // Small enough to come from an arena; what stays at its end keeps the rest from being given back by itself.
        let mut blocks: Vec<Vec<u8>> = (0..20_000).map(|_| vec![1; 1_000]).collect();
        let last = blocks.pop();
        drop(blocks);
        let before = resident();
        assert!(give_back());
        let after = resident();
        assert!(after < before * 2 / 3, "{before} pages, and then {after}");
        drop(last);
    }
}
