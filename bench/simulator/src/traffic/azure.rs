//! Loaders of the two public traces of Azure Functions (github.com/Azure/AzurePublicDataset): 2019 has calls a minute and
//! percentiles of durations for each function, 2021 each call with its end and its duration.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context, bail};

use super::{Call, Traffic};

/// The percentiles of a duration file, in percent.
const PERCENTILES: [f64; 7] = [0.0, 1.0, 25.0, 50.0, 75.0, 99.0, 100.0];

/// Reads the trace of 2019: `invocations_per_function_md.anon.dNN.csv` and `function_durations_percentiles.anon.dNN.csv`.
/// Calls of a minute come at random in it, and take as long as the percentiles say; a function without durations is left
/// out.
///
/// # Errors
/// A file can't be read, or is something else; the message has file and line.
pub fn load_2019(invocations: &Path, durations: &Path, minutes: usize, scale: f64) -> anyhow::Result<Traffic> {
    let durations = read(durations, |_, fields| percentiles(fields))?.into_iter().collect::<HashMap<_, _>>();
    let rows = read(invocations, |header, fields| counts(header, fields, minutes))?;
    let mut random = fastrand::Rng::with_seed(7);
    let (mut calls, mut functions) = (Vec::new(), 0);
    for (name, counts) in rows {
        let Some(percentiles) = durations.get(&name) else { continue };
        for (minute, count) in counts.into_iter().enumerate() {
            for _ in 0..count {
                let at = (minute as f64 + random.f64()) * 60.0;
                let seconds = (draw(percentiles, random.f64() * 100.0) / 1e3 * scale).max(1e-4) as f32;
                calls.push(Call { at, function: functions, seconds });
            }
        }
        functions += 1;
    }
    Ok(Traffic::new(calls, functions as usize))
}

/// Reads the trace of 2021: `app,func,end_timestamp,duration`, both in seconds. It begins with its first call.
///
/// # Errors
/// The file can't be read, or is something else; the message has file and line.
pub fn load_2021(file: &Path, minutes: usize, scale: f64) -> anyhow::Result<Traffic> {
    let rows = read(file, |_, fields| {
        let [app, function, end, duration] = fields else { bail!("it has {} fields and not 4", fields.len()) };
        let (end, duration): (f64, f64) = (end.parse()?, duration.parse()?);
        Ok((format!("{app}/{function}"), (end - duration, duration)))
    })?;
    let begin = rows.iter().map(|(_, (at, _))| *at).fold(f64::INFINITY, f64::min);
    let mut names = HashMap::new();
    let mut calls = Vec::new();
    for (name, (at, duration)) in rows {
        let next = names.len() as u32;
        let function = *names.entry(name).or_insert(next);
        calls.push(Call { at: at - begin, function, seconds: (duration * scale).max(1e-4) as f32 });
    }
    calls.retain(|call| call.at < minutes as f64 * 60.0);
    Ok(Traffic::new(calls, names.len()))
}

/// Every line after the first one by `row`, which is given the names of the columns.
fn read<T>(
    file: &Path,
    row: impl Fn(&[&str], &[&str]) -> anyhow::Result<(String, T)>,
) -> anyhow::Result<Vec<(String, T)>> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let mut lines = text.lines().enumerate();
    let header: Vec<_> = lines.next().map(|(_, line)| line.split(',').collect()).unwrap_or_default();
    let row = |(number, line): (usize, &str)| {
        let fields: Vec<_> = line.trim_end().split(',').collect();
        row(&header, &fields).with_context(|| format!("{}, line {}", file.display(), number + 1))
    };
    lines.filter(|(_, line)| !line.trim().is_empty()).map(row).collect()
}

/// Calls in each of the first minutes.
fn counts(header: &[&str], fields: &[&str], minutes: usize) -> anyhow::Result<(String, Vec<u32>)> {
    if header.len() != fields.len() || fields.len() < 5 {
        bail!("it has {} fields and the first line {}", fields.len(), header.len());
    }
    let counts = fields.iter().skip(4).take(minutes).map(|count| count.parse().map_err(anyhow::Error::from));
    Ok((fields[..3].join("/"), counts.collect::<anyhow::Result<_>>()?))
}

/// Milliseconds at each of [`PERCENTILES`].
fn percentiles(fields: &[&str]) -> anyhow::Result<(String, Vec<f64>)> {
    if fields.len() != 14 {
        bail!("it has {} fields and not 14", fields.len());
    }
    let values = fields[7..].iter().map(|value| value.parse().map_err(anyhow::Error::from));
    Ok((fields[..3].join("/"), values.collect::<anyhow::Result<_>>()?))
}

/// The value at a percentile, between those that are known.
fn draw(values: &[f64], percentile: f64) -> f64 {
    let upper = PERCENTILES.iter().position(|known| percentile <= *known).unwrap_or(PERCENTILES.len() - 1).max(1);
    let (from, to) = (PERCENTILES[upper - 1], PERCENTILES[upper]);
    values[upper - 1] + (values[upper] - values[upper - 1]) * (percentile - from) / (to - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)
    }

    #[test]
    fn the_trace_of_2019_is_read() {
        let traffic = load_2019(&sample("2019-invocations.csv"), &sample("2019-durations.csv"), 3, 1.0).unwrap();
        assert_eq!((traffic.functions, traffic.calls.len()), (2, 8));
        assert!(traffic.calls.is_sorted_by(|one, other| one.at <= other.at));
        let first: Vec<_> = traffic.calls.iter().filter(|call| call.function == 0).collect();
        assert!(first.iter().all(|call| (0.010..=0.5).contains(&call.seconds) && call.at < 120.0));
    }

    #[test]
    fn the_trace_of_2021_is_read() {
        let traffic = load_2021(&sample("2021.csv"), 1, 1.0).unwrap();
        let calls: Vec<_> = traffic.calls.iter().map(|call| (call.at.round(), call.function)).collect();
        assert_eq!(calls, [(0.0, 0), (5.0, 1), (10.0, 0)]);
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = load_2021(&sample("2019-durations.csv"), 1, 1.0).unwrap_err();
        assert!(format!("{error:#}").contains("2019-durations.csv, line 2: it has 14 fields"), "{error:#}");
    }
}
