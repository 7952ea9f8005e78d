//! The monitor: a worker that looks after leased contexts, and finds workers that hang.

use super::{Look, MONITOR, Pool, PoolState, Wakeup};
use crate::engine::Served;
use crate::policy::tuning::tuning;
use crate::sync::Relaxed;
use crate::sys::{futex_wait, monotonic_ns};
use crate::syscall::Class;

impl<Q: Served> Pool<Q> {
    /// Looks after the run queue and the leases until they are empty or a worker has to come.
    pub(super) fn monitor(&'static self, slot: u16) {
        // The time between two looks. If nothing is stuck, there are two looks within the time after which something would be. If all
        // waiting contexts have as many workers as they may, it is at most the time after which a worker hangs.
        let once = 1 << tuning().tick_shift;
        let seldom = once * u64::from(tuning().still) / 2;
        let doze = once * u64::from(tuning().hung);
        let mut tick = once;
        loop {
            let word = &self.slots[usize::from(slot)].command;
            futex_wait(word, MONITOR, monotonic_ns() + tick);
            self.tick_leased();
            let mut state = self.state.lock();
            state.dozing = None;
            let stuck = self.look_at_workers(&mut state);
            let longer = tick * 2;
            tick = if stuck || !state.leased.is_empty() {
                once
            } else {
                longer.min(seldom)
            };
            let Some(first) = state.finite.first_context(Class::Finite) else {
                if !state.leased.is_empty() {
                    continue;
                }
                if state.finite.contexts.is_empty() {
                    state.monitor = false;
                    return;
                }
                if !stuck {
                    tick = longer.min(doze);
                    state.dozing = Some(slot);
                }
                continue;
            };
            if state.counted >= self.processors_for(Some(first)) {
                continue;
            }
            if !state.leased.is_empty() {
                let wakeup = self.wakeup(&mut state, Class::Finite);
                drop(state);
                self.perform(wakeup, &|| {});
                continue;
            }
            // From here on it works. If the run queue is still not empty, another worker becomes the monitor.
            state.monitor = false;
            self.count(&mut state, slot, true);
            let wakeup = if state.finite.contexts.len() > 1 {
                self.wakeup(&mut state, Class::Finite)
            } else {
                Wakeup::None
            };
            drop(state);
            return self.perform(wakeup, &|| {});
        }
    }

    /// Looks after each leased context, and ends the leases that are not needed any more.
    fn tick_leased(&'static self) {
        let leased = self.state.lock().leased.len();
        for _ in 0..leased {
            let Some(context) = self.state.lock().leased.pop_front() else {
                return;
            };
            if context.tick(Look::Again) {
                self.state.lock().leased.push_back(context);
            }
        }
    }

    /// If a worker is still at the same request as at the last look, it does not count any more. Also notes which workers hang.
    pub(super) fn look_at_workers(&self, state: &mut PoolState<Q>) -> bool {
        let now = (monotonic_ns() >> tuning().tick_shift) as u32;
        let mut any = false;
        let used = usize::from(state.finite.fresh.start);
        for (slot, worker) in self.slots[..used].iter().enumerate() {
            let begun = worker.begun.load(Relaxed);
            let moved = worker.seen.swap(begun, Relaxed) != begun;
            if !moved && worker.counted.load(Relaxed) {
                self.count(state, slot as u16, false);
                any = true;
            }
            if moved {
                worker.since.store(now, Relaxed);
            }
            let stays = now.wrapping_sub(worker.since.load(Relaxed));
            let hangs = worker.is_busy.load(Relaxed) && stays >= tuning().hung;
            let hung = worker.is_hung.swap(hangs, Relaxed);
            state.finite.hung = state.finite.hung + u32::from(hangs) - u32::from(hung);
        }
        any
    }
}
