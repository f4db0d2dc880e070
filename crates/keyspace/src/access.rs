//! How recently or how often a key was used: the 24 bits of access clock in its record.
//!
//! Under an LRU policy (and without one) they are the second of the last access; under an LFU policy 16 bits
//! of minutes, when the key was counted last, above an 8-bit logarithmic counter of accesses (Morris 1978)
//! that decays with time. When the policy changes, the bits are not rewritten: keys grow into the new meaning
//! as they are used, as in Redis.

/// The bits an access clock has.
const CLOCK_BITS: u32 = 0x00ff_ffff;
/// What the counter of a new key begins with, so that it is not the first to go.
const FREQUENCY_NEW: u32 = 5;

/// What access clocks mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AccessPolicy {
    #[default]
    Recency,
    Frequency {
        /// How much harder each further step of the counter is.
        log_factor: u32,
        /// Minutes that take one off the counter; 0: it never decays.
        decay_minutes: u32,
    },
}

/// The time and policy by which accesses are noted.
#[derive(Clone, Debug, Default)]
pub struct AccessClock {
    seconds: u32,
    policy: AccessPolicy,
    /// State of a small generator for the counter's chance.
    chance: u64,
}

impl AccessClock {
    /// Sets the time, in Unix seconds, and what clocks mean from here on.
    pub fn set(&mut self, seconds: u32, policy: AccessPolicy) {
        self.seconds = seconds;
        self.policy = policy;
    }

    pub fn policy(&self) -> AccessPolicy {
        self.policy
    }

    fn minutes(&self) -> u32 {
        (self.seconds / 60) & 0xffff
    }

    /// The clock of a new key.
    #[inline]
    pub fn fresh(&self) -> u32 {
        match self.policy {
            AccessPolicy::Recency => self.seconds & CLOCK_BITS,
            AccessPolicy::Frequency { .. } => self.of_frequency(FREQUENCY_NEW as u8),
        }
    }

    /// The clock of a key that is used now and had `clock`.
    #[inline]
    pub fn touched(&mut self, clock: u32) -> u32 {
        match self.policy {
            AccessPolicy::Recency => self.seconds & CLOCK_BITS,
            AccessPolicy::Frequency { log_factor, .. } => {
                let counter = u32::from(self.frequency(clock));
                let above = u64::from(counter.saturating_sub(FREQUENCY_NEW));
                let counts = counter < 255 && self.one_in(above * u64::from(log_factor) + 1);
                self.of_frequency((counter + u32::from(counts)) as u8)
            }
        }
    }

    /// The clock of a key that was not used for so many seconds.
    pub fn of_idle(&self, seconds: u64) -> u32 {
        (u64::from(self.seconds).wrapping_sub(seconds) as u32) & CLOCK_BITS
    }

    /// The clock of a key that is used so often.
    pub fn of_frequency(&self, frequency: u8) -> u32 {
        self.minutes() << 8 | u32::from(frequency)
    }

    /// Seconds since a key with this clock was used.
    #[inline]
    pub fn idle_seconds(&self, clock: u32) -> u32 {
        self.seconds.wrapping_sub(clock) & CLOCK_BITS
    }

    /// The counter of a key with this clock, decayed to the present.
    #[inline]
    pub fn frequency(&self, clock: u32) -> u8 {
        let AccessPolicy::Frequency { decay_minutes, .. } = self.policy else {
            return clock as u8;
        };
        let passed = self.minutes().wrapping_sub(clock >> 8) & 0xffff;
        let decay = passed.checked_div(decay_minutes).unwrap_or(0);
        (clock & 0xff).saturating_sub(decay) as u8
    }

    /// True with a chance of one in `n` (splitmix64).
    fn one_in(&mut self, n: u64) -> bool {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The high half of the product is uniform below n.
        (u128::from(z) * u128::from(n)) >> 64 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lfu(decay_minutes: u32) -> AccessClock {
        let mut clock = AccessClock::default();
        let policy = AccessPolicy::Frequency {
            log_factor: 10,
            decay_minutes,
        };
        clock.set(1_000_000, policy);
        clock
    }

    #[test]
    fn recency_is_seconds_that_wrap() {
        let mut clock = AccessClock::default();
        clock.set(CLOCK_BITS + 3, AccessPolicy::Recency);
        assert_eq!(clock.fresh(), 2);
        assert_eq!(clock.idle_seconds(CLOCK_BITS), 3);
        assert_eq!(clock.idle_seconds(clock.of_idle(77)), 77);
    }

    #[test]
    fn frequency_grows_with_the_logarithm_of_accesses() {
        // The table in Redis's documentation of lfu-log-factor 10: about 10, 18, 142 and 255.
        for (hits, low, high) in [
            (100, 8, 13),
            (1_000, 14, 24),
            (100_000, 125, 160),
            (1_000_000, 250, 255),
        ] {
            let mut clock = lfu(1);
            let mut bits = clock.fresh();
            (0..hits).for_each(|_| bits = clock.touched(bits));
            let frequency = clock.frequency(bits);
            assert!(
                (low..=high).contains(&frequency),
                "{hits} hits: {frequency}"
            );
        }
    }

    #[test]
    fn frequency_decays_with_minutes() {
        let mut clock = lfu(2);
        let bits = clock.of_frequency(20);
        clock.set(1_000_000 + 60 * 7, clock.policy());
        assert_eq!(clock.frequency(bits), 17);
        clock.set(1_000_000 + 60 * 60, clock.policy());
        assert_eq!(clock.frequency(bits), 0);
        let never = lfu(0);
        assert_eq!(never.frequency(bits), 20);
    }
}
