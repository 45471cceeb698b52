//! Every test under keys that nobody used, and the invalid count of repeats beside them.

use watermark_core::battery::Battery;
use watermark_core::profile::{Mark, Profile, ProfileError};
use watermark_core::stats::LnP;
use watermark_core::stats::decoy::ks_attained;
use watermark_core::window::Exhibit;

use super::points::{Read, Shared, asked};
use super::{Calibration, REPEATS, Suspect, epoch, master, slot};
use crate::model::worker;

/// The key in use, and keys that nobody used.
pub(super) struct Keys {
    marks: Vec<Mark>,
}

impl Keys {
    pub(super) fn of(profile: &Profile, seed: u64, decoys: usize) -> Result<Self, ProfileError> {
        let (master, epoch) = (master(seed), epoch());
        let keys = master.decoys(&epoch).take(decoys);
        let marks = std::iter::once(slot(seed))
            .chain(keys)
            .map(|key| profile.bind(&key));
        Ok(Self {
            marks: marks.collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn in_use(&self) -> &Mark {
        &self.marks[0]
    }
}

impl Shared<'_> {
    /// Every test that text alone allows, on the teacher's answers.
    pub(super) fn calibrate_text(
        &self,
        keys: &Keys,
        suspect: Suspect,
        answers: &[Vec<u32>],
    ) -> Vec<Calibration> {
        let parts = answers.iter().map(Vec::as_slice).enumerate();
        let width = keys.in_use().scheme().context_width();
        let exhibit = asked(self.cast.prompts, width, parts);
        self.run(keys, suspect, &exhibit, false, Vec::new())
    }

    /// Every test; `keeps` the p-values themselves.
    pub(super) fn calibrate(
        &self,
        keys: &Keys,
        suspect: Suspect,
        read: &Read,
        keeps: bool,
    ) -> Vec<Calibration> {
        let mark = keys.in_use();
        let parts = read.answers.iter().map(Vec::as_slice).enumerate();
        let exhibit = self.exhibit(mark.scheme().context_width(), parts);
        let mut batteries = vec![
            Battery::argmax(mark, &read.neutral),
            Battery::soft(mark, &read.neutral),
        ];
        batteries.extend(Battery::reference(mark, &exhibit, &read.expected));
        let reference = &self.reference_reads[..];
        batteries.extend(Battery::contrast(mark, &read.neutral, &[reference]));
        self.run(keys, suspect, &exhibit, keeps, batteries)
    }

    fn run(
        &self,
        keys: &Keys,
        suspect: Suspect,
        exhibit: &Exhibit,
        keeps: bool,
        others: Vec<Battery<'static>>,
    ) -> Vec<Calibration> {
        let mark = keys.in_use();
        let null = mark.scheme().null();
        let mut batteries = vec![
            Battery::closed(mark, exhibit),
            Battery::corpus(mark, exhibit, self.others),
        ];
        batteries.extend(others);
        let calibration = |test: &str, z: &[f64], p: &[LnP]| {
            let (z_in_use, z) = (z[0], &z[1..]);
            let p = &p[1..];
            let n = z.len() as f64;
            let mean = z.iter().sum::<f64>() / n;
            let squares: f64 = z.iter().map(|z| (z - mean).powi(2)).sum();
            let mut uniforms: Vec<f64> = p.iter().map(|p| p.ln().exp()).collect();
            let alarms = [1e-2f64, 1e-3, 1e-5];
            let mut logs: Vec<f32> = p.iter().map(|p| p.log10() as f32).collect();
            logs.sort_unstable_by(f32::total_cmp);
            Calibration {
                profile: mark.profile().id.clone(),
                seed: self.seed,
                suspect,
                test: test.to_owned(),
                of: z.len(),
                ks_p_log10: ks_attained(&mut uniforms).p.log10(),
                z: [mean, (squares / (n - 1.0).max(1.0)).sqrt()],
                alarms: alarms.map(|alpha| p.iter().filter(|p| p.ln() <= alpha.ln()).count()),
                rank: 1 + z.iter().filter(|&&other| other >= z_in_use).count(),
                p_log10: if keeps { logs } else { Vec::new() },
            }
        };
        let mut found = Vec::new();
        for battery in &batteries {
            let tables = battery.tables();
            let marks: Vec<&Mark> = keys.marks.iter().collect();
            let glances = worker::map(self.cast.threads, marks, |mark| tables.glance(mark));
            for (place, id) in battery.ids().enumerate() {
                let column = glances.iter().map(|row| row[place]);
                let (z, p): (Vec<f64>, Vec<LnP>) =
                    column.map(|glance| (glance.z, glance.p)).unzip();
                found.push(calibration(id.name(), &z, &p));
            }
        }
        // The same law as if every token were a new coin.
        let times = exhibit.times();
        let positions = times.iter().map(|&n| u64::from(n)).sum();
        let marks: Vec<&Mark> = keys.marks.iter().collect();
        let counted = worker::map(self.cast.threads, marks, |mark| {
            let scores = exhibit.cells().scores(mark);
            let pairs = scores.values().iter().zip(&times);
            let sum = pairs.map(|(&score, &n)| u64::from(n) * score).sum();
            (null.z(positions, sum), null.upper_tail(positions, sum))
        });
        let (z, p): (Vec<f64>, Vec<LnP>) = counted.into_iter().unzip();
        found.push(calibration(REPEATS, &z, &p));
        found
    }
}
