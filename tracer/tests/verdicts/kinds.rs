//! The kinds of simulated programs: healthy ones that look like leaks, and leaks that hide.

use super::programs::{Load, Program, Resource, Truth};
use crate::random::Random;

const FOREVER: f64 = 1e9;
const END_S: f64 = 500.0;

type Make = fn(u64) -> Program;

/// Every kind, by name.
pub(super) const KINDS: [(&str, Make); 31] = [
    ("steady, load noise", steady),
    ("fills, then full", fills),
    ("fills slowly", fills_slowly),
    ("fills for minutes", fills_for_minutes),
    ("LRU cache", lru),
    ("LRU cache from before", lru_from_before),
    ("random replacement", random_replacement),
    ("pool of the highest demand", pool),
    ("pool that stalls fill", stalls),
    ("sawtooth", sawtooth),
    ("ring", ring),
    ("table filled lazily", warm_up),
    ("deferred frees", deferred),
    ("cache with a time to live", time_to_live),
    ("long sessions", long_sessions),
    ("long sessions, traced", traced_sessions),
    ("load ramp", ramp),
    ("connections ramp", connections_ramp),
    ("start-up", start_up),
    ("leak of 1 in 100,000", rare),
    ("error path of 1 %", error_path),
    ("left by each connection", per_connection),
    ("every one is leaked", all_leaked),
    ("begins after ten minutes", late),
    ("one thread of eight", one_of_eight),
    ("leak among sessions", among_sessions),
    ("leak among retries", among_retries),
    ("retries", retries),
    ("leak under load noise", under_noise),
    ("leak in bursts", bursts),
    ("backlog", backlog),
];

/// Arrivals at random with this rate, which `load` modulates between 0 and 1.
fn arrivals(
    random: &mut Random,
    from_s: f64,
    until_s: f64,
    per_s: f64,
    load: impl Fn(f64) -> f64,
) -> Vec<f64> {
    let mut all = Vec::new();
    let mut at_s = from_s;
    loop {
        at_s += random.exponential(1.0 / per_s);
        if at_s >= until_s {
            return all;
        }
        if random.chance(load(at_s)) {
            all.push(at_s);
        }
    }
}

fn constant(_: f64) -> f64 {
    1.0
}

/// A load that wanders between a third and all.
fn noise(random: &mut Random) -> impl Fn(f64) -> f64 + use<> {
    let waves: Vec<[f64; 2]> =
        (0..4).map(|_| [random.between(7.0, 60.0), random.between(0.0, 6.0)]).collect();
    move |at_s| {
        let sum: f64 = waves
            .iter()
            .map(|[period, phase]| (at_s / period * std::f64::consts::TAU + phase).sin())
            .sum();
        0.66 + 0.08 * sum
    }
}

fn resource(at_s: f64, lives_s: f64) -> Resource {
    Resource { at_s, lives_s, size: 100 }
}

fn each(times: Vec<f64>, mut lives: impl FnMut(usize, f64) -> f64) -> Vec<Resource> {
    times.into_iter().enumerate().map(|(at, at_s)| resource(at_s, lives(at, at_s))).collect()
}

fn logarithmic(random: &mut Random, low: f64, high: f64) -> f64 {
    (random.between(low.ln(), high.ln())).exp()
}

fn steady(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let load = noise(&mut random);
    let mean = logarithmic(&mut random, 0.1, 6.0);
    let times = arrivals(&mut random, 0.0, END_S, 40.0, load);
    // Requests come and go with the load: a rise is one.
    let program = Program::healthy(each(times, |_, _| random.exponential(mean)), 0.0);
    Program { truth: Box::new(|_| Truth::Grows), ..program }
}

/// What a cache retains until it is full; afterwards its entries are looked up only.
fn fill(seed: u64, low_s: f64, high_s: f64) -> Program {
    let mut random = Random::new(seed);
    let full_s = logarithmic(&mut random, low_s, high_s);
    let times = arrivals(&mut random, 0.0, full_s, 20.0, constant);
    let misses = arrivals(&mut random, full_s, END_S, 5.0, constant);
    let mut all = each(times, |_, _| FOREVER);
    all.extend(each(misses, |_, _| 0.01));
    Program::healthy(all, full_s)
}

fn fills(seed: u64) -> Program {
    fill(seed, 2.0, 20.0)
}

fn fills_slowly(seed: u64) -> Program {
    fill(seed, 15.0, 45.0)
}

fn fills_for_minutes(seed: u64) -> Program {
    fill(seed, 45.0, 150.0)
}

fn lru(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let full_s = logarithmic(&mut random, 4.0, 40.0);
    let times = arrivals(&mut random, 0.0, END_S, 20.0, constant);
    let capacity = times.partition_point(|at_s| *at_s < full_s).max(1);
    let ends: Vec<f64> = times.clone();
    let all = each(times, |at, at_s| ends.get(at + capacity).map_or(FOREVER, |end| end - at_s));
    Program::healthy(all, full_s)
}

/// Entries from before the attach are replaced first.
fn lru_from_before(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let full_s = logarithmic(&mut random, 10.0, 150.0);
    let program = lru_of(&mut random, full_s);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    program.with_load(move |now_s| Load {
        unknown_blocks: (now_s.min(full_s) * 20.0) as u64,
        ..Load::default()
    })
}

fn lru_of(random: &mut Random, full_s: f64) -> Program {
    let times = arrivals(random, 0.0, END_S, 20.0, constant);
    let capacity = times.partition_point(|at_s| *at_s < full_s).max(1);
    let ends: Vec<f64> = times.clone();
    let all = each(times, |at, at_s| ends.get(at + capacity).map_or(FOREVER, |end| end - at_s));
    Program::healthy(all, full_s)
}

fn random_replacement(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let mean = logarithmic(&mut random, 3.0, 40.0);
    let times = arrivals(&mut random, 0.0, END_S, 20.0, constant);
    Program::healthy(each(times, |_, _| random.exponential(mean)), 4.0 * mean)
}

/// Blocks are kept for reuse: a new one is acquired only when the demand is higher than ever.
fn pool(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let load = noise(&mut random);
    let (mut highest, mut all) = (0.0_f64, Vec::new());
    let mut demand = 0.0;
    let mut last_s = 0.0;
    for step in 0..2000 {
        let at_s = f64::from(step) * 0.25;
        demand = 0.9 * demand + 0.1 * (60.0 * load(at_s) + 6.0 * random.normal());
        while highest < demand {
            highest += 1.0;
            last_s = at_s;
            all.push(resource(at_s, FOREVER));
        }
    }
    Program::healthy(all, last_s)
}

/// The same where the highest demand comes with stalls, each of another length, during which requests pile up.
fn stalls(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let mean = logarithmic(&mut random, 5.0, 40.0);
    let (mut highest, mut all, mut last_s) = (0.0_f64, Vec::new(), 0.0);
    for at_s in arrivals(&mut random, 0.0, END_S, 0.05, constant) {
        let demand = random.exponential(mean);
        while highest < demand {
            highest += 1.0;
            last_s = at_s;
            all.push(resource(at_s, FOREVER));
        }
    }
    Program::healthy(all, last_s)
}

fn sawtooth(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let period = logarithmic(&mut random, 2.0, 25.0);
    let times = arrivals(&mut random, 0.0, END_S, 20.0, constant);
    let all = each(times, |_, at_s| period - at_s % period);
    let program = Program::healthy(all, period);
    Program { truth: Box::new(|_| Truth::Grows), ..program }
}

fn ring(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let full_s = logarithmic(&mut random, 0.5, 8.0);
    lru_of(&mut random, full_s)
}

fn warm_up(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let mean = logarithmic(&mut random, 3.0, 25.0);
    let times = arrivals(&mut random, 0.0, END_S, 40.0, move |at_s| (-at_s / mean).exp());
    Program::healthy(each(times, |_, _| FOREVER), 5.0 * mean)
}

fn deferred(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let (period, grace) = (random.between(1.0, 12.0), random.between(0.1, 3.0));
    let times = arrivals(&mut random, 0.0, END_S, 20.0, constant);
    let all = each(times, |_, at_s| ((at_s + grace) / period).ceil() * period - at_s);
    let program = Program::healthy(all, period + grace);
    Program { truth: Box::new(|_| Truth::Grows), ..program }
}

fn time_to_live(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let lives_s = logarithmic(&mut random, 5.0, 35.0);
    let times = arrivals(&mut random, 0.0, END_S, 20.0, constant);
    Program::healthy(each(times, |_, _| lives_s), lives_s)
}

fn long_sessions(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let mean = logarithmic(&mut random, 20.0, 400.0);
    let times = arrivals(&mut random, 0.0, END_S, 10.0, constant);
    Program::healthy(each(times, |_, _| random.exponential(mean)), 4.0 * mean)
}

/// Long sessions, each a connection.
fn traced_sessions(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let lives_s = logarithmic(&mut random, 60.0, 400.0);
    let times = arrivals(&mut random, 0.0, END_S, 10.0, constant);
    let all = each(times, |_, _| lives_s * random.between(0.8, 1.2));
    connected(Program::healthy(all.clone(), 2.0 * lives_s), all, 0.0)
}

/// Each resource belongs to a connection that lives as long, at most ten seconds if it is left behind.
fn connected(program: Program, all: Vec<Resource>, leaving: f64) -> Program {
    program.with_load(move |now_s| {
        let ended = |one: &&Resource| {
            one.at_s + one.lives_s.min(if leaving > 0.0 { 2.0 } else { FOREVER }) <= now_s
        };
        let opened = all.partition_point(|one| one.at_s <= now_s);
        let closed = all[..opened].iter().filter(ended).count();
        Load {
            traced: true,
            open: 5 + (opened - closed) as u64,
            closed: closed as u64,
            leaving,
            unknown_blocks: 0,
        }
    })
}

fn ramp(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let (over_s, mean) = (random.between(60.0, 400.0), logarithmic(&mut random, 0.5, 8.0));
    let times =
        arrivals(&mut random, 0.0, END_S, 60.0, move |at_s| 0.1 + 0.9 * (at_s / over_s).min(1.0));
    Program::healthy(each(times, |_, _| random.exponential(mean)), over_s + 4.0 * mean)
}

/// Ever more connections, which stay for long and hold a block each.
fn connections_ramp(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let over_s = random.between(60.0, 300.0);
    let times = arrivals(&mut random, 0.0, over_s, 5.0, constant);
    let all = each(times, |_, _| FOREVER);
    connected(Program::healthy(all.clone(), over_s), all, 0.0)
}

/// A configuration is read at the beginning and stays; afterwards everything is short-lived.
fn start_up(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let mut times = arrivals(&mut random, 0.0, 2.0, 500.0, constant);
    let early = times.len();
    times.extend(arrivals(&mut random, 2.0, END_S, 20.0, constant));
    Program::healthy(
        each(times, |at, _| if at < early { FOREVER } else { random.exponential(0.3) }),
        2.0,
    )
}

fn rare(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let leaked = arrivals(&mut random, 0.0, END_S, 1.0, constant);
    let others = arrivals(&mut random, 0.0, END_S, 20.0, constant);
    let mut all = each(leaked, |_, _| FOREVER);
    all.extend(each(others, |_, _| random.exponential(0.4)));
    Program::leaking(all, 0.0).with_young(100_000)
}

fn error_path(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let mean = logarithmic(&mut random, 0.01, 2.0);
    let times = arrivals(&mut random, 0.0, END_S, 60.0, constant);
    let all =
        each(times, |_, _| if random.chance(0.01) { FOREVER } else { random.exponential(mean) });
    Program::leaking(all, 0.0)
}

fn per_connection(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let times = arrivals(&mut random, 0.0, END_S, 10.0, constant);
    let all = each(times, |_, _| FOREVER);
    connected(Program::leaking(all.clone(), 0.0), all, 1.0)
}

/// Nearly all are released at once; what has to be tried again lives far longer, and here and there for minutes.
fn tried_again(random: &mut Random) -> f64 {
    match random.between(0.0, 1.0) {
        ..0.99 => random.exponential(0.1),
        ..0.998 => random.exponential(5.0),
        _ => random.exponential(60.0),
    }
}

fn among_retries(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let per_s = logarithmic(&mut random, 100.0, 600.0);
    let times = arrivals(&mut random, 0.0, END_S, per_s, constant);
    let all =
        each(times, |_, _| if random.chance(0.01) { FOREVER } else { tried_again(&mut random) });
    Program::leaking(all, 0.0)
}

fn retries(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let per_s = logarithmic(&mut random, 100.0, 600.0);
    let times = arrivals(&mut random, 0.0, END_S, per_s, constant);
    Program::healthy(each(times, |_, _| tried_again(&mut random)), 200.0)
}

fn all_leaked(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let per_s = logarithmic(&mut random, 0.5, 30.0);
    let times = arrivals(&mut random, 0.0, END_S, per_s, constant);
    Program::leaking(each(times, |_, _| FOREVER), 0.0)
}

fn late(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let times = arrivals(&mut random, 0.0, 600.0 + END_S, 10.0, constant);
    let all = each(times, |_, at_s| {
        if at_s > 600.0 && random.chance(0.3) { FOREVER } else { random.exponential(0.8) }
    });
    Program { begins_s: 600.0, ..Program::leaking(all, 600.0) }
}

fn one_of_eight(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let times = arrivals(&mut random, 0.0, END_S, 40.0, constant);
    let all =
        each(times, |_, _| if random.chance(0.125) { FOREVER } else { random.exponential(1.0) });
    Program::leaking(all, 0.0)
}

fn among_sessions(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let mean = logarithmic(&mut random, 1.0, 3.0);
    let times = arrivals(&mut random, 0.0, END_S, 20.0, constant);
    let all =
        each(times, |_, _| if random.chance(0.2) { FOREVER } else { random.exponential(mean) });
    Program::leaking(all, 0.0)
}

fn under_noise(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let load = noise(&mut random);
    let times = arrivals(&mut random, 0.0, END_S, 40.0, load);
    let all =
        each(times, |_, _| if random.chance(0.05) { FOREVER } else { random.exponential(1.5) });
    Program::leaking(all, 0.0)
}

/// Every few seconds several at once.
fn bursts(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let every_s = random.between(3.0, 9.0);
    let mut times = arrivals(&mut random, 0.0, END_S, 20.0, constant);
    times.extend(
        (1_u32..)
            .map(|at| f64::from(at) * every_s)
            .take_while(|at_s| *at_s < END_S)
            .flat_map(|at_s| [at_s; 4]),
    );
    times.sort_by(f64::total_cmp);
    let all = each(times, |_, at_s| {
        if ((at_s / every_s).round() * every_s - at_s).abs() < 1e-9 {
            FOREVER
        } else {
            random.exponential(0.5)
        }
    });
    Program::leaking(all, 0.0)
}

/// More comes in than goes out, in order.
fn backlog(seed: u64) -> Program {
    let mut random = Random::new(seed);
    let times = arrivals(&mut random, 0.0, END_S, 20.0, constant);
    let each_s = 1.0 / random.between(10.0, 16.0);
    let mut free_s = 0.0_f64;
    let all = each(times, |_, at_s| {
        free_s = free_s.max(at_s) + each_s;
        free_s - at_s
    });
    Program::leaking(all, 0.0)
}
