//! Whose copy leaked: the cells of one text under every account of a leak slot.
//!
//! The account's number is part of a block's number, sixteen accounts to a block of words (SPEC.md section
//! 5), so that a row serves all of them and a block answers for sixteen. Accounts that did not write the text
//! have independent scores with the null law, each with its exact tail: unused accounts are decoys at the
//! same price. All accounts share the scheme key, so a decoy of this kind says nothing about whether
//! *the key* was chosen after looking; sealed decoys are keys of their own slots
//! ([`MasterKey::decoys`](crate::key::MasterKey::decoys)).

use std::num::NonZeroUsize;

use crate::cells::Cells;
use crate::detect::Score;
use crate::kernel::Tiles;
use crate::key::SlotKey;
use crate::parallel::in_parallel;
use crate::profile::{Profile, ProfileError};
use crate::scheme::Null;
use crate::stats::LnP;

/// Tiles of 16 accounts whose counts are held in the fastest memory while a batch of cells is read.
const TILES: usize = 256;

/// The score of every account `1..=accounts` on a list of cells, in order; index i is account i + 1.
///
/// Green lists of a leak slot take one block for sixteen accounts; other schemes are scored account by
/// account. The result does not depend on the number of threads.
///
/// # Errors
/// The profile is not of a leak slot, or does not bind.
pub fn scores(
    profile: &Profile,
    slot_key: &SlotKey,
    cells: &Cells,
    accounts: u32,
    threads: NonZeroUsize,
) -> Result<Vec<Score>, ProfileError> {
    let mark = profile.bind_account(slot_key, 1)?;
    let Some(green) = mark.scheme().as_green_list() else {
        return by_account(profile, slot_key, cells, accounts, threads);
    };
    // Account 0 is none, and takes a place in the first tile.
    let tiles = (accounts as usize + 1).div_ceil(16);
    let counted = |&part: &usize| {
        let starts = (0..tiles).step_by(TILES);
        let mut counts: Vec<Tiles> = starts
            .map(|start| Tiles::new(start as u32, TILES.min(tiles - start)))
            .collect();
        for (windows, tokens) in cells.batches().skip(part).step_by(threads.get()) {
            green.tally(&windows, &tokens[..windows.count], &mut counts);
        }
        let starts = (0..tiles).step_by(TILES);
        let counts = counts.into_iter().zip(starts);
        let counts = counts.flat_map(|(counts, start)| {
            let accounts = 16 * TILES.min(tiles - start);
            counts.into_counts().into_iter().take(accounts)
        });
        counts.collect::<Vec<u32>>()
    };
    let parts: Vec<usize> = (0..threads.get()).collect();
    let mut parts = in_parallel(threads, &parts, &counted).into_iter();
    let mut sums = parts.next().unwrap_or_default();
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(sum, n)| *sum += n);
    }
    let of_accounts = sums.into_iter().skip(1).take(accounts as usize);
    let cells = cells.len() as u64;
    Ok(of_accounts
        .map(|sum| Score {
            cells,
            sum: u64::from(sum),
        })
        .collect())
}

fn by_account(
    profile: &Profile,
    slot_key: &SlotKey,
    cells: &Cells,
    accounts: u32,
    threads: NonZeroUsize,
) -> Result<Vec<Score>, ProfileError> {
    cells.prepare();
    let accounts: Vec<u32> = (1..=accounts).collect();
    let scores = in_parallel(threads, &accounts, &|&account| {
        let mark = profile.bind_account(slot_key, account)?;
        Ok(Score::of(&cells.scores(&mark)))
    });
    scores.into_iter().collect()
}

/// One account of a ranking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Its number, from 1.
    pub account: u32,
    /// Its statistic.
    pub score: Score,
    /// Standard score.
    pub z: f64,
    /// Exact tail of this account alone, as if it had been named beforehand.
    pub p: LnP,
    /// The same times the number of accounts that were looked at (Bonferroni): for whoever looks for the first of
    /// the ranking.
    pub p_adjusted: LnP,
}

/// All accounts, the most striking first; accounts of one score in order of their numbers.
#[must_use]
pub fn rank(null: Null, scores: &[Score]) -> Vec<Ranked> {
    let mut known: Option<(Score, LnP)> = None;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by_key(|&index| core::cmp::Reverse(scores[index].sum));
    let ranked = order.into_iter().map(|index| {
        let score = scores[index];
        // Neighbours in the ranking often have one score.
        let p = match known {
            Some((same, p)) if same == score => p,
            _ => null.upper_tail(score.cells, score.sum),
        };
        known = Some((score, p));
        let adjusted = (p.ln() + (scores.len() as f64).ln()).min(0.0);
        Ranked {
            account: index as u32 + 1,
            score,
            z: null.z(score.cells, score.sum),
            p,
            p_adjusted: LnP::from_ln(adjusted),
        }
    });
    ranked.collect()
}
